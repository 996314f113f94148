"""Whether 8 processes of 4 threads keep one limit, and get all that it allows.

200 a second for 5 s, on the file of one machine and on a Redis, with each algorithm.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from requests_connection_manager.limits.algorithms import BURSTS, Limit, capacity
from tests.redis_server import RedisServer

from .crowd import Crowd, Size, crowd
from .harness import Figure, Goal, at_most
from .limit_contenders import CONTENDERS, PERIOD, REDIS, SQLITE, US

FLEET = Size(processes=8, threads=4, seconds=5.0)
REQUESTS = 200


@contextmanager
def fresh(state: str) -> Iterator[str]:
    """Have a state with nothing in it: a path, or the URL of a Redis."""
    if state == SQLITE:
        with tempfile.TemporaryDirectory() as folder:
            yield str(Path(folder) / "limits.db")
    elif state == REDIS:
        with RedisServer() as server:
            yield server.url
    else:
        yield "memory"


def main() -> list[Figure]:
    figures = []
    for state in (SQLITE, REDIS):
        ours = {name: it for name, it in CONTENDERS.items() if it.package == US}
        for name, contender in ours.items():
            with fresh(state) as where:
                measured = crowd(name, where, REQUESTS, FLEET)
            assert not measured.errors, measured.errors[0]
            limit = Limit(name, REQUESTS, PERIOD, REQUESTS)
            figures += _figures(f"{name}, {state}", limit, measured, contender.is_exact)
    return figures


def allowed(limit: Limit) -> float:
    """Return what there is to have in all, the windows of a fixed one beginning with the first."""
    at_once = limit.burst if limit.algorithm in BURSTS else 0
    return at_once + REQUESTS * FLEET.seconds / PERIOD


def _figures(name: str, limit: Limit, measured: Crowd, is_exact: bool) -> list[Figure]:
    granted = len(measured.grants)
    most = capacity(limit, PERIOD)
    return [
        Figure(
            name=f"permits in {FLEET.seconds:g} s, {name}",
            value=f"{granted}; p99 {measured.lateness * 1e3:.1f} ms late",
            peer=f"allowed: {allowed(limit):g}",
            ratio=granted / allowed(limit),
            goal=Goal(0.98, 1.0) if is_exact else None,
        ),
        Figure(
            name=f"the most in any {PERIOD:g} s, {name}",
            value=f"{measured.surely_fullest}; {measured.fullest} of those awake",
            peer=f"by definition: {most:g}",
            ratio=measured.surely_fullest / most,
            goal=at_most(1),
        ),
    ]
