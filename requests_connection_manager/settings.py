"""Every setting once: its name, its default, what it may be, and what it means.

The constructor's keywords, the endpoint dictionaries and the reference page come from here.
A value is checked where it comes in, so that nothing impossible is found out on the wire.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from urllib3.util.retry import Retry

from . import checks as check
from .arguments import nearest
from .exceptions import ConfigurationError
from .redaction import REDACTED, is_sensitive_field

if TYPE_CHECKING:
    import ssl

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
        "Wait as long as `Retry-After` says (RFC 9110 §10.2.3), where it is longer than 0.",
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
    rate_limit_requests: int | None = _setting(
        100,
        check.or_none(check.count(1), "no limit"),
        "Attempts allowed in one period; None switches limiting off.",
    )
    rate_limit_period: float = _setting(60, check.seconds, "The period of the limit.")
    rate_limit_max_wait: float | None = _setting(
        None,
        check.or_none(check.pause, "as long as the deadline allows"),
        "The longest wait for a permit; 0: raise `RateLimitExceeded` instead of waiting.",
    )
    rate_limit_scope: str = _setting(
        "endpoint",
        check.one_of("endpoint", "host"),
        "`endpoint`: one limit for all that the pattern matches; `host`: one for each origin.",
    )
    circuit_breaker_failure_threshold: int | None = _setting(
        5,
        check.or_none(check.count(1), "no circuit breaker"),
        "Failures in a row that open the circuit; None switches it off.",
    )
    circuit_breaker_recovery_timeout: float | None = _setting(
        60,
        check.or_none(check.pause, "no circuit breaker"),
        "Time from the opening to the first trial; None switches it off.",
    )
    circuit_breaker_success_threshold: int = _setting(
        1, check.count(1), "Trials in a row that must succeed before the circuit closes."
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

_PER_URL = {each.name: each.metadata["check"] for each in fields(Settings)}
_PER_MANAGER = {each.name: each.metadata["check"] for each in fields(ManagerSettings)}

DEFAULTS = {each.name: each.default for each in fields(Settings)}
"""Of the settings that hold for one URL."""

Layer = dict[str, Any]
"""Some settings by name, checked: what one pattern, or the constructor, has said."""


def manager_layer(keywords: Mapping[str, Any]) -> Layer:
    """Check the constructor's keywords."""
    return _with_retry_spelt_out(_checked(keywords, _PER_MANAGER, "a keyword of ConnectionManager"))


def checked_layer(layer: Layer) -> Layer:
    """Check settings of URLs, as `manager_layer` does."""
    return _with_retry_spelt_out(_checked(layer, _PER_URL, "a setting"))


def endpoint_layer(pattern: str, config: object) -> Layer:
    """Check the dictionary that belongs to ``pattern``."""
    where = f"endpoint_configs[{pattern!r}]"
    if not isinstance(config, Mapping):
        raise ConfigurationError(
            f"{where} is impossible as {type(config).__name__}: it must be a dictionary of "
            "settings, such as {'timeout': 5}.",
            field=where,
            value=type(config),  # not what it is, which may hold credentials
        )
    try:
        layer = _checked(config, _PER_URL, "a setting of an endpoint")
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{where}: {error}", field=error.field, value=error.value
        ) from None
    return _with_retry_spelt_out(layer)


def displaced_by(layer: Layer) -> tuple[str, ...]:
    """Return the settings of less specific layers that a layer does away with, unnamed.

    An ``ssl_context`` has its own trust and certificate. Another trust cannot be loaded into it, or
    everybody who uses it would have it; a certificate neither, but that alone does not say whom to
    trust instead. And a request gets one credential: who has its own does not get that of the less
    specific, too.
    """
    gone: list[str] = []
    if layer.get("ssl_context") is not None:
        gone += ["verify", "cert"]
    elif layer.get("verify", True) is not True:
        gone += ["ssl_context"]
    if any(layer.get(name) is not None for name in SCHEMES):
        gone += SCHEMES
    if "api_key_header" in layer:
        gone += ["api_key_query"]
    return tuple(name for name in gone if name not in layer)


def _checked(given: Mapping[str, Any], checks: Mapping[str, Check], what: str) -> Layer:
    for name, value in given.items():
        if name not in checks:
            raise _unknown(name, value, checks, what)
    layer = {name: checks[name](name, value) for name, value in given.items()}
    refuse_two_kinds_of_trust(layer)
    return layer


def refuse_two_kinds_of_trust(
    layer: Mapping[str, Any], sources: Mapping[str, str] | None = None
) -> None:
    """Raise `ConfigurationError` for another trust, or a certificate, beside an ``ssl_context``."""
    if layer.get("ssl_context") is None:
        return
    for name in ("verify", "cert"):
        if layer.get(name) not in (None, True):
            pattern = (sources or {}).get(name)
            where = f"endpoint_configs[{pattern!r}]: " if pattern is not None else ""
            raise ConfigurationError(
                f"{where}{name} is impossible beside ssl_context: give the context its own trust "
                "and certificate (load_verify_locations, load_cert_chain, verify_mode).",
                field=name,
                value=layer[name],
            )


def _unknown(name: object, value: object, known: Iterable[str], what: str) -> ConfigurationError:
    near = nearest(str(name), known)
    if name in _PER_MANAGER:
        hint = "it holds for the whole manager: pass it to ConnectionManager(...)"
    else:
        hint = f"did you mean {near!r}?" if near else f"choose from {', '.join(sorted(known))}"
    if near is None or near in SECRETS or is_sensitive_field(name):
        value = REDACTED  # what it was meant to be, nobody knows
    return ConfigurationError(f"{name!r} is not {what}; {hint}", field=str(name), value=value)


def _with_retry_spelt_out(layer: Layer) -> Layer:
    """Let a ``urllib3.Retry`` speak for the settings that it carries and its layer leaves out.

    So a pattern's ``backoff_factor`` still has its effect on a manager whose ``max_retries`` is a
    Retry, and a pattern's Retry is not changed by the manager's numbers.
    """
    retry = layer.get("max_retries")
    if not isinstance(retry, Retry):
        return layer
    said: Layer = {
        "backoff_factor": retry.backoff_factor,
        "backoff_max": retry.backoff_max,
        "backoff_jitter": 0.0,  # a Retry has its own jitter, in seconds
        "retry_statuses": frozenset(retry.status_forcelist),
        "retry_methods": check.methods("allowed_methods", retry.allowed_methods or None),
        "respect_retry_after": bool(retry.respect_retry_after_header),
        "raise_on_status": bool(retry.raise_on_status),
    }
    longest = getattr(retry, "retry_after_max", None)  # urllib3 has it since 2.6
    if longest != getattr(Retry, "DEFAULT_RETRY_AFTER_MAX", None):
        said["retry_after_max"] = longest
    return said | layer
