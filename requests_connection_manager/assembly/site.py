"""A place that policies are made for: an origin, and the patterns that match there.

A policy belongs to the most specific pattern that sets one of its numbers, else to the manager.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..patterns import Origin
from ..scopes import Kept
from ..settings import Settings
from .merging import Rule


@dataclass(frozen=True)
class Site:
    """What the policies of an endpoint are made from."""

    origin: Origin
    rules: tuple[Rule, ...]
    """The general first."""
    settings: Settings
    kept: Kept
    listed: bool
    """Whether what is made is that of the manager as it is now."""

    def owner(self, names: frozenset[str]) -> Rule | None:
        """Return the most specific rule that sets one of ``names``."""
        return next((rule for rule in reversed(self.rules) if names & rule.layer.keys()), None)

    def scope(self, owner: Rule | None) -> str:
        """Say what is for this origin alone."""
        return f"{owner.text} ({self.origin})" if owner else str(self.origin)

    @property
    def shares_state(self) -> bool:
        """Whether others keep to the same limits."""
        return bool(self.settings.state != "memory")


def name_in_state(owner: Rule | None, origin: Origin | None) -> str:
    """Name a scope as all who share a state do, however they spell the pattern."""
    whose = "*" if owner is None else str(owner.pattern)
    return f"{whose}|{origin or '*'}"
