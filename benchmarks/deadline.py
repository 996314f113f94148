"""How long after its ``total_timeout`` a call returns, whatever the server does."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import requests

from requests_connection_manager import DeadlineExceeded
from tests.server import Reply, ScriptedServer

from .harness import Figure, at_most, everything_on

TOTAL = 0.3
ALLOWED = 0.1
"""Seconds beyond it, on an idle machine."""
TRICKLE = Reply(body=b"x" * 30, drip=0.05)
ANSWERS = {
    "silent": Reply(delay=10),
    "head trickles": Reply(header_drip=0.05, headers={"X-Padding": "x" * 600}),
    "body trickles": Reply(body=b"x" * 600, drip=0.05),
    "chunks trickle": Reply(body=b"x" * 600, drip=0.05, chunked=True),
    "slow error, retried": Reply(status=503, delay=0.12),
    "slow redirects": Reply(status=302, delay=0.12, headers={"Location": "/slow"}),
}


def main() -> list[Figure]:
    """Five calls for each kind of slow answer; the latest return of all counts."""
    with (
        ScriptedServer() as server,
        everything_on(total_timeout=TOTAL, circuit_breaker_failure_threshold=None) as managed,
    ):
        late: dict[str, float] = {}
        for kind, answer in ANSWERS.items():
            url = server.script("/slow", answer)
            call = functools.partial(managed.get, url)
            late[kind] = max(_seconds_until_given_up(call) for _ in range(5))
        latest = max(late, key=late.__getitem__)
        url = server.script("/slow", TRICKLE)
        start = time.perf_counter()
        with requests.Session() as plain:
            plain.get(url, timeout=TOTAL)
        unbounded = time.perf_counter() - start
    return [
        Figure(
            name=f"latest return after total_timeout={TOTAL:g} s",
            value=f"{max(0.0, late[latest] - TOTAL) * 1e3:.1f} ms late ({latest})",
            peer=f"allowed: {ALLOWED * 1e3:.0f} ms",
            ratio=max(0.0, late[latest] - TOTAL) / ALLOWED,
            goal=at_most(1),
        ),
        Figure(
            name=f"plain Session, timeout={TOTAL:g}, body trickles",
            value=f"{unbounded:.2f} s",
            peer=f"timeout: {TOTAL:g} s",
            ratio=unbounded / TOTAL,
        ),
    ]


def _seconds_until_given_up(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    try:
        call()
    except DeadlineExceeded:
        return time.perf_counter() - start
    raise AssertionError("the call was not given up")
