"""Where the tests come from: the source distribution of the requests that is installed."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

WORKPLACE = Path("build/compat")


def fetch() -> Path:
    """Return the directory of the suite; the package index is asked for it once."""
    name = f"requests-{version('requests')}"
    suite = WORKPLACE.absolute() / name
    if not suite.exists():
        archive = _download(suite.parent / "sdist", name)
        unpacked = suite.with_suffix(".part")
        with tarfile.open(archive) as source:
            source.extractall(unpacked, filter="data")
        (unpacked / name).rename(suite)  # in one step: what is there is complete
        unpacked.rmdir()
    return suite


def _download(into: Path, name: str) -> Path:
    requirement = name.replace("-", "==")
    options = ("--quiet", "--no-deps", "--no-binary=:all:", f"--dest={into}")
    command = (sys.executable, "-m", "pip", "download", *options, requirement)
    subprocess.run(command, check=True)
    return into / f"{name}.tar.gz"
