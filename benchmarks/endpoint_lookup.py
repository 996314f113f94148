"""What it costs to find the endpoint of a URL among 10,000 patterns, against 10."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle

from requests_connection_manager import ConnectionManager

from .harness import Figure, at_most, compared, interleave

FEW, MANY = 10, 10_000


def main() -> list[Figure]:
    """Once with a host for each pattern, and once with a path for each, on one host."""
    return [
        _figure("each with its host", lambda number: f"service-{number}.example.com"),
        _figure("paths of one host", lambda number: f"api.example.com/resource-{number}"),
    ]


def _figure(kind: str, pattern: Callable[[int], str]) -> Figure:
    # The same URLs in both, those of the few; they lie far apart among the many.
    named = range(0, MANY, MANY // FEW)
    urls = [f"https://{pattern(number)}/items/7?page=2" for number in named]
    with (
        _manager(map(pattern, named)) as few,
        _manager(map(pattern, range(MANY))) as many,
    ):
        rounds = interleave(
            {f"{FEW}": _look_up(few, urls), f"{MANY:,}": _look_up(many, urls)}, rounds=150
        )
    name = f"look-up in {MANY:,} patterns, {kind}"
    return compared(name, rounds, f"{MANY:,}", f"{FEW}", at_most(1.2))


def _manager(patterns: map[str]) -> ConnectionManager:
    return ConnectionManager(endpoint_configs={pattern: {"timeout": 5} for pattern in patterns})


def _look_up(manager: ConnectionManager, urls: list[str]) -> Callable[[], object]:
    resolve, turns = manager._endpoints.table.resolve, cycle(urls)
    return lambda: resolve(next(turns))
