"""``python -m benchmarks.limiters``: limiters of several libraries, side by side.

How well each keeps a limit that many threads want to use up, how much of it they get, and what a
permit costs that nobody else wants. The table goes into the page that explains rate limits.
"""

from __future__ import annotations

import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from .crowd import ROOT, Crowd, Size, crowd, running
from .fleet import FLEET, REQUESTS, fresh
from .harness import Rounds, aligned, take_turns
from .limit_contenders import ALL, CONTENDERS, MEMORY, PERIOD

PAGE = ROOT / "docs" / "explanation" / "rate-limits.md"
BEGINS, ENDS = "<!-- limiters: begins -->", "<!-- limiters: ends -->"
SECONDS = 3.0
TOGETHER = FLEET._replace(seconds=SECONDS)
ALONE = Size(1, FLEET.processes * FLEET.threads, SECONDS)
NEVER_REACHED = 10**6
"""Permits in one period, where a permit is timed."""
HEADINGS = (
    "library",
    "algorithm",
    "state",
    "a permit",
    f"granted in {SECONDS:g} s",
    f"most in any {PERIOD:g} s",
    "CPU time",
)


class Result(NamedTuple):
    """A contender's row."""

    name: str
    state: str
    version: str
    cost: float
    """Seconds."""
    crowd: Crowd

    def cells(self) -> tuple[str, ...]:
        contender = CONTENDERS[self.name]
        failed = f", {len(self.crowd.errors)} threads failed" if self.crowd.errors else ""
        return (
            f"{contender.package} {self.version}",
            contender.algorithm,
            self.state,
            f"{self.cost * 1e6:.3g} µs",
            f"{len(self.crowd.grants)}{failed}",
            str(self.crowd.fullest),
            f"{self.crowd.cpu:.2g} s",
        )


def main() -> None:
    began = time.monotonic()
    results = [result for state in ALL for result in _in(state)]
    table = aligned([HEADINGS, *(result.cells() for result in results)])
    print(f"{table}\n\n{time.monotonic() - began:.0f} s in all", file=sys.stderr)
    _write(PAGE, table)


def _in(state: str) -> list[Result]:
    """Measure all who can keep their limits in a state of this kind."""
    names = [name for name, it in CONTENDERS.items() if state in it.states]
    with ExitStack() as stack:
        started = {
            name: stack.enter_context(
                running(name, stack.enter_context(fresh(state)), NEVER_REACHED, _python())
            )
            for name in names
        }
        ready = {name: it for name, it in started.items() if it is not None}
        for name in started.keys() - ready.keys():
            print(f"  without {name}, not installed: make bench-limiters", file=sys.stderr)
        versions = {name: it.version for name, it in ready.items()}
        rounds: Rounds = take_turns({name: it.block for name, it in ready.items()}, rounds=30)
    results = []
    for name, version in versions.items():
        print(f"  {name}, {state} …", file=sys.stderr, flush=True)
        with fresh(state) as where:
            size = ALONE if state == MEMORY else TOGETHER
            measured = crowd(name, where, REQUESTS, size, _python())
        results.append(Result(name, state, version, statistics.median(rounds[name]), measured))
    return results


def _python() -> str:
    """Return the Python of the environment made for them, or our own if there is none."""
    environment = Path(sys.prefix) / "limiters"
    pythons = [environment / "bin" / "python", environment / "Scripts" / "python.exe"]
    return str(next((python for python in pythons if python.exists()), sys.executable))


def _write(page: Path, table: str) -> None:
    """Put the table between the two marks of a page."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGINS)
    _, found, after = rest.partition(ENDS)
    assert found, f"{page} has no place for the table"
    page.write_text(f"{before}{BEGINS}\n\n{table}\n\n{ENDS}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
