"""Slots: how many attempts may be under way at once, and a fair line in front of them.

The law: a slot is taken under a lock, by the first of the line only; it is given back without
one, for the collector of garbage may do it in any thread, wherever that is. No lock is held asleep.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from .. import forking
from ..exceptions import ConcurrencyLimitExceeded
from ..failures import in_seconds
from .line import Line, Place
from .waiting import LOOK, Check


class Slot:
    """A place among the attempts under way; at the latest, it is free when nobody holds it."""

    __slots__ = ("_limiter", "_name", "waited")

    def __init__(self, limiter: ConcurrencyLimiter, name: object, waited: float) -> None:
        self._limiter = limiter
        self._name = name
        self.waited = waited
        """Seconds."""

    def release(self) -> None:
        """Give it back; more than once does no harm."""
        self._limiter._give_back(self._name)

    __del__ = release


class ConcurrencyLimiter:
    """``most`` slots, for the threads of this process."""

    def __init__(self, scope: str, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.scope = scope
        self.most = most
        self._clock = clock
        self.begin_in_child()
        forking.register(self)

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()
        self._line = Line()
        self._taken: set[object] = set()
        # Rung by who gives a slot back, heard by the first of the line. A lock, since it may be
        # released inside of the collector; an Event may not be set there.
        self._bell = threading.Lock()
        self._bell.acquire()

    @property
    def under_way(self) -> int:
        """How many slots are taken."""
        return len(self._taken)

    @property
    def idle(self) -> bool:
        """Whether it may be forgotten: a new limiter would act as this one does."""
        return not self._taken and not self._line

    def acquire(
        self,
        longest: float = math.inf,
        endpoint: str = "",
        check: Check | None = None,
    ) -> Slot:
        """Take a slot, waiting at most ``longest`` seconds for one.

        Raises `ConcurrencyLimitExceeded`; and whatever ``check`` raises, which is called again
        and again while this waits.
        """
        with self._lock:
            slot = self._take(0.0) if not self._line else None
        if slot is not None:
            return slot
        place = Place()
        try:  # from here on, whatever interrupts this thread, it leaves the line
            with self._lock:
                self._line.join(place)
            return self._wait_in_line(place, longest, endpoint, check)
        finally:
            place.gone = True
            with self._lock:
                self._line.leave(place)

    def _wait_in_line(
        self,
        place: Place,
        longest: float,
        endpoint: str,
        check: Check | None,
    ) -> Slot:
        came = self._clock()
        while True:
            if check is not None:
                check()
            waited = self._clock() - came
            with self._lock:
                self._line.wake_first()
                slot = self._take(waited) if place.is_set() else None
            if slot is not None:
                return slot
            if waited >= longest:
                raise self._refusal(waited, endpoint)
            pause = min(longest - waited, LOOK)
            if place.is_set():
                self._bell.acquire(timeout=pause)
            else:
                place.wait(pause)

    def _take(self, waited: float) -> Slot | None:
        if len(self._taken) >= self.most:
            return None
        slot = Slot(self, name := object(), waited)
        self._taken.add(name)
        return slot

    def _give_back(self, name: object) -> None:
        # Single steps of the interpreter, which the collector cannot come between.
        self._taken.discard(name)
        with suppress(RuntimeError):  # it rings already
            self._bell.release()

    def _refusal(self, waited: float, endpoint: str) -> ConcurrencyLimitExceeded:
        return ConcurrencyLimitExceeded(
            f"max_concurrency={self.most} of {self.scope}: as many attempts are under way, and in "
            f"{in_seconds(waited)} it was not this one's turn. Read streamed answers to their end "
            "or close them, raise max_concurrency, or allow a longer wait: max_concurrency_wait, "
            "total_timeout.",
            endpoint=endpoint or self.scope,
        )
