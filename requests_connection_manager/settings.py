"""Every setting once: its name, its default, what it may be, and what it means.

The constructor's keywords, the endpoint dictionaries and the reference page come from here.
A value is checked where it comes in, so that nothing impossible is found out on the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from urllib3.util.retry import Retry

from . import checks as check
from . import limit_checks as limits
from .limits.algorithms import ALGORITHMS

if TYPE_CHECKING:
    import ssl

    from requests import PreparedRequest
    from requests.auth import AuthBase

    from .checks import Check

Timeouts = tuple[float | None, float | None]
"""(connect, read) in seconds; None: no limit."""


def _setting(default: Any, check: Check, doc: str, secret: bool = False) -> Any:
    metadata = {"check": check, "doc": doc, "secret": secret}
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What holds for one URL. Times are seconds."""

    timeout: float | tuple[float | None, float | None] | None = _setting(
        30,
        check.timeout,
        "Time to connect, and between two reads: a number, a `(connect, read)` pair, or None.",
    )
    connect_timeout: float | None = _setting(
        None,
        check.or_none(check.seconds, "as `timeout` says"),
        "Replaces the connect half of `timeout`.",
    )
    read_timeout: float | None = _setting(
        None,
        check.or_none(check.seconds, "as `timeout` says"),
        "Replaces the read half of `timeout`.",
    )
    total_timeout: float | None = _setting(
        None,
        check.or_none(check.seconds, "no limit"),
        "Bounds the whole call: waiting, sending, back-off, redirects and an unstreamed body.",
    )
    max_retries: int | Retry = _setting(
        3,
        check.max_retries,
        "Retries after the first attempt, or a `urllib3.Retry` as `HTTPAdapter` takes it.",
    )
    backoff_factor: float = _setting(
        0.3,
        check.number(0),
        "Retry n waits `backoff_factor * 2 ** (n - 1)`, but the first comes at once.",
    )
    backoff_max: float = _setting(20, check.pause, "The longest back-off.")
    backoff_jitter: float = _setting(
        0.5,
        check.number(0, highest=1),
        "The fraction of a back-off that is random, 0 to 1; it only ever shortens.",
    )
    retry_statuses: Iterable[int] = _setting(
        frozenset({429, 500, 502, 503, 504}), check.statuses, "Statuses that are retried."
    )
    retry_methods: Iterable[str] | None = _setting(
        Retry.DEFAULT_ALLOWED_METHODS,
        check.methods,
        "Methods that may be sent again (urllib3's idempotent set), or None: any. Any method is "
        "retried where the request never left, or where it carries `Idempotency-Key`.",
    )
    respect_retry_after: bool = _setting(
        True,
        check.boolean,
        "Wait as long as `Retry-After` says (RFC 9110 §10.2.3), where it is longer than 0; False: "
        "neither a retry does, nor is it a pause for others.",
    )
    retry_after_max: float = _setting(
        60,
        check.pause,
        "A longer `Retry-After` ends the retries, and the error tells the hint.",
    )
    raise_on_status: bool = _setting(
        True,
        check.boolean,
        "After the last retry raise `MaxRetriesExceeded`; False: hand back the last response.",
    )
    rate_limit_requests: float | None = _setting(
        100,
        check.or_none(limits.requests, "no limit"),
        "Permits in one period: a whole number, or a fraction below 1 (0.5 in 1 s is 1 in 2 s); "
        "None switches limiting off.",
    )
    rate_limit_period: float = _setting(60, check.seconds, "The period of the limit.")
    rate_limit_max_wait: float | None = _setting(
        None,
        check.or_none(check.pause, "as long as the deadline allows"),
        "The longest wait for a permit; 0: raise `RateLimitExceeded` instead of waiting.",
    )
    rate_limit_scope: str | Callable[[PreparedRequest], object] = _setting(
        "endpoint",
        limits.scope,
        "`endpoint`: one limit for all that the pattern matches; `host`: one for each origin; or a "
        "function from the prepared request to a key: a limit for each user, or token, say.",
    )
    rate_limits: Iterable[tuple[float, float]] | None = _setting(
        None,
        check.or_none(limits.several, "`rate_limit_requests` in `rate_limit_period`"),
        "Several limits at once, as `(requests, period)` pairs, in the place of those two; a "
        "permit is one of each, or none is taken.",
    )
    rate_limit_algorithm: str = _setting(
        "fixed_window",
        check.one_of(*ALGORITHMS),
        "How permits are spread over time: `fixed_window`, `sliding_window` (exact), "
        "`token_bucket`, `leaky_bucket` or `gcra`.",
    )
    rate_limit_burst: int | None = _setting(
        None,
        check.or_none(limits.burst, "as many as one period allows"),
        "Permits that may go at once after a pause, with `token_bucket` and `gcra`.",
    )
    rate_limit_cost: int | Callable[[PreparedRequest], int] = _setting(
        1,
        limits.cost,
        "Permits that an attempt takes: a whole number, or a function of the prepared request. "
        "0: none.",
    )
    respect_server_limits: bool = _setting(
        True,
        check.boolean,
        "Pause as long as an answer says: `Retry-After` on 429 and 503, `RateLimit`, "
        "`X-RateLimit-*`. Longer than `retry_after_max`: `RateLimitExceeded`, with the hint.",
    )
    state: Any = _setting(
        "memory",
        limits.state,
        "Where limits are kept: `memory` (this manager), `sqlite:///path/limits.db` (all processes "
        "of a machine), `redis://host:port/db` or a `redis.Redis` (all machines; breakers, too).",
        secret=True,
    )
    state_prefix: str = _setting(
        "rcm", limits.prefix, "What all keys in a shared `state` begin with: one for each fleet."
    )
    state_timeout: float = _setting(
        0.25, check.seconds, "The longest wait for an answer of a shared `state`."
    )
    state_fallback: str = _setting(
        "local",
        check.one_of("local", "raise"),
        "Where a shared `state` is out of reach: the same numbers in this process until it is "
        "back, or `StateUnavailable`.",
    )
    circuit_breaker_failure_threshold: int | None = _setting(
        5,
        check.or_none(check.count(1), "no circuit breaker"),
        "Failures in a row that open the circuit; None: only the rate does, or nothing.",
    )
    circuit_breaker_recovery_timeout: float | None = _setting(
        60,
        check.or_none(check.pause, "no circuit breaker"),
        "Time from the opening to the first trial; None switches it off.",
    )
    circuit_breaker_success_threshold: int = _setting(
        1, check.count(1), "Trials in a row that must succeed before the circuit closes."
    )
    circuit_breaker_recovery_max: float = _setting(
        600,
        check.pause,
        "Trips that follow each other double the time to the trial, up to this; the first does "
        "not.",
    )
    circuit_breaker_recovery_jitter: float = _setting(
        0.1,
        check.number(0, highest=1),
        "The fraction of a time so doubled that is random; it only ever shortens.",
    )
    circuit_breaker_failure_rate: float | None = _setting(
        None,
        check.or_none(check.number(0, above=True, highest=1), "only failures in a row count"),
        "The fraction of failures, above 0 to 1, within `circuit_breaker_window` that opens the "
        "circuit, too.",
    )
    circuit_breaker_window: float = _setting(
        30, limits.window, "The time over which the rate is taken, from a millisecond."
    )
    circuit_breaker_minimum_calls: int = _setting(
        20, check.count(1), "Outcomes in the window before the rate says anything."
    )
    circuit_breaker_slow_call: float | None = _setting(
        None,
        check.or_none(check.seconds, "no answer is too slow"),
        "An answer that took the service longer counts as a failure; the caller gets it all the "
        "same.",
    )
    max_concurrency: int | None = _setting(
        None,
        check.or_none(check.count(1), "no bound"),
        "Attempts under way at once, for the pattern that sets it, otherwise for each origin; one "
        "ends when its body is read, or a streamed answer closed.",
    )
    max_concurrency_wait: float = _setting(
        30,
        check.pause,
        "The longest wait for a place among them, then `ConcurrencyLimitExceeded`.",
    )
    retry_budget: bool | float | tuple[float, float] | None = _setting(
        None,
        limits.retry_budget,
        "Retries allowed to an origin beside its calls, as a `(ratio, floor per second)` pair, or "
        "a ratio; True: `(0.2, 1)`; None or False: no bound.",
    )
    adaptive_throttling: bool | float | None = _setting(
        None,
        limits.adaptive_throttling,
        "Reject calls here with the probability by which the origin refuses them, `max(0, (calls - "
        "K * accepted) / (calls + 8))` of the last 2 minutes; K at least 1, or True: 2.",
    )
    verify: bool | str = _setting(
        True,
        check.verify,
        "Check the server's certificate: True, False, or the path of a CA bundle.",
    )
    cert: str | tuple[str, str] | None = _setting(
        None, check.cert, "Client certificate: a path, or a `(certificate, key)` pair of paths."
    )
    ssl_context: ssl.SSLContext | None = _setting(
        None,
        check.ssl_context,
        "A context with its own trust and certificates; `verify=True` adds nothing to it.",
    )
    api_key: str | None = _setting(
        None, check.credential, "A key, sent in the header `api_key_header`.", secret=True
    )
    api_key_header: str = _setting("X-API-Key", check.header_name, "The header of `api_key`.")
    api_key_query: str | None = _setting(
        None,
        check.query_name,
        "Send `api_key` in the query parameter of this name, instead of a header.",
    )
    bearer_token: str | None = _setting(
        None, check.bearer, "A token, sent as `Authorization: Bearer` (RFC 6750).", secret=True
    )
    oauth2_token: str | None = _setting(
        None, check.bearer, "An OAuth 2 access token, sent like a bearer token.", secret=True
    )
    basic_auth: tuple[str | bytes, str | bytes] | None = _setting(
        None, check.basic_auth, "A `(user, password)` pair (RFC 7617).", secret=True
    )
    auth: AuthBase | None = _setting(None, check.auth, "Any `requests.auth.AuthBase`.", secret=True)

    def __post_init__(self) -> None:
        for each in fields(self):
            value = each.metadata["check"](each.name, getattr(self, each.name))
            object.__setattr__(self, each.name, value)
        limits.refuse_burst_without_meaning(self.rate_limit_algorithm, self.rate_limit_burst)
        if self.rate_limits is None:
            limits.refuse_permits_too_rare(self.rate_limit_requests, self.rate_limit_period)

    @property
    def timeouts(self) -> Timeouts:
        """The (connect, read) pair that ``timeout`` and its two halves come to."""
        both = self.timeout
        connect, read = both if isinstance(both, tuple) else (both, both)
        return (
            connect if self.connect_timeout is None else self.connect_timeout,
            read if self.read_timeout is None else self.read_timeout,
        )


class Pools(NamedTuple):
    """The arguments of ``HTTPAdapter`` that say how many connections are kept."""

    connections: int
    maxsize: int
    block: bool


@dataclass(frozen=True, kw_only=True)
class ManagerSettings(Settings):
    """What the constructor takes: the defaults of all URLs, the pool, and the endpoints."""

    pool_connections: int = _setting(
        10, check.count(1), "Origins whose pools are kept, as in `HTTPAdapter`."
    )
    pool_maxsize: int = _setting(
        10, check.count(1), "Connections kept for one origin, as in `HTTPAdapter`."
    )
    pool_block: bool = _setting(
        False,
        check.boolean,
        "Wait for a free connection instead of making another; bounded by `total_timeout`.",
    )
    hook_errors: str = _setting(
        "log",
        check.one_of("log", "raise"),
        "What an error in a hook does: it is logged and the call goes on, or it ends the call.",
    )
    endpoint_configs: Mapping[str, Mapping[str, Any]] | None = _setting(
        None,
        lambda _name, value: value,  # Endpoints checks it, pattern by pattern
        "Settings for URLs that match a pattern: `{pattern: {setting: value}}`.",
        secret=True,
    )

    @property
    def pools(self) -> Pools:
        return Pools(self.pool_connections, self.pool_maxsize, self.pool_block)


SCHEMES = ("auth", "oauth2_token", "bearer_token", "basic_auth", "api_key")
"""The settings that are credentials. A request gets one: of one layer's several, the first here."""
SECRETS = frozenset(each.name for each in fields(Settings) if each.metadata["secret"])

DEFAULTS = {each.name: each.default for each in fields(Settings)}
"""Of the settings that hold for one URL."""
