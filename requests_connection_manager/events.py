"""What happens inside of a call, as a listener is told of it: one frozen object for each event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .exceptions import Attempt


@dataclass(frozen=True)
class Event:
    """The root of the events; ``name`` is the method that listens to it."""

    name: ClassVar[str]
    endpoint: str
    """The most specific pattern, or the origin; for a breaker, its scope."""


@dataclass(frozen=True)
class _OfAnAttempt(Event):
    method: str
    url: str
    """Without user-info, query and fragment."""
    attempt: Attempt


@dataclass(frozen=True)
class AttemptMade(_OfAnAttempt):
    """An attempt has ended, whatever came of it."""

    name: ClassVar[str] = "on_attempt"


@dataclass(frozen=True)
class RetryPlanned(_OfAnAttempt):
    """After ``attempt`` another is to be made in ``delay`` seconds, if a permit can be had then."""

    name: ClassVar[str] = "on_retry"
    delay: float


@dataclass(frozen=True)
class Throttled(Event):
    """A permit of ``scope`` came only after ``waited`` seconds."""

    name: ClassVar[str] = "on_throttle"
    scope: str
    waited: float


@dataclass(frozen=True)
class BreakerChanged(Event):
    """A circuit went from one state to another: ``closed``, ``open`` or ``half-open``.

    Or it stays where it is, and somebody forces it from now on, or does no more.
    """

    name: ClassVar[str] = "on_breaker_change"
    old_state: str
    new_state: str
    last_error: Exception | None
    forced: str | None = None
    """``open`` or ``closed``, while somebody forces it."""


EVENTS = tuple(kind.name for kind in (AttemptMade, RetryPlanned, Throttled, BreakerChanged))
