"""`install`, `uninstall` and `managed` manage every call of requests, and leave no trace."""

from __future__ import annotations

import functools
import gc
import os
import pickle
import threading
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import requests
import responses
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from requests_connection_manager import (
    CircuitBreakerOpen,
    ConfigurationError,
    ConnectionManager,
    DeadlineExceeded,
    OAuth2ClientCredentials,
    RateLimitExceeded,
    install,
    managed,
    process_wide,
    uninstall,
)
from tests.server import Reply, ScriptedServer

METHODS = ("request", "send", "prepare_request", "merge_environment_settings", "close")
BEFORE = {name: vars(requests.Session)[name] for name in METHODS}
ATTRIBUTES = set(vars(requests.Session))
QUICK: dict[str, Any] = {"backoff_factor": 0}


@pytest.fixture(autouse=True)
def _leaves_no_trace() -> Iterator[None]:
    yield
    assert {name: vars(requests.Session)[name] for name in METHODS} == BEFORE
    assert set(vars(requests.Session)) == ATTRIBUTES


class Sdk(requests.Session):
    """A session as SDKs build it: with overrides that count how often they are asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.headers["X-Sdk"] = "1"

    def request(self, method, url, *args, region=None, **kwargs):
        self.asked.append("request")
        return super().request(method, url, *args, **kwargs)

    def prepare_request(self, request):
        self.asked.append("prepare_request")
        request.headers["X-Prepared"] = "1"
        return super().prepare_request(request)

    def merge_environment_settings(self, *args, **kwargs):
        self.asked.append("merge_environment_settings")
        return super().merge_environment_settings(*args, **kwargs)

    def send(self, request, **kwargs):
        self.asked.append("send")
        return super().send(request, **kwargs)


def test_every_way_to_call_is_retried(server: ScriptedServer) -> None:
    with managed(**QUICK) as manager, Sdk() as sdk, requests.Session() as before:
        for way, call in enumerate(
            (
                requests.get,
                lambda url: requests.request("GET", url),
                requests.Session().get,
                lambda url: requests.session().send(requests.Request("GET", url).prepare()),
                sdk.get,
                lambda url: sdk.request("GET", url, region="north"),
                lambda url: sdk.send(sdk.prepare_request(requests.Request("GET", url))),
                before.get,
            )
        ):
            url = server.script(f"/{way}", Reply(status=503), Reply())
            assert call(url).status_code == 200
            assert server.count(f"/{way}") == 2
        assert manager.stats().requests_made == way + 1


def test_sessions_that_were_there_before_are_managed_too(server: ScriptedServer) -> None:
    with requests.Session() as session:
        session.get(server.url)
        url = server.script("/x", Reply(status=503), Reply(), Reply(status=503))
        with managed(**QUICK):
            assert session.get(url).status_code == 200
        assert session.get(url).status_code == 503  # not any more


def test_what_a_class_overrides_is_asked_as_often_as_before(server: ScriptedServer) -> None:
    def asked() -> list[str]:
        server.script("/from", Reply.redirect("/to"))
        with Sdk() as sdk:
            sdk.get(server.url + "/from")
            by_call = list(sdk.asked)
            sdk.send(sdk.prepare_request(requests.Request("GET", server.url)))
            # but for the environment: a hop's own endpoint may have it asked once more
            said = [*by_call, "|", *sdk.asked[len(by_call) :]]
            return [name for name in said if name != "merge_environment_settings"]

    plain = asked()
    with managed(**QUICK):
        for _ in range(2):
            assert asked() == plain
    assert all(each.headers["X-Sdk"] == "1" for each in server.received)


def test_a_session_keeps_its_state(server: ScriptedServer) -> None:
    server.script("/", Reply(headers={"Set-Cookie": "a=1"}))
    with managed(**QUICK), Sdk() as sdk:
        sdk.get(server.url)
        sdk.get(server.url)
        assert sdk.cookies.get_dict() == {"a": "1"}
        assert type(sdk) is Sdk
        assert set(vars(sdk)) == set(vars(Sdk()))
        assert server.received[-1].headers["Cookie"] == "a=1"
        assert server.connections_made == 1
        again = pickle.loads(pickle.dumps(sdk))
        again.asked = []
        assert again.get(server.url).status_code == 200


def test_connections_are_closed_with_their_session(server: ScriptedServer) -> None:
    with managed(**QUICK) as manager:
        session = requests.Session()
        answer = session.get(server.url)
        adapter = answer.connection
        assert sum(adapter.connections_by_address()[0].values()) == 1
        session.close()
        assert sum(adapter.connections_by_address()[0].values()) == 0
        requests.get(server.url)
        assert manager.stats().requests_made == 2
    with managed(**QUICK):
        session = requests.Session()
        adapter = session.get(server.url).connection
    assert sum(adapter.connections_by_address()[0].values()) == 0  # or with the manager


def test_no_two_sessions_share_a_connection(server: ScriptedServer) -> None:
    with managed(**QUICK), requests.Session() as one, requests.Session() as other:
        one.get(server.url)
        other.get(server.url)
        one.get(server.url)
    assert [each.connection for each in server.received] == [1, 2, 1]


def test_limits_and_breakers_hold_for_all_sessions_together(server: ScriptedServer) -> None:
    numbers = {"rate_limit_requests": 2, "rate_limit_period": 60, "rate_limit_max_wait": 0}
    with managed(**numbers, **QUICK), Sdk() as sdk:
        requests.get(server.url)
        sdk.get(server.url)
        with pytest.raises(RateLimitExceeded):
            requests.get(server.url)
    server.script("/down", Reply(status=500))
    with managed(circuit_breaker_failure_threshold=2, max_retries=0, **QUICK), Sdk() as sdk:
        requests.get(server.url + "/down")
        sdk.get(server.url + "/down")
        with pytest.raises(CircuitBreakerOpen):
            requests.get(server.url)
    assert server.count("/down") == 2


def test_a_deadline_bounds_a_body_that_trickles(server: ScriptedServer) -> None:
    url = server.script("/slow", Reply(body=b"x" * 100, drip=0.1))
    with managed(total_timeout=0.5, max_retries=0), pytest.raises(DeadlineExceeded):
        requests.get(url)


class TestWhatTheSessionSaysItself:
    def test_its_credentials_go_first(self, server: ScriptedServer) -> None:
        with managed(bearer_token="ours", **QUICK), requests.Session() as session:
            session.get(server.url)
            session.auth = ("a", "b")
            session.get(server.url)
            session.auth = None
            session.headers["Authorization"] = "Own x"
            session.get(server.url)
            requests.get(server.url, auth=("c", "d"))
        assert [each.headers["Authorization"] for each in server.received] == [
            "Bearer ours",
            requests.auth._basic_auth_str("a", "b"),
            "Own x",
            requests.auth._basic_auth_str("c", "d"),
        ]

    def test_its_trust_goes_first(self, tls_server: ScriptedServer, bundle: str) -> None:
        with managed(max_retries=0), requests.Session() as session:
            with pytest.raises(requests.exceptions.SSLError):
                session.get(tls_server.url)
            session.verify = bundle
            tls_server.script("/from", Reply.redirect("/to"))
            assert session.get(tls_server.url + "/from").url == tls_server.url + "/to"
            prepared = requests.Request("GET", tls_server.url).prepare()
            assert session.send(prepared).status_code == 200
            with pytest.raises(requests.exceptions.SSLError):
                session.get(tls_server.url, verify=True)
        with managed(verify=bundle, max_retries=0):
            assert requests.get(tls_server.url).status_code == 200
            with requests.Session() as session:
                prepared = session.prepare_request(requests.Request("GET", tls_server.url))
                said = session.merge_environment_settings(prepared.url, {}, None, None, None)
                assert said["verify"] == bundle
                assert session.send(prepared, **said).status_code == 200

    def test_adapters_of_its_own_act(self, server: ScriptedServer) -> None:
        class Own(HTTPAdapter):
            sent = 0

            def send(self, *args, **kwargs):
                self.sent += 1
                return super().send(*args, **kwargs)

        own, retrying = Own(), HTTPAdapter(max_retries=Retry(2, status_forcelist=[503]))
        numbers = {"rate_limit_requests": 2, "rate_limit_period": 60, "rate_limit_max_wait": 0}
        with managed(**numbers, **QUICK), requests.Session() as session:
            session.mount(server.url + "/own", own)
            session.mount(server.url + "/retrying", retrying)
            assert session.get(server.url + "/own").ok
            server.script("/retrying", Reply(status=503), Reply())
            assert session.get(server.url + "/retrying").ok
            with pytest.raises(RateLimitExceeded):
                session.get(server.url + "/own")
        assert own.sent == 1

    def test_the_size_of_its_pools_stays(self, server: ScriptedServer) -> None:
        with managed(**QUICK), requests.Session() as session:
            session.mount("http://", HTTPAdapter(pool_maxsize=3, pool_block=True))
            used = session.get(server.url).connection
            assert used.__getstate__()["_pool_maxsize"] == 3
            assert used.__getstate__()["_pool_block"] is True


def test_the_session_of_a_manager_keeps_to_it(server: ScriptedServer) -> None:
    url = server.script("/x", Reply(status=503))
    with (
        ConnectionManager(max_retries=1, raise_on_status=False, **QUICK) as own,
        managed(max_retries=5, **QUICK),
    ):
        own.get(url)
        own.session.get(url)
    assert server.count("/x") == 4


def test_the_latest_counts_and_each_leaves_by_itself(server: ScriptedServer) -> None:
    def sent_by() -> str | None:
        requests.get(server.url)
        return server.received[-1].headers.get("Authorization")

    first = install(bearer_token="first")
    assert sent_by() == "Bearer first"
    install(bearer_token="second")
    inner = managed(bearer_token="third")
    inner.__enter__()
    assert sent_by() == "Bearer third"
    uninstall()  # the second, which is not the latest
    assert sent_by() == "Bearer third"
    inner.__exit__(None, None, None)
    assert sent_by() == "Bearer first"
    first.set_bearer_token("changed")
    assert sent_by() == "Bearer changed"
    uninstall()
    uninstall()
    assert sent_by() is None


def test_what_is_impossible_is_refused_before_anything_changes() -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        install(timeout=-1)
    with pytest.raises(ConfigurationError, match="did you mean"), managed(max_retrys=1):
        pass


def test_many_threads_come_and_go(server: ScriptedServer) -> None:
    barrier, failures = threading.Barrier(16), []

    def run() -> None:
        try:
            barrier.wait()
            for _ in range(8):
                with managed(rate_limit_requests=None, **QUICK):
                    requests.get(server.url)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(server.received) == 128


def test_a_call_under_way_ends_as_it_began(server: ScriptedServer) -> None:
    url = server.script("/x", Reply(status=503, delay=0.5), Reply())
    found: list[int] = []
    with managed(**QUICK):
        call = threading.Thread(target=lambda: found.append(requests.get(url).status_code))
        call.start()
        while not server.received:
            pass
    call.join()
    assert found == [200]


def test_who_came_on_top_meanwhile_is_not_thrown_out(server: ScriptedServer) -> None:
    """An instrumentation that wraps Session.send, say, and is taken off after us."""
    seen: list[str] = []
    with managed(**QUICK) as manager:
        ours = requests.Session.send

        @functools.wraps(ours)
        def instrumented(self, request, **kwargs):
            seen.append(request.url)
            return ours(self, request, **kwargs)

        requests.Session.send = instrumented
        requests.get(server.url)
    requests.get(server.url)  # theirs goes on, and ours under it lets through
    assert requests.Session.send is instrumented
    assert len(seen) == 2
    assert manager.stats().requests_made == 1
    with managed(**QUICK) as manager:
        requests.get(server.url)
        assert (len(seen), manager.stats().requests_made) == (3, 1)
    requests.Session.send = BEFORE["send"]


def test_mocks_that_were_there_before_or_come_later_are_asked(server: ScriptedServer) -> None:
    with mock.patch("requests.Session.request", return_value="mocked") as mocked:
        with managed(**QUICK):
            assert requests.get(server.url) == "mocked"
        assert mocked.call_args.kwargs["method"].upper() == "GET"
    with managed(**QUICK), mock.patch("requests.Session.request", return_value="mocked"):
        assert requests.get(server.url) == "mocked"
    assert server.received == []


def test_with_responses() -> None:
    with managed(**QUICK), responses.RequestsMock() as mocked:
        mocked.get("http://a.test/", status=503)
        mocked.get("http://a.test/", body="ok")
        assert requests.get("http://a.test/").text == "ok"
        mocked.assert_call_count("http://a.test/", 2)


def test_a_token_is_fetched_under_the_same_policies(server: ScriptedServer) -> None:
    server.script("/token", Reply(status=503), Reply(body=b'{"access_token": "t"}'))
    auth = OAuth2ClientCredentials(server.url + "/token", "id", "secret")
    with managed(auth=auth, **QUICK), Sdk() as sdk:
        sdk.cookies.set("own", "1")
        sdk.get(server.url + "/api")
    *asked, api = server.received
    assert api.headers["Authorization"] == "Bearer t"
    assert len(asked) == 2
    assert not any("Cookie" in each.headers for each in asked)


def test_hooks_and_batches_of_the_manager_meet_all(server: ScriptedServer) -> None:
    with managed(**QUICK) as manager:
        manager.register_pre_request_hook(
            lambda context: context.kwargs.update(headers={"X-Hook": "1"})
        )
        requests.get(server.url)
        manager.get(server.url)
        for result in manager.iter_batch([server.url]):
            assert result.response.ok
    assert all(each.headers["X-Hook"] == "1" for each in server.received)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_is_managed_and_finds_no_lock_held(server: ScriptedServer) -> None:
    with managed(**QUICK), requests.Session() as session, process_wide._switch._lock:
        session.get(server.url)
        host = process_wide._switch.hosts[-1]
        with host._lock:
            child = os.fork()
            if child == 0:
                try:
                    url = server.url
                    with managed(bearer_token="t", **QUICK):
                        session.get(url)
                    session.get(url)
                finally:
                    os._exit(0)
        os.waitpid(child, 0)
    assert [each.connection for each in server.received] == [1, 2, 3]
    signed = [each.headers.get("Authorization") for each in server.received]
    assert signed == [None, "Bearer t", None]


def test_nothing_is_held_afterwards(server: ScriptedServer) -> None:
    with managed(**QUICK), Sdk() as sdk:
        sdk.get(server.url)
    gc.collect()
    assert [kind.__module__ for kind in Sdk.__subclasses__()] == []
