"""One clock for the whole of a call: waiting, sending, sleeping, redirects and the body."""

from __future__ import annotations

import math
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..settings import Timeouts


class Deadline:
    """The moment by which a call must have returned.

    It is released when the call returns: what the caller reads of a streamed body afterwards
    is the caller's own time.
    """

    __slots__ = ("_ends", "seconds", "started")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.started = time.monotonic()
        self._ends = self.started + seconds

    @classmethod
    def within(cls, seconds: float | None, outer: Deadline | None) -> Deadline | None:
        """Make the deadline of a call, which ends no later than that of the one around it."""
        if outer is not None:
            seconds = min(outer.left(), math.inf if seconds is None else seconds)
        return None if seconds is None or seconds == math.inf else cls(seconds)

    def left(self) -> float:
        """Seconds that remain; negative when it has passed, infinite when released."""
        return self._ends - time.monotonic()

    @property
    def expired(self) -> bool:
        return self.left() <= 0

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def release(self) -> None:
        self._ends = math.inf


inherited: ContextVar[Deadline | None] = ContextVar("inherited", default=None)
"""That of the call in whose course a batch was begun: its workers' calls are a part of that one."""
_LEAST = 0.001
"""Seconds; urllib3 takes no timeout of 0 or less."""


def shorten(timeouts: Timeouts, left: float) -> Timeouts:
    """Bound a (connect, read) pair by the seconds that are left."""
    connect, read = timeouts
    left = max(left, _LEAST)
    return (
        left if connect is None else min(connect, left),
        left if read is None else min(read, left),
    )
