"""How long a circuit stays open: longer from trip to trip, as long as one follows another."""

from __future__ import annotations

import random
from collections.abc import Callable

_MOST_DOUBLINGS = 60


def open_time(trips: int, shortest: float, longest: float, jitter: float, chance: float) -> float:
    """Return how long the circuit is open after so many trips that followed each other.

    The first is open for ``shortest``, exactly. Each other doubles that, up to ``longest``, and is
    then shortened by a part of up to ``jitter``, which ``chance`` (0 to 1) says, so that a fleet
    does not come back at one moment.
    """
    grown = min(longest, shortest * 2.0 ** min(trips - 1, _MOST_DOUBLINGS))
    if grown <= shortest:
        return shortest
    return max(shortest, grown * (1 - jitter * chance))


class OpenTime:
    """Of one circuit: the present time, and the trips that led to it."""

    def __init__(
        self,
        shortest: float,
        longest: float,
        jitter: float,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.seconds = shortest
        """How long the circuit is open, or was when it last was."""
        self._longest = longest
        self._jitter = jitter
        self._chance = chance
        self._trips = 0
        self._closed_at = 0.0

    def tripped(self, shortest: float, now: float, on_trial: bool) -> None:
        """Let a trip follow the last one, unless the circuit was closed for long enough."""
        follows = on_trial or now - self._closed_at <= self.seconds
        self._trips = self._trips + 1 if follows else 1
        self.seconds = open_time(self._trips, shortest, self._longest, self._jitter, self._chance())

    def by_hand(self, shortest: float) -> None:
        """Begin anew with the circuit open, since somebody said so: that is no trip."""
        self.seconds, self._trips = shortest, 0

    def closed(self, now: float) -> None:
        """Note since when it is closed."""
        self._closed_at = now

    def forget(self) -> None:
        """Begin anew, with the circuit closed."""
        self._trips = 0

    def adopt(self, trips: int, seconds: float) -> None:
        """Go on from what others have counted."""
        self._trips, self.seconds = trips, seconds

    def has_grown(self, now: float) -> bool:
        """Whether a trip now would not be the first; of a closed circuit."""
        return self._trips > 0 and now - self._closed_at <= self.seconds
