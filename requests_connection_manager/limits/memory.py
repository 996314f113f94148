"""The state of limits in the memory of one process, for all its threads."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from itertools import islice, repeat

from .. import forking
from .algorithms import NO_LOG, PAUSE_TIMES, STEPS, Limit, NoLog, State, at_now
from .store import Booked, Paused, Refused, Wanted

Known = OrderedDict[tuple[str, Limit], "_Kept"]


class _Times(deque[float]):
    """The log of a sliding window, of which the oldest fall out."""

    def back(self, n: int) -> float:
        return self[-n]

    def add(self, time: float, n: int) -> None:
        if n == 1:
            self.append(time)
        else:
            self.extend(repeat(time, n))

    def falling_out(self, n: int) -> tuple[float, ...]:
        """Return what is lost when ``n`` are added."""
        assert self.maxlen is not None
        over = len(self) + n - self.maxlen
        if over <= 0:
            return ()
        return (self[0],) if over == 1 else tuple(islice(self, over))

    def take_back(self, n: int, fallen_out: tuple[float, ...]) -> None:
        for _ in range(n):
            self.pop()
        self.extendleft(reversed(fallen_out))


Receipt = tuple[State, State, tuple[float, ...]]
"""The state before and after, and what fell out of the log."""


class _Kept:
    """What is kept of one limit of one scope."""

    __slots__ = ("book", "earliest", "log", "state")

    def __init__(self, limit: Limit) -> None:
        self.earliest, self.book = STEPS[limit.algorithm][:2]
        self.state: State = ()
        sliding = limit.algorithm == "sliding_window"
        self.log: _Times | NoLog = _Times(maxlen=limit.requests) if sliding else NO_LOG


class MemoryStore:
    """Keeps the state in a dictionary. A child process goes on from what its parent knew."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: Known = OrderedDict()
        self._pauses: OrderedDict[tuple[str, str], State] = OrderedDict()
        self._lock = threading.Lock()
        forking.register(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()

    def book(self, wanted: Wanted) -> Booked | Refused | Paused:
        scope, limits, n, longest, whose = wanted
        with self._lock:
            now = at = self._clock()
            if self._pauses and (until := self._until(scope, whose, now)) > now:
                return Paused(until - now)
            if not n:
                return Booked(0.0)
            found = []
            for limit in limits:
                kept = self._known.get((scope, limit)) or _Kept(limit)
                state = kept.state
                if state and now < state[0]:
                    kept.state = state = at_now(state, now, STEPS[limit.algorithm].times)
                earliest = kept.earliest(state, now, n, limit, kept.log)
                if earliest > at:
                    at = earliest
                found.append((limit, kept, state))
            wait = at - now
            if wait > longest:
                return Refused(wait)
            receipt: list[Receipt] = []
            new = 0
            for limit, kept, state in found:
                log = kept.log
                fallen_out = () if log is NO_LOG else log.falling_out(n)  # type: ignore[union-attr]  # NO_LOG is the only NoLog
                kept.state = after = kept.book(state, now, at, n, limit, log)
                receipt.append((state, after, fallen_out))
                if not state:
                    self._known[scope, limit] = kept
                    new += 1
            if new:
                self._purge(wanted, 2 * new, now)
            return Booked(wait, receipt)

    def give_back(self, wanted: Wanted, booked: Booked) -> None:
        receipt = booked.receipt
        if not isinstance(receipt, list):
            return
        with self._lock:
            known = [self._known.get((wanted.scope, limit)) for limit in wanted.limits]
            for kept, (_, after, _) in zip(known, receipt, strict=True):
                if kept is None or kept.state != after:
                    return
            for kept, (before, _, fallen_out) in zip(known, receipt, strict=True):
                assert kept is not None
                kept.state = before
                if isinstance(kept.log, _Times):
                    kept.log.take_back(wanted.permits, fallen_out)

    def pause(self, scope: str, whose: str, seconds: float) -> None:
        with self._lock:
            now = self._clock()
            until = max(now + seconds, self._until(scope, whose, now))
            self._pauses[scope, whose] = (now, until)
            for key in list(islice(self._pauses, 2)):
                if self._pauses[key][1] <= now:
                    del self._pauses[key]
                else:
                    self._pauses.move_to_end(key)

    def paused(self, scope: str, whose: str) -> float:
        if not self._pauses:
            return 0.0
        with self._lock:
            now = self._clock()
            return self._until(scope, whose, now) - now

    def close(self) -> None:
        pass

    def _until(self, scope: str, whose: str, now: float) -> float:
        found = self._pauses.get((scope, whose))
        if found is None:
            return now
        if now < found[0]:
            self._pauses[scope, whose] = found = at_now(found, now, PAUSE_TIMES)
        return max(now, found[1])

    def _purge(self, booked: Wanted, most: int, now: float) -> None:
        """Look at those that were looked at longest ago, two for each new one: may they go?

        So there are never many more than are in use, and no booking pays for a thousand others.
        """
        known = self._known
        for key in list(islice(known, most)):
            scope, limit = key
            state = known[key].state
            in_use = scope == booked.scope and limit in booked.limits
            if in_use or (state and STEPS[limit.algorithm].expires(state, limit) > now):
                known.move_to_end(key)
            else:
                del known[key]
