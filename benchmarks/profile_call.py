"""Where the time of a GET goes: ``python -m benchmarks.profile_call`` prints it as a table.

The stack is looked at again and again, at random moments, while the GETs are made; a profiler that
counts function calls would make small functions look dear. What is seen belongs to the area of the
innermost function that has one. Needs a system with signals.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any
from unittest import mock

import requests

from .environment import COUNT, forty
from .harness import aligned, everything_on, interleave
from .server import serving

PLAIN, MANAGED = "plain Session", "managed"
BETWEEN_LOOKS = 0.0004
"""Seconds, on average."""
BLOCK_SECONDS = 0.1
REST = "rest: the session and the adapter"
AREAS = {
    "environment": [
        "requests.sessions:merge_environment_settings",
        "requests.utils:get_environ_proxies",
        "requests_connection_manager.environment",
    ],
    "preparing the request": [
        "requests.models:prepare",
        "requests.models:copy",
        "requests.sessions:prepare_request",
        "requests_connection_manager.managing:prepare_request",
        "requests_connection_manager.managing:_prepare",
        "requests_connection_manager.managing:_prepare_signed",
        "requests_connection_manager.preparation",
    ],
    "netrc": [
        "requests.utils:get_netrc_auth",
        "requests_connection_manager.environment:names_a_netrc",
        "requests_connection_manager.preparation:_netrc_auth",
    ],
    "cookies": ["requests.cookies", "http.cookiejar", "requests_connection_manager.cookies"],
    "choice of the pool": [
        "requests.sessions:get_adapter",
        "requests.adapters:get_connection_with_tls_context",
        "requests.adapters:cert_verify",
        "requests.adapters:request_url",
        "requests_connection_manager.attempt:get_connection_with_tls_context",
        "requests_connection_manager.attempt:cert_verify",
        "requests_connection_manager.attempt:request_url",
    ],
    "building the response": [
        "requests.adapters:build_response",
        "requests_connection_manager.attempt:build_response",
    ],
    "reading the body": [
        "requests_connection_manager.attempt:_read",
        "requests.models:content",
        "requests.models:iter_content",
        "requests.models:generate",
    ],
    "urllib3 and http.client": [
        "urllib3.connectionpool",
        "urllib3.connection",
        "urllib3.response:__init__",
        "http.client:begin",
        "http.client:endheaders",
        "http.client:getresponse",
        "http.client:putheader",
        "http.client:putrequest",
    ],
    "socket, and the server": ["socket", "http.client:send"],
    "our policies": ["requests_connection_manager"],
    REST: [
        "requests.sessions:get",
        "requests.sessions:request",
        "requests.sessions:send",
        "requests.sessions:resolve_redirects",
        "requests.adapters:send",
    ],
}
"""Area → modules and packages, and ``module:function`` for what is to be told apart in them.

What is not listed, as most of requests, belongs to whoever calls it.
"""
_AREA_BY_NAME = {name: area for area, names in AREAS.items() for name in names}


class Looks:
    """Counts by area what is seen on the stack."""

    def __init__(self) -> None:
        self.by_area: Counter[str] = Counter()
        self._known: dict[CodeType, str | None] = {}

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Look at the stack of whatever runs in the ``with`` block."""
        before = signal.signal(signal.SIGALRM, self._look)
        _look_again()
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _look(self, _: int, frame: FrameType | None) -> None:
        area = None
        while frame is not None and area is None:
            area = self._area_of(frame)
            frame = frame.f_back
        self.by_area[area or REST] += 1
        _look_again()

    def _area_of(self, frame: FrameType) -> str | None:
        code = frame.f_code
        if code not in self._known:
            self._known[code] = area_of(frame.f_globals.get("__name__", ""), code.co_name)
        return self._known[code]


def area_of(module: str, function: str) -> str | None:
    """Find the area of a function: by its own name, its module's, or a package's around it."""
    area = _AREA_BY_NAME.get(f"{module}:{function}")
    while area is None and module:
        area = _AREA_BY_NAME.get(module)
        module = module.rpartition(".")[0]
    return area


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile_call")
    parser.add_argument("--seconds", type=float, default=15, help="of looking, for each of the two")
    options = parser.parse_args()
    if not hasattr(signal, "setitimer"):
        parser.error("this system has no signal.setitimer")
    with (
        mock.patch.dict(os.environ, forty(), clear=True),
        serving() as url,
        requests.Session() as plain,
        everything_on() as managed,
    ):
        calls: dict[str, Callable[[], Any]] = {
            PLAIN: lambda: plain.get(url, timeout=30).content,
            MANAGED: lambda: managed.get(url).content,
        }
        taken = interleave(calls, rounds=300)
        looks = _looks_at(calls, options.seconds)
    microseconds = {name: statistics.median(seconds) * 1e6 for name, seconds in taken.items()}
    print(_table(microseconds, {name: it.by_area for name, it in looks.items()}))
    return 0


def _looks_at(calls: dict[str, Callable[[], Any]], seconds: float) -> dict[str, Looks]:
    looks = {name: Looks() for name in calls}
    for _ in range(max(1, round(seconds / BLOCK_SECONDS))):
        for name, call in calls.items():
            ends = time.perf_counter() + BLOCK_SECONDS
            with looks[name].taken():
                while time.perf_counter() < ends:
                    call()
    return looks


def _look_again() -> None:
    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.5, 1.5) * BETWEEN_LOOKS)


def _table(microseconds: dict[str, float], seen: dict[str, Counter[str]]) -> str:
    """Share out the time of a call as its looks are."""

    def row(area: str, share: Callable[[str], float]) -> tuple[str, ...]:
        cells = [f"{share(name) * microseconds[name]:.0f} µs ({share(name):.0%})" for name in seen]
        of_plain = (share(MANAGED) * microseconds[MANAGED]) / microseconds[PLAIN]
        return area, *cells, f"{of_plain:.2f}"

    def share_of(area: str) -> Callable[[str], float]:
        return lambda name: seen[name][area] / seen[name].total()

    rows = [row(area, share_of(area)) for area in AREAS]
    heading = (f"one GET, {COUNT} variables", *seen, "managed, of all of plain")
    return aligned([heading, *rows, row("all", lambda _: 1.0)])


if __name__ == "__main__":
    sys.exit(main())
