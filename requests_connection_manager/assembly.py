"""From the settings of a URL to its policies: one for each scope, whoever asks first.

What several patterns say is merged key by key, the most specific last; a policy belongs to the
most specific pattern that sets one of its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

from .auth import Credential, credential_of
from .breakers import breaker_of
from .layers import Layer, displaced_by, refuse_two_kinds_of_trust
from .limits.algorithms import Limit, in_whole
from .patterns import Origin
from .policies.adaptive_throttling import AdaptiveThrottle
from .policies.booked_limit import BookedLimiter
from .policies.circuit_breaker import Breaker
from .policies.concurrency import ConcurrencyLimiter
from .policies.permits import Permits
from .policies.rate_limit import RateLimiter
from .policies.retry import RetryPolicy
from .policies.retry_budget import RetryBudget
from .policies.server_pause import ServerPause
from .redaction import is_sensitive_field
from .rules import Rule, name_in_state, owner_of, scope_at
from .scopes import Kept, Key
from .settings import DEFAULTS, Settings
from .stats import Tally

LIMIT_SETTINGS = frozenset(
    {
        *("rate_limit_requests", "rate_limit_period", "rate_limits", "rate_limit_scope"),
        *("rate_limit_algorithm", "rate_limit_burst", "state", "state_prefix"),
    }
)


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
    breaker = breaker_of(origin, rules, merged.settings, kept, listed)
    scope = scope_at(origin, rules[-1] if rules else None)
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
    owner = owner_of(rules, LIMIT_SETTINGS)
    scope = owner.text if owner else "all endpoints without a limit of their own"
    where = _where(origin, settings)
    if where is not None:
        scope = scope_at(origin, owner)
    shared = settings.state != "memory"
    if not limits and not (shared and pause):
        return None
    plain = len(limits) == 1 and limits[0].algorithm == "fixed_window"
    if shared or not plain or callable(settings.rate_limit_scope):
        name = name_in_state(owner, where)
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
        name_in_state(owner_of(rules, LIMIT_SETTINGS), _where(origin, settings)),
        str(origin),
        settings.retry_after_max,
        kept_by_limiter=settings.state != "memory",
    )


def _where(origin: Origin, settings: Settings) -> Origin | None:
    """Return whose alone the limit is; None: it is for all origins."""
    return origin if settings.rate_limit_scope == "host" else None


def _concurrency(
    origin: Origin, rules: tuple[Rule, ...], settings: Settings, kept: Kept, listed: bool
) -> ConcurrencyLimiter | None:
    most = settings.max_concurrency
    if most is None:
        return None
    owner = owner_of(rules, frozenset({"max_concurrency"}))
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


def _arguments_of(settings: Settings) -> dict[str, Any]:
    connect, read = settings.timeouts
    timeout = connect if connect == read else (connect, read)
    if settings.ssl_context is not None:  # it has both
        return {"timeout": timeout, "verify": True, "cert": None}
    return {"timeout": timeout, "verify": settings.verify, "cert": settings.cert}
