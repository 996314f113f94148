"""How many of the latest outcomes were failures."""

from __future__ import annotations

import time
from collections.abc import Callable

from .rolling import Rolling

_STEPS = 10
"""As in circuit.lua: what is counted is between 0.9 and 1 of the window old."""
_ALL, _FAILURES = 0, 1


class OutcomeWindow:
    """Counts outcomes of the last so many ``seconds``; its owner sees to it that one does it."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._counts = Rolling(seconds, 2, clock, _STEPS)

    def clear(self) -> None:
        """Forget all of it."""
        self._counts.clear()

    def add(self, failed: bool) -> None:
        """Count an outcome."""
        self._counts.add(_ALL)
        if failed:
            self._counts.add(_FAILURES)

    @property
    def total(self) -> int:
        """Outcomes in the window."""
        return self._counts.totals()[_ALL]

    @property
    def failures(self) -> int:
        """Those of them that were failures."""
        return self._counts.totals()[_FAILURES]

    def exceeds(self, rate: float, minimum: int) -> bool:
        """Whether of at least ``minimum`` outcomes at least a ``rate`` of failures is counted."""
        total, failures = self._counts.totals()
        # Not `rate * total`: 0.07 * 100 is more than 7, while 7 / 100 is the number that is meant.
        return total >= minimum and failures / total >= rate
