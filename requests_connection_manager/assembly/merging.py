"""What several patterns come to together: key by key, the most specific last."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..auth import Credential, credential_of
from ..layers import Layer, displaced_by
from ..patterns import Pattern
from ..policies.retry import RetryPolicy
from ..redaction import is_sensitive_field
from ..settings import DEFAULTS, Settings


class Rule(NamedTuple):
    """A pattern, the user's spelling of it, and its settings."""

    pattern: Pattern
    text: str
    layer: Layer


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


def merge(defaults: Layer, rules: tuple[Rule, ...]) -> Merged:
    """Merge the settings of ``rules``, the general first."""
    layer: Layer = dict(defaults)
    sources: dict[str, str] = {}
    for rule in rules:
        for name in (*rule.layer, *displaced_by(rule.layer)):
            layer[name] = rule.layer.get(name, DEFAULTS[name])
            sources[name] = rule.text
    settings = Settings(**layer)
    key_header = settings.api_key_header
    wait = settings.rate_limit_max_wait
    return Merged(
        settings=settings,
        sources=sources,
        retry=RetryPolicy(settings),
        arguments=_arguments_of(settings),
        longest_wait=math.inf if wait is None else wait,
        credential=credential_of(settings),
        key_header=None if is_sensitive_field(key_header) else key_header,
    )


def _arguments_of(settings: Settings) -> dict[str, Any]:
    connect, read = settings.timeouts
    timeout = connect if connect == read else (connect, read)
    if settings.ssl_context is not None:  # it has both
        return {"timeout": timeout, "verify": True, "cert": None}
    return {"timeout": timeout, "verify": settings.verify, "cert": settings.cert}
