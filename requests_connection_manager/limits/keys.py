"""The names under which shared stores keep their state.

What belongs to one scope has the scope in braces, once: a Redis Cluster keeps it in one place.
"""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote

from .algorithms import Limit

LOG = ":log"
"""What the key of a sliding window's log ends with; the rest is that of its limit."""


@lru_cache(maxsize=4096)
def of_limits(prefix: str, scope: str, whose: str, limits: tuple[Limit, ...]) -> tuple[str, ...]:
    """Return the keys of a pause and of each limit."""
    root = f"{{{_plain(prefix)}:{_plain(scope)}}}"
    return (f"{root}:pause:{whose}", *(f"{root}:{_name(limit)}" for limit in limits))


def of_circuit(prefix: str, scope: str, numbers: tuple[float | None, ...]) -> str:
    """Return the key of a circuit; other numbers make another one."""
    words = ":".join("-" if each is None else f"{float(each)!r}" for each in numbers)
    return f"{{{_plain(prefix)}:{_plain(scope)}}}:circuit:{words}"


def _name(limit: Limit) -> str:
    period = float(limit.period)  # 60 and 60.0 are one limit
    return f"{limit.algorithm}:{limit.requests}:{period!r}:{limit.burst}"


def _plain(text: str) -> str:
    return quote(text, safe="/:@*?=&,;+~ ", errors="surrogatepass")  # neither braces nor controls
