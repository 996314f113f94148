"""What a call costs with every policy on, against the same call of a plain ``requests.Session``."""

from __future__ import annotations

import os
from typing import Any
from unittest import mock

import requests

from .environment import bare
from .harness import Figure, Rounds, at_most, compared, everything_on, interleave
from .server import serving

PLAIN = "plain Session"
KILOBYTE: Any = {
    "items": [{"number": number, "name": "a name", "price": 9.99} for number in range(20)]
}
"""1 kB of JSON, of a usual shape."""
MEGABYTE = 1_000_000


def main() -> list[Figure]:
    """One thread, a kept connection, and bodies that are read."""
    rounds, post, large = _get(), _post(), _get_large()
    with mock.patch.dict(os.environ, bare(), clear=True):
        bare_rounds = _get()
    return [
        compared("one GET, all policies on", rounds, "managed", PLAIN, at_most(0.6)),
        compared("the same without total_timeout", rounds, "unhurried", PLAIN),
        compared(
            f"the first with {len(bare())} environment variables", bare_rounds, "managed", PLAIN
        ),
        compared("a POST of 1 kB of JSON", post, "managed", PLAIN, at_most(0.7)),
        compared("a GET of a body of 1 MB", large, "managed", PLAIN, at_most(1)),
    ]


def _get() -> Rounds:
    with (
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


def _post() -> Rounds:
    with (
        serving() as url,
        requests.Session() as plain,
        everything_on() as managed,
    ):
        return interleave(
            {
                PLAIN: lambda: plain.post(url, json=KILOBYTE, timeout=30).content,
                "managed": lambda: managed.post(url, json=KILOBYTE).content,
            },
            rounds=400,
        )


def _get_large() -> Rounds:
    with (
        serving() as server,
        requests.Session() as plain,
        everything_on() as managed,
    ):
        url = f"{server}/bytes/{MEGABYTE}"
        return interleave(
            {
                PLAIN: lambda: plain.get(url, timeout=30).content,
                "managed": lambda: managed.get(url).content,
            },
            rounds=400,
        )
