"""Code of the user's around a call."""

from __future__ import annotations

import functools
import gc
import logging
import weakref
from typing import Any
from unittest import mock

import pytest
import requests
from requests.structures import CaseInsensitiveDict

from requests_connection_manager import (
    CircuitBreakerOpen,
    ConfigurationError,
    ConnectionManager,
    ConnectionManagerError,
    ErrorContext,
    HookType,
    MaxRetriesExceeded,
    RateLimitExceeded,
    RequestContext,
    ResponseContext,
)
from tests.conftest import MakeManager, in_threads
from tests.server import Reply, ScriptedServer


def test_a_hook_changes_what_is_sent(server: ScriptedServer, manager: ConnectionManager) -> None:
    def change(context: RequestContext) -> None:
        assert (context.method, context.kwargs) == ("GET", {"headers": {"x-a": "1", "X-B": "2"}})
        context.method = "PUT"
        context.update_url(server.url + "/elsewhere")
        context.update_headers({"X-A": "one"})
        context.update_payload(json={"a": 1})
        context.kwargs["params"] = {"q": "1"}

    manager.register_pre_request_hook(change)
    headers = {"x-a": "1", "X-B": "2"}
    manager.get(server.url, headers=headers)
    (request,) = server.received
    assert (request.method, request.target) == ("PUT", "/elsewhere?q=1")
    assert (request.headers["X-A"], request.headers["X-B"]) == ("one", "2")
    assert request.body == b'{"a": 1}'
    assert headers == {"x-a": "1", "X-B": "2"}


def test_a_payload_replaces_the_one_of_the_other_kind() -> None:
    context = RequestContext("POST", "http://a.test", {"data": "x", "json": {"a": 1}})
    context.update_payload()
    assert context.kwargs == {"data": "x", "json": {"a": 1}}
    context.update_payload("y")
    assert context.kwargs == {"data": "y"}
    context.update_payload(json=None)
    assert context.kwargs == {"json": None}


def test_hooks_see_what_was_given_and_no_more(
    server: ScriptedServer, manager: ConnectionManager
) -> None:
    seen: list[Any] = []
    manager.register_pre_request_hook(lambda context: seen.append(context.kwargs))
    manager.get(server.url)
    manager.get(server.url, timeout=None, allow_redirects=False)
    manager.session.get(server.url)  # Session.get says it, too
    assert seen == [{}, {"timeout": None, "allow_redirects": False}, {}]


def test_settings_are_those_of_the_url_that_the_hooks_leave(
    server: ScriptedServer, other_server: ScriptedServer, make_manager: MakeManager
) -> None:
    pattern = f"{other_server.host}:{other_server.port}"
    manager = make_manager(
        bearer_token="manager",
        endpoint_configs={
            pattern: {
                "bearer_token": "endpoint",
                "rate_limit_requests": 1,
                "rate_limit_max_wait": 0,
            }
        },
    )
    manager.register_pre_request_hook(lambda context: context.update_url(other_server.url))
    manager.get(server.url)
    assert other_server.received[0].headers["Authorization"] == "Bearer endpoint"
    with pytest.raises(RateLimitExceeded):
        manager.get(server.url)
    assert (server.count(), other_server.count()) == (0, 1)


def test_a_response_may_be_replaced(server: ScriptedServer, manager: ConnectionManager) -> None:
    mine = requests.Response()
    manager.register_post_response_hook(lambda context: setattr(context, "response", mine))
    assert manager.get(server.url) is mine


def test_a_falsy_fallback_counts(server: ScriptedServer, make_manager: MakeManager) -> None:
    server.script("/", Reply(status=503))
    manager = make_manager(max_retries=1)
    fallback = requests.Response()
    fallback.status_code = 404
    seen: list[Exception] = []

    def fall_back(context: ErrorContext) -> None:
        seen.append(context.exception)
        assert context.request.url == server.url
        context.set_fallback_response(fallback)

    manager.register_error_hook(fall_back)
    assert manager.get(server.url) is fallback
    assert isinstance(seen[0], MaxRetriesExceeded)


@pytest.mark.parametrize("stream", [False, True])
def test_the_error_comes_through_where_no_hook_gives_a_fallback(
    stream: bool, server: ScriptedServer, make_manager: MakeManager
) -> None:
    server.pause()
    manager = make_manager(max_retries=0)
    seen: list[Exception] = []
    manager.register_error_hook(lambda context: seen.append(context.exception))
    with pytest.raises(requests.ConnectionError) as caught:
        manager.get(server.url, stream=stream)
    assert seen == [caught.value]


def test_an_error_hook_may_put_another_error_in_its_place(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    server.pause()
    manager = make_manager(max_retries=0)
    manager.register_error_hook(lambda context: setattr(context, "exception", KeyError("mine")))
    with pytest.raises(KeyError, match="mine") as caught:
        manager.get(server.url)
    assert isinstance(caught.value.__cause__, requests.ConnectionError)


def test_error_hooks_hear_of_rejections_and_of_mistakes(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    seen: list[str] = []
    manager = make_manager(rate_limit_requests=1, rate_limit_max_wait=0)
    manager.register_error_hook(lambda context: seen.append(type(context.exception).__name__))
    manager.get(server.url)
    for url in (server.url, "http://", "nothing"):
        with pytest.raises(requests.RequestException):
            manager.get(url)
    assert seen == ["RateLimitExceeded", "InvalidURL", "MissingSchema"]


class Recorder:
    """Any callable: its method, itself, or a part of a function."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def note(self, context: object) -> None:
        self.seen.append(context)

    def __call__(self, context: object) -> None:
        self.seen.append(context)


def note_with(recorder: Recorder, context: object) -> None:
    recorder.note(context)


def test_any_callable_is_a_hook(server: ScriptedServer, manager: ConnectionManager) -> None:
    recorder = Recorder()
    for hook in (recorder.note, recorder, functools.partial(note_with, recorder), mock.Mock()):
        manager.register_pre_request_hook(hook)
        manager.register_post_response_hook(hook)
    manager.get(server.url)
    assert len(recorder.seen) == 6
    assert manager.list_hooks() == {
        "pre_request": ["note", "Recorder", "note_with", "Mock"],
        "post_response": ["note", "Recorder", "note_with", "Mock"],
        "error_handler": [],
    }
    assert manager.get_stats()["registered_hooks"] == manager.list_hooks()


def test_a_hook_is_taken_out_again(server: ScriptedServer, manager: ConnectionManager) -> None:
    recorder = Recorder()
    manager.register_pre_request_hook(recorder.note)
    assert manager.unregister_hook(HookType.PRE_REQUEST, recorder.note)
    assert not manager.unregister_hook(HookType.PRE_REQUEST, recorder.note)
    assert not manager.unregister_hook("error_handler", recorder.note)
    manager.get(server.url)
    assert recorder.seen == []
    with pytest.raises(ConfigurationError, match="HookType.PRE_REQUEST"):
        manager.unregister_hook("before", recorder.note)


@pytest.mark.parametrize("hook", [None, 3, "name"])
def test_what_cannot_be_called_is_no_hook(hook: Any, manager: ConnectionManager) -> None:
    for register in (
        manager.register_pre_request_hook,
        manager.register_post_response_hook,
        manager.register_error_hook,
        manager.on_attempt,
    ):
        with pytest.raises(ConfigurationError, match="must be callable"):
            register(hook)
    with pytest.raises(ConfigurationError, match="process_request"):
        manager.add_middleware(hook)
    with pytest.raises(ConfigurationError, match="hook_errors"):
        ConnectionManager(hook_errors=hook)


def broken(context: object) -> None:
    raise ValueError("broken: token=s3cret-of-mine")


def test_a_hook_that_raises_is_logged_and_the_call_goes_on(
    server: ScriptedServer, make_manager: MakeManager, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    manager = make_manager(max_retries=0)
    for register in (
        manager.register_pre_request_hook,
        manager.register_post_response_hook,
        manager.register_error_hook,
    ):
        register(broken)
        register(recorder)
    assert manager.get(server.url).status_code == 200
    server.pause()
    with pytest.raises(requests.ConnectionError):
        manager.get(server.url)
    assert len(recorder.seen) == 4
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 4
    assert all("hook broken raised ValueError: broken" in each.getMessage() for each in errors)
    assert "test_hooks.py:" in errors[0].getMessage()
    assert "s3cret-of-mine" not in caplog.text


def test_hook_errors_raise(server: ScriptedServer, make_manager: MakeManager) -> None:
    before, after = make_manager(hook_errors="raise"), make_manager(hook_errors="raise")
    before.register_pre_request_hook(broken)
    with pytest.raises(ValueError, match="broken"):
        before.get(server.url)
    assert server.count() == 0
    after.register_post_response_hook(broken)
    with pytest.raises(ValueError, match="broken"):
        after.get(server.url)


class Veto(ConnectionManagerError):
    """Of the user's own."""


def veto(context: object) -> None:
    raise Veto("not today")


def test_a_veto_ends_the_call(server: ScriptedServer, make_manager: MakeManager) -> None:
    manager = make_manager(rate_limit_requests=1)
    manager.register_pre_request_hook(veto)
    with pytest.raises(Veto):
        manager.get(server.url)
    assert server.count() == 0
    manager.unregister_hook(HookType.PRE_REQUEST, veto)
    manager.get(server.url)  # the veto has cost no permit


def test_a_veto_of_the_response_frees_its_connection(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    server.script("/", Reply(body=b"x" * 1_000_000))
    manager = make_manager(pool_maxsize=1, pool_block=True, total_timeout=5)
    manager.register_post_response_hook(veto)
    for _ in range(3):
        with pytest.raises(Veto):
            manager.get(server.url, stream=True)
    assert server.count() == 3


class Middleware:
    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    def process_request(self, context: RequestContext) -> None:
        self.log.append(f"{self.name} request")

    def process_response(self, context: ResponseContext) -> None:
        self.log.append(f"{self.name} response {context.response.status_code}")

    def process_error(self, context: ErrorContext) -> None:
        self.log.append(f"{self.name} error")


def test_middleware_is_an_onion(server: ScriptedServer, make_manager: MakeManager) -> None:
    log: list[str] = []
    manager = make_manager(max_retries=0)
    manager.add_middleware(Middleware("outer", log))
    manager.add_middleware(Middleware("inner", log))
    manager.register_pre_request_hook(lambda context: log.append("hook"))
    manager.register_post_response_hook(lambda context: log.append("hook"))
    manager.get(server.url)
    assert log == [
        *("hook", "outer request", "inner request"),
        *("hook", "inner response 200", "outer response 200"),
    ]
    log.clear()
    server.pause()
    with pytest.raises(requests.ConnectionError):
        manager.get(server.url)
    assert log == ["hook", "outer request", "inner request", "inner error", "outer error"]
    assert manager.list_hooks()["post_response"] == [
        "<lambda>",
        *["Middleware.process_response"] * 2,
    ]


def test_middleware_may_have_one_method_only(
    server: ScriptedServer, manager: ConnectionManager
) -> None:
    class Greeter:
        process_request = staticmethod(lambda context: context.update_headers({"X-Hi": "1"}))

    manager.add_middleware(Greeter())
    manager.get(server.url)
    assert server.received[0].headers["X-Hi"] == "1"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda context: context.kwargs.update(tiemout=3), "tiemout"),
        (lambda context: context.update_url(None), "Invalid URL"),
        (lambda context: context.update_url("http://"), "Invalid URL"),
    ],
)
def test_a_hook_that_leaves_an_impossible_request(
    change: Any, named: str, server: ScriptedServer, manager: ConnectionManager
) -> None:
    manager.register_pre_request_hook(change)
    with pytest.raises(requests.RequestException, match=named):
        manager.get(server.url)
    assert server.count() == 0


def test_hooks_act_where_the_session_is_patched_or_handed_on(
    server: ScriptedServer, manager: ConnectionManager
) -> None:
    recorder = Recorder()
    manager.register_pre_request_hook(recorder)
    manager.register_post_response_hook(recorder)
    with mock.patch("requests.Session.request"):
        manager.get("http://a.test")
    manager.session.get(server.url)
    assert len(recorder.seen) == 4


def test_a_call_within_a_hook_is_a_call_of_its_own(
    server: ScriptedServer, manager: ConnectionManager
) -> None:
    depth: list[int] = []

    def ask_first(context: RequestContext) -> None:
        if not depth:
            depth.append(1)
            manager.get(server.url + "/first")

    manager.register_pre_request_hook(ask_first)
    manager.get(server.url + "/second")
    assert [request.path for request in server.received] == ["/first", "/second"]


def test_hooks_may_come_and_go_while_others_send(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    manager = make_manager(rate_limit_requests=None)
    recorder = Recorder()
    manager.register_pre_request_hook(recorder)

    def work(number: int) -> None:
        for _ in range(20):
            if number % 2:
                manager.get(server.url)
            else:
                hook = functools.partial(note_with, Recorder())
                manager.register_pre_request_hook(hook)
                manager.unregister_hook(HookType.PRE_REQUEST, hook)

    in_threads(6, work)
    assert len(recorder.seen) == 60
    assert manager.list_hooks()["pre_request"] == ["Recorder"]


def test_an_interrupt_is_no_error_for_hooks(
    server: ScriptedServer, manager: ConnectionManager
) -> None:
    recorder = Recorder()

    def interrupt(context: object) -> None:
        raise KeyboardInterrupt

    manager.register_error_hook(recorder)
    manager.register_pre_request_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        manager.get(server.url)
    assert recorder.seen == []


def test_an_open_circuit_may_fall_back(server: ScriptedServer, make_manager: MakeManager) -> None:
    manager = make_manager(circuit_breaker_failure_threshold=1, max_retries=0)
    server.script("/", Reply(status=503))
    manager.get(server.url)
    kept = requests.Response()

    def fall_back(context: ErrorContext) -> None:
        if isinstance(context.exception, CircuitBreakerOpen):
            context.set_fallback_response(kept)

    manager.register_error_hook(fall_back)
    assert manager.get(server.url) is kept
    assert server.count() == 1


def test_what_a_hook_raises_shows_no_credential_of_the_url(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    server.script("/", Reply(status=401))
    manager = make_manager(hook_errors="raise")
    manager.register_post_response_hook(lambda context: context.response.raise_for_status())
    with pytest.raises(requests.HTTPError) as caught:
        manager.get(server.url, params={"token": "s3cret"})
    assert "s3cret" not in str(caught.value)
    assert caught.value.response.status_code == 401


def test_containers_of_the_caller_are_not_changed_by_a_hook(
    server: ScriptedServer, manager: ConnectionManager
) -> None:
    headers = CaseInsensitiveDict({"A": "1"})
    cookies = requests.cookies.RequestsCookieJar()
    json: dict[str, Any] = {"user": {}, "tags": [[]]}

    def change(context: RequestContext) -> None:
        context.kwargs["headers"]["X-Trace"] = "1"
        context.kwargs["cookies"].set("a", "b")
        context.kwargs["json"]["user"]["id"] = 7
        context.kwargs["json"]["tags"][0].append(1)

    manager.register_pre_request_hook(change)
    manager.post(server.url, headers=headers, cookies=cookies, json=json)
    assert server.received[0].body == b'{"user": {"id": 7}, "tags": [[1]]}'
    assert (dict(headers), len(cookies), json) == ({"A": "1"}, 0, {"user": {}, "tags": [[]]})


def test_a_veto_closes_what_was_put_in_its_place_too(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    server.script("/", Reply(body=b"x" * 1_000_000))
    other = make_manager(pool_maxsize=1, pool_block=True, total_timeout=5)
    manager = make_manager(pool_maxsize=1, pool_block=True, total_timeout=5)

    def replace(context: ResponseContext) -> None:
        context.response.close()
        context.response = other.get(server.url, stream=True)

    manager.register_post_response_hook(replace)
    manager.register_post_response_hook(veto)
    manager.register_error_hook(
        lambda context: context.set_fallback_response(other.get(server.url, stream=True))
    )
    manager.register_error_hook(veto)
    for url in (server.url, server.url, "no-scheme", "no-scheme"):
        with pytest.raises(Veto):
            manager.get(url, stream=True)


class Odd(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class OddHook:
    def __call__(self, context: object) -> None:
        raise Odd

    def __getattr__(self, name: str) -> object:
        raise KeyError(name)


def test_odd_hooks_and_odd_errors_do_no_more_harm_than_others(
    server: ScriptedServer, manager: ConnectionManager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    manager.register_pre_request_hook(OddHook())
    assert manager.get(server.url).status_code == 200
    assert manager.list_hooks()["pre_request"] == ["OddHook"]

    def fail(response: requests.Response, **_: Any) -> None:
        raise Odd

    with pytest.raises(Odd):
        manager.get(server.url, hooks={"response": fail})


async def later(context: object) -> None:
    raise AssertionError


class Later:
    async def __call__(self, context: object) -> None:
        raise AssertionError


@pytest.mark.parametrize("hook", [later, Later(), functools.partial(later)])
def test_a_coroutine_function_is_no_hook(hook: Any, manager: ConnectionManager) -> None:
    with pytest.raises(ConfigurationError, match="nobody would await"):
        manager.register_pre_request_hook(hook)


def test_a_new_payload_takes_the_place_of_files() -> None:
    context = RequestContext("POST", "http://a.test", {"files": {"f": b"x"}, "data": {"a": "1"}})
    context.update_payload(json={"a": 1})
    assert context.kwargs == {"json": {"a": 1}}


def test_an_exception_that_is_taken_away_is_raised_all_the_same(manager: ConnectionManager) -> None:
    manager.register_error_hook(lambda context: setattr(context, "exception", None))
    with pytest.raises(requests.exceptions.MissingSchema):
        manager.get("no-scheme")


def test_middleware_and_listeners_are_taken_out_again(
    server: ScriptedServer, manager: ConnectionManager
) -> None:
    log: list[str] = []
    middleware, recorder = Middleware("one", log), Recorder()
    manager.add_middleware(middleware)
    manager.on_attempt(recorder)
    assert manager.remove_middleware(middleware)
    assert not manager.remove_middleware(middleware)
    assert manager.unregister_hook("on_attempt", recorder)
    manager.get(server.url)
    assert (log, recorder.seen) == ([], [])


def test_an_error_is_not_kept_alive_by_itself(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    server.script("/cut", Reply(cut_at=1))
    server.script("/down", Reply(status=503))
    manager = make_manager(max_retries=1, circuit_breaker_failure_threshold=None)
    manager.register_error_hook(lambda context: None)
    gc.collect()
    gc.disable()
    try:
        errors = []
        for path in ("/cut", "/down", "/cut"):
            try:
                manager.get(server.url + path)
            except requests.RequestException as error:
                errors.append(weakref.ref(error))
        assert [each() for each in errors] == [None] * 3
    finally:
        gc.enable()
