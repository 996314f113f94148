"""The breaker around real calls: what counts, what the trial sees, and what stays healthy."""

from __future__ import annotations

import gc
import io
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import requests

from requests_connection_manager import (
    CircuitBreakerOpen,
    DeadlineExceeded,
    MaxRetriesExceeded,
    RateLimitExceeded,
)
from tests.conftest import MakeManager
from tests.server import Reply, ScriptedServer

DOWN = Reply(status=503)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=500),
        Reply(status=502),
        Reply(status=503),
        Reply(status=504),
        Reply(status=599),
        Reply(reset="after"),
        Reply(hang_up=True),
        Reply(body=b"x" * 100, cut_at=5),
        Reply(delay=30),
    ],
    ids=lambda reply: repr(reply)[:40],
)
@pytest.mark.parametrize("retries", [0, 1])
def test_these_are_failures_once_a_hop(
    make_manager: MakeManager, server: ScriptedServer, reply: Reply, retries: int
) -> None:
    url = server.script("/bad", reply)
    manager = make_manager(max_retries=retries, read_timeout=0.2)
    for failures in (1, 2):
        with suppress(requests.RequestException):
            manager.get(url)
        assert manager.circuit_breaker.fail_counter == failures


@pytest.mark.parametrize("status", [200, 301, 400, 401, 404, 418, 429, 501, 505])
def test_these_are_not(make_manager: MakeManager, server: ScriptedServer, status: int) -> None:
    manager = make_manager(circuit_breaker_failure_threshold=1, max_retries=1)
    url = server.script("/x", Reply(status=status))
    for _ in range(3):
        try:
            manager.get(url)
        except MaxRetriesExceeded:
            assert status == 429
    assert manager.circuit_breaker.current_state == "closed"
    assert manager.circuit_breaker.fail_counter == 0


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://", requests.exceptions.InvalidURL),
        ("no-scheme", requests.exceptions.MissingSchema),
        ("ftp://127.0.0.1/", requests.exceptions.InvalidSchema),
        ("http://.test/", requests.exceptions.InvalidURL),
    ],
)
def test_the_callers_own_mistakes_are_not(
    make_manager: MakeManager, url: str, kind: type[Exception]
) -> None:
    manager = make_manager(circuit_breaker_failure_threshold=1)
    for _ in range(3):
        with pytest.raises(kind):
            manager.get(url)
    assert manager.circuit_breaker.current_state == "closed"


def test_nor_are_certificate_errors(make_manager: MakeManager, tls_server: ScriptedServer) -> None:
    manager = make_manager(circuit_breaker_failure_threshold=1)
    for _ in range(3):
        with pytest.raises(requests.exceptions.SSLError) as caught:
            manager.get(tls_server.url)
        assert not isinstance(caught.value, MaxRetriesExceeded)
    assert manager.circuit_breaker.current_state == "closed"
    assert tls_server.connections_made == 3  # no retries


def test_the_call_that_trips_it_raises_its_own_error_the_next_is_rejected(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/down", DOWN)
    manager = make_manager(circuit_breaker_failure_threshold=2, max_retries=1)
    for _ in range(2):
        with pytest.raises(MaxRetriesExceeded):
            manager.get(url)
    assert server.count() == 4
    with pytest.raises(CircuitBreakerOpen) as caught:
        manager.get(url)
    assert server.count() == 4
    error = caught.value
    assert 0 < error.retry_after <= 60
    assert "503" in str(error.last_error)
    assert error.endpoint == server.origin
    assert server.origin in str(error)
    assert error.request is not None
    assert error.request.url == url
    assert not isinstance(error, requests.ConnectionError)


def test_a_dead_host_does_not_close_the_door_to_a_healthy_one(
    make_manager: MakeManager, server: ScriptedServer, other_server: ScriptedServer
) -> None:
    server.script("/x", DOWN)
    manager = make_manager(
        circuit_breaker_failure_threshold=1,
        max_retries=0,
        endpoint_configs={"127.0.0.1": {"circuit_breaker_failure_threshold": 1}},
    )
    manager.get(server.url + "/x")
    with pytest.raises(CircuitBreakerOpen):
        manager.get(server.url + "/y")
    assert manager.get(other_server.url + "/x").status_code == 200
    assert manager.circuit_breaker.current_state == "open"
    assert manager.get_stats()["circuit_breaker_state"] == "open"


def test_a_redirect_to_a_dead_host_does_not_blame_the_one_that_sent_us(
    make_manager: MakeManager, server: ScriptedServer, other_server: ScriptedServer
) -> None:
    other_server.script("/x", DOWN)
    url = server.script("/go", Reply.redirect(other_server.url + "/x"))
    manager = make_manager(circuit_breaker_failure_threshold=1, max_retries=0)
    manager.get(url)
    states = {name: each.current_state for name, each in manager.circuit_breakers.items()}
    assert states == {server.origin: "closed", other_server.origin: "open"}
    with pytest.raises(CircuitBreakerOpen) as caught:
        manager.get(url)
    assert caught.value.endpoint == other_server.origin


def test_a_service_that_is_down_and_back(make_manager: MakeManager, server: ScriptedServer) -> None:
    manager = make_manager(
        circuit_breaker_failure_threshold=2, circuit_breaker_recovery_timeout=0.3, max_retries=0
    )
    server.pause()
    for _ in range(2):
        with pytest.raises(requests.ConnectionError):
            manager.get(server.url)
    with pytest.raises(CircuitBreakerOpen) as caught:
        manager.get(server.url)
    server.resume()
    time.sleep(caught.value.retry_after + 0.01)
    assert manager.get(server.url).status_code == 200
    assert manager.circuit_breaker.current_state == "closed"


def opened(make_manager: MakeManager, server: ScriptedServer, **settings: object):
    """A manager whose circuit to the server is open, and due for a trial."""
    server.script("/trip", DOWN)
    manager = make_manager(
        circuit_breaker_failure_threshold=1, circuit_breaker_recovery_timeout=0.05, **settings
    )
    with pytest.raises(MaxRetriesExceeded):
        manager.get(server.url + "/trip")
    time.sleep(0.06)
    server.forget()
    return manager


def test_of_twenty_threads_exactly_one_makes_the_trial(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = opened(make_manager, server)
    url = server.script("/trial", Reply(delay=0.5))
    start = threading.Barrier(20)

    def call(_: int) -> object:
        start.wait()
        try:
            return manager.get(url).status_code
        except CircuitBreakerOpen as error:
            return error.retry_after

    with ThreadPoolExecutor(20) as pool:
        outcomes = list(pool.map(call, range(20)))
    assert server.count() == 1
    assert outcomes.count(200) == 1
    assert manager.circuit_breaker.current_state == "closed"


def test_the_trial_is_a_single_attempt(make_manager: MakeManager, server: ScriptedServer) -> None:
    manager = opened(make_manager, server)
    with pytest.raises(MaxRetriesExceeded, match="trial of a half-open circuit") as caught:
        manager.get(server.url + "/trip")
    assert server.count() == 1
    assert len(caught.value.attempts) == 1
    with pytest.raises(CircuitBreakerOpen):
        manager.get(server.url + "/trip")
    assert server.count() == 1


def test_an_interrupted_trial_makes_place_for_the_next(
    make_manager: MakeManager, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = opened(make_manager, server)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("requests.adapters.HTTPAdapter.send", interrupt)
        with pytest.raises(KeyboardInterrupt):
            manager.get(server.url)
    assert manager.circuit_breaker.current_state == "half-open"
    assert manager.get(server.url).status_code == 200
    assert manager.circuit_breaker.current_state == "closed"


def test_a_late_answer_from_before_the_trip_changes_nothing(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    slow = server.script("/slow", Reply(delay=0.5))
    bad = server.script("/bad", DOWN)
    manager = make_manager(circuit_breaker_failure_threshold=2, max_retries=0)
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(manager.get, slow)
        while server.count("/slow") == 0:
            time.sleep(0.005)
        manager.get(bad)
        manager.get(bad)
        assert manager.circuit_breaker.current_state == "open"
        assert late.result().status_code == 200
    assert manager.circuit_breaker.current_state == "open"
    with pytest.raises(CircuitBreakerOpen):
        manager.get(slow)


def test_a_deadline_in_an_attempt_is_a_failure_one_before_it_is_not(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/slow", Reply.retry_after(30, status=429), Reply(delay=30))
    manager = make_manager(total_timeout=0.3, respect_server_limits=False)
    with pytest.raises(DeadlineExceeded):
        manager.get(url)
    assert manager.circuit_breaker.fail_counter == 0
    with pytest.raises(DeadlineExceeded):
        manager.get(url)
    assert manager.circuit_breaker.fail_counter == 1


def test_a_deadline_that_went_into_waiting_does_not_blame_the_service(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    """Who gets a permit just before the deadline has no time left for a healthy service."""
    url = server.script("/healthy", Reply(), Reply(delay=5))
    manager = make_manager(rate_limit_requests=1, rate_limit_period=0.5, total_timeout=0.7)
    manager.get(url)
    with pytest.raises(DeadlineExceeded) as caught:
        manager.get(url)
    assert caught.value.attempts[0].throttled > 0.35
    assert server.count() == 2
    assert manager.circuit_breaker.fail_counter == 0


@pytest.mark.parametrize("bare", [False, True])
def test_who_waited_for_a_permit_asks_the_breaker_again(
    make_manager: MakeManager, server: ScriptedServer, bare: bool
) -> None:
    url = server.script("/down", Reply(status=503, delay=0.1))
    manager = make_manager(
        rate_limit_requests=1,
        rate_limit_period=0.4,
        circuit_breaker_failure_threshold=1,
        max_retries=0,
    )
    prepared = requests.Request("GET", url).prepare()
    get = (lambda: manager.session.send(prepared)) if bare else (lambda: manager.get(url))
    start = threading.Barrier(5)

    def call(_: int) -> str:
        start.wait()
        try:
            return str(get().status_code)
        except CircuitBreakerOpen:
            return "rejected"

    with ThreadPoolExecutor(5) as pool:
        outcomes = sorted(pool.map(call, range(5)))
    assert outcomes == ["503"] + ["rejected"] * 4
    assert server.count() == 1
    assert manager.get_stats()["requests_made"] == 1
    limiter = manager._endpoints.table.resolve(url).limiter
    assert limiter._window.num_calls == 0  # the permits were given back


def test_switched_off_nothing_is_rejected(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/down", DOWN)
    manager = make_manager(circuit_breaker_failure_threshold=None, max_retries=0)
    for _ in range(10):
        assert manager.get(url).status_code == 503
    assert manager.circuit_breakers == {}
    assert manager.circuit_breaker.current_state == "closed"


def test_the_real_pybreaker_object_can_be_forced(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager()
    manager.get(server.url)
    manager.circuit_breakers[server.origin].open()
    with pytest.raises(CircuitBreakerOpen):
        manager.get(server.url)
    manager.circuit_breakers[server.origin].close()
    assert manager.get(server.url).status_code == 200


# What stands between the breaker and the right conclusion


class Token(requests.auth.AuthBase):
    """Fetches its token through the same manager, while the request is prepared."""

    def __init__(self, manager, url: str) -> None:
        self.manager, self.url = manager, url

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["X-Token"] = self.manager.get(self.url).text
        return request


def test_a_token_fetched_from_the_service_itself_is_a_part_of_the_trial(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = opened(make_manager, server)
    data, token = server.url + "/data", server.url + "/token"
    assert manager.get(data, auth=Token(manager, token)).status_code == 200
    assert manager.circuit_breaker.current_state == "closed"
    assert [each.path for each in server.received] == ["/token", "/data"]


def test_and_its_failure_that_of_the_trial(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = opened(make_manager, server)
    with pytest.raises(MaxRetriesExceeded):
        manager.get(server.url + "/data", auth=Token(manager, server.url + "/trip"))
    assert server.count() == 1
    assert manager.circuit_breaker.current_state == "open"
    limiter = manager._endpoints.table.resolve(server.url).limiter
    assert limiter._window.num_calls == 4 + 1  # those that opened it, and the trial


class Elsewhere(requests.auth.AuthBase):
    """Sends the request to another host, as signing gateways do."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.url = self.url
        return request


def test_a_url_that_was_never_asked_is_not_blamed_nor_charged(
    make_manager: MakeManager, server: ScriptedServer, other_server: ScriptedServer
) -> None:
    there = other_server.script("/down", DOWN)
    here = f"127.0.0.1:{server.port}"
    manager = make_manager(
        max_retries=0,
        circuit_breaker_failure_threshold=2,
        endpoint_configs={here: {"rate_limit_requests": 1, "rate_limit_max_wait": 0}},
    )
    for _ in range(2):
        assert manager.get(server.url, auth=Elsewhere(there)).status_code == 503
    states = {name: each.current_state for name, each in manager.circuit_breakers.items()}
    assert states == {server.origin: "closed", other_server.origin: "open"}
    with pytest.raises(CircuitBreakerOpen):
        manager.get(server.url, auth=Elsewhere(there))
    assert manager.get(server.url).status_code == 200
    assert (server.count(), other_server.count()) == (1, 2)


def test_an_adapter_of_the_users_own_is_answered_for_by_its_own_answer(
    make_manager: MakeManager, server: ScriptedServer, other_server: ScriptedServer
) -> None:
    manager = make_manager(max_retries=0)
    manager.session.mount(server.url, requests.adapters.HTTPAdapter())
    url = server.script("/go", Reply.redirect(other_server.script("/down", DOWN)))
    assert manager.get(url).status_code == 503
    counts = {name: each.fail_counter for name, each in manager.circuit_breakers.items()}
    assert counts == {server.origin: 0, other_server.origin: 1}


def test_a_redirect_elsewhere_gives_nothing_back_of_what_was_sent(
    make_manager: MakeManager, server: ScriptedServer, other_server: ScriptedServer
) -> None:
    here = f"127.0.0.1:{server.port}"
    manager = make_manager(
        max_retries=1, endpoint_configs={here: {"rate_limit_requests": 2, "rate_limit_max_wait": 0}}
    )
    manager.session.mount(server.url, requests.adapters.HTTPAdapter())
    url = server.script("/go", Reply.redirect(other_server.script("/down", DOWN)))
    for kind in (MaxRetriesExceeded, MaxRetriesExceeded, RateLimitExceeded):
        with pytest.raises(kind):
            manager.get(url)
    assert server.count() == 2


@pytest.mark.parametrize("managed", [True, False])
def test_a_token_that_cannot_be_had_is_not_the_services_fault(
    make_manager: MakeManager,
    server: ScriptedServer,
    other_server: ScriptedServer,
    managed: bool,
) -> None:
    other_server.pause()
    here = f"127.0.0.1:{server.port}"
    manager = make_manager(
        max_retries=0,
        circuit_breaker_failure_threshold=1,
        endpoint_configs={here: {"rate_limit_requests": 1, "rate_limit_max_wait": 0}},
    )
    with requests.Session() as plain:
        token = Token(manager if managed else plain, other_server.url)
        with pytest.raises(requests.ConnectionError):
            manager.get(server.url, auth=token)
    assert manager.get(server.url).status_code == 200


def test_our_own_rejection_in_a_body_blames_nobody_and_is_not_retried(
    make_manager: MakeManager, server: ScriptedServer, other_server: ScriptedServer
) -> None:
    """A RequestException is an OSError, so urllib3 takes it for a broken connection."""
    there = f"127.0.0.1:{other_server.port}"
    manager = make_manager(
        circuit_breaker_failure_threshold=1,
        endpoint_configs={there: {"rate_limit_requests": 1, "rate_limit_max_wait": 0}},
    )
    manager.get(other_server.url)
    started = []

    def body():
        started.append(1)
        yield manager.get(other_server.url).content

    with pytest.raises(requests.ConnectionError) as caught:
        manager.put(server.url, data=body())
    assert not isinstance(caught.value, MaxRetriesExceeded)
    assert len(started) == 1
    assert manager.circuit_breaker.current_state == "closed"


class BrokenFile(io.BytesIO):
    def read(self, *_: object) -> bytes:
        raise FileNotFoundError("the share is gone")


def broken_blocks():
    yield b"one"
    raise FileNotFoundError("the share is gone")


@pytest.mark.parametrize("body", [BrokenFile(b"x" * 100), broken_blocks()])
def test_nor_does_an_error_of_the_callers_body(
    make_manager: MakeManager, server: ScriptedServer, body: object
) -> None:
    manager = make_manager(circuit_breaker_failure_threshold=1)
    with pytest.raises(requests.ConnectionError, match="the share is gone") as caught:
        manager.put(server.url, data=body)
    assert not isinstance(caught.value, MaxRetriesExceeded)
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    assert manager.circuit_breaker.current_state == "closed"


def test_a_call_within_a_call_has_its_own_arguments(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    slow = requests.Request("GET", server.script("/slow", Reply(delay=30))).prepare()
    manager = make_manager(timeout=20, max_retries=0)
    raised = []

    def sends(**arguments: object) -> None:
        try:
            manager.session.send(slow, **arguments)
        except requests.RequestException as error:
            raised.append(type(error))

    def in_a_hook(response: requests.Response, **arguments: object) -> None:
        sends(timeout=0.2)
        sends(**{**arguments, "timeout": 0.2, "allow_redirects": True})

    def while_preparing(request: requests.PreparedRequest) -> requests.PreparedRequest:
        sends(timeout=0.2)
        return request

    manager.get(server.url, auth=while_preparing)
    manager.get(server.url, hooks={"response": in_a_hook})
    assert raised == [requests.ReadTimeout] * 3


def test_what_the_breaker_remembers_is_light_and_reads_well(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    class Held:
        """Something that the failed request holds."""

    url = server.script("/down", Reply(hang_up=True))
    manager = make_manager(circuit_breaker_failure_threshold=1, max_retries=1)
    prepared = requests.Request("PUT", url, data=b"x").prepare()
    prepared.held = Held()  # type: ignore[attr-defined]
    alive = weakref.ref(prepared.held)  # type: ignore[attr-defined]
    with pytest.raises(MaxRetriesExceeded):
        manager.session.send(prepared)
    del prepared
    gc.collect()
    assert alive() is None
    with pytest.raises(CircuitBreakerOpen, match="is open after ConnectionError: nothing"):
        manager.get(url)
    manager = make_manager(circuit_breaker_failure_threshold=1, max_retries=0)
    manager.get(server.script("/500", Reply(status=500)))
    with pytest.raises(CircuitBreakerOpen, match="is open after status 500: nothing") as caught:
        manager.get(url)
    assert str(caught.value.last_error) == "status 500"


def test_failures_before_the_last_attempt_are_not_forgotten(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    """The deadline cuts the last attempt short, but others have had all of their time."""
    url = server.script("/hangs", Reply(delay=30))
    manager = make_manager(read_timeout=0.2, total_timeout=1, backoff_factor=0.3, backoff_jitter=0)
    with pytest.raises(DeadlineExceeded):
        manager.get(url)
    assert server.count() >= 2
    assert manager.circuit_breaker.fail_counter == 1
