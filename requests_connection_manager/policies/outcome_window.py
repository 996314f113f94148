"""How many of the latest outcomes were failures: a window that rolls on in steps of a tenth."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

BUCKETS = 10
"""So much finer than the window is its edge: what is counted is between 0.9 and 1 of it old."""


class OutcomeWindow:
    """Counts outcomes of the last so many ``seconds``; its owner sees to it that one does it."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._width = seconds / BUCKETS
        self._clock = clock
        self.clear()

    def clear(self) -> None:
        """Forget all of it."""
        self._buckets: deque[list[int]] = deque()  # [which, total, failures], the oldest first
        self._total = self._failures = 0

    def add(self, failed: bool) -> None:
        """Count an outcome."""
        which = self._roll()
        if not self._buckets or self._buckets[-1][0] != which:
            self._buckets.append([which, 0, 0])
        self._buckets[-1][1] += 1
        self._buckets[-1][2] += failed
        self._total += 1
        self._failures += failed

    @property
    def total(self) -> int:
        """Outcomes in the window."""
        self._roll()
        return self._total

    @property
    def failures(self) -> int:
        """Those of them that were failures."""
        self._roll()
        return self._failures

    def exceeds(self, rate: float, minimum: int) -> bool:
        """Whether of at least ``minimum`` outcomes at least a ``rate`` of failures is counted."""
        total = self.total
        return total >= minimum and self._failures >= rate * total

    def _roll(self) -> int:
        """Drop what has become too old; return the number of the present bucket."""
        which = int(self._clock() / self._width)
        while self._buckets and self._buckets[0][0] <= which - BUCKETS:
            _, total, failures = self._buckets.popleft()
            self._total -= total
            self._failures -= failures
        return which
