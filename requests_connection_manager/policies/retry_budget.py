"""How many retries an origin is sent beside its calls, lest they keep it down.

With 3 retries for each call, an outage quadruples the load just when the service can bear it
least. A budget bounds all of them together: a bucket that each call and each second fills a little,
and from which each retry takes one, as in Finagle's ``RetryBudget``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from .. import forking
from .rolling import Rolling

WINDOW = 10.0
"""Seconds, as in Finagle: long enough that an outage's first retries are paid by the calls from
before it, short enough that a quiet hour saves up nothing."""
_NEARLY_ONE = 1 - 1e-6
"""Ten times 0.1 is a little less than 1; what is so taken too much is missing the next time."""
_LEAST_ROOM = 2.0
"""Retries: where less comes in a window, a whole one comes together all the same, and nothing of
what comes with it is lost."""


class RetryBudget:
    """``ratio`` retries for each call, and ``floor`` a second that nobody has to earn.

    What is saved up is at most what the last `WINDOW` has brought, or two retries if that is more.
    """

    def __init__(
        self,
        scope: str,
        ratio: float,
        floor: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.scope = scope
        self.ratio = ratio
        self.floor = floor
        self._clock = clock
        self._calls = Rolling(WINDOW, 1, clock)
        self._saved = self._at_first = floor * WINDOW
        self._filled_at = clock()
        self.begin_in_child()
        forking.register(self)

    def __str__(self) -> str:
        return f"{self.ratio:.4g} for each call and {self.floor:.4g} a second"

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()

    def call(self) -> None:
        """Note the first attempt of a hop."""
        with self._lock:
            self._calls.add(0)
            self._fill(self.ratio)

    def may_retry(self) -> bool:
        """Take one retry, if there is one left."""
        with self._lock:
            self._fill()
            if self._saved < _NEARLY_ONE:
                return False
            self._saved -= 1
            return True

    def _fill(self, earned: float = 0.0) -> None:
        now = self._clock()
        [calls] = self._calls.totals()
        most = max(_LEAST_ROOM, self.ratio * calls + self.floor * WINDOW)
        seconds = max(0.0, now - self._filled_at)
        self._saved = min(most, self._saved + earned + self.floor * seconds)
        self._filled_at = now

    @property
    def idle(self) -> bool:
        """Whether it may be forgotten: a new budget would allow no retry more than this one."""
        with self._lock:
            self._fill()
            return not any(self._calls.totals()) and self._saved >= self._at_first
