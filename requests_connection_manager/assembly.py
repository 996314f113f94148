"""From the settings of a URL to its policies: one for each scope, whoever asks first.

What several patterns say is merged key by key, the most specific last; a policy belongs to the
most specific pattern that sets one of its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import requests

from .auth import Credential, credential_of
from .layers import Layer, displaced_by, refuse_two_kinds_of_trust
from .limits.algorithms import Limit, in_whole
from .limits.opening import shared_state_of
from .patterns import Origin, Pattern
from .policies.adaptive_throttling import AdaptiveThrottle
from .policies.booked_limit import BookedLimiter
from .policies.circuit_breaker import Breaker, BreakerNumbers
from .policies.concurrency import ConcurrencyLimiter
from .policies.permits import Permits
from .policies.rate_limit import RateLimiter
from .policies.retry import RetryPolicy
from .policies.retry_budget import RetryBudget
from .policies.server_pause import ServerPause
from .redaction import is_sensitive_field
from .scopes import Kept, Key
from .settings import DEFAULTS, Settings
from .stats import Tally

LIMIT_SETTINGS = frozenset(
    {
        *("rate_limit_requests", "rate_limit_period", "rate_limits", "rate_limit_scope"),
        *("rate_limit_algorithm", "rate_limit_burst", "state", "state_prefix"),
    }
)
BREAKER_SETTINGS = frozenset(f"circuit_breaker_{name}" for name in BreakerNumbers._fields)


_FOR_EVER = 60.0
"""Seconds that a connect or a read without a limit of its own is given, for a trial."""


@dataclass(frozen=True)
class Merged:
    """What several patterns come to together, whatever the origin."""

    settings: Settings
    sources: Mapping[str, str]
    """Setting → the pattern that gave it; what is absent came from the manager."""
    retry: RetryPolicy
    arguments: Mapping[str, Any]
    """``timeout``, ``verify`` and ``cert`` as requests takes them."""
    longest_wait: float
    """Seconds that a call may wait for a permit; infinite: as long as its deadline allows."""
    credential: Credential | None
    key_header: str | None
    """The header of an API key, whoever brings it; None: its name tells that it is one."""


@dataclass(frozen=True)
class Endpoint:
    """What holds for the URLs of one origin that match the same patterns."""

    name: str
    """The most specific pattern, or the origin where none matches."""
    merged: Merged
    limiter: RateLimiter | BookedLimiter | None
    permits: Permits | None
    """Those of the limiter, and the server's leave; None: nothing is limited."""
    breaker: Breaker | None
    tally: Tally
    """What is counted together: a pattern on an origin, or the origin."""
    concurrency: ConcurrencyLimiter | None = None
    retry_budget: RetryBudget | None = None
    throttle: AdaptiveThrottle | None = None

    @property
    def settings(self) -> Settings:
        return self.merged.settings

    def credential(self, session: requests.Session) -> Credential | None:
        """Return a pattern's credential, or the manager's where the session has none itself."""
        credential = self.merged.credential
        if credential is None or credential.scheme in self.merged.sources:
            return credential
        has_its_own = session.auth is not None or credential.is_brought_by(session.headers)
        return None if has_its_own else credential


class Rule(NamedTuple):
    """A pattern, the user's spelling of it, and its settings."""

    pattern: Pattern
    text: str
    layer: Layer


def merge(defaults: Layer, rules: tuple[Rule, ...]) -> Merged:
    """Merge the settings of ``rules``, the general first."""
    layer: Layer = dict(defaults)
    sources: dict[str, str] = {}
    for rule in rules:
        for name in (*rule.layer, *displaced_by(rule.layer)):
            layer[name] = rule.layer.get(name, DEFAULTS[name])
            sources[name] = rule.text
    settings = Settings(**layer)
    key_header = settings.api_key_header
    wait = settings.rate_limit_max_wait
    return Merged(
        settings=settings,
        sources=sources,
        retry=RetryPolicy(settings),
        arguments=_arguments_of(settings),
        longest_wait=math.inf if wait is None else wait,
        credential=credential_of(settings),
        key_header=None if is_sensitive_field(key_header) else key_header,
    )


def assemble(
    origin: Origin, rules: tuple[Rule, ...], merged: Merged, kept: Kept, listed: bool
) -> Endpoint:
    """Make what the URLs of an origin get that match ``rules``, the general first."""
    refuse_two_kinds_of_trust(vars(merged.settings), merged.sources)
    breaker = _breaker(origin, rules, merged.settings, kept, listed)
    scope = _scope_at(origin, rules[-1] if rules else None)
    pause = _pause(origin, rules, merged.settings, kept)
    limiter = _limiter(origin, rules, merged.settings, pause, kept, listed)
    return Endpoint(
        name=rules[-1].text if rules else str(origin),
        merged=merged,
        limiter=limiter,
        permits=_permits(merged.settings, limiter, pause),
        breaker=breaker,
        tally=kept.tally(scope, origin, breaker, listed),
        concurrency=_concurrency(origin, rules, merged.settings, kept, listed),
        retry_budget=_retry_budget(origin, merged.settings, kept, listed),
        throttle=_throttle(origin, merged.settings, kept, listed),
    )


def _permits(
    settings: Settings, limiter: RateLimiter | BookedLimiter | None, pause: ServerPause | None
) -> Permits | None:
    if limiter is None and pause is None:
        return None
    scope = settings.rate_limit_scope
    return Permits(limiter, pause, settings.rate_limit_cost, scope if callable(scope) else None)


def _limiter(
    origin: Origin,
    rules: tuple[Rule, ...],
    settings: Settings,
    pause: ServerPause | None,
    kept: Kept,
    listed: bool,
) -> RateLimiter | BookedLimiter | None:
    limits = _limits_of(settings)
    owner = _owner(rules, LIMIT_SETTINGS)
    scope = owner.text if owner else "all endpoints without a limit of their own"
    where = _where(origin, settings)
    if where is not None:
        scope = _scope_at(origin, owner)
    shared = settings.state != "memory"
    if not limits and not (shared and pause):
        return None
    plain = len(limits) == 1 and limits[0].algorithm == "fixed_window"
    if shared or not plain or callable(settings.rate_limit_scope):
        name = _name_in_state(owner, where)
        return BookedLimiter(kept.store(settings), scope, name, limits, pause if shared else None)
    (limit,) = limits
    return kept.limiters.get(
        Key(owner and owner.pattern, where, (limit.requests, limit.period)),
        lambda: RateLimiter(scope, limit.requests, limit.period),
        listed,
    )


def _limits_of(settings: Settings) -> tuple[Limit, ...]:
    """Return the limits in whole permits; a burst is that of the shortest period."""
    pairs = settings.rate_limits
    if pairs is None:
        requests_ = settings.rate_limit_requests
        pairs = () if requests_ is None else ((requests_, settings.rate_limit_period),)
    whole = sorted((in_whole(*pair) for pair in pairs), key=lambda pair: pair[1])
    bursts = [settings.rate_limit_burst, *(None for _ in whole[1:])]
    return tuple(
        Limit(settings.rate_limit_algorithm, permits, period, burst or permits)
        for (permits, period), burst in zip(whole, bursts, strict=False)
    )


def _pause(
    origin: Origin, rules: tuple[Rule, ...], settings: Settings, kept: Kept
) -> ServerPause | None:
    if not settings.respect_server_limits:
        return None
    return ServerPause(
        kept.store(settings),
        _name_in_state(_owner(rules, LIMIT_SETTINGS), _where(origin, settings)),
        str(origin),
        settings.retry_after_max,
        kept_by_limiter=settings.state != "memory",
    )


def _where(origin: Origin, settings: Settings) -> Origin | None:
    """Return whose alone the limit is; None: it is for all origins."""
    return origin if settings.rate_limit_scope == "host" else None


def _name_in_state(owner: Rule | None, origin: Origin | None) -> str:
    """Name a scope as all who share a state do, however they spell the pattern."""
    whose = "*" if owner is None else str(owner.pattern)
    return f"{whose}|{origin or '*'}"


def _breaker(
    origin: Origin, rules: tuple[Rule, ...], settings: Settings, kept: Kept, listed: bool
) -> Breaker | None:
    numbers = _breaker_numbers(settings)
    if numbers is None:
        return None
    owner = _owner(rules, _breaker_settings(settings))
    scope, name = _scope_at(origin, owner), _name_in_state(owner, origin)

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
    owner = _owner(rules, _breaker_settings(settings))
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


def _concurrency(
    origin: Origin, rules: tuple[Rule, ...], settings: Settings, kept: Kept, listed: bool
) -> ConcurrencyLimiter | None:
    most = settings.max_concurrency
    if most is None:
        return None
    owner = _owner(rules, frozenset({"max_concurrency"}))
    key = Key(owner.pattern, None, (most,)) if owner else Key(None, origin, (most,))
    scope = owner.text if owner else str(origin)
    return kept.concurrency.get(key, lambda: ConcurrencyLimiter(scope, most), listed)


def _retry_budget(
    origin: Origin, settings: Settings, kept: Kept, listed: bool
) -> RetryBudget | None:
    budget = settings.retry_budget
    if not isinstance(budget, tuple):
        return None
    key = Key(None, origin, budget)
    return kept.retry_budgets.get(key, lambda: RetryBudget(str(origin), *budget), listed)


def _throttle(
    origin: Origin, settings: Settings, kept: Kept, listed: bool
) -> AdaptiveThrottle | None:
    k = settings.adaptive_throttling
    if k is None:
        return None
    key = Key(None, origin, (k,))
    return kept.throttles.get(key, lambda: AdaptiveThrottle(str(origin), k), listed)


def _scope_at(origin: Origin, owner: Rule | None) -> str:
    return f"{owner.text} ({origin})" if owner else str(origin)


def _owner(rules: tuple[Rule, ...], names: frozenset[str]) -> Rule | None:
    """Return the most specific rule that sets one of ``names``."""
    return next((rule for rule in reversed(rules) if names & rule.layer.keys()), None)


def _arguments_of(settings: Settings) -> dict[str, Any]:
    connect, read = settings.timeouts
    timeout = connect if connect == read else (connect, read)
    if settings.ssl_context is not None:  # it has both
        return {"timeout": timeout, "verify": True, "cert": None}
    return {"timeout": timeout, "verify": settings.verify, "cert": settings.cert}
