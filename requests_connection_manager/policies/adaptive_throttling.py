"""Rejecting here what an overloaded service would reject there, where it costs less.

The client-side throttling of Google's SRE book, chapter 21, "Handling Overload": a call is
rejected with the probability ``max(0, (requests - K * accepts) / (requests + 8))`` of the last two
minutes; the book has 1 in the place of the 8. A call counts when its outcome is known, not when it
is sent: else a crowd that sets out together would look like one that was refused.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from .. import forking
from ..exceptions import RateLimitExceeded
from .rolling import Rolling

WINDOW = 120.0
"""Seconds, as in the book."""
PADDING = 8
"""So few calls say little. With the book's 1, a single failure rejects half of what follows, and
each rejection makes the next more probable, so that a healthy service with few calls may not be
asked for minutes. gRPC has 8: ``AdaptiveThrottler`` of grpc-java, ``adaptive`` of grpc-go.
"""
_REQUESTS, _ACCEPTS = 0, 1


class AdaptiveThrottle:
    """The throttle of one origin; ``k`` is how many times the accepted load it may be sent."""

    def __init__(
        self,
        scope: str,
        k: float,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.scope = scope
        self.k = k
        self._chance = chance
        self._counts = Rolling(WINDOW, 2, clock)
        self.begin_in_child()
        forking.register(self)

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()

    def ask(self, endpoint: str = "") -> None:
        """Let a call go, or raise `RateLimitExceeded`, which is a request that was not accepted."""
        with self._lock:
            requests, accepts = self._counts.totals()
            probability = rejection_probability(requests, accepts, self.k)
            if not probability or self._chance() >= probability:
                return
            self._counts.add(_REQUESTS)
        raise self._refusal(probability, requests, accepts, endpoint)

    def learn(self, accepted: bool | None) -> None:
        """Count a call that was let go; None: nothing was learned of the service."""
        if accepted is None:
            return
        with self._lock:
            self._counts.add(_REQUESTS)
            if accepted:
                self._counts.add(_ACCEPTS)

    @property
    def probability(self) -> float:
        """With which the next call is rejected."""
        with self._lock:
            requests, accepts = self._counts.totals()
        return rejection_probability(requests, accepts, self.k)

    @property
    def idle(self) -> bool:
        """Whether it may be forgotten: a new throttle would act as this one does."""
        with self._lock:
            return not any(self._counts.totals())

    def _refusal(
        self, probability: float, requests: int, accepts: int, endpoint: str
    ) -> RateLimitExceeded:
        # The mean number of tries until one is let go, taken at one a second.
        hint = min(1 / (1 - probability), WINDOW)
        return RateLimitExceeded(
            f"adaptive throttling of {self.scope}: rejected here with a probability of "
            f"{probability:.2f}, for {accepts} of the last {requests} calls were accepted. Nothing "
            "was sent. Try again in `retry_after` seconds; a larger adaptive_throttling lets more "
            "go, False all.",
            retry_after=hint,
            endpoint=endpoint or self.scope,
        )


def rejection_probability(requests: int, accepts: int, k: float) -> float:
    """Return the book's probability, with our padding, from 0 to less than 1."""
    return max(0.0, (requests - k * accepts) / (requests + PADDING))
