"""Under `install`, sessions of all kinds stay what they are: SDKs do odd things to theirs."""

from __future__ import annotations

import functools
import gc
import itertools
import threading
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from requests_connection_manager import CircuitBreakerOpen, RateLimitExceeded, install, managed
from requests_connection_manager import uninstall as uninstall_
from tests.server import Reply, ScriptedServer

QUICK: dict[str, Any] = {"backoff_factor": 0}


class WithNames(requests.Session):
    """Names its attributes and methods as we might."""

    def __init__(self) -> None:
        super().__init__()
        self.host = self.endpoints = self.manager = self.pools = "mine"

    def _request(self, path: str) -> str:
        return path

    def _send(self) -> None: ...

    def send(self, request, **kwargs):
        assert self._request("a") == "a"
        assert self.host == "mine"
        return super().send(request, **kwargs)


class WithDel(requests.Session):
    ended = 0

    def __del__(self) -> None:
        WithDel.ended += 1


class WithSlots(requests.Session):
    __slots__ = ("token",)

    def __init__(self) -> None:
        super().__init__()
        self.token = "t"

    def send(self, request, **kwargs):
        assert self.token == "t"
        return super().send(request, **kwargs)


class Final(requests.Session):
    def __init_subclass__(cls, **kwargs: Any) -> None:
        raise TypeError("no subclass of this")


class WithC(requests.Session, dict):
    pass


class WithBase(requests.Session):
    """Completes URLs in its `request`, and asks for a token in its `send`."""

    base = ""

    def request(self, method, url, *args, **kwargs):
        return super().request(method, self.base + url, *args, **kwargs)

    def send(self, request, **kwargs):
        if not request.url.endswith("/token"):
            self.post("/token")
        return super(self.__class__, self).send(request, **kwargs)


@pytest.mark.parametrize("kind", [WithNames, WithSlots, Final, WithC])
def test_it_is_managed_whatever_its_class(kind: type, server: ScriptedServer) -> None:
    server.script("/", Reply(status=503), Reply())
    with managed(**QUICK), kind() as session:
        assert session.get(server.url).status_code == 200
    assert len(server.received) == 2


def test_it_ends_once(server: ScriptedServer) -> None:
    with managed(**QUICK):
        session = WithDel()
        session.get(server.url)
        session.get(server.url)
        gc.collect()
        assert WithDel.ended == 0
        del session
        gc.collect()
    assert WithDel.ended == 1


def test_calls_from_its_own_methods_are_its_own(server: ScriptedServer) -> None:
    with managed(**QUICK) as manager, WithBase() as session:
        session.base = server.url
        assert session.get("/x").status_code == 200
        assert manager.stats().requests_made == 2
    assert [each.path for each in server.received] == ["/token", "/x"]


def test_a_url_may_be_completed_when_it_is_prepared(server: ScriptedServer) -> None:
    class Completing(requests.Session):
        def prepare_request(self, request):
            request.url = server.url + request.url
            return super().prepare_request(request)

    server.script("/x", Reply(status=503), Reply())
    with managed(**QUICK), Completing() as session:
        assert session.get("/x").status_code == 200


def test_a_method_that_is_bound_before_counts_once(server: ScriptedServer) -> None:
    numbers = {"rate_limit_requests": 1, "rate_limit_period": 60, "rate_limit_max_wait": 0}
    with managed(**numbers, **QUICK) as manager, requests.Session() as session:
        session.send = functools.partial(session.send, timeout=5)  # type: ignore[method-assign]
        assert session.get(server.url).ok
        assert manager.stats().requests_made == 1


def test_wrappers_of_other_kinds_are_asked(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = functools.partialmethod(vars(requests.Session)["request"], timeout=5)
    monkeypatch.setattr(requests.Session, "request", own)
    with managed(**QUICK):
        assert requests.get(server.url).ok
    assert vars(requests.Session)["request"] is own


def test_credentials_do_not_cross_an_origin_where_redirects_are_followed_by_hand(
    server: ScriptedServer, other_server: ScriptedServer
) -> None:
    server.script("/", Reply.redirect(other_server.url))
    with managed(api_key="SECRET", **QUICK), requests.Session() as session:
        answer = session.get(server.url, allow_redirects=False)
        for _ in session.resolve_redirects(answer, answer.request):
            pass
    assert server.received[0].headers["X-API-Key"] == "SECRET"
    assert "SECRET" not in str(other_server.received)


def test_its_credential_goes_before_that_of_a_pattern(server: ScriptedServer) -> None:
    class Signing(requests.Session):
        def prepare_request(self, request):
            request.headers = {**(request.headers or {}), "Authorization": "Own"}
            return super().prepare_request(request)

    with managed(endpoint_configs={"127.0.0.1": {"bearer_token": "ours"}}, **QUICK):
        with requests.Session() as session:
            session.headers["Authorization"] = "Own"
            session.get(server.url)
        with Signing() as session:
            session.get(server.url)
            session.send(session.prepare_request(requests.Request("GET", server.url)))
        requests.get(server.url)
    signed = [each.headers["Authorization"] for each in server.received]
    assert signed == ["Own", "Own", "Own", "Bearer ours"]


def test_what_fetches_a_credential_is_not_signed_with_it(server: ScriptedServer) -> None:
    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        requests.post(server.url + "/token")
        request.headers["Authorization"] = "Bearer t"
        return request

    with managed(auth=sign, **QUICK):
        requests.get(server.url + "/x")
    assert [each.path for each in server.received] == ["/token", "/x"]


def test_a_hook_that_calls_requests_does_not_call_itself(server: ScriptedServer) -> None:
    with managed(**QUICK) as manager:
        manager.register_pre_request_hook(lambda context: requests.get(server.url + "/audit"))
        requests.get(server.url + "/x")
    assert [each.path for each in server.received] == ["/audit", "/x"]


def test_a_session_that_answers_by_itself_takes_no_permit(server: ScriptedServer) -> None:
    class Caching(requests.Session):
        known: requests.Response | None = None

        def send(self, request, **kwargs):
            if self.known is None or "fresh" in request.url:
                self.known = super().send(request, **kwargs)
            return self.known

    numbers = {"rate_limit_requests": 1, "rate_limit_period": 60, "rate_limit_max_wait": 0}
    with managed(**numbers, **QUICK), Caching() as session:
        for _ in range(3):
            assert session.get(server.url).ok
        with pytest.raises(RateLimitExceeded):
            session.get(server.url + "/fresh")
    server.script("/fresh", Reply(status=500))
    with managed(circuit_breaker_failure_threshold=2, max_retries=0), Caching() as session:
        for path in ("/fresh", "/", "/fresh"):
            session.get(server.url + path)
        with pytest.raises(CircuitBreakerOpen):  # an answer from the cache was no success
            session.get(server.url + "/fresh")


@pytest.mark.parametrize(
    "change",
    [
        lambda adapter: setattr(adapter, "max_retries", Retry(total=None, status=2)),
        lambda adapter: adapter.poolmanager.connection_pool_kw.update(source_address=("::1", 0)),
        lambda adapter: setattr(adapter, "send", adapter.send),
        lambda adapter: setattr(adapter, "max_retries", 3),
    ],
)
def test_an_adapter_on_which_something_was_set_acts_for_itself(
    change: Any, server: ScriptedServer
) -> None:
    with managed(max_retries=0), requests.Session() as session:
        own = HTTPAdapter()
        change(own)
        session.mount("http://", own)
        seen: list[object] = []
        hooks = {"response": lambda answer, **_: seen.append(answer.connection)}
        try:
            session.get(server.url, hooks=hooks)
        except (requests.ConnectionError, AttributeError, TypeError):
            seen.append(own)  # as it would have failed by itself
    assert seen == [own]


def test_timeouts_of_its_own_count(server: ScriptedServer) -> None:
    class Hasty(requests.Session):
        def send(self, request, timeout=None, **kwargs):
            return super().send(request, timeout=timeout or 0.2, **kwargs)

    class HastyAdapter(HTTPAdapter):
        def send(self, request, *args, timeout=None, **kwargs):
            return super().send(request, *args, timeout=timeout or 0.2, **kwargs)

    server.script("/slow", Reply(delay=2))
    with managed(max_retries=0), Hasty() as hasty, requests.Session() as session:
        session.mount("http://", HastyAdapter())
        for each in (hasty, session):
            with pytest.raises(requests.Timeout):
                each.get(server.url + "/slow")


def test_a_session_that_closes_itself_when_it_is_collected_does_not_hang(
    server: ScriptedServer,
) -> None:
    class Closing(requests.Session):
        def __del__(self) -> None:
            self.close()

    def run() -> None:
        for _ in itertools.repeat(None, 30):
            session = Closing()
            session.circle = session  # type: ignore[attr-defined]
            session.get(server.url)

    before = gc.get_threshold()
    gc.set_threshold(20)
    try:
        with managed(**QUICK):
            thread = threading.Thread(target=run, daemon=True)
            thread.start()
            thread.join(40)
            assert not thread.is_alive()
    finally:
        gc.set_threshold(*before)


def test_a_manager_that_was_closed_manages_no_more(server: ScriptedServer) -> None:
    with install(bearer_token="t", **QUICK):  # closes it, but is no uninstall
        pass
    try:
        assert requests.get(server.url).ok
    finally:
        uninstall_()
    assert "Authorization" not in server.received[0].headers


def test_its_class_is_not_held(server: ScriptedServer) -> None:
    with managed(**QUICK):
        for _ in range(5):

            class Local(requests.Session):
                pass

            with Local() as session:
                session.get(server.url)
        del Local, session
        gc.collect()
        names = [kind.__name__ for kind in requests.Session.__subclasses__()]
    assert "Local" not in names
