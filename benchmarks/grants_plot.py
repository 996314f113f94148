"""``python -m benchmarks.grants_plot``: when each algorithm lets the same demand go, as an SVG.

The clock is simulated, so that a second run draws the same.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from html import escape
from pathlib import Path

from requests_connection_manager.limits.algorithms import BURSTS, Limit
from requests_connection_manager.limits.memory import MemoryStore
from requests_connection_manager.limits.store import Booked, Wanted

from .chart import STYLE

FILE = Path(__file__).parents[1] / "docs" / "explanation" / "grants.svg"
REQUESTS, PERIOD = 10, 1.0
DEMAND = [0.0] + [0.9] * 39
"""One request opens a window; most of it passes; then come 39 at once."""
LIMITS = [
    Limit("fixed_window", REQUESTS, PERIOD, REQUESTS),
    Limit("sliding_window", REQUESTS, PERIOD, REQUESTS),
    Limit("token_bucket", REQUESTS, PERIOD, REQUESTS),
    Limit("gcra", REQUESTS, PERIOD, 4),
    Limit("leaky_bucket", REQUESTS, PERIOD, REQUESTS),
]
SHOWN = 4
"""Seconds."""


def grants_of(limit: Limit) -> list[float]:
    """Return when each request of the demand may go."""
    now = 0.0
    store = MemoryStore(clock=lambda: now)
    grants = []
    for now in DEMAND:  # which the store's clock reads
        booked = store.book(Wanted("plot", (limit,), 1, math.inf, ""))
        assert isinstance(booked, Booked)
        grants.append(round(now + booked.wait, 6))
    return grants


def most_in_one_period(grants: list[float]) -> int:
    """Count the grants in the fullest span of one period, wherever it begins."""
    return max(sum(0 <= each - start < PERIOD - 1e-9 for each in grants) for start in grants)


WIDTH, TOP, ROW, FOOT = 820, 62, 84, 26
LEFT, SECOND = 190, 135
"""Where the time begins, and how wide a second is."""
DOT, STEP = 2.6, 5.6
"""A grant, and how far above it another of the same moment is."""
MORE_STYLE = """
  .dot { fill: #0969da } .axis { stroke: #8c9bab }
  .second { stroke: #8c9bab; stroke-dasharray: 2 4; opacity: .7 }
  @media (prefers-color-scheme: dark) { .dot { fill: #4493f8 } }
"""


def drawn() -> str:
    """Draw a row for each algorithm: a dot for each grant, those of one moment stacked."""
    height = TOP + ROW * len(LIMITS) + FOOT
    size = f'width="{WIDTH}" height="{height}"'
    title = "The same demand under five algorithms"
    note = (
        f"{REQUESTS} in {PERIOD:g} s are allowed; one request comes at 0 s, and {len(DEMAND) - 1} "
        f"at {DEMAND[-1]} s; a dot is a grant, and those of one moment are stacked"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {WIDTH} {height}">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}{MORE_STYLE}</style>",
            f'<rect class="ground" {size} rx="8"/>',
            f'<text class="name title" x="16" y="24">{escape(title)}</text>',
            f'<text class="note" x="16" y="42">{escape(note)}</text>',
            *(_second(second, height - FOOT) for second in range(SHOWN + 1)),
            *(_row(limit, TOP + ROW * number - 10) for number, limit in enumerate(LIMITS, 1)),
            "</svg>\n",
        ]
    )


def _x(seconds: float) -> str:
    return f"{LEFT + seconds * SECOND:.1f}"


def _second(second: int, bottom: int) -> str:
    x = _x(second)
    return "\n".join(
        [
            f'<line class="second" x1="{x}" x2="{x}" y1="{TOP}" y2="{bottom}"/>',
            f'<text class="note" x="{x}" y="{bottom + 14}" text-anchor="middle">{second} s</text>',
        ]
    )


def _row(limit: Limit, base: int) -> str:
    grants = grants_of(limit)
    about = f"burst {limit.burst}" if limit.algorithm in BURSTS else ""
    right = f'x="{WIDTH - 16}" text-anchor="end"'
    most = most_in_one_period(grants)
    return "\n".join(
        [
            f'<line class="axis" x1="{_x(0)}" x2="{_x(SHOWN)}" y1="{base}" y2="{base}"/>',
            f'<text class="name" x="16" y="{base - 26}">{limit.algorithm}</text>',
            f'<text class="note" x="16" y="{base - 11}">{about}</text>',
            *_stacks(Counter(each for each in grants if each <= SHOWN), base),
            f'<text class="note" {right} y="{base - 26}">at most</text>',
            f'<text class="note" {right} y="{base - 11}">{most} in {PERIOD:g} s</text>',
        ]
    )


def _stacks(counts: Counter[float], base: int) -> Iterator[str]:
    for moment, count in sorted(counts.items()):
        for place in range(count):
            y = base - 5 - STEP * place
            yield f'<circle class="dot" cx="{_x(moment)}" cy="{y:.1f}" r="{DOT}"/>'


if __name__ == "__main__":
    FILE.write_text(drawn(), encoding="utf-8")
