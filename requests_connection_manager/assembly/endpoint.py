"""From the settings of a URL to its policies: one for each scope, whoever asks first."""

from __future__ import annotations

from dataclasses import dataclass

import requests

from ..auth import Credential
from ..layers import refuse_two_kinds_of_trust
from ..policies.adaptive_throttling import AdaptiveThrottle
from ..policies.circuit_breaker import Breaker
from ..policies.concurrency import ConcurrencyLimiter
from ..policies.permits import Limiter, Permits
from ..policies.retry_budget import RetryBudget
from ..scopes import Key
from ..settings import Settings
from ..stats import Tally
from .breakers import breaker_at
from .limits import permits_at
from .merging import Merged
from .site import Site


@dataclass(frozen=True)
class Endpoint:
    """What holds for the URLs of one origin that match the same patterns."""

    name: str
    """The most specific pattern, or the origin where none matches."""
    merged: Merged
    permits: Permits | None
    """Those of its limiter, and the server's leave; None: nothing is limited."""
    breaker: Breaker | None
    tally: Tally
    """What is counted together: a pattern on an origin, or the origin."""
    concurrency: ConcurrencyLimiter | None = None
    retry_budget: RetryBudget | None = None
    throttle: AdaptiveThrottle | None = None

    @property
    def limiter(self) -> Limiter | None:
        """Who hands the permits out; None: nobody counts them."""
        return None if self.permits is None else self.permits.limiter

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


def assemble(site: Site, merged: Merged) -> Endpoint:
    """Make what the URLs of a site get."""
    refuse_two_kinds_of_trust(vars(merged.settings), merged.sources)
    most_specific = site.rules[-1] if site.rules else None
    breaker = breaker_at(site)
    return Endpoint(
        name=most_specific.text if most_specific else str(site.origin),
        merged=merged,
        permits=permits_at(site),
        breaker=breaker,
        tally=site.kept.tally(site.scope(most_specific), site.origin, breaker, site.listed),
        concurrency=_concurrency(site),
        retry_budget=_retry_budget(site),
        throttle=_throttle(site),
    )


def _concurrency(site: Site) -> ConcurrencyLimiter | None:
    most = site.settings.max_concurrency
    if most is None:
        return None
    owner = site.owner(frozenset({"max_concurrency"}))
    key = Key(owner.pattern, None, (most,)) if owner else Key(None, site.origin, (most,))
    scope = owner.text if owner else str(site.origin)
    return site.kept.concurrency.get(key, lambda: ConcurrencyLimiter(scope, most), site.listed)


def _retry_budget(site: Site) -> RetryBudget | None:
    budget = site.settings.retry_budget
    if not isinstance(budget, tuple):
        return None
    key, scope = Key(None, site.origin, budget), str(site.origin)
    return site.kept.retry_budgets.get(key, lambda: RetryBudget(scope, *budget), site.listed)


def _throttle(site: Site) -> AdaptiveThrottle | None:
    k = site.settings.adaptive_throttling
    if k is None:
        return None
    key, scope = Key(None, site.origin, (k,)), str(site.origin)
    return site.kept.throttles.get(key, lambda: AdaptiveThrottle(scope, k), site.listed)
