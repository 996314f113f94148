"""How long 30 threads wait that share a limit of 10 in 0.2 s, and whether the limit is kept.

Every thread calls again as soon as it is answered. So each 0.2 s serve 10 of the 30, and in a fair
line everybody waits for 30 / 10 * 0.2 = 0.6 s: the ideal, and the steady state. Only the first
cycle is shorter, for it finds no line; so what ended in the first two cycles is left out. A wait
is a whole call, the GET included; the last call of each thread is waited for and counted.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import requests
from ratelimit import limits, sleep_and_retry
from requests.adapters import HTTPAdapter

from requests_connection_manager import ConnectionManager
from requests_connection_manager.policies.rate_limit import Permit

from .harness import Figure, at_least, at_most, everything_on
from .server import serving

THREADS = 30
CALLS = 10
PERIOD = 0.2
IDEAL = THREADS / CALLS * PERIOD
SETTLING = 2 * IDEAL
MEASURED = 7.0
"""Seconds that are measured after the settling."""


class Call(NamedTuple):
    """One call of a thread, with its times in seconds since the start."""

    thread: int
    began: float
    ended: float
    result: object


def main() -> list[Figure]:
    """Measure the manager, ratelimit's own way to wait, and the manager's limiter by itself."""
    with (
        serving() as url,
        requests.Session() as plain,
        everything_on(
            rate_limit_requests=CALLS, rate_limit_period=PERIOD, pool_maxsize=THREADS
        ) as managed,
    ):
        plain.mount("http://", HTTPAdapter(pool_maxsize=THREADS))
        limited = sleep_and_retry(
            limits(calls=CALLS, period=PERIOD)(lambda: plain.get(f"{url}/counted", timeout=30))
        )
        calls = _call_again_and_again(lambda: managed.get(f"{url}/counted"))
        arrivals: list[float] = plain.get(f"{url}/arrivals", timeout=30).json()
        peers_calls = _call_again_and_again(limited)
        permits = _permits_of(managed, url)
    return [
        _longest_waits(f"p99 wait, {THREADS} threads on {CALLS} per {PERIOD} s", calls, goal=True),
        _longest_waits("the same, ratelimit.sleep_and_retry", peers_calls, goal=False),
        _fullest_window(permits),
        _shortest_turn(arrivals),
    ]


def _call_again_and_again(call: Callable[[], object]) -> list[Call]:
    """Let all threads call until the time is up; return the calls in the order of their ends."""
    start_line = threading.Barrier(THREADS, timeout=10)

    def run(thread: int) -> list[Call]:
        made: list[Call] = []
        start_line.wait()
        now = start = time.monotonic()
        while now - start < SETTLING + MEASURED:
            began, result, now = now, call(), time.monotonic()
            made.append(Call(thread, began - start, now - start, result))
        return made

    with ThreadPoolExecutor(THREADS) as pool:
        calls = itertools.chain.from_iterable(pool.map(run, range(THREADS)))
        return sorted(calls, key=lambda call: call.ended)


def _permits_of(managed: ConnectionManager, url: str) -> list[Permit]:
    """Take permits without sending anything: each tells from which window it is."""
    limiter = managed._endpoints.table.resolve(url).limiter
    assert limiter is not None
    permits = [call.result for call in _call_again_and_again(limiter.acquire)]
    return [permit for permit in permits if isinstance(permit, Permit)]


def _longest_waits(name: str, calls: list[Call], *, goal: bool) -> Figure:
    settled = [call for call in calls if call.ended > SETTLING]
    waits = sorted(call.ended - call.began for call in settled)
    p99 = waits[math.ceil(0.99 * len(waits)) - 1]
    counts = Counter(call.thread for call in settled)
    served = [counts[thread] for thread in range(THREADS)]
    return Figure(
        name=name,
        value=f"{p99:.3f} s; {min(served)} to {max(served)} calls a thread",
        peer=f"ideal: {IDEAL:.3f} s",
        ratio=p99 / IDEAL,
        goal=at_most(1.2) if goal else None,
    )


def _fullest_window(permits: list[Permit]) -> Figure:
    """Count the permits by the limiter's own windows."""
    windows = Counter(permit.taken for permit in permits)
    fullest = max(windows.values())
    starts = sorted(windows)
    shortest = min(later - earlier for earlier, later in itertools.pairwise(starts))
    assert shortest >= PERIOD, f"two windows began within {shortest} s"
    return Figure(
        name="permits in the fullest window",
        value=f"{fullest}, of {len(windows)} windows",
        peer=f"limit: {CALLS}",
        ratio=fullest / CALLS,
        goal=at_most(1),
    )


def _shortest_turn(arrivals: list[float]) -> Figure:
    """Measure, at the server, from each first of ten requests to the first of the next ten.

    Some milliseconds less than the period are no breach: of two requests, each on its own way
    from its permit to the server, the first may take longer.
    """
    firsts = arrivals[::CALLS]
    shortest = min(later - earlier for earlier, later in itertools.pairwise(firsts))
    return Figure(
        name=f"shortest time for {CALLS} arrivals",
        value=f"{shortest:.4f} s, of {len(firsts)} turns",
        peer=f"period: {PERIOD} s",
        ratio=shortest / PERIOD,
        goal=at_least(0.9),
    )
