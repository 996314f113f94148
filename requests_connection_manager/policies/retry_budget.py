"""How many retries an origin is sent beside its calls, lest they keep it down.

With 3 retries for each call, an outage quadruples the load just when the service can bear it
least. A budget bounds all of them together, as in Finagle's ``RetryBudget``.
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
_CALLS, _RETRIES = 0, 1


class RetryBudget:
    """``ratio`` retries for each call, and ``floor`` a second that nobody has to earn."""

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
        self._counts = Rolling(WINDOW, 2, clock)
        self.begin_in_child()
        forking.register(self)

    def __str__(self) -> str:
        return f"{self.ratio:.4g} for each call and {self.floor:.4g} a second"

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()

    def call(self) -> None:
        """Note the first attempt of a hop."""
        with self._lock:
            self._counts.add(_CALLS)

    def may_retry(self) -> bool:
        """Take one retry, if there is one left."""
        with self._lock:
            calls, retries = self._counts.totals()
            if retries + 1 > self.ratio * calls + self.floor * WINDOW:
                return False
            self._counts.add(_RETRIES)
            return True

    @property
    def idle(self) -> bool:
        """Whether it may be forgotten: a new budget would act as this one does."""
        with self._lock:
            return not any(self._counts.totals())
