"""Counts of the last so many seconds, in steps: what is older is forgotten a step at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

STEPS = 20


class Rolling:
    """Counts of several kinds in the last ``seconds``, less up to one of the ``steps`` of them.

    Who shares it between threads guards it with a lock.
    """

    def __init__(
        self, seconds: float, kinds: int, clock: Callable[[], float], steps: int = STEPS
    ) -> None:
        self._width = seconds / steps
        self._most = steps
        self._kinds = kinds
        self._clock = clock
        self.clear()

    def clear(self) -> None:
        """Forget all of it."""
        self._steps: deque[tuple[int, list[int]]] = deque()
        self._totals = [0] * self._kinds

    def add(self, kind: int, count: int = 1) -> None:
        """Count ``count`` of one kind now."""
        step = self._forget()
        if not self._steps or self._steps[-1][0] != step:
            self._steps.append((step, [0] * self._kinds))
        self._steps[-1][1][kind] += count
        self._totals[kind] += count

    def totals(self) -> tuple[int, ...]:
        """Return the counts of all kinds."""
        self._forget()
        return tuple(self._totals)

    def _forget(self) -> int:
        step = int(self._clock() / self._width)  # not //, as in circuit.lua: 1.0 // 0.1 is 9
        while self._steps and self._steps[0][0] <= step - self._most:
            _, gone = self._steps.popleft()
            for kind, count in enumerate(gone):
                self._totals[kind] -= count
        return step
