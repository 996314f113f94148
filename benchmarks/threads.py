"""How many calls 16 threads make through one manager, if the server answers at once.

No thread waits for the server, but all wait for the interpreter: here the work of a call tells.
"""

from __future__ import annotations

import functools
import gc
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import requests
from requests.adapters import HTTPAdapter

from .harness import Figure, at_least, everything_on, ratio_of, take_turns
from .server import serving

THREADS = 16
BLOCK_SECONDS = 0.25
"""A call takes about 10 ms if 16 share the interpreter, so that each makes some in a block."""


def main() -> list[Figure]:
    """The same threads call through the manager and through the plain Session, in turns."""
    with (
        serving() as url,
        requests.Session() as plain,
        everything_on(pool_maxsize=THREADS) as managed,
        ThreadPoolExecutor(THREADS) as crew,
    ):
        plain.mount("http://", HTTPAdapter(pool_maxsize=THREADS))
        contenders: dict[str, Callable[[], object]] = {
            "plain Session": lambda: plain.get(url, timeout=30).content,
            "managed": lambda: managed.get(url).content,
        }
        blocks = {
            name: functools.partial(_seconds_a_call, contend, crew)
            for name, contend in contenders.items()
        }
        take_turns(blocks, rounds=2)  # opens the connections
        rounds = take_turns(blocks, rounds=40)
    rates = {name: 1 / statistics.median(seconds) for name, seconds in rounds.items()}
    ratio, middle_half = ratio_of(rounds, "plain Session", "managed")  # of rates, not of times
    return [
        Figure(
            name=f"{THREADS} threads, an answer at once",
            value=f"{rates['managed']:.0f} calls/s",
            peer=f"plain Session: {rates['plain Session']:.0f} calls/s",
            ratio=ratio,
            middle_half=middle_half,
            goal=at_least(1.3),
        )
    ]


def _seconds_a_call(call: Callable[[], object], crew: ThreadPoolExecutor) -> float:
    """Let all threads call until the time is up, and wait for the last of them."""
    gc.collect()
    start_line = threading.Barrier(THREADS, timeout=10)

    def run() -> tuple[float, float, int]:
        start_line.wait()
        start = now = time.perf_counter()
        calls = 0
        while now - start < BLOCK_SECONDS:
            call()
            calls += 1
            now = time.perf_counter()
        return start, now, calls

    runs = [each.result() for each in [crew.submit(run) for _ in range(THREADS)]]
    taken = max(end for _, end, _ in runs) - min(start for start, _, _ in runs)
    return taken / sum(calls for _, _, calls in runs)
