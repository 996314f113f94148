"""From the value of the setting `state` to the store that it names.

Nothing is opened here: the file and the socket wait for the first booking. What a store needs of
others is imported with it, and only then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .absence import Absence
from .fallback import FallbackStore
from .memory import MemoryStore
from .store import Store

if TYPE_CHECKING:
    from .redis_scripts import Scripts


class SharedState(NamedTuple):
    """Where others keep more than limits, too."""

    scripts: Scripts
    absence: Absence | None
    """None: nothing takes its place while it is gone."""


def open_store(
    state: Any, prefix: str, timeout: float, fallback: str, local: Store | None = None
) -> Store:
    """Return the store that keeps the state; the arguments are the settings of these names.

    ``local`` takes its place where it is gone; without it, one of its own. Raises
    `ConfigurationError` where it cannot be had, whatever comes.
    """
    if state == "memory":
        return MemoryStore()
    shared = _shared(state, prefix, timeout)
    if fallback == "raise":
        return shared
    what = "the shared state (of limits, and of circuits in Redis)"
    return FallbackStore(shared, local or MemoryStore(), what)


def _shared(state: Any, prefix: str, timeout: float) -> Store:
    if isinstance(state, str) and state.lower().startswith("sqlite:"):
        from .sqlite import SQLiteStore

        return SQLiteStore(state.partition("://")[2], prefix, timeout)
    from .redis import RedisStore

    return RedisStore(state, prefix, timeout)


def shared_state_of(store: Store) -> SharedState | None:
    """Return what runs scripts where a store keeps its state; None: nothing can."""
    absence = None
    if isinstance(store, FallbackStore):
        absence, store = store.absence, store.shared
    scripts = getattr(store, "scripts", None)
    return None if scripts is None else SharedState(scripts, absence)
