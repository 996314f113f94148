"""What a call costs that an open breaker rejects, against a plain GET that is answered."""

from __future__ import annotations

import requests

from requests_connection_manager import CircuitBreakerOpen, ConnectionManager

from .harness import Figure, at_most, compared, everything_on, interleave
from .server import serving

PLAIN = "plain Session"


def main() -> list[Figure]:
    """The circuit was opened by an answer of the server, and stays open."""
    with (
        serving() as url,
        requests.Session() as plain,
        everything_on(
            circuit_breaker_failure_threshold=1, circuit_breaker_recovery_timeout=3600
        ) as managed,
    ):
        managed.post(f"{url}/status/503")  # a POST, for that is not retried
        rounds = interleave(
            {
                PLAIN: lambda: plain.get(url, timeout=30).content,
                "rejected": lambda: _be_rejected(managed, url),
            },
            rounds=200,
        )
    return [
        compared("a call that an open breaker rejects", rounds, "rejected", PLAIN, at_most(0.05))
    ]


def _be_rejected(managed: ConnectionManager, url: str) -> None:
    try:
        managed.get(url)
    except CircuitBreakerOpen:
        return
    raise AssertionError("the circuit is not open")
