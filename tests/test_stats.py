"""What was done is counted exactly, by scope, in bounded memory."""

from __future__ import annotations

import json
import math
import ssl
import sys
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
import requests
import responses
from hypothesis import given, settings
from hypothesis import strategies as st

from requests_connection_manager import ConnectionManager, scopes
from requests_connection_manager.stats import Tally
from tests.conftest import MakeManager, in_threads
from tests.server import Reply, ScriptedServer, wait_until


def counts(manager: ConnectionManager, scope: str) -> dict[str, Any]:
    found: dict[str, Any] = manager.get_stats()["scopes"][scope]
    return found


def test_successes_failures_attempts_and_retries(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    server.script("/flaky", Reply(status=503), Reply())
    server.script("/down", Reply(status=503))
    server.script("/gone", Reply(status=404))
    server.script("/cut", Reply(cut_at=1))
    manager = make_manager(max_retries=1, circuit_breaker_failure_threshold=None)
    for path in ("/flaky", "/gone", "/"):
        manager.get(server.url + path)
    for path in ("/down", "/cut"):
        with pytest.raises(requests.RequestException):
            manager.get(server.url + path)
    manager.post(server.url + "/down")
    found = counts(manager, server.url)
    assert found["calls"] == found["let_go"] == 6
    assert found["attempts"] == server.count() == 9
    assert found["retries"] == 3
    assert found["successes"] == 3
    assert found["failures"] == {"status_503": 2, "ChunkedEncodingError": 1}
    assert (found["breaker_state"], found["breaker_seconds_since_change"]) == (None, None)


def test_failures_by_kind(server: ScriptedServer, make_manager: MakeManager) -> None:
    server.script("/slow", Reply(delay=5))
    server.script("/loop", Reply.redirect("/loop"))
    manager = make_manager(
        max_retries=0,
        circuit_breaker_failure_threshold=2,
        endpoint_configs={f"{server.host}/limited": {"rate_limit_requests": 1}},
    )
    manager.session.max_redirects = 2
    with pytest.raises(requests.TooManyRedirects):
        manager.get(server.url + "/loop")
    for _ in range(2):
        with pytest.raises(requests.ReadTimeout):
            manager.get(server.url + "/slow", timeout=0.05)
    with pytest.raises(requests.RequestException):
        manager.get(server.url)
    found = counts(manager, server.url)
    assert found["failures"] == {
        "TooManyRedirects": 1,
        "ReadTimeout": 2,
        "CircuitBreakerOpen": 1,
    }
    assert (found["calls"], found["let_go"]) == (4, 3)
    assert found["breaker_state"] == "open"
    assert 0 <= found["breaker_seconds_since_change"] < 30
    assert manager.get_stats()["requests_made"] == 3


def test_a_pattern_is_a_scope_on_each_origin(
    server: ScriptedServer, other_server: ScriptedServer, make_manager: MakeManager
) -> None:
    manager = make_manager(endpoint_configs={f"{server.host}/v1": {"timeout": 9}})
    for url in (server.url, server.url + "/v1", other_server.url + "/v1", server.url + "/v1/a"):
        manager.get(url)
    manager.add_endpoint_config("other.test", {})
    manager.get(server.url + "/v1")
    assert {name: each["calls"] for name, each in manager.get_stats()["scopes"].items()} == {
        server.url: 1,
        f"{server.host}/v1 ({server.url})": 3,
        f"{server.host}/v1 ({other_server.url})": 1,
    }


def test_a_redirects_attempts_are_counted_where_they_go(
    server: ScriptedServer, other_server: ScriptedServer, manager: ConnectionManager
) -> None:
    server.script("/go", Reply.redirect(other_server.url))
    manager.get(server.url + "/go")
    here, there = counts(manager, server.url), counts(manager, other_server.url)
    assert (here["calls"], here["attempts"], there["calls"], there["attempts"]) == (1, 1, 0, 1)


def test_waits_for_permits(server: ScriptedServer, make_manager: MakeManager) -> None:
    manager = make_manager(rate_limit_requests=2, rate_limit_period=0.05)
    for _ in range(3):
        manager.get(server.url)
    found = counts(manager, server.url)
    assert found["permits_waited_for"] == 1
    assert found["time_waited"] > 0


def test_connections_open_and_idle(server: ScriptedServer, make_manager: MakeManager) -> None:
    server.script("/big", Reply(body=b"x" * 1_000_000))
    manager = make_manager()
    response = manager.get(server.url + "/big", stream=True)
    manager.get(server.url)
    found = counts(manager, server.url)
    assert (found["connections_open"], found["connections_idle"]) == (2, 1)
    response.close()
    found = counts(manager, server.url)
    assert (found["connections_open"], found["connections_idle"]) == (1, 1)
    manager.close()
    found = counts(manager, server.url)
    assert (found["connections_open"], found["connections_idle"]) == (0, 0)


def test_exact_under_32_threads(server: ScriptedServer, make_manager: MakeManager) -> None:
    server.script("/flaky", *[Reply(), Reply(status=503)] * 200, forever=Reply())
    manager = make_manager(
        rate_limit_requests=None,
        circuit_breaker_failure_threshold=None,
        pool_maxsize=32,
        max_retries=100,
    )
    in_threads(32, lambda _: [manager.get(server.url + "/flaky") for _ in range(10)])
    found = counts(manager, server.url)
    assert (found["calls"], found["successes"], found["failures"]) == (320, 320, {})
    assert found["attempts"] == server.count() == 320 + found["retries"]
    assert manager.get_stats()["requests_made"] == 320


def test_a_tally_is_exact_under_threads() -> None:
    tally = Tally()

    def work(number: int) -> None:
        for _ in range(2_000):
            tally.call(True, None if number % 2 else "ReadTimeout")
            tally.attempt(number % 2 == 0, 0.01)
            tally.wait(0.5)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        in_threads(8, work)
    finally:
        sys.setswitchinterval(interval)
    now = tally.counts()
    assert (now.calls, now.successes, now.failures) == (16_000, 8_000, {"ReadTimeout": 8_000})
    assert (now.attempts, now.retries, now.permits_waited_for) == (16_000, 8_000, 16_000)
    assert now.time_waited == 8_000


@given(st.lists(st.floats(1e-6, 1000), min_size=1, max_size=200))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_percentiles_are_off_by_less_than_a_twentieth(latencies: list[float]) -> None:
    tally = Tally()
    for seconds in latencies:
        tally.attempt(False, seconds)
    told = tally.counts().latency
    ordered = sorted(latencies)
    for name, share in (("p50", 0.50), ("p90", 0.90), ("p99", 0.99)):
        exact = ordered[math.ceil(share * len(ordered)) - 1]
        assert told[name] == pytest.approx(exact, rel=0.05)
    assert told["max"] == ordered[-1]


def test_latencies_take_no_more_memory_for_a_million_calls() -> None:
    tally = Tally()
    for n in range(100_000):
        tally.attempt(False, (n % 1000 + 1) / 1000)
    tally.attempt(False, 0.0)
    tally.attempt(False, 1e9)
    assert len(tally._buckets) < 100
    assert Tally().counts().latency == {}


def test_scopes_are_bounded(monkeypatch: pytest.MonkeyPatch, make_manager: MakeManager) -> None:
    monkeypatch.setattr(scopes, "MOST_COUNTED", 3)
    manager = make_manager()
    with responses.RequestsMock() as mocked:
        for n in range(6):
            mocked.get(f"http://h{n}.test/")
            manager.get(f"http://h{n}.test/")
    found = manager.get_stats()["scopes"]
    assert list(found) == ["http://h0.test", "http://h1.test", "http://h2.test", "(all others)"]
    assert found["(all others)"]["calls"] == 3
    assert manager.get_stats()["requests_made"] == 6


def test_attempts_that_something_stands_in_for_are_counted(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    manager = make_manager()
    manager.session.mount("http://", requests.adapters.HTTPAdapter())
    manager.get(server.url)
    server.pause()
    with pytest.raises(requests.ConnectionError):
        manager.get(server.url)
    found = counts(manager, server.url)
    assert (found["attempts"], found["successes"]) == (2, 1)
    assert found["failures"] == {"ConnectionError": 1}
    manager.session.adapters["http://"].close()


def test_an_interrupted_call_is_counted(server: ScriptedServer, manager: ConnectionManager) -> None:
    def interrupt(response: requests.Response, **_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        manager.get(server.url, hooks={"response": interrupt})
    found = counts(manager, server.url)
    assert (found["attempts"], found["failures"]) == (1, {"KeyboardInterrupt": 1})


def test_stats_print_as_a_table_and_show_as_html(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    server.script("/down", Reply(status=500))
    pattern = f"{server.host}/a&b"
    manager = make_manager(max_retries=0, endpoint_configs={pattern: {}})
    manager.get(server.url)
    manager.get(server.url + "/down")
    manager.get(server.url + "/a&b")
    stats = manager.stats()
    assert stats.as_dict() == manager.get_stats() | {"scopes": stats.as_dict()["scopes"]}
    text = str(stats)
    lines = text.splitlines()
    assert lines[0] == "3 calls let go; the worst circuit is closed"
    assert lines[2].split() == [
        *("scope", "calls", "attempts", "retries", "ok", "failed", "waited", "p50", "p99"),
        *("breaker", "open", "idle"),
    ]
    row = next(line for line in lines if line.startswith(server.url))
    assert row.split()[1:6] == ["2", "2", "0", "1", "status_500:"]
    html = stats._repr_html_()
    assert html.count("<tr>") == 3
    assert "a&amp;b" in html
    assert "a&b" not in html
    with pytest.raises(FrozenInstanceError):
        stats.requests_made = 9  # type: ignore[misc]


def test_a_latency_of_seconds_can_be_read(
    server: ScriptedServer, manager: ConnectionManager
) -> None:
    manager.get(server.url)
    (scope,) = manager.stats().scopes.values()
    latency = {**scope.counts.latency, "p50": 0.00123, "p99": 12.3456}
    slow = replace(scope, counts=replace(scope.counts, latency=latency))
    assert "  1.23 ms  12346 ms  " in str(replace(manager.stats(), scopes={"slow": slow}))


def test_stats_of_a_manager_that_has_done_nothing(manager: ConnectionManager) -> None:
    assert str(manager.stats()).startswith("0 calls let go")
    assert manager.get_stats()["scopes"] == {}


def test_an_attempt_is_counted_where_it_went(
    server: ScriptedServer, other_server: ScriptedServer, manager: ConnectionManager
) -> None:
    def elsewhere(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.url = other_server.url
        return request

    manager.get(server.url, auth=elsewhere)
    assert [counts(manager, each.url)["attempts"] for each in (server, other_server)] == [0, 1]


def test_what_was_never_sent_was_not_let_go(
    server: ScriptedServer, manager: ConnectionManager
) -> None:
    for arguments in ({"headers": {"A": "b\nc"}}, {"json": object()}):
        with pytest.raises((requests.RequestException, TypeError)):
            manager.post(server.url, **arguments)
    assert (server.count(), manager.get_stats()["requests_made"]) == (0, 0)


def test_the_breaker_of_a_scope_is_the_one_that_calls_meet(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    pattern = f"{server.host}/v1"
    scope = f"{pattern} ({server.url})"
    server.script("/start", Reply.redirect("/v1/ok"))
    server.script("/v1/down", Reply(status=503))
    manager = make_manager(max_retries=0, endpoint_configs={pattern: {"timeout": 9}})

    def reconfigure(response: requests.Response, **_: Any) -> None:
        if response.is_redirect:
            manager.add_endpoint_config(pattern, {"circuit_breaker_failure_threshold": 1})
            manager.get(server.url + "/v1/down")

    manager.get(server.url + "/start", hooks={"response": reconfigure})
    assert counts(manager, scope)["breaker_state"] == "open"


def test_stats_are_plain_and_nobodys_to_change(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    configs = {
        "a.test": {"retry_statuses": {503, 500}, "ssl_context": ssl.create_default_context()},
        "b.test": {"auth": requests.auth.HTTPBasicAuth("a", "b"), "api_key_header": "X-Mine"},
    }
    manager = make_manager(endpoint_configs=configs)
    manager.get(server.url)
    stats = manager.stats()
    plain = json.loads(json.dumps(manager.get_stats()))
    assert plain["endpoint_configs"] == {
        "a.test": {"retry_statuses": [500, 503], "ssl_context": "SSLContext"},
        "b.test": {"auth": "[REDACTED]", "api_key_header": "X-Mine"},
    }
    assert isinstance(hash(stats), int)
    stats.as_dict()["endpoint_configs"].clear()
    assert stats.as_dict()["endpoint_configs"] == plain["endpoint_configs"]
    with pytest.raises(TypeError):
        stats.scopes[server.url].counts.failures["x"] = 1  # type: ignore[index]


def test_connections_that_the_server_has_closed_are_not_counted(
    server: ScriptedServer, manager: ConnectionManager
) -> None:
    manager.get(server.url)
    server.pause()
    wait_until(lambda: counts(manager, server.url)["connections_open"] == 0)
    assert counts(manager, server.url)["connections_idle"] == 0
