"""The state of a manager, and what it has done, at one moment: as values, as a table, as HTML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from .adapter import ManagedAdapter
from .endpoints import Endpoints
from .failures import in_seconds
from .policies.circuit import look_at, worst_of
from .redaction import REDACTED, redact_sensitive_data
from .session import ManagedSession
from .settings import SECRETS
from .stats import Counts

_COLUMNS = (
    *("scope", "calls", "attempts", "retries", "ok", "failed", "waited", "p50", "p99"),
    *("breaker", "open", "idle"),
)


@dataclass(frozen=True, eq=False)
class ScopeStatistics:
    """What is known of one scope: an origin, or a pattern on an origin."""

    counts: Counts
    breaker_state: str | None
    """``closed``, ``open`` or ``half-open``; None: no breaker."""
    breaker_seconds_since_change: float | None
    connections_open: int
    """To the scope's host and port, whoever uses them."""
    connections_idle: int
    """Of these, those that wait in the pool."""

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, on one level."""
        return {
            name: _plain(value)
            for name, value in {**vars(self.counts), **vars(self)}.items()
            if name != "counts"
        }


@dataclass(frozen=True, eq=False)
class Statistics:
    """What `ConnectionManager.stats` returns; no credential is in it."""

    circuit_breaker_state: str
    """Of the worst circuit."""
    circuit_breaker_failure_count: int
    rate_limit_requests: float | None
    rate_limit_period: float
    timeout: Any
    requests_made: int
    """Calls that the policies let go."""
    endpoint_configs: Mapping[str, Any]
    ssl_verification: Any
    client_certificate_configured: bool
    connect_timeout: float | None
    read_timeout: float | None
    ssl_context_configured: bool
    registered_hooks: Mapping[str, Any]
    scopes: Mapping[str, ScopeStatistics]

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, which are the caller's own."""
        scopes = {name: scope.as_dict() for name, scope in self.scopes.items()}
        return {name: _plain(it) for name, it in vars(self).items() if name != "scopes"} | {
            "scopes": scopes
        }

    def __str__(self) -> str:
        rows = [_COLUMNS, *self._rows()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        rows.insert(1, tuple("-" * width for width in widths))
        lines = [self._headline(), ""]
        for name, *cells in rows:
            aligned = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
            lines.append("  ".join([name.ljust(widths[0]), *aligned]))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Show the table in a notebook."""
        from html import escape  # late: only notebooks need it

        body = "".join(
            f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>"
            for row in self._rows()
        )
        head = "".join(f"<th>{escape(name)}</th>" for name in _COLUMNS)
        return (
            f"<p>{escape(self._headline())}</p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )

    def _headline(self) -> str:
        return (
            f"{self.requests_made} calls let go; the worst circuit is {self.circuit_breaker_state}"
        )

    def _rows(self) -> list[tuple[str, ...]]:
        return [_cells(name, scope) for name, scope in sorted(self.scopes.items())]


def gather(session: ManagedSession, endpoints: Endpoints) -> Statistics:
    """Look at everything once; calls go on meanwhile."""
    settings = endpoints.defaults
    connect_timeout, read_timeout = settings.timeouts
    circuits = endpoints.circuits().values()
    counted = [each.breaker.circuit for each in endpoints.counted().values() if each.breaker]
    look_at(dict.fromkeys((*circuits, *counted)))
    worst_state, failures = worst_of(circuits)
    scopes = _scopes(session, endpoints)
    return Statistics(
        circuit_breaker_state=worst_state,
        circuit_breaker_failure_count=failures,
        rate_limit_requests=settings.rate_limit_requests,
        rate_limit_period=settings.rate_limit_period,
        timeout=settings.timeout,
        requests_made=sum(scope.counts.let_go for scope in scopes.values()),
        endpoint_configs=_frozen(_without_secrets(endpoints.configs())),
        ssl_verification=settings.verify,
        client_certificate_configured=settings.cert is not None,
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        ssl_context_configured=settings.ssl_context is not None,
        registered_hooks=_frozen(endpoints.hooks.names()),
        scopes=MappingProxyType(scopes),
    )


def _scopes(session: ManagedSession, endpoints: Endpoints) -> dict[str, ScopeStatistics]:
    adapters = {each for each in session.adapters.values() if isinstance(each, ManagedAdapter)}
    connections = [adapter.connections_by_address() for adapter in adapters]
    found = {}
    for name, (tally, origin, breaker) in endpoints.counted().items():
        address = (origin.host.strip("[]"), origin.port) if origin is not None else ("", None)
        found[name] = ScopeStatistics(
            counts=tally.counts(),
            breaker_state=breaker.circuit.known_state if breaker is not None else None,
            breaker_seconds_since_change=breaker.since_change if breaker is not None else None,
            connections_open=sum(opened[address] for opened, _ in connections),
            connections_idle=sum(idle[address] for _, idle in connections),
        )
    return found


def _without_secrets(configs: Mapping[str, Mapping[str, Any]]) -> Any:
    hidden = {
        pattern: {name: REDACTED if name in SECRETS and it else it for name, it in config.items()}
        for pattern, config in configs.items()
    }
    return redact_sensitive_data(hidden)


def _frozen(value: Any) -> Any:
    """Make what nobody can change."""
    if isinstance(value, Mapping):
        return MappingProxyType({name: _frozen(item) for name, item in value.items()})
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """Make what JSON knows; of an object, the name of its kind."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(map(_plain, value), key=str)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (str, int, float)) else type(value).__name__


def _cells(name: str, scope: ScopeStatistics) -> tuple[str, ...]:
    counts = scope.counts
    return (
        name,
        str(counts.calls),
        str(counts.attempts),
        str(counts.retries),
        str(counts.successes),
        ", ".join(f"{kind}: {n}" for kind, n in sorted(counts.failures.items())) or "0",
        f"{counts.permits_waited_for} ({in_seconds(counts.time_waited)})",
        *(_in_ms(counts.latency.get(percentile)) for percentile in ("p50", "p99")),
        scope.breaker_state or "-",
        str(scope.connections_open),
        str(scope.connections_idle),
    )


def _in_ms(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.3g} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"
