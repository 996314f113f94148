"""What the calls of a batch share: whether they are still wanted, and how many wait for a permit.

A batch is stopped from outside, while its calls wait in a limiter's line or back off. They look
here before each attempt, and what looks after the stop sends nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING

from . import forking
from .exceptions import ConnectionManagerError
from .policies.permits import Permit, Permits

if TYPE_CHECKING:
    import requests


class BatchStopped(ConnectionManagerError):
    """The call belongs to a batch that was stopped before this attempt; nobody awaits its answer.

    Only a hook in the worker's own thread can meet it.
    """


class WorkGroup:
    """The calls that one batch makes, in whatever threads; of a nested one, the outer's, too."""

    def __init__(self) -> None:
        self._outer = current_group.get()
        self._stopped = False
        self._waiting = 0
        self.begin_in_child()
        forking.register(self)

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()

    # No lock: the collector of garbage may stop a batch in any thread, wherever it is.
    def stop(self) -> None:
        """Let nothing more be sent."""
        self._stopped = True

    @property
    def stopped(self) -> bool:
        return self._stopped or (self._outer is not None and self._outer.stopped)

    def check(self) -> None:
        """Raise `BatchStopped` if nothing more is to be sent."""
        if self.stopped:
            raise BatchStopped("the batch of this request was stopped; it was not sent (again).")

    @property
    def waiting(self) -> int:
        """How many calls are at a rate limiter: in its line, or just taking a permit."""
        return self._waiting

    def take(
        self,
        permits: Permits,
        longest: float,
        endpoint: str,
        check: Callable[[], object],
        request: requests.PreparedRequest | None,
    ) -> Permit | None:
        """Take a permit, and count the call as waiting; ``check`` may end the wait by raising."""
        with self._lock:
            self._waiting += 1
        try:
            return permits.take(longest, endpoint, check, request)
        finally:
            with self._lock:
                self._waiting -= 1


current_group: ContextVar[WorkGroup | None] = ContextVar("current_group", default=None)
