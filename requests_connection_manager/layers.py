"""Some settings by name, as the constructor or one pattern says them: checked, and completed.

Nothing impossible is found out on the wire; what a layer does away with in those below it, and
what it says without naming it, is decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from urllib3.util.retry import Retry

from . import checks as check
from .arguments import nearest
from .checks import Check
from .exceptions import ConfigurationError
from .limit_checks import refuse_slow_call_without_breaker
from .redaction import REDACTED, is_sensitive_field
from .settings import SCHEMES, SECRETS, ManagerSettings, Settings

_PER_URL = {each.name: each.metadata["check"] for each in fields(Settings)}
_PER_MANAGER = {each.name: each.metadata["check"] for each in fields(ManagerSettings)}

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
    if not isinstance(config, Mapping):
        where = _config_of(pattern)
        raise ConfigurationError(
            f"{where} is impossible as {type(config).__name__}: it must be a dictionary of "
            "settings, such as {'timeout': 5}.",
            field=where,
            value=type(config),  # not what it is, which may hold credentials
        )
    try:
        layer = _checked(config, _PER_URL, "a setting of an endpoint")
    except ConfigurationError as error:
        raise said_of([pattern], error) from None
    return _with_retry_spelt_out(layer)


def said_of(patterns: Iterable[str], error: ConfigurationError) -> ConfigurationError:
    """Return the error with the patterns whose settings it is about, if it does not say so yet."""
    where = " with ".join(map(_config_of, patterns))
    if not where or str(error).startswith("endpoint_configs["):
        return error
    return ConfigurationError(f"{where}: {error}", field=error.field, value=error.value)


def _config_of(pattern: str) -> str:
    return f"endpoint_configs[{pattern!r}]"


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
    if layer.keys() & {"rate_limit_requests", "rate_limit_period"}:
        gone += ["rate_limits"]
    if "rate_limit_algorithm" in layer:
        gone += ["rate_limit_burst"]
    return tuple(name for name in gone if name not in layer)


def _checked(given: Mapping[str, Any], checks: Mapping[str, Check], what: str) -> Layer:
    for name, value in given.items():
        if name not in checks:
            raise _unknown(name, value, checks, what)
    layer = {name: checks[name](name, value) for name, value in given.items()}
    refuse_two_kinds_of_trust(layer)
    refuse_slow_call_without_breaker(layer)
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
            where = f"{_config_of(pattern)}: " if pattern is not None else ""
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
