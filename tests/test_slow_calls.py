"""circuit_breaker_slow_call times the service: what is spent on our own side is not its fault."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator

import pytest

from requests_connection_manager import ConfigurationError, ConnectionManager
from tests.conftest import MakeManager, in_threads
from tests.server import Reply, ScriptedServer

SLOW = 0.5
"""Seconds; so much longer than what is fast that a busy machine makes nothing slow."""


@pytest.fixture
def manager(make_manager: MakeManager) -> ConnectionManager:
    return make_manager(
        circuit_breaker_slow_call=SLOW,
        circuit_breaker_failure_threshold=100,
        rate_limit_requests=None,
    )


def slow_answers(manager: ConnectionManager) -> int:
    return manager.circuit_breaker.fail_counter


def test_the_wait_for_a_pooled_connection_is_ours(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(
        circuit_breaker_slow_call=SLOW,
        circuit_breaker_failure_threshold=1,
        rate_limit_requests=None,
        pool_block=True,
        pool_maxsize=1,
    )
    url = server.script("/x", Reply(delay=SLOW / 8))
    statuses: list[int] = []
    in_threads(12, lambda _: statuses.append(manager.get(url).status_code))
    assert statuses == [200] * 12
    assert manager.circuit_breaker.current_state == "closed"


def blocks() -> Iterator[bytes]:
    yield b"a"
    time.sleep(1.2 * SLOW)
    yield b"b"


class SlowFile(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        time.sleep(0.6 * SLOW)
        return super().read(size)


@pytest.mark.parametrize("make", [blocks, lambda: SlowFile(b"ab")], ids=["generator", "file"])
def test_so_is_the_time_that_the_callers_body_takes(
    manager: ConnectionManager, server: ScriptedServer, make
) -> None:
    assert manager.post(server.url, data=make()).status_code == 200
    assert server.received[0].body == b"ab"
    assert slow_answers(manager) == 0


def test_a_slow_answer_to_such_a_body_is_the_services(
    manager: ConnectionManager, server: ScriptedServer
) -> None:
    manager.post(server.script("/slow", Reply(delay=1.2 * SLOW)), data=iter([b"a"]))
    assert slow_answers(manager) == 1


def test_so_is_a_body_that_trickles(manager: ConnectionManager, server: ScriptedServer) -> None:
    reply = Reply(body=b"x" * 4, drip=SLOW / 2)
    manager.get(server.script("/drip", reply), stream=True).close()
    assert slow_answers(manager) == 0
    manager.get(server.script("/drip", reply))
    assert slow_answers(manager) == 1


def test_a_connection_that_is_slow_to_make_is_the_services(
    manager: ConnectionManager, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import urllib3.util.connection as of_urllib3

    connect = of_urllib3.create_connection

    def slowly(*args, **kwargs):
        time.sleep(1.2 * SLOW)
        return connect(*args, **kwargs)

    monkeypatch.setattr(of_urllib3, "create_connection", slowly)
    manager.get(server.url)
    assert slow_answers(manager) == 1
    manager.get(server.url)  # by the same connection
    assert slow_answers(manager) == 0


def test_without_the_setting_nothing_is_timed(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    assert "_seconds_of_the_service" not in vars(make_manager().get(server.url))
    timed = make_manager(circuit_breaker_slow_call=5).get(server.url)
    assert 0 < vars(timed)["_seconds_of_the_service"] < 1


NO_THRESHOLD = {"circuit_breaker_failure_threshold": None}


def test_where_nothing_counts_failures_it_is_refused() -> None:
    impossible = {"circuit_breaker_slow_call": 1, **NO_THRESHOLD}
    for settings in (impossible, {"endpoint_configs": {"a.test": impossible}}):
        with pytest.raises(ConfigurationError, match="no effect") as caught:
            ConnectionManager(**settings)
        assert caught.value.field == "circuit_breaker_slow_call"


@pytest.mark.parametrize(
    "settings",
    [
        {**NO_THRESHOLD, "circuit_breaker_failure_rate": 0.5},
        {**NO_THRESHOLD, "circuit_breaker_recovery_timeout": None},
        {"endpoint_configs": {"a.test": NO_THRESHOLD}},
    ],
)
def test_but_not_where_something_does_or_the_breaker_is_plainly_off(
    make_manager: MakeManager, settings: dict
) -> None:
    assert make_manager(circuit_breaker_slow_call=1, **settings).explain("http://a.test")
