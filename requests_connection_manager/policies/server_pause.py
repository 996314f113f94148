"""The pause that a server asks for, kept where the limits are, by all who share these."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ..exceptions import StateUnavailable
from ..limits.store import Store
from .server_limits import stated_pause
from .waiting import refusal

if TYPE_CHECKING:
    import requests

LONGEST_PAUSE = 86_400.0
"""Seconds; after a day one request asks again, whatever was said. It may have been a mistake."""


class ServerPause:
    """That of one endpoint at one origin: what a server says holds for itself alone."""

    def __init__(
        self,
        store: Store,
        scope: str,
        origin: str,
        longest: float,
        kept_by_limiter: bool,
        by_retry_after: bool = True,
    ) -> None:
        self._store = store
        self._scope = scope
        self.origin = origin
        """Whose pause it is, within the scope."""
        self.longest = longest
        """Seconds; what the server asks for beyond that is not waited for."""
        self.kept_by_limiter = kept_by_limiter
        self._by_retry_after = by_retry_after
        """Whether ``Retry-After`` has a say; else a retry that is not to wait would wait for it."""

    def heed(self, response: requests.Response, key: str) -> float:
        """Note what an answer says, and return the seconds."""
        status, headers = response.status_code, response.headers
        pause = stated_pause(status, headers, time.time(), self._by_retry_after)
        if pause > 0:
            with suppress(StateUnavailable):  # the answer is there, and is not to be lost for it
                self._store.pause(self._scope + key, self.origin, min(pause, LONGEST_PAUSE))
        return pause

    def left(self, key: str) -> float:
        """Return the seconds that are to be waited here, which a limiter may do instead."""
        return 0.0 if self.kept_by_limiter else self._store.paused(self._scope + key, self.origin)

    def refuse_if_beyond(self, left: float, longest: float, endpoint: str) -> None:
        """Raise `RateLimitExceeded` where the pause is longer than anybody wants to wait."""
        longest = min(longest, self.longest)
        if left > longest:
            why = f"{self.origin} has asked for a pause, which ends"
            raise refusal(why, left, longest, endpoint, "retry_after_max, rate_limit_max_wait")
