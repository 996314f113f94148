"""Whether something that others run is out of reach, and when to try it again.

The law: while it is gone, one caller at a time tries, and the others do without; its going is told
once, however many notice. Who is neither told that it came back nor that it failed (a thread was
interrupted) has no claim on the next try for longer than the longest interval.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from .. import forking
from ..log import in_words, logger

SHORTEST = 1.0
LONGEST = 30.0
"""Seconds between two tries."""


class Absence:
    """Of ``what``, as the log is to call it; present until `failed` says otherwise."""

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.gone = False
        self._what = what
        self._clock = clock
        self._interval = SHORTEST
        self._next = 0.0
        self.begin_in_child()
        forking.register(self)

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()
        self._trying: int | None = None

    def may_try(self) -> bool:
        """Whether to ask it; who may must end with `failed` or `returned`, in the same thread."""
        if not self.gone:
            return True
        with self._lock:
            if not self.gone:
                return True
            now = self._clock()
            if now < self._next:
                return False
            self._trying = threading.get_ident()
            self._next = now + LONGEST  # for others; the answer to this try sets it anew
            return True

    def failed(self, error: BaseException) -> None:
        """It was asked, and was out of reach."""
        with self._lock:
            if not self.gone:
                self.gone, self._interval = True, SHORTEST
                tell = True
            elif self._trying == threading.get_ident():
                self._interval = min(2 * self._interval, LONGEST)
                tell = False
            else:
                return  # asked before others found it gone
            self._trying = None
            self._next = self._clock() + self._interval
        if tell:
            logger.warning(
                "%s is out of reach (%s); it is tried again every %g to %g s",
                self._what,
                in_words(error),
                SHORTEST,
                LONGEST,
            )

    def returned(self) -> None:
        """It was asked, and answered."""
        if not self.gone:
            return
        with self._lock:
            # An answer to who asked before it went says nothing of now.
            if not self.gone or self._trying != threading.get_ident():
                return
            self.gone, self._trying = False, None
        logger.info("%s is back", self._what)
