"""Permits that are booked: a store says once when the attempt may go, and its caller sleeps once.

The store's state is shared, so the order in which it was asked is the order of all who share it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress

from ..exceptions import StateUnavailable
from ..limits.algorithms import Limit, in_words
from ..limits.store import Booked, Paused, Refused, Store, Wanted
from .permits import Permit
from .server_pause import ServerPause
from .waiting import Check, nap, refusal

Nap = Callable[[float, Check | None], object]


class BookedLimiter:
    """The limits of one endpoint, and the pause of its origin, in one step of a store."""

    idle = True
    """Whether it may be forgotten: the store has its state."""

    def __init__(
        self,
        store: Store,
        scope: str,
        name: str,
        limits: tuple[Limit, ...],
        pause: ServerPause | None = None,
        sleep: Nap = nap,
    ) -> None:
        self.scope = scope
        self.limits = limits
        self._store = store
        self._name = name
        self._pause = pause
        self._whose = "" if pause is None else pause.origin
        self._usual = Wanted(name, limits, 1, math.inf, self._whose)
        self._sleep = sleep

    @property
    def numbers(self) -> str:
        """What they allow, in words."""
        return ", ".join(map(in_words, self.limits)) or "no more than the server allows"

    @property
    def most(self) -> int:
        return min((limit.most for limit in self.limits), default=2**31)

    def acquire(
        self,
        longest: float = math.inf,
        endpoint: str = "",
        check: Check | None = None,
        permits: int = 1,
        key: str = "",
    ) -> Permit:
        """Book permits, and wait for their time, at most ``longest`` seconds.

        Raises `RateLimitExceeded` at once where the wait would be longer, with nothing booked; and
        whatever ``check`` raises, which is called again and again while this waits.
        """
        wanted = self._usual
        if key or permits != 1 or longest != math.inf:
            wanted = Wanted(self._name + key, self.limits, permits, longest, self._whose)
        outcome = self._store.book(wanted)
        if isinstance(outcome, Booked) and outcome.wait <= 0:
            return Permit((wanted, outcome), 0.0, permits, key)
        return self._wait(wanted, outcome, endpoint, check, key)

    def give_back(self, permit: Permit) -> None:
        """Take back permits for an attempt that was never made."""
        self._undo(*permit.taken)

    def _wait(
        self,
        wanted: Wanted,
        outcome: Booked | Refused | Paused,
        endpoint: str,
        check: Check | None,
        key: str,
    ) -> Permit:
        came, longest = time.monotonic(), wanted.longest
        while True:
            left = came + longest - time.monotonic()
            if isinstance(outcome, Refused):
                raise self._refusal(outcome.wait, longest, endpoint)
            if isinstance(outcome, Paused):
                assert self._pause is not None
                self._pause.refuse_if_beyond(outcome.left, left, endpoint)
                self._sleep(outcome.left, check)
            elif self._sleeps_through(wanted, outcome, check):
                waited = time.monotonic() - came
                return Permit((wanted, outcome), waited, wanted.permits, key)
            left = came + longest - time.monotonic()
            outcome = self._store.book(wanted._replace(longest=max(0.0, left)))

    def _sleeps_through(self, wanted: Wanted, booked: Booked, check: Check | None) -> bool:
        """Sleep until the time that is booked; return whether the server may be asked then."""
        try:
            if booked.wait > 0:
                self._sleep(booked.wait, check)
                if wanted.pause and self._store.paused(wanted.scope, wanted.pause) > 0:
                    self._undo(wanted, booked)
                    return False
        except BaseException:
            self._undo(wanted, booked)
            raise
        return True

    def _undo(self, wanted: Wanted, booked: Booked) -> None:
        with suppress(StateUnavailable):  # why they are given back is what is to be told
            self._store.give_back(wanted, booked)

    def _refusal(self, wait: float, longest: float, endpoint: str) -> Exception:
        why = f"rate limit of {self.scope} ({self.numbers}): the next permit comes"
        return refusal(why, wait, longest, endpoint or self.scope)
