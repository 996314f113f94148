"""The endpoints of a manager: patterns and their settings, and what a change of them leaves alone.

Limiters and breakers outlive the tables that hand them out, as long as their numbers stay.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from . import forking
from .arguments import UNSET
from .assembly import LIMIT_SETTINGS, Rule, refuse_impossible
from .exceptions import ConfigurationError
from .hooks import Hooks
from .layers import Layer, checked_layer, endpoint_layer, said_of
from .lookup import EndpointTable
from .patterns import Pattern
from .policies.circuit import Circuit
from .scopes import Counted, Kept, Key
from .settings import Settings

_DEPENDS = {
    "rate_limit_cost": {"rate_limit_requests", "rate_limits"},
    "rate_limit_burst": {"rate_limit_algorithm"},
}
"""Settings that may be impossible beside others."""


class Endpoints:
    """The endpoints of a manager, as they are now."""

    def __init__(self, defaults: Layer, configs: object, hooks: Hooks | None = None) -> None:
        self.begin_in_child()
        forking.register(self)
        self._kept = Kept(hooks or Hooks())
        self._layer = defaults
        self.defaults = Settings(**defaults)
        """What holds for URLs that no pattern matches."""
        refuse_impossible(self.defaults)
        self._kept.store(self.defaults)  # opens nothing, and says whether there can be such a one
        self._configs: dict[str, dict[str, Any]] = {}
        rules: dict[Pattern, Rule] = {}
        for text, config in _as_mapping(configs).items():
            rule = self._rule(text, config)
            twin = rules.setdefault(rule.pattern, rule)
            if twin is not rule:
                raise ConfigurationError(
                    f"endpoint patterns {twin.text!r} and {text!r} match the same URLs: "
                    "keep one of them.",
                    field="endpoint_configs",
                    value=text,
                )
            self._configs[text] = _copy_of(rule.layer, config)
        self.table = self._table(rules)

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()

    def add(self, text: str, config: Mapping[str, Any]) -> None:
        """Add a pattern, or replace the settings of one."""
        rule = self._rule(text, config)
        with self._lock:
            self._put(rule, _copy_of(rule.layer, config))

    def change_defaults(self, changes: Layer, gone: Iterable[str] = ()) -> None:
        """Change some settings of the URLs that no pattern matches; first drop the ``gone``."""
        with self._lock:
            layer = {name: it for name, it in self._layer.items() if name not in gone}
            layer = checked_layer(layer | changes)
            self.defaults = Settings(**layer)
            self._layer = layer
            self._replace_table(self.table.rules)

    def change(self, text: str, changes: Layer, gone: Iterable[str] = (), add: bool = True) -> None:
        """Change some settings of a pattern; first drop the ``gone``.

        A pattern that is not there yet comes to be, if ``add`` says so.
        """
        pattern = Pattern.parse(text)
        with self._lock:
            known = self.table.rules.get(pattern)
            if known is None and not add:
                return
            before = self._configs[known.text] if known else {}
            config = {name: it for name, it in before.items() if name not in gone} | changes
            self._put(self._rule(known.text if known else text, config), config)

    def _rule(self, text: Any, config: object) -> Rule:
        """Check a pattern's settings; those that depend on another's, when both are known."""
        rule = Rule(Pattern.parse(text), text, endpoint_layer(text, config))
        said = rule.layer.keys()
        try:
            if any(one in said and said & others for one, others in _DEPENDS.items()):
                refuse_impossible(Settings(**self._layer | rule.layer))
            if "state" in said:
                self._kept.store(Settings(**self._layer | rule.layer))
        except ConfigurationError as error:
            raise said_of([text], error) from None
        return rule

    def _put(self, rule: Rule, config: dict[str, Any]) -> None:
        rules = dict(self.table.rules)
        self._forget(rules.pop(rule.pattern, None), rule.layer)
        rules[rule.pattern] = rule
        self._configs[rule.text] = config
        self._replace_table(rules, rule.pattern)
        self._drop_unreachable(rule.pattern)

    def remove(self, text: str) -> None:
        """Remove a pattern; an unknown one is no error."""
        try:
            pattern = Pattern.parse(text)
        except ConfigurationError:
            return
        with self._lock:
            rules = dict(self.table.rules)
            self._forget(rules.pop(pattern, None), {})
            self._replace_table(rules)
            self._drop_unreachable(pattern)

    def configs(self) -> dict[str, dict[str, Any]]:
        """Return a copy of what was configured, by pattern."""
        with self._lock:
            return {text: _copy_of({}, config) for text, config in self._configs.items()}

    def said(self) -> tuple[Layer, dict[str, dict[str, Any]], Hooks]:
        """Return what makes others like these: all that was set, and nothing of what came of it."""
        with self._lock:
            layer = dict(self._layer)
        return layer, self.configs(), copy.copy(self.hooks)

    def close(self) -> None:
        """Let go of what holds the state of limits open."""
        self._kept.close()

    def circuits(self) -> dict[str, Circuit]:
        """Return the pybreaker objects by scope."""
        return {breaker.scope: breaker.circuit for breaker in self._kept.breakers.all()}

    @property
    def hooks(self) -> Hooks:
        return self._kept.hooks

    def counted(self) -> dict[str, Counted]:
        """Return what is counted, by scope."""
        return self._kept.counted()

    def _replace_table(self, rules: dict[Pattern, Rule], changed: Pattern | None = None) -> None:
        table = self._table(rules)
        if changed is not None:
            self._hand_on_what_is_forced(changed, table)
        self.table.displaced = True
        self.table = table

    def _table(self, rules: dict[Pattern, Rule]) -> EndpointTable:
        return EndpointTable(self._layer, rules, self._kept, self._prune)

    def _forget(self, old: Rule | None, layer: Layer) -> None:
        """Drop the limiters of a pattern whose numbers change with ``layer``."""
        if old is None:
            return
        del self._configs[old.text]
        if any(old.layer.get(name, UNSET) != layer.get(name, UNSET) for name in LIMIT_SETTINGS):
            self._kept.limiters.drop(lambda key: key.owner == old.pattern)
        if old.layer.get("max_concurrency") != layer.get("max_concurrency"):
            self._kept.concurrency.drop(lambda key: key.owner == old.pattern)

    def _hand_on_what_is_forced(self, changed: Pattern, table: EndpointTable) -> None:
        """Force the circuit that will take the place of a forced one, as nobody said otherwise.

        It is a new one, for the same URLs: not that of a less specific pattern, or of all the rest.
        """
        before = dict(self._kept.breakers.items())
        for key, breaker in before.items():
            forced = breaker.circuit.forced
            if forced is None:
                continue
            with suppress(ConfigurationError):  # who calls such a URL is told
                if not _is_unreachable(key, changed, table):
                    continue
                path = key.owner.path if key.owner is not None else ""
                successor = table.resolve(f"{key.origin}{path or '/'}").breaker
                for new, it in self._kept.breakers.items():
                    is_its_own = new.owner is not None and new.owner in (key.owner, changed)
                    if it is successor and is_its_own and new not in before:
                        it.inherit(forced)

    def _drop_unreachable(self, changed: Pattern) -> None:
        """Drop the breakers that no URL gets any more; they would still be listed."""
        self._kept.breakers.drop(lambda key: _is_unreachable(key, changed, self.table))

    def _prune(self, crowded: EndpointTable) -> None:
        """Forget the origins that hold no state; called when they have become many."""
        with self._lock:
            if self.table is not crowded:
                return  # somebody else has
            self._kept.drop_idle()
            self._replace_table(self.table.rules)


def _is_unreachable(key: Key, changed: Pattern, table: EndpointTable) -> bool:
    """Whether no URL gets a breaker any more in ``table``, for a change of one pattern."""
    origin = key.origin
    if origin is None or not changed.serves(origin):
        return False
    return key not in table.breaker_keys(origin)


def _as_mapping(configs: object) -> Mapping[Any, Any]:
    if configs is None:
        return {}
    if not isinstance(configs, Mapping):
        raise ConfigurationError(
            f"endpoint_configs is impossible as {type(configs).__name__}: it must be a dictionary "
            "{pattern: {setting: value}}.",
            field="endpoint_configs",
            value=type(configs),
        )
    return configs


def _copy_of(layer: Layer, config: Mapping[str, Any]) -> dict[str, Any]:
    """Copy what the user said, with the containers; what can be read only once, from ``layer``."""
    copies = {}
    for name, value in config.items():
        if isinstance(value, Iterator):
            value = layer[name]
        copies[name] = copy.copy(value) if isinstance(value, (list, set, dict)) else value
    return copies
