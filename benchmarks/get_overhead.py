"""What a GET costs with every policy on, against the same GET of a plain ``requests.Session``."""

from __future__ import annotations

import os
from unittest import mock

import requests

from .harness import Figure, Rounds, at_most, compared, everything_on, interleave
from .server import serving

PLAIN = "plain Session"


def main() -> list[Figure]:
    """One thread, a kept connection, a small body that is read.

    For every request requests goes through all environment variables, in search of proxies. A
    ratio from a full environment could therefore flatter whoever spares that; so there is
    another one from an environment that is all but empty.
    """
    here, few = _environment(), _environment("HOME", "PATH", "SYSTEMROOT")
    rounds = _measure(here)
    bare_rounds = _measure(few)
    return [
        compared("one GET, all policies on", rounds, "managed", PLAIN, at_most(1.05)),
        compared("the same without total_timeout", rounds, "unhurried", PLAIN),
        compared(f"the first with {len(few)} environment variables", bare_rounds, "managed", PLAIN),
    ]


def _measure(environment: dict[str, str]) -> Rounds:
    with (
        mock.patch.dict(os.environ, environment, clear=True),
        serving() as url,
        requests.Session() as plain,
        everything_on() as managed,
        everything_on(total_timeout=None) as unhurried,
    ):
        return interleave(
            {
                PLAIN: lambda: plain.get(url, timeout=30).content,
                "managed": lambda: managed.get(url).content,
                "unhurried": lambda: unhurried.get(url).content,
            },
            rounds=600,
        )


def _environment(*names: str) -> dict[str, str]:
    """Return the variables of these names, or all."""
    return {name: os.environ[name] for name in names or os.environ if name in os.environ}
