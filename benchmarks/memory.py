"""What a manager and an endpoint take of memory, and whether calls leave anything behind."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import cast

from .harness import Figure, at_most

WARM, CALLS, ALL_CALLS = 20_000, 100_000, 1_000_000
ALLOWED = 1.0
"""MB; a leak of 12 bytes a call would be found, one of a byte by the full number of calls."""


def main(calls: int = CALLS) -> list[Figure]:
    """Each figure from a process of its own."""
    idle, endpoint = _measured("idle"), _measured("endpoint")
    growth = _measured("growth", WARM, calls)
    manager, megabytes = idle["manager"], growth["bytes"] / 1e6
    return [
        Figure(
            name="an idle manager",
            value=_kilobytes(manager),
            peer=f"idle plain Session: {_kilobytes(idle['session'])}",
            ratio=manager / idle["session"],
        ),
        Figure(
            name="an endpoint with a limit and a breaker, configured",
            value=_kilobytes(endpoint["configured"]),
            peer=f"idle manager: {_kilobytes(manager)}",
            ratio=endpoint["configured"] / manager,
        ),
        Figure(
            name="the same after its first call",
            value=_kilobytes(endpoint["called"]),
            peer=f"idle manager: {_kilobytes(manager)}",
            ratio=endpoint["called"] / manager,
        ),
        Figure(
            name=f"peak memory gained from call {WARM:,} to {calls:,}",
            value=f"{megabytes:.2f} MB; {growth['blocks']:+.0f} blocks",
            peer=f"allowed: {ALLOWED:.0f} MB",
            ratio=megabytes / ALLOWED,
            goal=at_most(1),
        ),
    ]


def _measured(what: str, *numbers: int) -> dict[str, float]:
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.footprint", what, *map(str, numbers)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return cast("dict[str, float]", json.loads(ran.stdout))


def _kilobytes(number: float) -> str:
    return f"{number / 1e3:.1f} kB"
