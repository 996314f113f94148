"""Why a URL gets the settings that it gets, as an object that prints as a table."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from .assembly import Endpoint
from .policies.circuit import Circuit
from .redaction import REDACTED, public_url
from .settings import SECRETS

MANAGER = "manager"


class Explained(NamedTuple):
    """A setting, its value, and the pattern that gave it, or ``manager``."""

    setting: str
    value: Any
    source: str


@dataclass(frozen=True)
class Explanation:
    """What `ConnectionManager.explain` returns."""

    url: str
    """Without user-info, query and fragment."""
    endpoint: str
    """The most specific pattern that matches, or the origin."""
    settings: tuple[Explained, ...]
    limiter: str | None
    breaker: str | None
    order: tuple[str, ...]
    """The policies in the order in which they act."""

    def __str__(self) -> str:
        rows = [(each.setting, _in_cell(each.value), each.source) for each in self.settings]
        rows.insert(0, ("setting", "value", "from"))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join(
            [
                f"{self.url} is served by {self.endpoint}",
                f"rate limit:      {self.limiter or 'none'}",
                f"circuit breaker: {self.breaker or 'none'}",
                f"in order:        {' → '.join(self.order)}",
                "",
                *lines,
            ]
        )


def explain(url: str, endpoint: Endpoint) -> Explanation:
    """Explain what ``endpoint`` holds for ``url``."""
    settings = endpoint.settings
    limiter, breaker = endpoint.limiter, endpoint.breaker
    steps = {
        "deadline": settings.total_timeout is not None,
        "circuit breaker": breaker is not None,
        "adaptive throttling": endpoint.throttle is not None,
        "retry": endpoint.merged.retry.enabled,
        "retry budget": endpoint.retry_budget is not None,
        "concurrency": endpoint.concurrency is not None,
        "rate limit": limiter is not None,
        "send": True,
    }
    return Explanation(
        url=public_url(url),
        endpoint=endpoint.name,
        settings=tuple(
            Explained(
                each.name,
                _shown(each.name, getattr(settings, each.name)),
                endpoint.merged.sources.get(each.name, MANAGER),
            )
            for each in fields(settings)
        ),
        limiter=f"{limiter.numbers}, shared by {limiter.scope}" if limiter else None,
        breaker=f"{breaker.scope}, {_state_of(breaker.circuit)}" if breaker else None,
        order=tuple(step for step, acts in steps.items() if acts),
    )


def _state_of(circuit: Circuit) -> str:
    state = circuit.current_state  # first, for others may have forced it
    return f"forced {circuit.forced}" if circuit.forced else state


def _shown(name: str, value: Any) -> Any:
    if name == "state":
        return public_url(value) if isinstance(value, str) else type(value).__name__
    return value if value is None or name not in SECRETS else REDACTED


def _in_cell(value: Any) -> str:
    if isinstance(value, frozenset):
        return ", ".join(map(str, sorted(value)))
    return str(value)
