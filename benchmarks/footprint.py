"""What is measured of memory in a process of its own: ``python -m benchmarks.footprint WHAT …``.

    idle                bytes of a manager, and of a plain Session, that have sent nothing
    endpoint            bytes of an endpoint: configured; and after a call, with its policies
    growth FEW MANY     what a manager's calls leave behind between the FEW-th and the MANY-th

The policies are all on. The calls go through everything but the network: what urllib3 would have
been answered is made up.
"""

from __future__ import annotations

import gc
import io
import json
import re
import resource
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import requests
from urllib3 import HTTPResponse

from .harness import everything_on

MANAGERS = 200
ENDPOINTS = 1_000
SETTINGS = {"rate_limit_requests": 10_000_000, "circuit_breaker_failure_threshold": 5}
"""An endpoint's, so that it has a limiter and a breaker of its own."""
URLOPEN = "urllib3.connectionpool.HTTPConnectionPool.urlopen"


def peak() -> int:
    """Return the most memory that this process has had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux: ru_maxrss begins with the peak of the parent, and could hide ours
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        assert found is not None
        return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def idle() -> dict[str, float]:
    """Make many, after one that has loaded what is loaded once."""
    return {
        "manager": _bytes_gained(everything_on) / MANAGERS,
        "session": _bytes_gained(requests.Session) / MANAGERS,
    }


def endpoint() -> dict[str, float]:
    """Configure many, each with a host of its own; then call each once."""
    hosts = [f"service-{number}.test" for number in range(ENDPOINTS)]
    configs = dict.fromkeys(hosts, SETTINGS)
    urls = [f"http://{host}/" for host in hosts]
    everything_on(endpoint_configs={"service.test": SETTINGS}).close()
    start = _bytes_now()
    manager = everything_on(endpoint_configs=configs)
    configured = _bytes_now()
    with mock.patch(URLOPEN, _answer):
        for url in urls:
            manager.get(url)
    called = _bytes_now()
    return {
        "configured": (configured - start) / ENDPOINTS,
        "called": (called - start) / ENDPOINTS,
    }


def growth(few: int, many: int) -> dict[str, float]:
    """Count the objects that stay, and let the peak tell of what is not Python's own.

    Every call has a URL of its own, so that what is kept by URL would show.
    """
    manager = everything_on()
    with mock.patch(URLOPEN, _answer):
        _call(manager.get, range(few))
        blocks, start = _blocks(), peak()
        _call(manager.get, range(few, many))
    return {"bytes": peak() - start, "blocks": _blocks() - blocks}


def _call(get: Callable[[str], requests.Response], numbers: range) -> None:
    for number in numbers:
        answer = get(f"http://service.test/items/{number}?page={number}")
        assert answer.content == BODY


def _blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()


def _bytes_gained(make: Callable[[], Any]) -> int:
    make().close()
    start = _bytes_now()
    made = [make() for _ in range(MANAGERS)]
    gained = _bytes_now() - start
    for each in made:
        each.close()
    return gained


def _bytes_now() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


BODY = b'{"answer": "ok"}'


def _answer(pool: object, method: str, url: str, **_: object) -> HTTPResponse:
    return HTTPResponse(
        body=io.BytesIO(BODY),
        headers={"Content-Type": "application/json", "Content-Length": str(len(BODY))},
        status=200,
        preload_content=False,
        request_method=method,
    )


if __name__ == "__main__":
    what, *numbers = sys.argv[1:]
    if what == "growth":
        print(json.dumps(growth(*map(int, numbers))))
    else:
        tracemalloc.start()
        print(json.dumps({"idle": idle, "endpoint": endpoint}[what]()))
