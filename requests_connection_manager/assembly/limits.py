"""The limiter of an endpoint, and the pause of its origin, as the settings ask for them."""

from __future__ import annotations

from ..limits.algorithms import Limit, in_whole
from ..patterns import Origin
from ..policies.booked_limit import BookedLimiter
from ..policies.permits import Permits, check_cost
from ..policies.rate_limit import RateLimiter
from ..policies.server_pause import ServerPause
from ..scopes import Key
from ..settings import Settings
from .site import Site, name_in_state

LIMIT_SETTINGS = frozenset(
    {
        *("rate_limit_requests", "rate_limit_period", "rate_limits", "rate_limit_scope"),
        *("rate_limit_algorithm", "rate_limit_burst", "state", "state_prefix"),
    }
)


def permits_at(site: Site) -> Permits | None:
    """Return what an attempt must have; None: nothing is limited."""
    pause = _pause(site)
    limiter = _limiter(site, pause)
    if limiter is None and pause is None:
        return None
    scope = site.settings.rate_limit_scope
    key = scope if callable(scope) else None
    return Permits(limiter, pause, site.settings.rate_limit_cost, key)


def refuse_impossible(settings: Settings) -> None:
    """Raise `ConfigurationError` for a cost that no limit of the settings can ever give."""
    cost, limits = settings.rate_limit_cost, _limits_of(settings)
    if limits and not callable(cost):
        check_cost(cost, min(limit.most for limit in limits))


def _limiter(site: Site, pause: ServerPause | None) -> RateLimiter | BookedLimiter | None:
    settings = site.settings
    limits = _limits_of(settings)
    owner = site.owner(LIMIT_SETTINGS)
    where = _where(site)
    if where is not None:
        scope = site.scope(owner)
    else:
        scope = owner.text if owner else "all endpoints without a limit of their own"
    shared = site.shares_state
    if not limits and not (shared and pause):
        return None
    plain = len(limits) == 1 and limits[0].algorithm == "fixed_window"
    if shared or not plain or callable(settings.rate_limit_scope):
        name, kept_pause = name_in_state(owner, where), pause if shared else None
        return BookedLimiter(site.kept.store(settings), scope, name, limits, kept_pause)
    (limit,) = limits
    return site.kept.limiters.get(
        Key(owner and owner.pattern, where, (limit.requests, limit.period)),
        lambda: RateLimiter(scope, limit.requests, limit.period),
        site.listed,
    )


def _limits_of(settings: Settings) -> tuple[Limit, ...]:
    """Return the limits in whole permits; a burst is that of the shortest period."""
    pairs = settings.rate_limits
    if pairs is None:
        requests_ = settings.rate_limit_requests
        pairs = () if requests_ is None else ((requests_, settings.rate_limit_period),)
    whole = sorted((in_whole(*pair) for pair in pairs), key=lambda pair: pair[1])
    bursts = [settings.rate_limit_burst, *(None for _ in whole[1:])]
    limits = [
        Limit(settings.rate_limit_algorithm, permits, period, burst or permits)
        for (permits, period), burst in zip(whole, bursts, strict=False)
    ]
    return tuple(dict.fromkeys(limits))  # a store takes each for another's state


def _pause(site: Site) -> ServerPause | None:
    settings = site.settings
    if not settings.respect_server_limits:
        return None
    return ServerPause(
        site.kept.store(settings),
        name_in_state(site.owner(LIMIT_SETTINGS), _where(site)),
        str(site.origin),
        settings.retry_after_max,
        kept_by_limiter=site.shares_state,
        by_retry_after=settings.respect_retry_after,
    )


def _where(site: Site) -> Origin | None:
    """Return whose alone the limit is; None: it is for all origins."""
    return site.origin if site.settings.rate_limit_scope == "host" else None
