"""What is said to the log: nothing by default, and never a credential."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
import requests

from requests_connection_manager import ConnectionManager
from tests.conftest import MakeManager
from tests.server import Reply, ScriptedServer

NAME = "requests_connection_manager"


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == NAME]


def test_a_call_is_stated(
    server: ScriptedServer, make_manager: MakeManager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.script("/a", Reply(status=503), Reply())
    manager = make_manager()
    manager.get(f"http://me:s3cret@{server.host}:{server.port}/a?token=s3cret#s3cret")
    retried, stated = lines(caplog)
    assert retried == f"{server.url}: GET {server.url}/a: again in 0 s after 503"
    head, seconds, unit = stated.rsplit(" ", 2)
    assert (head, unit) == (f"GET {server.url}/a: 200, 2 attempts,", "s")
    assert float(seconds) >= 0
    assert "s3cret" not in " ".join(lines(caplog))


def test_a_failing_call_is_stated(
    server: ScriptedServer, make_manager: MakeManager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.pause()
    manager = make_manager(max_retries=0, circuit_breaker_failure_threshold=1)
    for _ in range(2):
        with pytest.raises(requests.RequestException):
            manager.get(server.url, params={"api_key": "s3cret"})
    opened, failed, rejected = lines(caplog)
    assert opened.startswith(f"circuit of {server.url} is open after ")
    assert failed.startswith(f"GET {server.url}: ConnectionError: ")
    assert ", 1 attempt, " in failed
    assert rejected.startswith(f"GET {server.url}: CircuitBreakerOpen: ")
    assert "s3cret" not in caplog.text


def test_levels(
    server: ScriptedServer, make_manager: MakeManager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, NAME)
    server.script("/", Reply(status=503), Reply())
    make_manager(rate_limit_requests=1, rate_limit_period=0.05).get(server.url)
    manager = make_manager(circuit_breaker_failure_threshold=1, max_retries=0)
    server.script("/", Reply(status=503))
    manager.get(server.url)
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in told] == ["INFO", "INFO", "WARNING"]
    assert "waited" in told[1][1]


def test_nothing_is_printed_by_default(server: ScriptedServer) -> None:
    script = (
        "import requests_connection_manager as m, sys\n"
        "manager = m.ConnectionManager(max_retries=0, circuit_breaker_failure_threshold=1)\n"
        "manager.register_pre_request_hook(lambda context: 1 / 0)\n"
        "manager.get(sys.argv[1] + '/down')\n"
    )
    server.script("/down", Reply(status=503))
    ran = subprocess.run(
        [sys.executable, "-c", script, server.url], capture_output=True, text=True, timeout=30
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO, logging.CRITICAL])
def test_a_stream_is_not_read_at_any_level(
    level: int, server: ScriptedServer, make_manager: MakeManager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(level)
    body = b"x" * 5_000_000
    server.script("/big", Reply(body=body))
    manager = make_manager()
    manager.on_attempt(lambda event: repr(event))
    manager.register_post_response_hook(lambda context: repr(context.response))
    with manager.get(server.url + "/big", stream=True) as response:
        assert response.raw.tell() == 0
        assert not response._content_consumed
        manager.stats()
        assert response.content == body


def test_a_generator_that_is_sent_is_read_once_and_by_nobody_else(
    server: ScriptedServer, manager: ConnectionManager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    manager.register_pre_request_hook(lambda context: None)
    manager.post(server.url, data=(piece for piece in (b"a", b"b")))
    assert server.received[0].body == b"ab"


def test_a_call_takes_one_line(
    server: ScriptedServer, manager: ConnectionManager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    manager.get(server.url + "/a\nCRITICAL forged\x1b[2J")
    (line,) = lines(caplog)
    assert line.startswith(f"GET {server.url}/a CRITICAL forged [2J: 200, ")
