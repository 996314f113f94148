"""``python -m compat``, from the root of the repository; exit status 1 if the runs differ."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from . import suite
from .comparison import Difference, Run, compare
from .excepted import EXCEPTED

_LONGEST = 600
"""Seconds that a run may take."""
_LEAST = 0.9
"""What plain requests must pass of the suite: where all fails both ways, nothing is compared."""


def main() -> int:
    """Run the suite both ways, print the difference, and return the exit status."""
    tests = suite.fetch()
    libraries = ", ".join(f"{name} {version(name)}" for name in ("requests", "urllib3", "pytest"))
    print(f"Python {platform.python_version()}, {libraries}")
    with ThreadPoolExecutor() as both:  # they wait most of the time
        plain_run = both.submit(_run, tests, "plain")
        managed = _run(tests, "managed", "--managed")
        plain = plain_run.result()
    if len(plain.passed) < _LEAST * len(plain.outcomes) or not plain.passed:
        print(f"plain requests fails, too: see {suite.WORKPLACE / 'plain.log'}")
        return 1
    if not managed.made.get("attempts"):
        print("no manager has sent anything: it was not managers that were tested")
        return 1
    found = compare(plain, managed, EXCEPTED)
    _show(found, managed)
    return int(not found.is_clean)


def _run(tests: Path, name: str, *options: str) -> Run:
    outcomes = suite.WORKPLACE.absolute() / f"{name}.json"
    log = suite.WORKPLACE.absolute() / f"{name}.log"
    outcomes.unlink(missing_ok=True)
    ours = ("-p", "compat.plugin", f"--outcomes={outcomes}", *options)
    calm = ("-p", "no:cacheprovider", "--disable-warnings", "--timeout=120", "--durations=10")
    command = (sys.executable, "-m", "pytest", "tests", "--tb=short", *ours, *calm)
    environment = {name: it for name, it in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = os.getcwd()  # where this package is
    start = time.monotonic()
    with log.open("w") as output:
        subprocess.run(
            command,
            cwd=tests,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=_LONGEST,
            check=False,  # that some tests fail is what is to be compared
        )
    if not outcomes.exists():
        sys.exit(f"the {name} run has ended early:\n{log.read_text()}")
    run = Run(**json.loads(outcomes.read_text(encoding="utf-8")))
    counts = [
        f"{list(run.outcomes.values()).count(outcome)} {outcome}"
        for outcome in ("passed", "failed", "skipped")
    ]
    did = "".join(f", {count} {what}" for what, count in run.made.items())
    print(f"{name:8} {', '.join(counts)} in {time.monotonic() - start:.0f} s{did}", flush=True)
    return run


def _show(found: Difference, managed: Run) -> None:
    for test in found.newly_failing:
        print(f"\nFAILS WITH A MANAGER  {test}\n{managed.failures.get(test, 'it was not run')}")
    for test in found.newly_passing:
        print(f"passes with a manager only  {test}")
    for test in found.excepted:
        print(f"excepted  {test}")
    for pattern in found.needless:
        print(f"NEEDLESS EXCEPTION  {pattern}")
    count = len(found.newly_failing)
    print(f"{count} newly failing, {len(found.excepted)} excepted: ", end="")
    print("no difference" if found.is_clean and not found.excepted else "see above")


if __name__ == "__main__":
    sys.exit(main())
