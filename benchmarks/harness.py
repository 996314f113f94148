"""How all figures are timed, and how they are reported.

The law: nothing is compared across runs. Contenders take turns in short blocks, so that whatever
else the machine does meets all of them; a ratio is that of two neighbouring blocks, and the median
of these ratios is reported, with the middle half of them.
"""

from __future__ import annotations

import functools
import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from requests_connection_manager import ConnectionManager

BLOCK_SECONDS = 0.005
"""Long against the clock's resolution and a change of threads, short against drift."""

Rounds = dict[str, list[float]]
"""Seconds a call by contender, one number for each round."""

Block = Callable[[], float]
"""Makes some calls; returns the seconds that one took."""


class Goal(NamedTuple):
    """What a ratio should be: between two bounds, or beyond one."""

    lowest: float
    highest: float

    def met_by(self, ratio: float) -> bool:
        return self.lowest <= ratio <= self.highest

    def __str__(self) -> str:
        if self.lowest == -math.inf:
            return f"≤ {self.highest:g}"
        if self.highest == math.inf:
            return f"≥ {self.lowest:g}"
        return f"{self.lowest:g}…{self.highest:g}"


def at_most(bound: float) -> Goal:
    return Goal(-math.inf, bound)


def at_least(bound: float) -> Goal:
    return Goal(bound, math.inf)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One row of the table."""

    name: str
    value: str
    peer: str
    """What the value is compared with, and its value in the same run."""
    ratio: float
    middle_half: tuple[float, float] | None = None
    """The quartiles of the ratios, where there are many."""
    goal: Goal | None = None
    """None: for comparison only."""

    @property
    def missed(self) -> bool:
        return self.goal is not None and not self.goal.met_by(self.ratio)

    def cells(self) -> tuple[str, ...]:
        """Return the row as text, in the order of `HEADINGS`."""
        spread = "" if self.middle_half is None else " ({:.3f}…{:.3f})".format(*self.middle_half)
        met = "miss" if self.missed else "PASS"
        return (
            self.name,
            self.value,
            self.peer,
            f"{self.ratio:.3f}{spread}",
            str(self.goal or "-"),
            met if self.goal else "-",
        )


HEADINGS = ("figure", "value", "peer", "ratio", "goal", "met")


def as_table(figures: list[Figure]) -> str:
    """Put the figures in a table."""
    return aligned([HEADINGS, *(figure.cells() for figure in figures)])


def aligned(rows: list[tuple[str, ...]]) -> str:
    """Align rows, the first with the headings, in a table, which is one in Markdown, too."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [rows[0], tuple("-" * width for width in widths), *rows[1:]]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |"
        for row in lines
    )


def interleave(
    contenders: Mapping[str, Callable[[], object]], *, rounds: int, longest: float = 20.0
) -> Rounds:
    """Time the contenders in turns, at most for ``longest`` seconds."""
    blocks = {name: block_of(contend) for name, contend in contenders.items()}
    gc.collect()
    gc.freeze()  # what there is by now is nobody's garbage, and need not be looked at again
    try:
        return take_turns(blocks, rounds=rounds, longest=longest)
    finally:
        gc.unfreeze()


def take_turns(blocks: Mapping[str, Block], *, rounds: int, longest: float = 20.0) -> Rounds:
    """Let each have its block in every round; every other round goes the other way."""
    taken: Rounds = {name: [] for name in blocks}
    names = list(blocks)
    ends = time.perf_counter() + longest
    for number in range(rounds):
        for name in names if number % 2 else names[::-1]:
            taken[name].append(blocks[name]())
        if time.perf_counter() > ends:
            break
    return taken


def block_of(contend: Callable[[], object], seconds: float = BLOCK_SECONDS) -> Block:
    """Warm up, and make a block of as many calls as fill the ``seconds``."""
    return functools.partial(_seconds_a_call, contend, _calls_within(seconds, contend))


def compared(name: str, rounds: Rounds, one: str, peer: str, goal: Goal | None = None) -> Figure:
    """Make the figure that compares two of the contenders."""
    ratio, middle_half = ratio_of(rounds, one, peer)
    return Figure(
        name=name,
        value=_microseconds(rounds[one]),
        peer=f"{peer}: {_microseconds(rounds[peer])}",
        ratio=ratio,
        middle_half=middle_half,
        goal=goal,
    )


def ratio_of(rounds: Rounds, one: str, peer: str) -> tuple[float, tuple[float, float]]:
    """Return the median of the ratios of neighbouring blocks, and their quartiles."""
    ratios = [mine / its for mine, its in zip(rounds[one], rounds[peer], strict=True)]
    lower, middle, upper = statistics.quantiles(ratios, n=4)
    return middle, (lower, upper)


def everything_on(**settings: Any) -> ConnectionManager:
    """Make a manager that has every policy on, with a limit that nobody reaches."""
    # Late, for this file also times libraries in environments where the package is not installed.
    from requests_connection_manager import ConnectionManager

    wide: dict[str, Any] = {
        "rate_limit_requests": 10_000_000,
        "rate_limit_period": 1,
        "total_timeout": 30,
    }
    return ConnectionManager(**{**wide, **settings})


def _calls_within(seconds: float, contend: Callable[[], object]) -> int:
    """Warm up, and count how often ``contend`` can be called in a block of ``seconds``."""
    calls = 0
    ends = time.perf_counter() + 10 * seconds
    while time.perf_counter() < ends:
        contend()
        calls += 1
    return max(1, calls // 10)


def _seconds_a_call(contend: Callable[[], object], calls: int) -> float:
    # The collector stays on, for garbage is a part of the cost; but each contender starts clean
    # and pays for no other's.
    gc.collect()
    start = time.perf_counter()
    for _ in range(calls):
        contend()
    return (time.perf_counter() - start) / calls


def _microseconds(seconds: list[float]) -> str:
    middle = statistics.median(seconds)
    return f"{middle * 1e3:.3g} ms" if middle > 0.01 else f"{middle * 1e6:.4g} µs"
