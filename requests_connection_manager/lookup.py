"""From a URL to the endpoint that it belongs to.

A table is never changed: a change of the endpoints makes a new one, and a call keeps the table
that it started with.

The look-up is a table by origin and by path prefix; it does not grow with the number of patterns.
"""

from __future__ import annotations

from collections.abc import Callable

from .assembly import Endpoint, Merged, Rule, Site, assemble, breaker_key, merge
from .exceptions import ConfigurationError
from .layers import Layer, said_of
from .ledger import Ledger
from .patterns import Origin, Pattern, parse_origin, split_url
from .scopes import Kept, Key

MOST_IDLE = 4096
"""Scopes and origins kept before those that hold no state are forgotten: a crawler's bound."""


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
        try:
            return assemble(self._site(origin, rules), self._merge(rules))
        except ConfigurationError as error:
            raise said_of([rule.text for rule in rules], error) from None

    def _site(self, origin: Origin, rules: tuple[Rule, ...]) -> Site:
        settings = self._merge(rules).settings
        return Site(origin, rules, settings, self._kept, listed=not self.displaced)

    def _merge(self, rules: tuple[Rule, ...]) -> Merged:
        patterns = tuple(rule.pattern for rule in rules)
        known = self._merged.get(patterns)
        return known or self._merged.setdefault(patterns, merge(self._defaults, rules))

    def breaker_keys(self, origin: Origin) -> set[Key]:
        """Return the keys of the breakers that the URLs of an origin can get."""
        view = self._view_of(origin)
        return {
            breaker_key(self._site(origin, rules)) for rules in map(view.matching, view.prefixes)
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
