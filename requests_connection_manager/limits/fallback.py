"""A shared store, and one in this process that counts for as long as the shared one is gone.

The law: no caller fails for the shared store's sake, and none waits for it while it is known to be
gone, but the one whose turn it is to try; it is back once it has written. Both count from what each
knows: at the change over, what was booked in the other is not seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from ..exceptions import StateUnavailable
from .absence import Absence
from .store import Booked, Paused, Refused, Store, Wanted

T = TypeVar("T")


class _Here(NamedTuple):
    """The receipt of the local store, which so is told from the shared one's."""

    receipt: object


class FallbackStore:
    """Keeps the state in ``shared``, and in ``local`` where that is out of reach."""

    def __init__(
        self, shared: Store, local: Store, what: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.shared = shared
        self._local = local
        self.absence = Absence(what, clock)
        """For all who keep something where ``shared`` does."""

    def book(self, wanted: Wanted) -> Booked | Refused | Paused:
        # A pause that came while the shared store was gone is known here only.
        left = self._local.paused(wanted.scope, wanted.pause)
        if left > 0:
            return Paused(left)
        answer = self._if_there(lambda: self._book_there(wanted))
        if answer is not None:
            return answer
        instead = self._local.book(wanted)
        if isinstance(instead, Booked):
            return Booked(instead.wait, _Here(instead.receipt))
        return instead

    def give_back(self, wanted: Wanted, booked: Booked) -> None:
        """Permits of a shared store that is gone stay booked there."""
        if isinstance(booked.receipt, _Here):
            self._local.give_back(wanted, Booked(booked.wait, booked.receipt.receipt))
        elif not self.absence.gone:
            self._if_there(lambda: self.shared.give_back(wanted, booked))

    def pause(self, scope: str, whose: str, seconds: float) -> None:
        self._local.pause(scope, whose, seconds)
        self._if_there(lambda: self.shared.pause(scope, whose, seconds))

    def paused(self, scope: str, whose: str) -> float:
        left = self._local.paused(scope, whose)
        if self.absence.gone:  # that it can be read would not say that it is back
            return left
        return max(left, self._if_there(lambda: self.shared.paused(scope, whose)) or 0.0)

    def close(self) -> None:
        self.shared.close()
        self._local.close()

    def _book_there(self, wanted: Wanted) -> Booked | Refused | Paused:
        was_gone = self.absence.gone
        answer = self.shared.book(wanted)
        wrote = isinstance(answer, Booked) and wanted.permits and wanted.limits
        if was_gone and not wrote:
            # A replica, or one that is full, would be back and gone again every second.
            self.shared.pause(wanted.scope, wanted.pause, 0.0)
        return answer

    def _if_there(self, ask: Callable[[], T]) -> T | None:
        """Ask the shared store; None if it is gone."""
        if not self.absence.may_try():
            return None
        try:
            answer = ask()
        except StateUnavailable as error:
            self.absence.failed(error)
            return None
        self.absence.returned()
        return answer
