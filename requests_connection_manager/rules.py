"""A pattern with its settings, which of several owns a policy, and what that policy is called."""

from __future__ import annotations

from typing import NamedTuple

from .layers import Layer
from .patterns import Origin, Pattern


class Rule(NamedTuple):
    """A pattern, the user's spelling of it, and its settings."""

    pattern: Pattern
    text: str
    layer: Layer


def scope_at(origin: Origin, owner: Rule | None) -> str:
    """Name what belongs to a rule on an origin."""
    return f"{owner.text} ({origin})" if owner else str(origin)


def owner_of(rules: tuple[Rule, ...], names: frozenset[str]) -> Rule | None:
    """Return the most specific rule that sets one of ``names``."""
    return next((rule for rule in reversed(rules) if names & rule.layer.keys()), None)


def name_in_state(owner: Rule | None, origin: Origin | None) -> str:
    """Name a scope as all who share a state do, however they spell the pattern."""
    whose = "*" if owner is None else str(owner.pattern)
    return f"{whose}|{origin or '*'}"
