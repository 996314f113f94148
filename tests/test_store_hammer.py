"""Many at once: never more than is allowed in any span of time, and hardly anything is wasted.

What is looked at is the times that were booked, which no scheduler can delay.
"""

from __future__ import annotations

import multiprocessing
import time
from bisect import bisect_left
from pathlib import Path
from typing import Any

import pytest

from requests_connection_manager.limits.algorithms import Limit, capacity
from requests_connection_manager.limits.memory import MemoryStore
from requests_connection_manager.limits.redis import RedisStore
from requests_connection_manager.limits.store import Booked, Wanted
from tests.conftest import in_threads
from tests.hammering import AHEAD, LIMITS, QUICK, at_one_moment, book_all, work
from tests.redis_server import RedisServer

WORKERS = 8
ROUNDING = 1e-3


def in_processes(where: str) -> list[Any]:
    context = multiprocessing.get_context("spawn")
    start, found = context.Barrier(WORKERS), context.Queue()
    workers = [context.Process(target=work, args=(where, start, found)) for _ in range(WORKERS)]
    for each in workers:
        each.start()
    results = [found.get(timeout=50) for _ in workers]
    for each in workers:
        each.join(30)
        assert each.exitcode == 0
    return results


def check(limit: Limit, each_ones: list[list[float]]) -> None:
    times = sorted(at for ones in each_ones for at in ones)
    for periods in (0.5, 1, 2, 3.7):
        span = periods * limit.period
        for i, first in enumerate(times):
            within = bisect_left(times, first + span - ROUNDING) - i
            assert within <= capacity(limit, span)
    assert len(times) >= 0.98 * limit.requests * AHEAD / limit.period


@pytest.mark.parametrize("limit", LIMITS)
def test_threads_in_memory(limit: Limit) -> None:
    store = MemoryStore(at_one_moment)
    found: list[list[float]] = []
    in_threads(WORKERS, lambda _: found.append(book_all(store, limit)))
    check(limit, found)


def check_went(went: list[float]) -> None:
    times = sorted(went)
    for i, first in enumerate(times):
        assert bisect_left(times, first + QUICK.period - ROUNDING) - i <= QUICK.requests
    # from the first to the last there was always somebody who wanted one
    full = int((times[-1] - times[0]) / QUICK.period + ROUNDING)
    if len(times) > WORKERS * 4:  # else the machine was too busy to want so many
        assert len(times) >= 0.98 * full * QUICK.requests - WORKERS


def test_processes_on_sqlite(tmp_path: Path) -> None:
    results = in_processes(str(tmp_path / "limits.db"))
    for limit in LIMITS:
        check(limit, [times[limit] for times, _ in results])
    check_went([at for _, went in results for at in went])


def test_processes_on_redis(redis_server: RedisServer) -> None:
    results = in_processes(redis_server.url)
    for limit in LIMITS:
        check(limit, [times[limit] for times, _ in results])


def test_threads_on_the_clock_of_redis(redis_server: RedisServer) -> None:
    """No more is granted at once than the time between allows, and all of it is."""
    store = RedisStore(redis_server.url, timeout=20)
    wanted, granted = Wanted("real", (QUICK,), 1, 0.0, ""), []
    over = time.monotonic() + 1.2
    began = time.time()

    def take(_: int) -> None:
        while time.monotonic() < over:
            answer = store.book(wanted)
            if isinstance(answer, Booked):
                granted.append(time.time())
            else:
                time.sleep(min(answer[0], 0.01))

    in_threads(WORKERS, take)
    took = time.time() - began
    assert QUICK.requests <= len(granted) <= capacity(QUICK, took)
    store.close()
