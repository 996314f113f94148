"""What keeps the state of limits: whatever it does is one step, which nobody divides."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from .algorithms import Limit


class Wanted(NamedTuple):
    """What is asked of a store: some permits of every one of several limits, or none of any."""

    scope: str
    """Whose state it is."""
    limits: tuple[Limit, ...]
    """No two alike; may be none, where only the server's word counts."""
    permits: int
    """At most the ``most`` of each limit; 0 books nothing, but keeps the pause."""
    longest: float
    """Seconds that the caller may wait; infinite: however long."""
    pause: str
    """Whose pause is to be kept, of those of this scope."""


class Booked(NamedTuple):
    """That the permits are had, ``wait`` seconds from now."""

    wait: float
    receipt: object = None
    """What the store needs for giving them back."""


class Refused(NamedTuple):
    """That nothing was booked: the wait would be longer than allowed."""

    wait: float


class Paused(NamedTuple):
    """That nothing was booked: the server wants to be left alone for so many seconds."""

    left: float


class Store(Protocol):
    """Keeps the state of limits, for all who share it.

    Whatever goes wrong with what it keeps them in comes out as `StateUnavailable`.
    """

    def book(self, wanted: Wanted) -> Booked | Refused | Paused:
        """Book permits, in one step."""
        ...

    def give_back(self, wanted: Wanted, booked: Booked) -> None:
        """Give permits back that were not used; only while nobody has booked after them.

        Else who came later would go at the time that is given to somebody else, too.
        """
        ...

    def pause(self, scope: str, whose: str, seconds: float) -> None:
        """Let nothing of ``whose`` go for so many seconds; one that lasts longer stands.

        Pauses belong to a scope, since a store of several machines keeps each scope in one place.
        """
        ...

    def paused(self, scope: str, whose: str) -> float:
        """Return the seconds that a pause still lasts."""
        ...

    def close(self) -> None:
        """Let go of what it holds open; it may be used again."""
        ...
