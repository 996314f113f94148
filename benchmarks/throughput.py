"""How many calls 32 threads make through one manager, if the server takes 50 ms for each."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import requests
from requests.adapters import HTTPAdapter

from .harness import Figure, at_least, everything_on
from .server import serving

THREADS = 32
DELAY = 0.05
IDEAL = THREADS / DELAY
SETTLING = 0.3
"""Seconds in which the threads, who start all at once, fall out of step."""
MEASURED = 1.5
"""Seconds after that, in which calls are counted."""
ROUNDS = 5


def main() -> list[Figure]:
    """The ideal: every thread is always waiting for the server."""
    with (
        serving() as server,
        requests.Session() as plain,
        everything_on(pool_maxsize=THREADS) as managed,
    ):
        url = f"{server}/delay/{DELAY * 1000:.0f}"
        plain.mount("http://", HTTPAdapter(pool_maxsize=THREADS))
        rates: list[float] = []
        plain_rates: list[float] = []
        for _ in range(ROUNDS):
            rates.append(_calls_a_second(lambda: managed.get(url).content))
            plain_rates.append(_calls_a_second(lambda: plain.get(url, timeout=30).content))
    rate, plain_rate = statistics.median(rates), statistics.median(plain_rates)
    return [
        Figure(
            name=f"{THREADS} threads, {DELAY * 1000:.0f} ms an answer",
            value=f"{rate:.0f} calls/s",
            peer=f"ideal: {IDEAL:.0f} calls/s",
            ratio=rate / IDEAL,
            goal=at_least(0.9),
        ),
        Figure(
            name="the same, plain Session",
            value=f"{plain_rate:.0f} calls/s",
            peer=f"ideal: {IDEAL:.0f} calls/s",
            ratio=plain_rate / IDEAL,
        ),
    ]


def _calls_a_second(get: Callable[[], object]) -> float:
    """Let all threads call until the time is up; return the rate after the settling."""
    start_line = threading.Barrier(THREADS, timeout=10)

    def run() -> int:
        get()  # opens this thread's connection
        start_line.wait()
        start = now = time.monotonic()
        counted = 0
        while now - start < SETTLING + MEASURED:
            get()
            now = time.monotonic()
            counted += SETTLING < now - start < SETTLING + MEASURED
        return counted

    with ThreadPoolExecutor(THREADS) as pool:
        runs = [pool.submit(run) for _ in range(THREADS)]
        return sum(each.result() for each in runs) / MEASURED
