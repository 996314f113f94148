"""The six rules of a call's life, counted at the server."""

from __future__ import annotations

import copy
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock, patch

import pytest
import requests
import requests_mock
import responses
from requests.auth import HTTPDigestAuth

from requests_connection_manager import (
    CircuitBreakerOpen,
    DeadlineExceeded,
    MaxRetriesExceeded,
    RateLimitExceeded,
)
from tests.conftest import MakeManager
from tests.server import Reply, ScriptedServer

DOWN = Reply(status=503)


def permits_used(manager, url: str) -> int:
    limiter = manager._endpoints.table.resolve(url).limiter
    return min(limiter._window.num_calls, limiter.calls)


# 1. Every attempt takes exactly one permit of the endpoint it goes to.


def test_retries_take_a_permit_each(make_manager: MakeManager, server: ScriptedServer) -> None:
    url = server.script("/flaky", DOWN, DOWN, Reply())
    manager = make_manager()
    assert manager.get(url).status_code == 200
    assert server.count("/flaky") == 3
    assert permits_used(manager, url) == 3


def test_no_retry_goes_out_without_a_permit(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/down", DOWN)
    manager = make_manager(rate_limit_requests=2, rate_limit_max_wait=0)
    with pytest.raises(RateLimitExceeded) as caught:
        manager.get(url)
    assert server.count() == 2
    assert "503" in str(caught.value.__cause__)


def test_redirect_hops_take_a_permit_of_their_own_endpoint(
    make_manager: MakeManager, server: ScriptedServer, other_server: ScriptedServer
) -> None:
    there = other_server.script("/there", DOWN, Reply())
    url = server.script("/here", Reply.redirect("/next"))
    server.script("/next", Reply.redirect(there))
    manager = make_manager(
        endpoint_configs={f"127.0.0.1:{other_server.port}": {"rate_limit_requests": 50}}
    )
    assert manager.get(url).status_code == 200
    assert (server.count(), other_server.count()) == (2, 2)
    assert permits_used(manager, url) == 2
    assert permits_used(manager, there) == 2


def test_an_auth_round_takes_a_permit(make_manager: MakeManager, server: ScriptedServer) -> None:
    challenge = Reply(
        status=401, headers={"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'}
    )
    url = server.script("/private", challenge, Reply())
    manager = make_manager()
    assert manager.get(url, auth=HTTPDigestAuth("user", "pass")).status_code == 200
    assert server.count() == 2
    assert permits_used(manager, url) == 2


def test_a_mistake_of_the_callers_costs_no_permit(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(rate_limit_requests=1, rate_limit_max_wait=0)
    for mistake in ({"json": object()}, {"headers": {"X": "a\r\nb"}}, {"files": 3}):
        with pytest.raises((TypeError, ValueError, requests.RequestException)):
            manager.post(server.url, **mistake)
    assert server.count() == 0
    assert manager.get(server.url).status_code == 200


def test_hops_through_a_foreign_adapter_take_a_permit_each(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/1", Reply.redirect("/2"))
    server.script("/2", Reply.redirect("/3"))
    for bare in (False, True):
        server.forget()
        manager = make_manager(rate_limit_requests=5, rate_limit_max_wait=0)
        manager.session.mount("http://", requests.adapters.HTTPAdapter())
        prepared = requests.Request("GET", url).prepare()
        get = (
            (lambda m=manager, p=prepared: m.session.send(p))
            if bare
            else (lambda m=manager: m.get(url))
        )
        assert get().status_code == 200
        with pytest.raises(RateLimitExceeded):
            get()
        assert server.count() == 5
        assert permits_used(manager, url) == 5
        assert manager.circuit_breaker.current_state == "closed"


def test_and_tell_the_breaker_of_their_own_origin(
    make_manager: MakeManager, server: ScriptedServer, other_server: ScriptedServer
) -> None:
    url = server.script("/go", Reply.redirect(other_server.script("/down", DOWN)))
    manager = make_manager(circuit_breaker_failure_threshold=1)
    manager.session.mount("http://", requests.adapters.HTTPAdapter())
    assert manager.get(url).status_code == 503
    with pytest.raises(CircuitBreakerOpen) as caught:
        manager.get(url)
    assert caught.value.endpoint == other_server.origin
    states = {name: each.current_state for name, each in manager.circuit_breakers.items()}
    assert states == {server.origin: "closed", other_server.origin: "open"}
    assert (server.count(), other_server.count()) == (2, 1)


def test_what_was_sent_by_a_foreign_adapter_is_not_given_back(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/missing", Reply(status=404))
    manager = make_manager(rate_limit_requests=2, rate_limit_max_wait=0)
    manager.session.mount("http://", requests.adapters.HTTPAdapter())
    refuse = {"response": lambda r, **_: r.raise_for_status()}
    for kind in (requests.HTTPError, requests.HTTPError, RateLimitExceeded):
        with pytest.raises(kind):
            manager.get(url, hooks=refuse)
    assert server.count() == 2


def test_the_wire_sees_no_more_than_the_limit_whatever_the_threads_do(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/busy", Reply(), DOWN, Reply.redirect("/other"), Reply())
    manager = make_manager(rate_limit_requests=25, rate_limit_period=600, rate_limit_max_wait=0)

    def call(_: int) -> str:
        try:
            return str(manager.get(url).status_code)
        except RateLimitExceeded:
            return "limited"

    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(call, range(100)))
    assert server.count() == 25
    assert outcomes.count("limited") >= 75


# 2. The same holds for requests made through manager.session by code that knows nothing of us.


def test_an_sdk_that_is_handed_the_session_is_managed(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/flaky", DOWN, Reply(), forever=DOWN)
    manager = make_manager(circuit_breaker_failure_threshold=1)
    session = manager.session
    assert isinstance(session, requests.Session)
    assert session.get(url).status_code == 200
    assert permits_used(manager, url) == 2
    with pytest.raises(MaxRetriesExceeded):
        session.post(url, headers={"Idempotency-Key": "1"})
    with pytest.raises(CircuitBreakerOpen):
        session.request("GET", url)
    assert server.count() == 6


def test_a_bare_send_meets_the_policies_of_its_hop(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/flaky", DOWN, Reply.redirect("/next"))
    manager = make_manager(rate_limit_requests=3, rate_limit_max_wait=0)
    prepared = requests.Request("GET", url).prepare()
    assert manager.session.send(prepared).status_code == 200
    assert server.count() == 3
    with pytest.raises(RateLimitExceeded):
        manager.session.send(prepared)
    assert server.count() == 3
    hurried = make_manager(total_timeout=0.2)
    slow = requests.Request("GET", server.script("/slow", Reply(delay=30))).prepare()
    with pytest.raises(DeadlineExceeded) as caught:
        hurried.session.send(slow)
    assert (caught.value.endpoint, caught.value.request) == (server.origin, slow)


def test_the_adapter_by_itself_is_managed_too(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/flaky", DOWN, Reply())
    manager = make_manager()
    adapter = manager.session.get_adapter(url)
    assert adapter.send(requests.Request("GET", url).prepare()).status_code == 200
    assert permits_used(manager, url) == 2


def test_the_session_has_the_default_timeout(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/slow", Reply(delay=30))
    manager = make_manager(timeout=0.1, max_retries=0)
    for send in (
        lambda: manager.get(url),
        lambda: manager.session.get(url),
        lambda: manager.session.send(requests.Request("GET", url).prepare()),
    ):
        with pytest.raises(requests.ReadTimeout):
            send()


# 3. When requests.Session.request is replaced, the policies still act.


def response(status: object = 200) -> Mock:
    return Mock(status_code=status)


def test_a_mocked_session_request_is_limited(make_manager: MakeManager) -> None:
    manager = make_manager(rate_limit_requests=2, rate_limit_max_wait=0)
    with patch("requests.Session.request", return_value=response()) as mocked:
        assert manager.get("https://api.test/x") is mocked.return_value
        manager.session.get("https://api.test/x")
        with pytest.raises(RateLimitExceeded):
            manager.get("https://api.test/x")
    assert mocked.call_count == 2


def test_a_mocked_session_request_is_called_with_keywords(make_manager: MakeManager) -> None:
    manager = make_manager(endpoint_configs={"api.test": {"timeout": 7, "verify": "/ca.pem"}})
    with patch("requests.Session.request", return_value=response()) as mocked:
        manager.post("https://api.test/x", json={"a": 1}, headers={"X-Mine": "1"})
    assert mocked.call_args.args == ()
    keywords = mocked.call_args.kwargs
    assert keywords["method"] == "POST"
    assert keywords["url"] == "https://api.test/x"
    assert keywords["json"] == {"a": 1}
    assert keywords["headers"] == {"X-Mine": "1"}
    assert keywords["timeout"] == 7
    assert keywords["verify"] == "/ca.pem"


@pytest.mark.parametrize(
    "outcome", [{"return_value": response(500)}, {"side_effect": requests.ConnectionError("x")}]
)
def test_a_mocked_session_request_trips_the_breaker(
    make_manager: MakeManager, outcome: dict
) -> None:
    manager = make_manager(circuit_breaker_failure_threshold=3)
    with patch("requests.Session.request", **outcome) as mocked:
        for _ in range(3):
            try:
                assert manager.get("https://api.test/x").status_code == 500
            except requests.ConnectionError as error:
                assert str(error) == "x"
        with pytest.raises(CircuitBreakerOpen):
            manager.get("https://api.test/x")
        assert mocked.call_count == 3
        assert manager.circuit_breaker.current_state == "open"


@pytest.mark.parametrize("status", [Mock(), None, "500", 404, 429, 501, 505, 200])
def test_what_a_mock_answers_is_read_with_care(make_manager: MakeManager, status: object) -> None:
    manager = make_manager(circuit_breaker_failure_threshold=1)
    with patch("requests.Session.request", return_value=response(status)):
        for _ in range(3):
            manager.get("https://api.test/x")
    assert manager.circuit_breaker.current_state == "closed"


def test_a_mocked_send_is_limited_too(make_manager: MakeManager) -> None:
    manager = make_manager(rate_limit_requests=2, rate_limit_max_wait=0)
    with patch("requests.Session.send", return_value=response()) as mocked:
        assert manager.get("https://api.test/x") is mocked.return_value
        manager.get("https://api.test/x")
        with pytest.raises(RateLimitExceeded):
            manager.get("https://api.test/x")
    assert mocked.call_count == 2


def test_a_mocked_trial_closes_the_circuit(make_manager: MakeManager) -> None:
    manager = make_manager(circuit_breaker_failure_threshold=1, circuit_breaker_recovery_timeout=0)
    with patch("requests.Session.request", side_effect=[response(500), KeyError(), response()]):
        manager.get("https://api.test/x")
        assert manager.circuit_breaker.current_state == "open"
        with pytest.raises(KeyError):
            manager.get("https://api.test/x")
        manager.get("https://api.test/x")
    assert manager.circuit_breaker.current_state == "closed"


@responses.activate
def test_the_responses_library_stands_in_for_one_attempt(make_manager: MakeManager) -> None:
    responses.add(responses.GET, "https://api.test/x", status=503)
    responses.add(responses.GET, "https://api.test/x", json={"ok": True})
    manager = make_manager()
    assert manager.get("https://api.test/x").json() == {"ok": True}
    assert len(responses.calls) == 2
    assert permits_used(manager, "https://api.test/x") == 2


def test_requests_mock_stands_in_for_the_adapter(make_manager: MakeManager) -> None:
    manager = make_manager(rate_limit_requests=2, rate_limit_max_wait=0)
    with requests_mock.Mocker() as mocked:
        mocked.get("https://api.test/x", status_code=500)
        manager.get("https://api.test/x")
        manager.get("https://api.test/x")
        with pytest.raises(RateLimitExceeded):
            manager.get("https://api.test/x")
        assert mocked.call_count == 2
    assert manager.circuit_breaker.fail_counter == 2


# 4. No lock is held while the network is waited for.


def test_ten_threads_are_served_at_the_same_time(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/slow", Reply(delay=1))
    manager = make_manager(pool_maxsize=10)
    with ThreadPoolExecutor(10) as pool:
        assert all(r.ok for r in pool.map(manager.get, [url] * 10))
    assert server.most_at_once == 10


def test_a_wait_for_a_permit_holds_up_nobody_else(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    limited, free = server.url + "/limited", server.url + "/free"
    manager = make_manager(
        endpoint_configs={
            f"127.0.0.1:{server.port}/limited": {"rate_limit_requests": 1, "rate_limit_period": 1}
        }
    )
    manager.get(limited)
    waiting = threading.Thread(target=manager.get, args=(limited,))
    waiting.start()
    served = [manager.get(free).status_code for _ in range(10)]
    assert waiting.is_alive()
    waiting.join(20)
    assert served == [200] * 10
    assert server.count("/limited") == 2


# 5. A rejection of ours is never a failure for a breaker, and is never retried.


def test_rate_limit_rejections_do_not_open_the_circuit(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(
        rate_limit_requests=1, rate_limit_max_wait=0, circuit_breaker_failure_threshold=2
    )
    manager.get(server.url)
    for _ in range(10):
        with pytest.raises(RateLimitExceeded):
            manager.get(server.url)
    assert manager.circuit_breaker.current_state == "closed"
    assert manager.circuit_breaker.fail_counter == 0
    assert server.count() == 1


def test_a_rejection_does_not_wipe_out_the_failures_before_it(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    """pybreaker counts an excluded exception as a success."""
    url = server.script("/down", DOWN)
    manager = make_manager(
        rate_limit_requests=1, rate_limit_max_wait=0, max_retries=0, raise_on_status=False
    )
    manager.get(url)
    with pytest.raises(RateLimitExceeded):
        manager.get(url)
    assert manager.circuit_breaker.fail_counter == 1


def test_an_open_circuit_burns_no_permit(make_manager: MakeManager, server: ScriptedServer) -> None:
    url = server.script("/down", DOWN)
    manager = make_manager(circuit_breaker_failure_threshold=1, max_retries=0)
    manager.get(url)
    for _ in range(5):
        with pytest.raises(CircuitBreakerOpen):
            manager.get(url)
    assert permits_used(manager, url) == 1
    assert server.count() == 1


def test_a_trial_that_the_limit_rejects_makes_place_for_the_next(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/back", DOWN, Reply())
    manager = make_manager(
        rate_limit_requests=1,
        rate_limit_period=0.3,
        rate_limit_max_wait=0,
        circuit_breaker_failure_threshold=1,
        circuit_breaker_recovery_timeout=0,
        max_retries=0,
    )
    manager.get(url)
    with pytest.raises(RateLimitExceeded):
        manager.get(url)
    assert manager.circuit_breaker.current_state == "half-open"
    time.sleep(0.31)
    assert manager.get(url).status_code == 200
    assert manager.circuit_breaker.current_state == "closed"


# 6. Nothing a caller passes in is changed.


def test_the_callers_objects_are_left_as_they_were(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/flaky", DOWN, Reply())
    endpoint_configs = {
        "127.0.0.1": {"timeout": 5, "retry_statuses": [503], "retry_methods": {"get", "post"}}
    }
    arguments = {
        "headers": {"X-Mine": "1"},
        "params": {"a": ["1", "2"]},
        "cookies": {"c": "1"},
        "json": {"deep": [1, {"x": 2}]},
        "proxies": {},
        "hooks": {"response": []},
    }
    before = copy.deepcopy((endpoint_configs, arguments))
    manager = make_manager(endpoint_configs=endpoint_configs)
    manager.post(url, **arguments)
    manager.add_endpoint_config("127.0.0.1", endpoint_configs["127.0.0.1"])
    assert (endpoint_configs, arguments) == before
    assert server.count() == 2
