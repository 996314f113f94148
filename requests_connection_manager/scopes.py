"""Limiters and breakers by scope: one for each, whoever asks first.

They outlive the tables of endpoints, so that a change of the endpoints leaves their state alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, TypeVar

from .patterns import Origin, Pattern


class Key(NamedTuple):
    """Whose limiter or breaker it is; other numbers make another one."""

    owner: Pattern | None
    """The pattern that sets it; None: the manager."""
    origin: Origin | None
    """None: it is for all origins."""
    numbers: tuple[float, ...]


class Stateful(Protocol):
    """A policy that keeps state."""

    @property
    def idle(self) -> bool:
        """Whether it may be forgotten, should there be too many."""
        ...


T = TypeVar("T", bound=Stateful)


class Scopes(Generic[T]):
    """The policies of one kind."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_key: dict[Key, T] = {}

    def get(self, key: Key, make: Callable[[], T]) -> T:
        """Return the policy of ``key``; the first to ask makes it."""
        with self._lock:
            found = self._by_key.get(key)
            if found is None:
                found = self._by_key[key] = make()
            return found

    def all(self) -> list[T]:
        with self._lock:
            return list(self._by_key.values())

    def drop(self, owner: Pattern) -> None:
        """Forget those of a pattern."""
        with self._lock:
            self._by_key = {key: it for key, it in self._by_key.items() if key.owner != owner}

    def drop_idle(self) -> None:
        """Forget those that hold no state."""
        with self._lock:
            self._by_key = {key: it for key, it in self._by_key.items() if not it.idle}
