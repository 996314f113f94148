"""What counting a call costs, against the 3 µs that it may."""

from __future__ import annotations

import requests

from requests_connection_manager.failures import kind_of_failure
from requests_connection_manager.stats import Tally

from .harness import Figure, at_most, interleave

ALLOWED = 3e-6
"""Seconds a call."""


def main() -> list[Figure]:
    """A call of one attempt: both are counted, under the scope's lock, with the latency."""
    tally, answer = Tally(), requests.Response()
    answer.status_code = 200

    def count() -> None:
        tally.attempt(False, 0.0123)
        tally.call(True, kind_of_failure(answer))

    taken = sorted(interleave({"counted": count}, rounds=100)["counted"])
    middle = taken[len(taken) // 2]
    return [
        Figure(
            name="counting a call and its attempt",
            value=f"{middle * 1e6:.2f} µs",
            peer=f"allowed: {ALLOWED * 1e6:g} µs",
            ratio=middle / ALLOWED,
            goal=at_most(1.0),
        )
    ]
