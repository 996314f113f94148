"""Many threads of many processes on one limit, and what they were granted.

Each reckons the time of a permit from before asking, which is the earliest that it can be, and
from after the answer, the latest. Those of one period are certainly too many only if all that can
be of their times lies in it. What is seen of threads that are awake tells of the machine, too: it
wakes some later than others.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from .limit_contenders import PERIOD, Grant

ROOT = Path(__file__).parents[1]


class Running(NamedTuple):
    """A process of a contender, ready to do what it is told."""

    version: str
    tell: IO[str]
    hear: IO[str]

    def block(self) -> float:
        """Let it take permits for some milliseconds; return the seconds that one took."""
        print("block", file=self.tell)
        return float(self.hear.readline())


@contextmanager
def running(
    name: str, state: str, requests: int, python: str = sys.executable
) -> Iterator[Running | None]:
    """Run a contender for the length of a ``with`` block; None: it is not installed."""
    with subprocess.Popen(
        [python, "-m", "benchmarks.limit_contenders", name, state, str(requests)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        yield Running(said["ready"], process.stdin, process.stdout) if "ready" in said else None


class Crowd(NamedTuple):
    """What all of them were granted in the time that was measured."""

    grants: list[Grant]
    cpu: float
    """Seconds of all processes."""
    errors: list[str]

    @property
    def fullest(self) -> int:
        """The most that were seen to go in any one period."""
        return _most(self.grants, 2, 2)

    @property
    def surely_fullest(self) -> int:
        """The most that certainly were for the same period, whoever was woken late."""
        return _most(self.grants, 0, 1)

    @property
    def lateness(self) -> float:
        """The 99th percentile of how long after its permit's time a thread was awake."""
        late = sorted(went - latest for _, latest, went in self.grants)
        return late[math.ceil(0.99 * len(late)) - 1]


class Size(NamedTuple):
    """How many take permits, and for how long."""

    processes: int
    threads: int
    seconds: float


def crowd(name: str, state: str, requests: int, size: Size, python: str = sys.executable) -> Crowd:
    """Let them take permits until the time is over, counted from the first permit."""
    with ExitStack() as stack:
        workers = [
            stack.enter_context(running(name, state, requests, python))
            for _ in range(size.processes)
        ]
        ready = [worker for worker in workers if worker is not None]
        assert ready == workers, f"{name} is not installed"
        start = time.monotonic() + 0.2
        for worker in ready:
            print("crowd", size.threads, start, size.seconds + 0.5, file=worker.tell)
        said: list[dict[str, Any]] = [json.loads(worker.hear.readline()) for worker in ready]
    grants: list[Grant] = sorted(tuple(grant) for each in said for grant in each["grants"])
    ends = grants[0][0] + size.seconds
    return Crowd(
        grants=[grant for grant in grants if grant[1] < ends],
        cpu=sum(each["cpu"] for each in said),
        errors=[error for each in said for error in each["errors"]],
    )


def _most(grants: list[Grant], begins: int, ends: int) -> int:
    """Count the most that end within one period of the beginning of another."""
    starts = sorted(grant[begins] for grant in grants)
    stops = sorted(grant[ends] for grant in grants)
    return max(bisect_left(stops, start + PERIOD) - number for number, start in enumerate(starts))
