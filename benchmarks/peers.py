"""The same GET by other libraries, each in its own process, all in turns at the same server.

They are not dependencies: ``make bench-peers`` installs them in two environments, inside the one
that this runs in. niquests has one to itself, for it comes with another urllib3. Who is not
installed is left out, and that is said.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from .chart import drawn
from .contenders import CONTENDERS
from .harness import Block, Figure, compared, take_turns
from .server import serving

ROOT = Path(__file__).parents[1]
PLAIN = "plain Session"


class Contending(NamedTuple):
    """A contender whose process is ready."""

    label: str
    block: Block


def main() -> list[Figure]:
    """The fastest first."""
    with serving() as url, ExitStack() as running:
        started = {name: running.enter_context(_contending(name, url)) for name in CONTENDERS}
        ready = {name: it for name, it in started.items() if it is not None}
        blocks = {name: it.block for name, it in ready.items()}
        take_turns(blocks, rounds=2)  # they have waited for the last to start
        rounds = take_turns(blocks, rounds=120, longest=60)
    figures = [compared(it.label, rounds, name, PLAIN) for name, it in ready.items()]
    return sorted(figures, key=lambda figure: figure.ratio)


def chart_of(figures: list[Figure]) -> str:
    """Draw what `main` has measured."""
    return drawn(
        figures,
        title="A GET over a kept connection",
        note="its time, against a plain requests.Session in the same run; "
        "whiskers: the middle half of the ratios",
        ours="requests_connection_manager",
    )


@contextmanager
def _contending(name: str, url: str) -> Iterator[Contending | None]:
    """Run a contender's process for the length of a ``with`` block; None: it is not installed."""
    with subprocess.Popen(
        [_python_for(name), "-m", "benchmarks.contenders", name, url],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, answers = process.stdin, process.stdout
        said = json.loads(answers.readline())
        if "missing" in said:
            print(f"  without {name}, which is not installed: make bench-peers", file=sys.stderr)
            yield None
            return

        def block() -> float:
            print(file=asked)
            return float(answers.readline())

        contender = CONTENDERS[name]
        yield Contending(f"{contender.package} {said['ready']}: {contender.switched_on}", block)


def _python_for(name: str) -> str:
    """Return the Python of the environment made for a contender, or our own if there is none.

    All but niquests share one, so that they have the same requests and urllib3.
    """
    environment = Path(sys.prefix) / ("niquests" if name == "niquests" else "peers")
    pythons = [environment / "bin" / "python", environment / "Scripts" / "python.exe"]
    return str(next((python for python in pythons if python.exists()), sys.executable))
