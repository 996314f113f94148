"""Policies that keep state, and counts, by scope: one for each, whoever asks first.

They outlive the tables of endpoints, so that a change of the endpoints leaves their state alone.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from . import forking
from .hooks import Hooks
from .ledger import Ledger
from .limits.memory import MemoryStore
from .limits.opening import open_store
from .limits.store import Store
from .patterns import Origin, Pattern
from .policies.adaptive_throttling import AdaptiveThrottle
from .policies.circuit_breaker import Breaker
from .policies.concurrency import ConcurrencyLimiter
from .policies.rate_limit import RateLimiter
from .policies.retry_budget import RetryBudget
from .settings import Settings
from .stats import Tally


class Key(NamedTuple):
    """Whose policy it is; other numbers make another one."""

    owner: Pattern | None
    """The pattern that sets it; None: the manager."""
    origin: Origin | None
    """None: it is for all origins."""
    numbers: tuple[Any, ...]


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
        self.begin_in_child()
        forking.register(self)
        self._by_key: dict[Key, T] = {}
        # What was forgotten, while calls under way still hold it: there must not be two of a kind.
        self._in_use: weakref.WeakValueDictionary[Key, T] = weakref.WeakValueDictionary()

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()

    def get(self, key: Key, make: Callable[[], T], listed: bool) -> T:
        """Return the policy of ``key``; the first to ask makes it.

        What is not ``listed`` lives only as long as somebody holds it.
        """
        with self._lock:
            found = self._by_key.get(key) or self._in_use.get(key)
            if found is None:
                found = make()
            if listed:
                self._by_key[key] = found
            elif key not in self._by_key:
                self._in_use[key] = found
            return found

    def all(self) -> list[T]:
        with self._lock:
            return list(self._by_key.values())

    def items(self) -> list[tuple[Key, T]]:
        with self._lock:
            return list(self._by_key.items())

    def drop(self, gone: Callable[[Key], bool]) -> None:
        """Forget those whose key is ``gone``."""
        with self._lock:
            self._by_key = {key: it for key, it in self._by_key.items() if not gone(key)}

    def drop_idle(self) -> None:
        """Forget those that hold no state."""
        with self._lock:
            idle = {key: it for key, it in self._by_key.items() if it.idle}
            self._in_use.update(idle)
            self._by_key = {key: it for key, it in self._by_key.items() if key not in idle}


MOST_COUNTED = 4096
"""Scopes that are counted apart; what comes later is counted as one, for a crawler's sake."""
OTHERS = "(all others)"


class Counted(NamedTuple):
    """A scope that is counted, and what it stands for; None for the `OTHERS`."""

    tally: Tally
    origin: Origin | None
    breaker: Breaker | None


class Kept:
    """What a manager keeps for as long as it lives."""

    def __init__(self, hooks: Hooks) -> None:
        self.hooks = hooks
        self.ledger = Ledger(hooks)
        self.limiters: Scopes[RateLimiter] = Scopes()
        self.breakers: Scopes[Breaker] = Scopes()
        self.concurrency: Scopes[ConcurrencyLimiter] = Scopes()
        self.retry_budgets: Scopes[RetryBudget] = Scopes()
        self.throttles: Scopes[AdaptiveThrottle] = Scopes()
        self.begin_in_child()
        forking.register(self)
        self._counted: dict[str, Counted] = {}
        self._stores: dict[tuple[Any, ...], Store] = {}
        self._local: dict[tuple[Any, ...], MemoryStore] = {}
        """What takes the place of shared stores, by state and prefix."""

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()

    def store(self, settings: Settings) -> Store:
        """Return where the limits of some settings are kept."""
        shared = (settings.state, settings.state_prefix)
        how = (settings.state_timeout, settings.state_fallback)
        whose: tuple[Any, ...] = (*shared, *how)
        if settings.state == "memory":
            whose = ("memory",)  # which the other settings say nothing of
        with self._lock:
            store = self._stores.get(whose)
            if store is None:
                # The numbers hold here, however long some wait for the shared store.
                local = self._local.setdefault(shared, MemoryStore())
                store = self._stores[whose] = open_store(*shared, *how, local=local)
            return store

    def close(self) -> None:
        """Let go of what the stores hold open."""
        with self._lock:
            stores = list(self._stores.values())
        for store in stores:
            store.close()

    def drop_idle(self) -> None:
        """Forget the policies that hold no state."""
        self.limiters.drop_idle()
        self.breakers.drop_idle()
        self.concurrency.drop_idle()
        self.retry_budgets.drop_idle()
        self.throttles.drop_idle()

    def tally(self, scope: str, origin: Origin, breaker: Breaker | None, listed: bool) -> Tally:
        """Return where a scope is counted; the first to ask makes it.

        Who is not ``listed`` belongs to the past, and has no say in what the scope stands for.
        """
        with self._lock:
            known = self._counted.get(scope)
            if known is None and len(self._counted) >= MOST_COUNTED:
                return self._counted.setdefault(OTHERS, Counted(Tally(), None, None)).tally
            if known is not None and not listed:
                return known.tally
            tally = known.tally if known is not None else Tally()
            self._counted[scope] = Counted(tally, origin, breaker)
            return tally

    def counted(self) -> dict[str, Counted]:
        with self._lock:
            return dict(self._counted)
