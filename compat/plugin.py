"""For pytest, in the run of the suite: ``-p compat.plugin --outcomes=FILE [--managed]``."""

from __future__ import annotations

import json
from collections import Counter
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIServer

import pytest
import pytest_httpbin.serve
import requests

from requests_connection_manager import ConnectionManager

made: Counter[str] = Counter()
"""What the managers did: proof that it was they who were tested."""


class StandIn(ConnectionManager):
    """All policies are on, with wide limits; retries and the breaker are as they are by default.

    But that back-off is short: what a server does on purpose it does again.
    """

    def __init__(self) -> None:
        super().__init__(
            total_timeout=60,
            rate_limit_requests=10**7,
            rate_limit_period=1,
            backoff_factor=0.05,
            raise_on_status=False,
        )
        made["managers"] += 1
        self.on_attempt(_count)


def _count(event: Any) -> None:
    made["attempts"] += 1
    made["retries"] += event.attempt.number > 1


class _InThreads(ThreadingMixIn):
    """Answers while another request is under way.

    pytest-httpbin's server answers one at a time: whoever gives up waiting for ``/delay/10``, and
    asks again, keeps all that follow waiting.
    """

    daemon_threads = True


class _ConcurrentServer(_InThreads, WSGIServer):
    pass


class _ConcurrentSecureServer(_InThreads, pytest_httpbin.serve.SecureWSGIServer):
    pass


class Recorder:
    """Keeps what came of each test: ``passed``, or else how it looked."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._outcomes: dict[str, str] = {}
        self._failures: dict[str, str] = {}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._note(report.nodeid, "failed", report.longreprtext)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._note(report.nodeid, "failed", report.longreprtext)
        elif report.skipped:  # or it failed as it was expected to
            self._note(report.nodeid, "skipped")
        elif report.when == "call":
            self._note(report.nodeid, "passed")

    def _note(self, test: str, outcome: str, failure: str = "") -> None:
        if self._outcomes.get(test) != "failed":  # in an earlier phase
            self._outcomes[test] = outcome
        if failure:
            self._failures[test] = failure

    def pytest_sessionfinish(self) -> None:
        told = {"outcomes": self._outcomes, "failures": self._failures, "made": made}
        with open(self._path, "w", encoding="utf-8") as file:
            json.dump(told, file, indent=1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--outcomes", required=True, help="where to write what came of the tests")
    parser.addoption("--managed", action="store_true", help="put a manager in a Session's place")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Recorder(config.getoption("outcomes")))
    _let_httpbin_answer_at_once()
    if config.getoption("managed"):
        # requests.get and its kin, and requests.session(), take it from there
        requests.Session = requests.sessions.Session = StandIn  # type: ignore[misc,assignment]


def _let_httpbin_answer_at_once() -> None:
    plain, serve = pytest_httpbin.serve.Server.__init__, pytest_httpbin.serve

    def begin(self: Any, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **{"server_class": _ConcurrentServer, **kwargs})

    serve.Server.__init__ = begin
    serve.SecureWSGIServer = _ConcurrentSecureServer
