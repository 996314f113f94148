"""``python -m benchmarks [NAME ...]``, from the root of the repository."""

from __future__ import annotations

import argparse
import functools
import os
import platform
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import requests_connection_manager

from . import (
    batch,
    deadline,
    endpoint_lookup,
    fleet,
    get_overhead,
    import_time,
    memory,
    open_breaker,
    peers,
    permit_cost,
    rate_limit_fairness,
    statistics_cost,
    threads,
    throughput,
)
from .environment import COUNT, forty
from .harness import Figure, as_table
from .peers import chart_of

BENCHMARKS: dict[str, Callable[[], list[Figure]]] = {
    "get_overhead": get_overhead.main,
    "threads": threads.main,
    "throughput": throughput.main,
    "batch": batch.main,
    "open_breaker": open_breaker.main,
    "rate_limit_fairness": rate_limit_fairness.main,
    "permit_cost": permit_cost.main,
    "fleet": fleet.main,
    "deadline": deadline.main,
    "endpoint_lookup": endpoint_lookup.main,
    "statistics_cost": statistics_cost.main,
    "import_time": import_time.main,
    "memory": memory.main,
    "peers": peers.main,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks that are named, or all; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    parser.add_argument(
        "--full", action="store_true", help=f"memory: {memory.ALL_CALLS:,} calls, about 9 minutes"
    )
    parser.add_argument("--chart", metavar="FILE", type=Path, help="draw peers there, as SVG")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(BENCHMARKS)}")
    benchmarks = dict(BENCHMARKS)
    if options.full:
        benchmarks["memory"] = functools.partial(memory.main, memory.ALL_CALLS)
    names = options.names or list(BENCHMARKS)
    if options.chart is not None and "peers" not in names:
        parser.error("--chart draws the figures of peers, which is not among the names")

    start = time.monotonic()
    figures: list[Figure] = []
    with mock.patch.dict(os.environ, forty(), clear=True):
        if urllib.request.getproxies().keys() & {"http", "all"}:
            parser.error("the system's settings name a proxy, which would be measured")
        for name in names:
            print(f"{name} …", file=sys.stderr, flush=True)
            measured = benchmarks[name]()
            figures += measured
            if name == "peers" and options.chart is not None:
                options.chart.write_text(chart_of(measured), encoding="utf-8")
    print(f"{_surroundings()}; {time.monotonic() - start:.0f} s in all\n\n{as_table(figures)}")
    return int(options.check and any(figure.missed for figure in figures))


def _surroundings() -> str:
    """Say on what was measured."""
    packages = ("requests", "urllib3", "pybreaker", "ratelimit")
    return ", ".join(
        [
            f"Python {platform.python_version()}",
            f"requests_connection_manager {requests_connection_manager.__version__}",
            *(f"{package} {version(package)}" for package in packages),
            f"{platform.system()}, {os.cpu_count()} cores, {COUNT} environment variables",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
