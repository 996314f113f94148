"""How long ``import requests_connection_manager`` takes, against ``import requests``."""

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
import {name}
print(time.perf_counter() - start)
"""
OURS, PEER = "requests_connection_manager", "requests"


def main() -> list[Figure]:
    """Each time in a new interpreter, whose own start is not counted, from compiled files."""
    blocks = {name: functools.partial(_seconds, name) for name in (PEER, OURS)}
    with mock.patch.dict(os.environ):
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else ours would be compiled each time
        take_turns(blocks, rounds=2)  # compiles, and brings the files into the system's memory
        rounds = take_turns(blocks, rounds=40)
    return [compared(f"import {OURS}", rounds, OURS, PEER, at_most(1.1))]


def _seconds(name: str) -> float:
    ran = subprocess.run(
        [sys.executable, "-c", _TIMED.format(name=name)],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(ran.stdout)
