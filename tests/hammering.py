"""What each of many workers does to a store; in a file of its own, which is quickly imported."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from requests_connection_manager.limits.algorithms import ALGORITHMS, Limit
from requests_connection_manager.limits.redis import RedisStore
from requests_connection_manager.limits.sqlite import SQLiteStore
from requests_connection_manager.limits.store import Booked, Wanted

LIMITS = [Limit(name, 200, 3600.0, 40) for name in ALGORITHMS]
AHEAD = 4 * 3600.0
"""Seconds: up to then all permits are booked."""
QUICK = Limit("sliding_window", 40, 0.5, 1)


class Readings:
    """A clock that remembers what it showed last."""

    def __init__(self) -> None:
        self.last = 0.0

    def __call__(self) -> float:
        self.last = time.time()
        return self.last


def opened(where: str, clock: Callable[[], float] | None) -> Any:
    if where.startswith("redis:"):
        return RedisStore(where, timeout=20, clock=clock)
    assert clock is not None
    return SQLiteStore(where, timeout=20, clock=clock)


def at_one_moment() -> float:
    return 1_763_732_737.25


def book_all(store: Any, limit: Limit) -> list[float]:
    """Book until the time ahead is full; return the times."""
    wanted, times = Wanted(limit.algorithm, (limit,), 1, AHEAD, ""), []
    while isinstance(booked := store.book(wanted), Booked):
        times.append(booked.wait)
    return times


def wait_and_go(store: Any, clock: Readings, seconds: float) -> list[float]:
    """Book and wait in real time, again and again; return the times."""
    wanted, times, over = Wanted("real", (QUICK,), 1, 10.0, ""), [], time.time() + seconds
    while time.time() < over:
        booked = store.book(wanted)
        assert isinstance(booked, Booked)
        times.append(clock.last + booked.wait)
        time.sleep(booked.wait)
    return times


def work(where: str, start: Any, found: Any) -> None:
    """What each process does."""
    clock = Readings()
    store = opened(where, at_one_moment)
    real = opened(where, clock)
    start.wait(60)
    times = {limit: book_all(store, limit) for limit in LIMITS}
    start.wait(60)
    # Redis has its own clock, and nobody sees what it shows
    went = [] if where.startswith("redis:") else wait_and_go(real, clock, 1.5)
    found.put((times, went))
    store.close()
    real.close()
