"""The state of limits in Redis, for all machines that share one.

Each booking is one script and one round trip, on the clock of Redis; so that all have the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from . import keys
from .algorithms import Limit
from .redis_scripts import Scripts, Words, script
from .store import Booked, Paused, Refused, Wanted

_EVER = b"1e300"
"""Longer than any wait; Lua 5.1 has no way to write down infinity."""


@lru_cache(maxsize=4096)
def _booking(prefix: str, scope: str, whose: str, limits: tuple[Limit, ...]) -> Words:
    words = [
        word
        for limit in limits
        for word in (limit.algorithm, str(limit.requests), repr(limit.period), str(limit.burst))
    ]
    return Words.of(_keys(prefix, scope, whose, limits), words)


def _keys(prefix: str, scope: str, whose: str, limits: tuple[Limit, ...]) -> list[str]:
    pause, *states = keys.of_limits(prefix, scope, whose, limits)
    found = [pause]
    for limit, state in zip(limits, states, strict=True):
        found += [state, state + keys.LOG] if limit.algorithm == "sliding_window" else [state]
    return found


class RedisStore:
    """Keeps the state in the Redis of a URL or of a ``redis.Redis``.

    ``clock`` is for tests; without it, the clock of Redis counts.
    """

    def __init__(
        self,
        source: Any,
        prefix: str = "rcm",
        timeout: float = 0.25,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.scripts = Scripts(source, timeout)
        self._prefix = prefix
        self._clock = clock

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"  # a client's own shows what it is connected with

    def book(self, wanted: Wanted) -> Booked | Refused | Paused:
        return self.scripts.ask(lambda: self._book(wanted))

    def _book(self, wanted: Wanted) -> Booked | Refused | Paused:
        scope, limits, n, longest, whose = wanted
        most = _EVER if longest == math.inf else b"%r" % longest
        words = _booking(self._prefix, scope, whose, limits)
        answer = self.scripts.run(script("booking.lua"), words, b"%d" % n, most, *self._now())
        seconds, _, receipt = answer[1:].partition("\n")
        if answer[0] == "B":
            return Booked(float(seconds), receipt)
        if answer[0] == "R":
            return Refused(float(seconds))
        if answer[0] == "P":
            return Paused(float(seconds))
        raise ValueError("an answer of another script")

    def give_back(self, wanted: Wanted, booked: Booked) -> None:
        if isinstance(booked.receipt, str) and booked.receipt:
            receipt = booked.receipt
            self.scripts.ask(lambda: self._give_back(wanted, receipt))

    def _give_back(self, wanted: Wanted, receipt: str) -> None:
        lines = iter(receipt.split("\n"))
        told = [str(wanted.permits)]
        for limit, before, after, fallen_out in zip(
            wanted.limits, lines, lines, lines, strict=True
        ):
            told += [limit.algorithm, before, after, fallen_out]
        at = _keys(self._prefix, wanted.scope, wanted.pause, wanted.limits)
        self.scripts.run(script("giving_back.lua"), Words.of(at, told))

    def pause(self, scope: str, whose: str, seconds: float) -> None:
        def ask() -> None:
            words = _booking(self._prefix, scope, whose, ())
            self.scripts.run(script("pausing.lua"), words, b"%r" % seconds, *self._now())

        self.scripts.ask(ask)

    def paused(self, scope: str, whose: str) -> float:
        answer = self.book(Wanted(scope, (), 0, 0.0, whose))
        return answer.left if isinstance(answer, Paused) else 0.0

    def close(self) -> None:
        self.scripts.close()

    def _now(self) -> tuple[bytes, ...]:
        return () if self._clock is None else (b"%r" % self._clock(),)
