"""What is told, to the log and to listeners, of what happens inside of a call.

Attempts are counted by the hop and calls by the ring, where that costs least.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .events import AttemptMade, BreakerChanged, RetryPlanned, Throttled
from .exceptions import Attempt
from .failures import in_seconds, in_short
from .hooks import Hooks
from .log import logger, on_one_line
from .redaction import public_url
from .stats import Tally

if TYPE_CHECKING:
    import requests


class Ledger:
    """Tells who wants to know; a listener's veto goes through."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks

    @property
    def hears_attempts(self) -> bool:
        """Whether it is worth telling of an attempt, beside counting it."""
        return self._hooks.hears(AttemptMade.name)

    def attempt_made(
        self, endpoint: str, request: requests.PreparedRequest, attempt: Attempt
    ) -> None:
        """Tell of an attempt that has ended; it is counted where that is cheap."""
        method, url = request.method or "", public_url(request.url or "")
        self._hooks.tell(AttemptMade(endpoint, method, url, attempt))

    def retry_planned(
        self, endpoint: str, request: requests.PreparedRequest, attempt: Attempt, delay: float
    ) -> None:
        """Tell that another attempt will be made."""
        method, url = request.method or "", public_url(request.url or "")
        if logger.isEnabledFor(logging.INFO):
            last = in_short(attempt.error) if attempt.error is not None else attempt.status
            what = on_one_line(f"{method} {url}")
            logger.info("%s: %s: again in %s after %s", endpoint, what, in_seconds(delay), last)
        self._hooks.tell(RetryPlanned(endpoint, method, url, attempt, delay))

    def permit_waited_for(self, endpoint: str, tally: Tally, scope: str, waited: float) -> None:
        """Count and tell a wait."""
        tally.wait(waited)
        logger.info("%s: waited %.3f s for a permit", endpoint, waited)
        self._hooks.tell(Throttled(endpoint, scope, waited))

    def slot_waited_for(self, endpoint: str, waited: float) -> None:
        """Tell a wait for a place among the attempts under way."""
        logger.info("%s: waited %.3f s for a slot", endpoint, waited)

    def breaker_changed(self, change: BreakerChanged) -> None:
        """Tell of a circuit; the call that changed it is not to suffer from who listens."""
        is_open = change.new_state == "open"
        level = logging.WARNING if is_open else logging.INFO
        because = f" after {change.last_error}" if is_open and change.last_error else ""
        logger.log(level, "circuit of %s is %s%s", change.endpoint, change.new_state, because)
        self._hooks.tell(change, vetoes=False)
