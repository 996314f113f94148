"""How close a batch comes to its ideal time, and what it keeps of a hundred thousand items.

The time is that of whole batches: the threads are started and the connections opened in it, for
each batch has a manager of its own. The memory is that of a batch whose requests are answered
without a network, in a process of its own; through the server it would be the same batch, but
a hundred thousand requests take about a minute.
"""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
import time

from .harness import Figure, at_most, everything_on
from .server import serving

REQUESTS = 200
WORKERS = 32
DELAY = 0.05
IDEAL = math.ceil(REQUESTS / WORKERS) * DELAY
ROUNDS = 9
FEW, MANY = 1_000, 100_000
ALLOWED = 50.0
"""MB."""

_GROWTH = """
import sys
from unittest import mock
import requests
from benchmarks.footprint import peak
from requests_connection_manager import ConnectionManager

def answer(session, **keywords):
    response = requests.Response()
    response.status_code, response.url, response._content = 200, keywords["url"], b"x" * 10_000
    return response

few, many = map(int, sys.argv[1:])
urls = (f"http://service.test/items/{number}" for number in range(many))
with (
    mock.patch("requests.Session.request", answer),
    ConnectionManager(rate_limit_requests=None) as manager,
):
    for result in manager.iter_batch(urls):
        assert result.response is not None and len(result.response.content) == 10_000
        if result.index == few - 1:
            start = peak()
print(peak() - start)
"""


def main() -> list[Figure]:
    """The ideal: all workers wait for the server all the time."""
    with serving() as server:
        url = f"{server}/delay/{DELAY * 1000:.0f}"
        seconds = [_seconds_for_a_batch(url) for _ in range(ROUNDS)]
    lower, middle, upper = statistics.quantiles([each / IDEAL for each in seconds], n=4)
    grown = _megabytes_grown()
    return [
        Figure(
            name=f"a batch of {REQUESTS}, {WORKERS} workers, {DELAY * 1000:.0f} ms an answer",
            value=f"{statistics.median(seconds):.3f} s",
            peer=f"ideal: {IDEAL:.3f} s",
            ratio=middle,
            middle_half=(lower, upper),
            goal=at_most(1.2),
        ),
        Figure(
            name=f"peak memory gained from item {FEW:,} to {MANY:,}",
            value=f"{grown:.1f} MB",
            peer=f"allowed: {ALLOWED:.0f} MB",
            ratio=grown / ALLOWED,
            goal=at_most(1),
        ),
    ]


def _seconds_for_a_batch(url: str) -> float:
    with everything_on(pool_maxsize=WORKERS) as managed:
        start = time.perf_counter()
        answers = managed.batch_request([("GET", url)] * REQUESTS, max_workers=WORKERS)
        taken = time.perf_counter() - start
    assert all(getattr(answer, "status_code", None) == 200 for answer in answers)
    return taken


def _megabytes_grown() -> float:
    ran = subprocess.run(
        [sys.executable, "-c", _GROWTH, str(FEW), str(MANY)],
        check=True,
        capture_output=True,
        text=True,
    )
    return int(ran.stdout) / 1e6
