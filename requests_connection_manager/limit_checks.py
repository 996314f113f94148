"""What the settings of limits and of their state may be: checks, as in ``checks.py``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from .checks import LONGEST, count, hidden, impossible, is_number, number, plain
from .exceptions import ConfigurationError
from .limits.algorithms import BURSTS

_BUDGET = (0.2, 1.0)
_K = 2.0
_MOST = 10**9
"""Permits of one limit; with more, its arithmetic would lose single ones."""
_REQUESTS = (
    f"a whole number from 1 to {_MOST:,}, or a fraction below 1 and of at least {1 / _MOST:g} (2.5 "
    "in 1 s is 5 in 2 s)"
)
_STATES = (
    "'memory', 'sqlite:///path/limits.db', 'redis://host:port/db' (or rediss://, unix://), or a "
    "redis.Redis, neither one of redis.asyncio nor a pipeline"
)
_STATE_OF = {
    "sqlite": "'sqlite:///path/limits.db', with an absolute path, without ? or # or what looks "
    "like %20",
    "redis": "'redis://user:password@host:port/db', with a number for db, and with what is special "
    "in a user or password escaped: %23 for #",
    "unix": "'unix:///path/of.sock?db=0', with an absolute path",
}
"""What a URL of each kind must be; rediss:// is one of redis."""


def requests(name: str, value: Any) -> int | float:
    """A whole number, or a fraction below 1.

    Its period is divided by the fraction: by a smaller one it could be infinite.
    """
    if not isinstance(value, bool) and is_number(value) and 1 / _MOST <= value <= _MOST:
        number = plain(value)
        if number < 1 or number == int(number):
            return number if number < 1 else int(number)
    raise impossible(name, value, _REQUESTS)


burst = count(1, _MOST)


def several(name: str, value: Any) -> tuple[tuple[float, float], ...]:
    words = "(requests, period) pairs, such as [(10, 1), (1000, 3600)]"
    if not isinstance(value, Iterable) or isinstance(value, (str, bytes, dict)):
        raise impossible(name, value, words)
    pairs = list(value)
    if not pairs or len(pairs) > 8:
        raise impossible(name, value, f"one to eight {words}")
    return tuple(_pair(name, value, pair, words) for pair in pairs)


def _pair(name: str, value: Any, pair: Any, words: str) -> tuple[float, float]:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise impossible(name, value, words)
    try:
        permits = requests(name, pair[0])
    except ConfigurationError:
        raise impossible(name, value, f"{words}, with requests that are {_REQUESTS}") from None
    if not is_number(pair[1]) or not 0 < pair[1] <= LONGEST:
        period = f"a number of seconds above 0 and at most {LONGEST:,.0f}"
        raise impossible(name, value, f"{words}, with a period that is {period}")
    if pair[1] / min(permits, 1) > LONGEST:
        raise impossible(name, value, f"{words}, with at least one permit in {LONGEST:,.0f} s")
    return permits, plain(pair[1])


def scope(name: str, value: Any) -> Any:
    if _is_function(value) or value in ("endpoint", "host"):
        return value
    raise impossible(
        name,
        value,
        "'endpoint', 'host', or a function (not an async one) from the prepared request to a key",
    )


def cost(name: str, value: Any) -> Any:
    if _is_function(value):
        return value
    try:
        return count(0)(name, value)
    except ConfigurationError:
        raise impossible(
            name,
            value,
            "a whole number of at least 0, or a function (not an async one) from the prepared "
            "request to one",
        ) from None


def _is_function(value: Any) -> bool:
    """Whether its answer is the value; a coroutine is none, and would be another key each time."""
    if isinstance(value, type) or not callable(value):
        return False
    return not any(map(inspect.iscoroutinefunction, (value, type(value).__call__)))


def refuse_burst_without_meaning(algorithm: str, burst: int | None) -> None:
    """Raise `ConfigurationError` for a burst of an algorithm that has none."""
    if burst is not None and algorithm not in BURSTS:
        raise ConfigurationError(
            f"rate_limit_burst={burst} has no meaning with rate_limit_algorithm={algorithm!r}: "
            f"choose {' or '.join(map(repr, BURSTS))}, or leave it out.",
            field="rate_limit_burst",
            value=burst,
        )


def refuse_permits_too_rare(permits: float | None, period: float) -> None:
    """Raise `ConfigurationError` for a fraction of a permit that is one in a time beyond all."""
    if permits is not None and period / min(permits, 1) > LONGEST:
        raise ConfigurationError(
            f"rate_limit_requests={permits!r} is impossible with rate_limit_period={period!r}: "
            f"there must be at least one permit in {LONGEST:,.0f} s.",
            field="rate_limit_requests",
            value=permits,
        )


window = number(0.001, highest=LONGEST, of=" of seconds")
"""A time that is counted in steps; in ones much smaller, clocks cannot be told."""


def refuse_slow_call_without_breaker(layer: Mapping[str, Any]) -> None:
    """Raise `ConfigurationError` where who counts slow calls says that nothing counts failures."""
    name, threshold = "circuit_breaker_slow_call", "circuit_breaker_failure_threshold"
    if layer.get(name) is None or layer.get(threshold, ...) is not None:
        return
    if (
        layer.get("circuit_breaker_failure_rate") is None
        and layer.get("circuit_breaker_recovery_timeout", ...) is not None
    ):
        raise ConfigurationError(
            f"{name}={layer[name]:g} has no effect beside {threshold}=None: a slow answer is a "
            "failure, and none are counted. Give a threshold, or circuit_breaker_failure_rate.",
            field=name,
            value=layer[name],
        )


def state(name: str, value: Any) -> Any:
    """Not shown where it is wrong: a URL can hold a password."""
    if isinstance(value, str):
        if value == "memory" or _leads_somewhere(value):
            return value
    elif not isinstance(value, type) and _runs_scripts(value):
        return value  # a redis.Redis, or what stands in for one
    raise hidden(name, _what_was_meant(value))


def _what_was_meant(value: object) -> str:
    scheme = re.match(r"(sqlite|redis|unix)s?[:/]", value if isinstance(value, str) else "", re.I)
    return _STATES if scheme is None else _STATE_OF[scheme[1].lower()]


def _leads_somewhere(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, path, _ = parts.hostname, parts.path, parts.port
    except ValueError:
        return False
    if not url[len(parts.scheme) :].startswith("://"):
        return False
    if parts.scheme in ("redis", "rediss"):
        # Where redis-py finds no number, it takes the database 0. And an @ that comes late is the
        # end of a password with a / or ? or # that is not escaped.
        escaped = all("=" in each for each in parts.query.split("&") if "@" in each)
        is_numbered = re.fullmatch("(/[0-9]*)?", path) is not None
        return host is not None and escaped and is_numbered and "#" not in url
    return host is None and (
        (parts.scheme == "unix" and len(path) > 1 and parts.netloc[-1:] in ("", "@"))
        or (parts.scheme == "sqlite" and _is_of_a_file(url.partition("://")[2]))
    )


def _is_of_a_file(path: str) -> bool:
    """It is taken as it is written; so what others would read something else in, is refused."""
    names_one = path.startswith("/") and not path.endswith(("/", ":memory:"))
    return names_one and path.isprintable() and not re.search(r"[?#]|%[0-9A-Fa-f]{2}", path)


def _runs_scripts(client: Any) -> bool:
    runs = [getattr(client, name, None) for name in ("evalsha", "execute_command")]
    if not callable(runs[0]) or any(map(inspect.iscoroutinefunction, runs)):
        return False
    # A pipeline is a client by its class, but answers with itself. By the type: a mock has all.
    return not hasattr(type(client), "pipeline_execute_command")


def prefix(name: str, value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[\w.:-]{1,64}", value):
        raise impossible(name, value, "1 to 64 letters, digits, or any of . : _ -")
    return value


def retry_budget(name: str, value: Any) -> tuple[float, float] | None:
    """A (ratio, floor per second) pair; a ratio alone has the usual floor."""
    if value is None or isinstance(value, bool):
        return _BUDGET if value else None
    pair = value if isinstance(value, (tuple, list)) else (value, _BUDGET[1])
    if len(pair) == 2 and all(is_number(each) and each >= 0 for each in pair) and pair[0] <= 10:
        return float(pair[0]), float(pair[1])
    raise impossible(
        name,
        value,
        "a ratio from 0 to 10 (0.2 is 20 %), a (ratio, floor per second) pair, True: (0.2, 1), or "
        "None: no bound",
    )


def adaptive_throttling(name: str, value: Any) -> float | None:
    """The K of the formula."""
    if value is None or isinstance(value, bool):
        return _K if value else None
    if is_number(value) and value >= 1:
        return float(value)
    raise impossible(name, value, "True (K = 2), a number K of at least 1, or False")
