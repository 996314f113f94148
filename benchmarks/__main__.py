"""``python -m benchmarks [NAME ...] [--check]``, from the root of the repository."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
import urllib.request
from collections.abc import Sequence
from importlib.metadata import version

import requests_connection_manager

from . import (
    batch,
    deadline,
    endpoint_lookup,
    get_overhead,
    import_time,
    open_breaker,
    peers,
    rate_limit_fairness,
    statistics_cost,
    threads,
    throughput,
)
from .harness import Figure, as_table

BENCHMARKS = {
    "get_overhead": get_overhead.main,
    "threads": threads.main,
    "throughput": throughput.main,
    "batch": batch.main,
    "open_breaker": open_breaker.main,
    "rate_limit_fairness": rate_limit_fairness.main,
    "deadline": deadline.main,
    "endpoint_lookup": endpoint_lookup.main,
    "statistics_cost": statistics_cost.main,
    "import_time": import_time.main,
    "peers": peers.main,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks that are named, or all; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(BENCHMARKS)}")
    if urllib.request.getproxies().keys() & {"http", "all"}:
        parser.error("a proxy is set, and would be measured: unset HTTP_PROXY and ALL_PROXY first")

    start = time.monotonic()
    figures: list[Figure] = []
    for name in options.names or BENCHMARKS:
        print(f"{name} …", file=sys.stderr, flush=True)
        figures += BENCHMARKS[name]()
    print(f"{_surroundings()}; {time.monotonic() - start:.0f} s in all\n\n{as_table(figures)}")
    return int(options.check and any(figure.missed for figure in figures))


def _surroundings() -> str:
    """Say on what was measured. The plain GET grows with the environment (a look for proxies)."""
    packages = ("requests", "urllib3", "pybreaker", "ratelimit")
    return ", ".join(
        [
            f"Python {platform.python_version()}",
            f"requests_connection_manager {requests_connection_manager.__version__}",
            *(f"{package} {version(package)}" for package in packages),
            f"{platform.system()}, {os.cpu_count()} cores, {len(os.environ)} environment variables",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
