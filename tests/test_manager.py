"""The façade: requests' signatures, the life cycle, and what people read of it."""

from __future__ import annotations

import inspect
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pybreaker
import pytest
import requests

from requests_connection_manager import (
    CircuitBreakerOpen,
    ConfigurationError,
    ConnectionManager,
    ConnectionManagerError,
    ManagerClosed,
    MaxRetriesExceeded,
    RateLimitExceeded,
)
from tests.conftest import MakeManager
from tests.server import Reply, ScriptedServer, wait_until

VERBS = ["get", "post", "put", "delete", "patch", "head", "options"]


@pytest.mark.parametrize("verb", [*VERBS, "request"])
def test_the_signatures_are_those_of_requests(verb: str) -> None:
    ours = inspect.signature(getattr(ConnectionManager, verb)).parameters
    theirs = inspect.signature(getattr(requests.Session, verb)).parameters
    assert list(ours) == list(theirs) or verb == "get"  # requests spells out params since 2.33
    assert list(ours)[:3] == ["self", "url", "params"] or verb != "get"
    for name in ours.keys() & theirs.keys():
        assert ours[name].kind == theirs[name].kind
        if name != "timeout":  # None means no limit here, too, but it is not the default
            assert ours[name].default == theirs[name].default


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_reaches_the_server(
    manager: ConnectionManager, server: ScriptedServer, verb: str
) -> None:
    assert getattr(manager, verb)(server.url + "/x").status_code == 200
    assert server.received[0].method == verb.upper()


def test_positional_arguments(manager: ConnectionManager, server: ScriptedServer) -> None:
    manager.get(server.url, {"a": "1"})
    manager.post(server.url, {"b": "2"})
    manager.post(server.url, None, {"c": 3})
    manager.put(server.url, b"four")
    manager.patch(server.url, b"five")
    manager.request("GET", server.url, {"d": "6"}, None, {"X-Seven": "7"})
    manager.session.request("GET", server.url, {"e": "8"}, None, {"X-Nine": "9"})
    first, *rest = server.received
    assert first.query == "a=1"
    assert [each.body for each in rest[:4]] == [b"b=2", b'{"c": 3}', b"four", b"five"]
    assert (rest[4].query, rest[4].headers["X-Seven"]) == ("d=6", "7")
    assert (rest[5].query, rest[5].headers["X-Nine"]) == ("e=8", "9")


def test_all_that_requests_takes_is_passed_on(
    manager: ConnectionManager, server: ScriptedServer
) -> None:
    seen = []
    response = manager.post(
        server.url,
        params={"p": "1"},
        headers={"X-Mine": "yes"},
        cookies={"c": "2"},
        files={"f": ("name.txt", b"content")},
        auth=("user", "pass"),
        hooks={"response": lambda r, **_: seen.append(r)},
    )
    received = server.received[0]
    assert received.query == "p=1"
    assert received.headers["X-Mine"] == "yes"
    assert received.headers["Cookie"] == "c=2"
    assert received.headers["Authorization"].startswith("Basic ")
    assert b"content" in received.body
    assert seen == [response]


def test_head_does_not_follow_redirects_the_others_do(
    manager: ConnectionManager, server: ScriptedServer
) -> None:
    url = server.script("/go", Reply.redirect("/there"))
    assert manager.head(url).status_code == 302
    assert manager.get(url).url.endswith("/there")
    assert len(manager.get(url).history) == 1
    assert manager.get(url, allow_redirects=False).status_code == 302


def test_urls_of_any_kind_that_requests_takes(
    manager: ConnectionManager, server: ScriptedServer
) -> None:
    class Url:
        def __str__(self) -> str:
            return server.url + "/object"

    manager.get(f"{server.url}/bytes".encode())
    manager.get(Url())  # type: ignore[arg-type]
    assert [each.path for each in server.received] == ["/bytes", "/object"]


def test_cookies_are_kept(manager: ConnectionManager, server: ScriptedServer) -> None:
    manager.get(server.script("/login", Reply(headers={"Set-Cookie": "who=me"})))
    manager.get(server.url)
    assert server.received[1].headers["Cookie"] == "who=me"


def test_streaming(manager: ConnectionManager, server: ScriptedServer) -> None:
    url = server.script("/big", Reply(body=b"x" * 300_000))
    with manager.get(url, stream=True) as response:
        assert not response._content_consumed
        assert sum(map(len, response.iter_content(10_000))) == 300_000


def test_one_manager_serves_many_threads(make_manager: MakeManager, server: ScriptedServer) -> None:
    url = server.script("/x", Reply())
    manager = make_manager(rate_limit_requests=None, pool_maxsize=32)
    with ThreadPoolExecutor(32) as pool:
        assert all(r.content == b"ok" for r in pool.map(manager.get, [url] * 640))
    assert server.count() == 640
    assert server.connections_made <= 32
    assert manager.get_stats()["requests_made"] == 640


def test_used_after_close_it_says_so(server: ScriptedServer) -> None:
    manager = ConnectionManager()
    session = manager.session
    manager.get(server.url)
    manager.close()
    manager.close()
    bare = requests.Request("GET", server.url).prepare()
    for use in (
        lambda: manager.get(server.url),
        lambda: session.get(server.url),
        lambda: session.send(bare),
    ):
        with pytest.raises(ManagerClosed, match="closed: make a new one") as caught:
            use()
        assert isinstance(caught.value, ConnectionManagerError)
        assert isinstance(caught.value, RuntimeError)
        assert caught.value.request is not None
    with pytest.raises(ManagerClosed):
        manager.__enter__()
    assert server.count() == 1


def test_a_call_that_waits_for_a_permit_is_not_sent_after_close(server: ScriptedServer) -> None:
    manager = ConnectionManager(rate_limit_requests=1, rate_limit_period=0.5)
    manager.get(server.url)
    limiter = manager._endpoints.table.resolve(server.url).limiter
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(manager.get, server.url)
        wait_until(lambda: len(limiter._line) == 1)
        manager.close()
        assert isinstance(waiting.exception(), ManagerClosed)
    assert server.count() == 1


def test_elapsed_is_what_it_is_in_requests(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    """From the sending of this very request to its head: no back-off, no wait, no body."""
    manager = make_manager(rate_limit_requests=3, rate_limit_period=0.7)
    slow = server.script("/slow", Reply(delay=0.2, body=b"xxx", drip=0.3))
    took, elapsed = timed(lambda: manager.get(slow))
    assert 0.2 <= elapsed <= took - 0.5
    took, elapsed = timed(
        lambda: manager.get(server.script("/busy", Reply.retry_after(1), Reply()))
    )
    assert elapsed <= took - 0.9
    bare = requests.Request("GET", server.script("/go", Reply.redirect("/there"))).prepare()
    manager.get(server.url)
    manager.get(server.url)
    took, elapsed = timed(lambda: manager.session.send(bare))
    assert elapsed <= took - 0.3  # one of its hops stood in line


def timed(get: Callable[[], requests.Response]) -> tuple[float, float]:
    start = time.monotonic()
    response = get()
    took = time.monotonic() - start
    return took, sum(each.elapsed.total_seconds() for each in (response, *response.history))


def test_the_context_manager_closes(server: ScriptedServer) -> None:
    with ConnectionManager() as manager:
        manager.get(server.url)
    with pytest.raises(ManagerClosed):
        manager.get(server.url)
    with pytest.raises(KeyError), ConnectionManager() as manager:
        raise KeyError
    with pytest.raises(ManagerClosed):
        manager.get(server.url)


def test_what_people_read() -> None:
    with ConnectionManager(
        timeout=7, rate_limit_requests=5, rate_limit_period=9, endpoint_configs={"a.test": {}}
    ) as manager:
        assert isinstance(manager.session, requests.Session)
        assert manager.timeout == 7
        assert manager.rate_limit_requests == 5
        assert manager.rate_limit_period == 9
        assert manager.circuit_breaker is not None
        assert manager.circuit_breaker.current_state == "closed"
        assert manager.circuit_breaker.fail_counter == 0
        assert manager.circuit_breakers == {}
        assert manager.get_stats() == {
            "circuit_breaker_state": "closed",
            "circuit_breaker_failure_count": 0,
            "rate_limit_requests": 5,
            "rate_limit_period": 9,
            "timeout": 7,
            "requests_made": 0,
            "endpoint_configs": {"a.test": {}},
            "ssl_verification": True,
            "client_certificate_configured": False,
            "connect_timeout": 7,
            "read_timeout": 7,
            "ssl_context_configured": False,
            "registered_hooks": {"pre_request": [], "post_response": [], "error_handler": []},
            "scopes": {},
        }


def test_circuit_breakers_are_the_real_objects(
    manager: ConnectionManager, server: ScriptedServer
) -> None:
    manager.get(server.url)
    assert isinstance(manager.circuit_breakers[server.origin], pybreaker.CircuitBreaker)


def test_endpoints_can_be_changed_while_running(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    here = f"127.0.0.1:{server.port}"
    manager = make_manager(max_retries=0)
    url = server.script("/down", Reply(status=503))
    manager.get(url)
    manager.add_endpoint_config(here, {"max_retries": 2, "raise_on_status": False})
    manager.get(url)
    assert server.count() == 4
    assert manager.get_endpoint_configs() == {here: {"max_retries": 2, "raise_on_status": False}}
    manager.remove_endpoint_config(here)
    manager.remove_endpoint_config(here)
    manager.get(url)
    assert server.count() == 5
    assert manager.get_endpoint_configs() == {}
    with pytest.raises(ConfigurationError, match="timeuot"):
        manager.add_endpoint_config(here, {"timeuot": 3})


def test_a_call_under_way_keeps_what_it_started_with(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    here = f"127.0.0.1:{server.port}"
    manager = make_manager(endpoint_configs={here: {"max_retries": 1}})
    url = server.script("/down", Reply(status=503, delay=0.3), Reply(status=503))
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(manager.get, url)
        while server.count() == 0:
            pass
        manager.add_endpoint_config(here, {"max_retries": 9})
        assert isinstance(call.exception(), MaxRetriesExceeded)
    assert server.count() == 2


def test_the_lines_of_the_issue(server: ScriptedServer, other_server: ScriptedServer) -> None:
    api, slow = f"127.0.0.1:{server.port}", f"127.0.0.1:{other_server.port}"
    manager = ConnectionManager(
        rate_limit_requests=100,
        rate_limit_period=60,
        endpoint_configs={
            api: {"timeout": 60, "rate_limit_requests": 50, "max_retries": 5},
            slow: {"timeout": 120, "rate_limit_requests": 10, "backoff_factor": 1.0},
        },
    )
    with manager:
        assert manager.get(f"{server.url}/data").status_code == 200
        explained = {each.setting: each for each in manager.explain(server.url).settings}
        assert explained["timeout"] == ("timeout", 60, api)
        assert explained["rate_limit_requests"] == ("rate_limit_requests", 50, api)
        assert explained["rate_limit_period"] == ("rate_limit_period", 60, "manager")
        assert manager.explain(server.url).limiter == f"50 per 60 s, shared by {api}"

        for _ in range(10):
            manager.get(other_server.url)
        manager.add_endpoint_config(
            slow, {**manager.get_endpoint_configs()[slow], "rate_limit_max_wait": 1}
        )
        with pytest.raises(RateLimitExceeded) as limited:
            manager.get(other_server.url)
        assert 0 < limited.value.retry_after <= 60

        url = server.script("/down", Reply(status=503))
        manager.add_endpoint_config(api, {"backoff_factor": 0, "max_retries": 5})
        for kind in (MaxRetriesExceeded, requests.exceptions.RetryError) * 3:
            try:
                manager.get(url)
            except CircuitBreakerOpen as error:
                assert error.retry_after > 0
            except kind as error:
                assert len(error.attempts) == 6
                assert error.response.status_code == 503
        assert server.count("/down") == 30
        with pytest.raises(CircuitBreakerOpen):
            manager.get(url)

    server.pause()
    with ConnectionManager(backoff_factor=0) as manager, pytest.raises(requests.ConnectionError):
        manager.get(server.url)


def test_importing_it_loads_no_extra_opens_no_socket_and_starts_no_thread() -> None:
    code = """
import sys, threading, socket
def refuse(*_, **__): raise AssertionError("a socket was opened")
socket.socket.__init__ = refuse
import requests_connection_manager
assert threading.active_count() == 1
extras = "redis requests_cache tqdm requests_ntlm prometheus_client opentelemetry"
assert not sys.modules.keys() & extras.split()
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_what_is_read_cannot_be_assigned_to_in_vain(manager: ConnectionManager) -> None:
    for name in ("timeout", "ssl_context", "bearer_token", "connect_timeout"):
        with pytest.raises(AttributeError):
            setattr(manager, name, "x")
