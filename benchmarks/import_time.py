"""How long it takes to import the package, and its façade, against ``import requests``.

What the package exports is imported when it is asked for, so the first figure tells a program that
may not need it; the second tells one that does.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from unittest import mock

from .harness import Figure, at_most, compared, take_turns

_TIMED = """
import time
start = time.perf_counter()
{statement}
print(time.perf_counter() - start)
"""
OURS, PEER = "import requests_connection_manager", "import requests"
FACADE = "from requests_connection_manager import ConnectionManager"


def main() -> list[Figure]:
    """Each time in a new interpreter, whose own start is not counted, from compiled files."""
    blocks = {name: functools.partial(_seconds, name) for name in (PEER, OURS, FACADE)}
    with mock.patch.dict(os.environ):
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else ours would be compiled each time
        take_turns(blocks, rounds=2)  # compiles, and brings the files into the system's memory
        rounds = take_turns(blocks, rounds=40)
    return [
        compared(OURS, rounds, OURS, PEER, at_most(1.1)),
        compared("the same, and the façade", rounds, FACADE, PEER),
    ]


def _seconds(statement: str) -> float:
    ran = subprocess.run(
        [sys.executable, "-c", _TIMED.format(statement=statement)],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(ran.stdout)
