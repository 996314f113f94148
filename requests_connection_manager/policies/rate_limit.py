"""Permits: a function decorated with ``ratelimit.limits``, and a fair queue around it.

The window is ratelimit's: a fixed one, that starts with the first permit after the last has
ended. Its own ``sleep_and_retry`` is not used: it starves threads and cannot stop waiting.

The law: waiters are served in the order in which they came; only the first of the line sleeps,
and whoever leaves the line, with a permit or without, wakes the next. No lock is held asleep.
The line holds its waiters weakly: one that an interrupt tore away before it could leave does not
block the others, who look up once their own time should have come.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable

from ratelimit import RateLimitException, limits

from .. import forking
from ..exceptions import RateLimitExceeded
from .line import Line, Place
from .permits import Permit
from .waiting import LOOK, Check, refusal

_SLACK = 1.0
"""Seconds after its foreseen time at which a waiter looks whether the line still moves."""


class RateLimiter:
    """``calls`` permits in every ``period`` seconds, for the threads of this process."""

    def __init__(
        self,
        scope: str,
        calls: int,
        period: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self.scope = scope
        self.calls = calls
        self.period = period
        self._clock = clock
        self._own_sleep = sleep
        self._window = limits(calls=calls, period=period, clock=clock)
        self._window.last_reset = -math.inf  # else the first one would start here and now
        self._count = self._window(lambda: None)
        self.begin_in_child()
        forking.register(self)

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()
        self._window.lock = threading.RLock()
        self._given_back = threading.Event()
        self._sleep = self._own_sleep or self._given_back.wait
        self._line = Line()

    def acquire(
        self,
        longest: float = math.inf,
        endpoint: str = "",
        check: Check | None = None,
        permits: int = 1,
        key: str = "",
    ) -> Permit:
        """Take permits, waiting at most ``longest`` seconds.

        Raises `RateLimitExceeded` at once where the wait would be longer; and whatever ``check``
        raises, which is called again and again while this waits.
        """
        with self._lock:
            if not self._line and self._take(permits) <= 0:
                return Permit(self._window.last_reset, 0.0, permits)
        place = Place(permits)
        try:  # from here on, whatever interrupts this thread, it leaves the line
            self._join(place, longest, endpoint)
            return self._wait_in_line(place, longest, endpoint, check)
        finally:
            place.gone = True
            with self._lock:
                self._line.leave(place)

    def give_back(self, permit: Permit) -> None:
        """Take back permits for an attempt that was never made."""
        window = self._window
        with self._lock, window.lock:
            if window.last_reset == permit.taken:
                # refused tries are counted, too
                window.num_calls = min(window.num_calls, window.clamped_calls) - permit.permits
                self._given_back.set()  # the first of the line need not sleep on

    @property
    def idle(self) -> bool:
        """Whether it may be forgotten: a new limiter would act as this one does."""
        window = self._window
        return not self._line and self._clock() - window.last_reset >= window.period

    @property
    def numbers(self) -> str:
        """What it allows, in words."""
        return f"{self.calls} per {self.period:.10g} s"

    @property
    def most(self) -> int:
        """The most permits that one attempt can have."""
        return self.calls

    def _join(self, place: Place, longest: float, endpoint: str) -> None:
        with self._lock:
            self._line.wake_first()
            wait = self._wait_of(place)
            if wait > longest:
                raise self._refusal(wait, longest, endpoint)
            self._line.join(place)

    def _wait_in_line(
        self,
        place: Place,
        longest: float,
        endpoint: str,
        check: Check | None,
    ) -> Permit:
        came = self._clock()
        nap = math.inf if check is None else LOOK
        while not place.is_set():
            if check is not None:
                check()
            left = came + longest - self._clock()
            with self._lock:
                self._line.wake_first()
                wait = self._wait_of(place)
            if wait <= 0:
                left += LOOK  # there is room, and those before it are just taking theirs
            if left <= 0:
                raise self._refusal(wait, longest, endpoint)
            place.wait(min(left, wait + _SLACK, nap))
        while True:
            if check is not None:
                check()
            with self._lock:
                wait = self._take(place.permits)
                now = self._clock()
                if wait <= 0:
                    return Permit(self._window.last_reset, now - came, place.permits)
                self._given_back.clear()
            if now + wait > came + longest:
                raise self._refusal(wait, longest, endpoint)
            self._sleep(min(wait, nap))

    def _take(self, permits: int) -> float:
        """Take permits and return 0, or return the seconds until the window ends."""
        if permits > 1:
            remaining = self._remaining()
            if remaining > 0 and self._window.num_calls + permits > self.calls:
                return remaining
        try:
            self._count()
            for _ in range(1, permits):
                self._count()
        except RateLimitException as refused:
            return float(refused.period_remaining)
        return 0.0

    def _remaining(self) -> float:
        started: float = self._window.last_reset
        return started + self.period - self._clock()

    def _wait_of(self, place: Place) -> float:
        """Return the seconds until a place in the line, or at its end, gets its permits."""
        return expected_wait(
            [each.permits for each in (*self._line.ahead_of(place), place)],
            used=self._window.num_calls,
            calls=self.calls,
            period=self.period,
            remaining=self._remaining(),
        )

    def _refusal(self, wait: float, longest: float, endpoint: str) -> RateLimitExceeded:
        why = f"rate limit of {self.scope} ({self.numbers}): the next permit comes"
        return refusal(why, wait, longest, endpoint or self.scope)


def expected_wait(
    wanted: Iterable[int], *, used: int, calls: int, period: float, remaining: float
) -> float:
    """Return the seconds until the last of those who want so many permits, in order, gets his."""
    if remaining <= 0:  # the window is over; the next one starts with the next permit
        used, remaining = 0, period
    windows, room = 0, max(0, calls - used)
    for permits in wanted:
        if permits > room:
            windows, room = windows + 1, calls
        room -= permits
    return 0.0 if windows == 0 else remaining + (windows - 1) * period
