"""From the settings of a URL to its breaker: its numbers, whose it is, and who shares it."""

from __future__ import annotations

from typing import Any

from .limits.opening import shared_state_of
from .patterns import Origin
from .policies.circuit_breaker import Breaker, BreakerNumbers
from .rules import Rule, name_in_state, owner_of, scope_at
from .scopes import Kept, Key
from .settings import Settings

BREAKER_SETTINGS = frozenset(f"circuit_breaker_{name}" for name in BreakerNumbers._fields)
_FOR_EVER = 60.0
"""Seconds that a connect or a read without a limit of its own is given, for a trial."""


def breaker_of(
    origin: Origin, rules: tuple[Rule, ...], settings: Settings, kept: Kept, listed: bool
) -> Breaker | None:
    """Return the breaker of the URLs of an origin that match ``rules``; None: there is none."""
    numbers = _breaker_numbers(settings)
    if numbers is None:
        return None
    owner = owner_of(rules, _breaker_settings(settings))
    scope, name = scope_at(origin, owner), name_in_state(owner, origin)

    def make() -> Breaker:
        shared = shared_state_of(kept.store(settings)) if _shares_circuits(settings) else None
        if shared is None:
            return Breaker(scope, numbers, tell=kept.ledger.breaker_changed)
        from .policies.shared_breaker import SharedBreaker  # late: only who has a Redis needs it
        from .policies.shared_circuit import CircuitInRedis

        lease = max(numbers.recovery_timeout, _longest_call(settings))
        there = CircuitInRedis(shared.scripts, settings.state_prefix, name, numbers, lease)
        return SharedBreaker(
            scope, numbers, there, shared.absence, tell=kept.ledger.breaker_changed
        )

    return kept.breakers.get(breaker_key(origin, rules, settings), make, listed)


def breaker_key(origin: Origin, rules: tuple[Rule, ...], settings: Settings) -> Key:
    """Return whose breaker the URLs of an origin get that match ``rules``."""
    owner = owner_of(rules, _breaker_settings(settings))
    numbers: tuple[Any, ...] = _breaker_numbers(settings) or ()
    if _shares_circuits(settings):
        numbers += (settings.state, settings.state_prefix)
    return Key(owner and owner.pattern, origin, numbers)


def _breaker_settings(settings: Settings) -> frozenset[str]:
    if _shares_circuits(settings):
        return BREAKER_SETTINGS | {"state", "state_prefix"}
    return BREAKER_SETTINGS


def _shares_circuits(settings: Settings) -> bool:
    state = settings.state
    return not isinstance(state, str) or not state.lower().startswith(("memory", "sqlite:"))


def _longest_call(settings: Settings) -> float:
    """Return the seconds after which nothing is to be heard of a trial any more."""
    if settings.total_timeout is not None:
        return settings.total_timeout
    connect, read = settings.timeouts
    return sum(_FOR_EVER if each is None else each for each in (connect, read))


def _breaker_numbers(settings: Settings) -> BreakerNumbers | None:
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
