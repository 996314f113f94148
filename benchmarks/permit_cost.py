"""What a permit costs that nobody else wants, in each store and with each algorithm.

The goals are 2 µs in memory and 40 µs in a file, on a machine where a permit of ``ratelimit`` takes
0.4 µs, and are said as multiples of that: machines, and the same one from minute to minute, differ.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from contextlib import closing

from ratelimit import limits
from redis import Redis

from requests_connection_manager.limits.algorithms import ALGORITHMS, Limit
from requests_connection_manager.limits.opening import open_store
from requests_connection_manager.limits.store import Wanted

from .fleet import fresh
from .harness import Figure, Goal, at_most, compared, interleave
from .limit_contenders import MEMORY, REDIS, SQLITE

NEVER_REACHED = 10**6
"""Permits a second."""


def main() -> list[Figure]:
    permit = limits(calls=10**9, period=60)(lambda: None)
    with fresh(SQLITE) as path, fresh(REDIS) as url, Redis.from_url(url) as client:
        return [
            *_against("ratelimit", permit, MEMORY, "memory", at_most(5)),
            *_against("ratelimit", permit, SQLITE, f"sqlite://{path}", at_most(100)),
            *_against("a plain PING", client.ping, REDIS, url, at_most(1.3)),
        ]


def _against(
    peer: str, call: Callable[[], object], name: str, state: str, goal: Goal
) -> list[Figure]:
    with closing(open_store(state, "bench", 0.25, "raise")) as store:
        takes: dict[str, Callable[[], object]] = {
            f"a permit, {name}, {algorithm}": functools.partial(store.book, _wanted(algorithm))
            for algorithm in ALGORITHMS
        }
        rounds = interleave({**takes, peer: call}, rounds=150)
    return [compared(take, rounds, take, peer, goal) for take in takes]


def _wanted(algorithm: str) -> Wanted:
    limit = Limit(algorithm, NEVER_REACHED, 1.0, NEVER_REACHED)
    return Wanted(algorithm, (limit,), 1, math.inf, "")
