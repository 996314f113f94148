"""From a URL to the settings and the policies that it gets.

A table is never changed: a change of the endpoints makes a new one, and a call keeps the table
that it started with.

The look-up is a table by origin and by path prefix; it does not grow with the number of patterns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import requests

from .auth import Credential, credential_of
from .ledger import Ledger
from .patterns import Origin, Pattern, parse_origin, split_url
from .policies.circuit_breaker import Breaker
from .policies.rate_limit import RateLimiter
from .policies.retry import RetryPolicy
from .redaction import is_sensitive_field
from .scopes import Kept, Key
from .settings import DEFAULTS, Layer, Settings, displaced_by, refuse_two_kinds_of_trust
from .stats import Tally

LIMIT_SETTINGS = frozenset({"rate_limit_requests", "rate_limit_period", "rate_limit_scope"})
BREAKER_SETTINGS = frozenset(
    {
        "circuit_breaker_failure_threshold",
        "circuit_breaker_recovery_timeout",
        "circuit_breaker_success_threshold",
    }
)
MOST_IDLE = 4096
"""Scopes and origins kept before those that hold no state are forgotten: a crawler's bound."""


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
    limiter: RateLimiter | None
    breaker: Breaker | None
    tally: Tally
    """What is counted together: a pattern on an origin, or the origin."""

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


class EndpointTable:
    """The endpoints as they were at one moment."""

    def __init__(
        self,
        defaults: Layer,
        rules: dict[Pattern, Rule],
        kept: Kept,
        crowded: Callable[[EndpointTable], None],
    ) -> None:
        self.rules = rules
        self.displaced = False
        """Whether another has taken its place, and only calls under way still use it."""
        self._defaults = defaults
        self._kept = kept
        self._crowded = crowded
        self._by_host: dict[tuple[bool, str], list[Rule]] = {}
        for rule in rules.values():
            host = (rule.pattern.any_below, rule.pattern.host)
            self._by_host.setdefault(host, []).append(rule)
        self._origins: dict[str, _OriginView] = {}
        self._merged: dict[tuple[Pattern, ...], Merged] = {}

    @property
    def ledger(self) -> Ledger:
        return self._kept.ledger

    def resolve(self, url: str) -> Endpoint:
        """Return what holds for a URL. Raises what requests raises for one that it cannot send."""
        origin, path = split_url(url)
        view = self._origins.get(origin)
        if view is None:
            view = self._view(origin)
        return view.only if view.only is not None else view.resolve(path)

    def _view(self, origin: str) -> _OriginView:
        if len(self._origins) >= MOST_IDLE:
            self._crowded(self)  # calls under way go on with this table
        return self._origins.setdefault(origin, self._view_of(parse_origin(origin)))

    def _view_of(self, origin: Origin) -> _OriginView:
        labels = origin.host.split(".")
        hosts = [(True, ".".join(labels[i:])) for i in range(1, len(labels))]
        found = [rule for host in (*hosts, (False, origin.host)) for rule in self._rules_at(host)]
        rules = [rule for rule in found if rule.pattern.serves(origin)]
        return _OriginView(origin, rules, self._compile)

    def _rules_at(self, host: tuple[bool, str]) -> list[Rule]:
        return self._by_host.get(host, [])

    def _compile(self, origin: Origin, rules: tuple[Rule, ...]) -> Endpoint:
        merged = self._merge(rules)
        refuse_two_kinds_of_trust(vars(merged.settings), merged.sources)
        breaker = self._breaker(origin, rules, merged.settings)
        scope = _scope_at(origin, rules[-1] if rules else None)
        return Endpoint(
            name=rules[-1].text if rules else str(origin),
            merged=merged,
            limiter=self._limiter(origin, rules, merged.settings),
            breaker=breaker,
            tally=self._kept.tally(scope, origin, breaker, listed=not self.displaced),
        )

    def _merge(self, rules: tuple[Rule, ...]) -> Merged:
        """Merge the settings of ``rules``, the general first."""
        patterns = tuple(rule.pattern for rule in rules)
        known = self._merged.get(patterns)
        if known is not None:
            return known
        layer: Layer = dict(self._defaults)
        sources: dict[str, str] = {}
        for rule in rules:
            for name in (*rule.layer, *displaced_by(rule.layer)):
                layer[name] = rule.layer.get(name, DEFAULTS[name])
                sources[name] = rule.text
        settings = Settings(**layer)
        key_header = settings.api_key_header
        wait = settings.rate_limit_max_wait
        merged = Merged(
            settings=settings,
            sources=sources,
            retry=RetryPolicy(settings),
            arguments=_arguments_of(settings),
            longest_wait=math.inf if wait is None else wait,
            credential=credential_of(settings),
            key_header=None if is_sensitive_field(key_header) else key_header,
        )
        return self._merged.setdefault(patterns, merged)

    def _limiter(
        self, origin: Origin, rules: tuple[Rule, ...], settings: Settings
    ) -> RateLimiter | None:
        calls, period = settings.rate_limit_requests, settings.rate_limit_period
        if calls is None:
            return None
        owner = _owner(rules, LIMIT_SETTINGS)
        scope = owner.text if owner else "all endpoints without a limit of their own"
        where = None
        if settings.rate_limit_scope == "host":
            where, scope = origin, _scope_at(origin, owner)
        return self._kept.limiters.get(
            Key(owner and owner.pattern, where, (calls, period)),
            lambda: RateLimiter(scope, calls, period),
            listed=not self.displaced,
        )

    def _breaker(
        self, origin: Origin, rules: tuple[Rule, ...], settings: Settings
    ) -> Breaker | None:
        threshold = settings.circuit_breaker_failure_threshold
        recovery = settings.circuit_breaker_recovery_timeout
        trials = settings.circuit_breaker_success_threshold
        if threshold is None or recovery is None:
            return None
        owner = _owner(rules, BREAKER_SETTINGS)
        scope = _scope_at(origin, owner)
        return self._kept.breakers.get(
            _breaker_key(origin, rules, settings),
            lambda: Breaker(
                scope, threshold, recovery, trials, tell=self._kept.ledger.breaker_changed
            ),
            listed=not self.displaced,
        )

    def breaker_keys(self, origin: Origin) -> set[Key]:
        """Return the keys of the breakers that the URLs of an origin can get."""
        view = self._view_of(origin)
        return {
            _breaker_key(origin, rules, self._merge(rules).settings)
            for rules in map(view.matching, view.prefixes)
        }


class _OriginView:
    """The rules of one origin, by path prefix, and the endpoints that they come to."""

    def __init__(
        self,
        origin: Origin,
        rules: list[Rule],
        compile_: Callable[[Origin, tuple[Rule, ...]], Endpoint],
    ) -> None:
        self._origin = origin
        self._compile = compile_
        self._by_path: dict[str, list[Rule]] = {}
        for rule in rules:
            self._by_path.setdefault(rule.pattern.path, []).append(rule)
        self._depth = max((path.count("/") for path in self._by_path), default=0)
        self._endpoints: dict[tuple[Pattern, ...], Endpoint] = {}
        self.only: Endpoint | None = None
        """The one endpoint of an origin whose patterns name no path, once it has been asked for."""

    @property
    def prefixes(self) -> set[str]:
        """The paths that tell apart what the URLs of the origin match."""
        return {path or "/" for path in ("", *self._by_path)}

    def resolve(self, path: str) -> Endpoint:
        rules = self.matching(path)
        patterns = tuple(rule.pattern for rule in rules)
        endpoint = self._endpoints.get(patterns)
        if endpoint is None:
            endpoint = self._endpoints.setdefault(patterns, self._compile(self._origin, rules))
        if self._depth == 0:
            self.only = endpoint
        return endpoint

    def matching(self, path: str) -> tuple[Rule, ...]:
        """Return the rules that match a path, the general first."""
        matching = list(self._by_path.get("", ()))
        end = 0
        for _ in range(self._depth):
            end = path.find("/", end + 1)
            prefix = path if end < 0 else path[:end]
            matching += self._by_path.get(prefix, ())
            if end < 0:
                break
        return tuple(sorted(matching, key=lambda rule: rule.pattern.specificity))


def _arguments_of(settings: Settings) -> dict[str, Any]:
    connect, read = settings.timeouts
    timeout = connect if connect == read else (connect, read)
    if settings.ssl_context is not None:  # it has both
        return {"timeout": timeout, "verify": True, "cert": None}
    return {"timeout": timeout, "verify": settings.verify, "cert": settings.cert}


def _breaker_key(origin: Origin, rules: tuple[Rule, ...], settings: Settings) -> Key:
    owner = _owner(rules, BREAKER_SETTINGS)
    return Key(
        owner and owner.pattern,
        origin,
        (
            settings.circuit_breaker_failure_threshold,
            settings.circuit_breaker_recovery_timeout,
            settings.circuit_breaker_success_threshold,
        ),
    )


def _scope_at(origin: Origin, owner: Rule | None) -> str:
    return f"{owner.text} ({origin})" if owner else str(origin)


def _owner(rules: tuple[Rule, ...], names: frozenset[str]) -> Rule | None:
    """Return the most specific rule that sets one of ``names``."""
    return next((rule for rule in reversed(rules) if names & rule.layer.keys()), None)
