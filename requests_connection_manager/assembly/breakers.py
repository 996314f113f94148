"""The breaker of an endpoint, as the settings ask for it: of this process, or of a fleet."""

from __future__ import annotations

from typing import Any

from ..limits.opening import shared_state_of
from ..policies.circuit_breaker import Breaker, BreakerNumbers
from ..scopes import Key
from ..settings import Settings
from .merging import Rule
from .site import Site, name_in_state

_SETTINGS = frozenset(f"circuit_breaker_{name}" for name in BreakerNumbers._fields)


_FOR_EVER = 60.0
"""Seconds that a connect or a read without a limit of its own is given, for a trial."""
_SHORTEST_LEASE = 30.0


def breaker_at(site: Site) -> Breaker | None:
    """Return the breaker of a site; None: there is none."""
    settings = site.settings
    numbers = _numbers(settings)
    if numbers is None:
        return None
    owner = _owner(site)
    scope, name = site.scope(owner), name_in_state(owner, site.origin)
    tell = site.kept.ledger.breaker_changed

    def make() -> Breaker:
        shared = None
        if _shares_circuits(settings):
            shared = shared_state_of(site.kept.store(settings))
        if shared is None:
            return Breaker(scope, numbers, tell=tell)
        from ..policies.shared_breaker import SharedBreaker  # late: only who has a Redis needs it
        from ..policies.shared_circuit import CircuitInRedis

        lease = _lease(settings, numbers.recovery_timeout)
        there = CircuitInRedis(shared.scripts, settings.state_prefix, name, numbers, lease)
        return SharedBreaker(scope, numbers, there, shared.absence, tell=tell)

    return site.kept.breakers.get(breaker_key(site), make, site.listed)


def breaker_key(site: Site) -> Key:
    """Return whose breaker the URLs of a site get."""
    owner = _owner(site)
    numbers: tuple[Any, ...] = _numbers(site.settings) or ()
    if _shares_circuits(site.settings):
        numbers += (site.settings.state, site.settings.state_prefix)
    return Key(owner and owner.pattern, site.origin, numbers)


def _owner(site: Site) -> Rule | None:
    is_shared = _shares_circuits(site.settings)
    return site.owner(_SETTINGS | {"state", "state_prefix"} if is_shared else _SETTINGS)


def _shares_circuits(settings: Settings) -> bool:
    state = settings.state
    return not isinstance(state, str) or not state.lower().startswith(("memory", "sqlite:"))


def _lease(settings: Settings, recovery: float) -> float:
    """Return the seconds after which a trial whose process is silent counts as lost.

    Twice what the settings allow a call: a body may trickle, and a caller may give it more time.
    """
    longest = settings.total_timeout
    if longest is None:
        longest = sum(_FOR_EVER if each is None else each for each in settings.timeouts)
    return max(_SHORTEST_LEASE, recovery, 2 * longest)


def _numbers(settings: Settings) -> BreakerNumbers | None:
    """Return the numbers of a breaker; None: there is none."""
    threshold = settings.circuit_breaker_failure_threshold
    recovery = settings.circuit_breaker_recovery_timeout
    rate = settings.circuit_breaker_failure_rate
    if recovery is None or (threshold is None and rate is None):
        return None
    return BreakerNumbers(
        failure_threshold=threshold,
        recovery_timeout=recovery,
        success_threshold=settings.circuit_breaker_success_threshold,
        recovery_max=settings.circuit_breaker_recovery_max,
        recovery_jitter=settings.circuit_breaker_recovery_jitter,
        failure_rate=rate,
        window=settings.circuit_breaker_window,
        minimum_calls=settings.circuit_breaker_minimum_calls,
        slow_call=settings.circuit_breaker_slow_call,
    )
