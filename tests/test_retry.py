"""Which failures are sent again, as the server sees it, and what is raised in the end."""

from __future__ import annotations

from unittest.mock import MagicMock, patch

import pytest
import requests
from requests.exceptions import ChunkedEncodingError, RetryError
from urllib3.util.retry import Retry

from requests_connection_manager import MaxRetriesExceeded
from tests.conftest import MakeManager, full_backlog
from tests.server import Reply, ScriptedServer

DOWN = Reply(status=503)


@pytest.mark.parametrize(
    "failure",
    [
        DOWN,
        Reply(status=429),
        Reply(reset="before"),
        Reply(reset="after"),
        Reply(hang_up=True),
        Reply(body=b"x" * 1000, cut_at=10),
        Reply(body=b"x" * 1000, cut_at=10, chunked=True),
        Reply(delay=30),
    ],
    ids=lambda reply: repr(reply)[:60],
)
def test_each_kind_of_failure_is_retried(
    make_manager: MakeManager, server: ScriptedServer, failure: Reply
) -> None:
    url = server.script("/flaky", failure, failure, Reply(body=b"at last"))
    manager = make_manager(read_timeout=0.3)
    assert manager.get(url).content == b"at last"
    assert server.count("/flaky") == 3


@pytest.mark.parametrize("stream", [False, True])
def test_a_status_exhausted(
    make_manager: MakeManager, server: ScriptedServer, stream: bool
) -> None:
    url = server.script("/down", Reply(status=503, body=b"closed for repair"))
    manager = make_manager(max_retries=2)
    with pytest.raises(MaxRetriesExceeded) as caught:
        manager.get(url, stream=stream)
    error = caught.value
    assert server.count() == 3
    assert isinstance(error, RetryError)
    assert isinstance(error.last_error, RetryError)
    assert error.response is not None
    assert error.response.content == b"closed for repair"
    assert [attempt.status for attempt in error.attempts] == [503, 503, 503]
    assert [attempt.number for attempt in error.attempts] == [1, 2, 3]
    assert error.request is not None
    assert error.request.url == url
    assert "503" in str(error)
    assert f"127.0.0.1:{server.port}" in (error.endpoint or "")


def test_a_large_streamed_error_is_let_go(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/down", Reply(status=503, body=b"x" * 200_000))
    manager = make_manager(max_retries=1)
    with pytest.raises(MaxRetriesExceeded) as caught:
        manager.get(url, stream=True)
    assert caught.value.response is not None
    assert caught.value.response.raw.closed


PLAIN_KINDS = [
    (Reply(reset="after"), requests.ConnectionError),
    (Reply(hang_up=True), requests.ConnectionError),
    (Reply(delay=30), requests.ReadTimeout),
    (Reply(body=b"x" * 100, cut_at=3), ChunkedEncodingError),
]


@pytest.mark.parametrize(("failure", "kind"), PLAIN_KINDS)
def test_exhausted_is_also_what_plain_requests_would_have_raised(
    make_manager: MakeManager, server: ScriptedServer, failure: Reply, kind: type[Exception]
) -> None:
    url = server.script("/broken", failure)
    with pytest.raises(kind), requests.Session() as plain:
        plain.get(url, timeout=0.2)
    server.forget()
    manager = make_manager(max_retries=2, timeout=0.2)
    with pytest.raises(kind) as caught:
        manager.get(url)
    error = caught.value
    assert isinstance(error, MaxRetriesExceeded)
    assert server.count() == 3
    assert type(error.last_error) is kind
    assert error.__cause__ is error.last_error
    assert error.response is None
    assert all(isinstance(attempt.error, kind) for attempt in error.attempts)
    assert all(attempt.elapsed >= 0 and attempt.started_at > 1e9 for attempt in error.attempts)


def test_it_is_what_the_first_attempt_would_have_raised_and_the_last(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    """Plain requests would have ended with the first."""
    url = server.script("/broken", Reply(body=b"x" * 100, cut_at=3), Reply(delay=30))
    with pytest.raises(ChunkedEncodingError) as caught:
        make_manager(max_retries=2, timeout=0.2).get(url)
    error = caught.value
    assert isinstance(error, MaxRetriesExceeded)
    assert isinstance(error, requests.ReadTimeout)
    assert type(error.last_error) is requests.ReadTimeout


@pytest.mark.parametrize(("failure", "kind"), PLAIN_KINDS)
def test_its_args_are_those_of_the_plain_exception(
    make_manager: MakeManager, server: ScriptedServer, failure: Reply, kind: type[Exception]
) -> None:
    """There is much code that looks into ``error.args[0]``."""
    url = server.script("/broken", failure)
    with pytest.raises(kind) as plain, requests.Session() as session:
        session.get(url, timeout=0.2)
    with pytest.raises(kind) as caught:
        make_manager(max_retries=1, timeout=0.2).get(url)
    assert isinstance(caught.value, MaxRetriesExceeded)
    assert type(caught.value.args[0]) is type(plain.value.args[0])
    assert str(caught.value.args[0]) == str(plain.value.args[0])
    assert "after 2 attempts" in str(caught.value)


@pytest.mark.parametrize(("failure", "kind"), PLAIN_KINDS)
def test_without_retries_the_plain_exception_comes_through(
    make_manager: MakeManager, server: ScriptedServer, failure: Reply, kind: type[Exception]
) -> None:
    url = server.script("/broken", failure)
    with pytest.raises(kind) as caught:
        make_manager(max_retries=0, timeout=0.2).get(url)
    assert type(caught.value) is kind
    assert server.count() == 1


def test_without_retries_the_plain_response_comes_through(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    assert make_manager(max_retries=0).get(server.script("/down", DOWN)).status_code == 503
    assert server.count() == 1


def test_a_refused_connection_is_retried_for_any_method(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    server.pause()
    with pytest.raises(requests.ConnectionError) as caught:
        make_manager(max_retries=2).post(server.url, data=b"x")
    assert isinstance(caught.value, MaxRetriesExceeded)
    assert len(caught.value.attempts) == 3
    assert "Connection refused" in str(caught.value)


def test_an_unreachable_address_times_out_as_connect_timeout(make_manager: MakeManager) -> None:
    """A listener whose backlog is full does not answer the handshake."""
    with full_backlog() as listener, pytest.raises(requests.ConnectTimeout) as caught:
        make_manager(max_retries=1, connect_timeout=0.2).post(
            f"http://127.0.0.1:{listener.getsockname()[1]}/", data="x"
        )
    assert isinstance(caught.value, MaxRetriesExceeded)
    assert len(caught.value.attempts) == 2


def test_a_post_that_may_have_arrived_is_not_sent_twice(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/pay", Reply(reset="after"))
    with pytest.raises(requests.ConnectionError) as caught:
        make_manager().post(url, data=b"1 EUR")
    assert not isinstance(caught.value, MaxRetriesExceeded)
    assert server.count() == 1
    assert make_manager().post(server.script("/down", DOWN)).status_code == 503
    assert server.count("/down") == 1


def test_a_post_with_an_idempotency_key_is(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/pay", Reply(reset="after"), DOWN, Reply())
    answer = make_manager().post(url, json={"eur": 1}, headers={"idempotency-key": "abc"})
    assert answer.status_code == 200
    assert [each.body for each in server.received] == [b'{"eur": 1}'] * 3


def test_the_last_response_is_handed_back_on_request(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/down", DOWN, DOWN, Reply(status=502, body=b"last"))
    response = make_manager(max_retries=2, raise_on_status=False).get(url)
    assert (response.status_code, response.content) == (502, b"last")
    assert server.count() == 3


def test_an_endpoints_own_numbers_have_their_effect(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    here = f"127.0.0.1:{server.port}"
    manager = make_manager(
        max_retries=3,
        endpoint_configs={
            f"{here}/five": {"max_retries": 5},
            f"{here}/none": {"max_retries": 0},
            f"{here}/teapot": {"max_retries": 1, "retry_statuses": [418]},
            f"{here}/slow": {"max_retries": 2, "backoff_factor": 0.15, "backoff_jitter": 0},
        },
    )
    for path, count in {"/five": 6, "/none": 1, "/other": 4, "/slow": 3}.items():
        url = server.script(path, DOWN)
        if count == 1:
            manager.get(url)
        else:
            with pytest.raises(MaxRetriesExceeded):
                manager.get(url)
        assert server.count(path) == count
    with pytest.raises(MaxRetriesExceeded):
        manager.get(server.script("/teapot", Reply(status=418)))
    assert server.count("/teapot") == 2
    assert manager.get(server.script("/teapot", DOWN)).status_code == 503
    times = [each.at for each in server.requests_to("/slow")]
    assert times[2] - times[1] >= 0.3


def test_the_wire_waits_as_long_as_retry_after_says(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/busy", Reply.retry_after(1), Reply())
    assert make_manager().get(url).status_code == 200
    first, second = server.received
    assert second.at - first.at >= 1


def test_a_hint_beyond_the_cap_comes_to_the_caller_at_once(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/busy", Reply.retry_after(3600, status=429))
    with pytest.raises(MaxRetriesExceeded, match="Retry-After: 3600 s") as caught:
        make_manager().get(url)
    assert caught.value.retry_after == 3600
    assert caught.value.response is not None
    assert caught.value.response.headers["Retry-After"] == "3600"
    assert server.count() == 1
    assert make_manager(raise_on_status=False).get(url).status_code == 429


# Connections


def test_a_connection_that_the_server_closed_behind_our_back_is_replaced(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/alive", Reply(close_silently=True))
    manager = make_manager()
    for _ in range(5):
        assert manager.get(url).status_code == 200
    assert server.count() == 5


def test_retries_keep_the_connection(make_manager: MakeManager, server: ScriptedServer) -> None:
    url = server.script("/flaky", DOWN, DOWN, Reply())
    make_manager().get(url)
    assert server.connections_made == 1


def test_streamed_retries_leak_no_connection(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/flaky", DOWN, DOWN, Reply(body=b"x" * 50_000))
    with make_manager(pool_block=True, pool_maxsize=1).get(url, stream=True) as response:
        assert len(response.content) == 50_000


# What retrying must withstand


@pytest.mark.parametrize("stream", [False, True])
def test_a_hint_of_hundreds_of_digits_is_only_a_long_one(
    make_manager: MakeManager, server: ScriptedServer, stream: bool
) -> None:
    url = server.script("/busy", Reply(status=503, headers={"Retry-After": "9" * 400}), Reply())
    manager = make_manager(pool_block=True, pool_maxsize=1)
    with pytest.raises(MaxRetriesExceeded) as caught:
        manager.get(url, stream=stream)
    assert caught.value.retry_after == float("inf")
    assert manager.get(url).status_code == 200


def test_what_a_mocked_adapter_answers_is_read_with_care(make_manager: MakeManager) -> None:
    mocked = MagicMock(status_code=503, history=[])
    with patch("requests.adapters.HTTPAdapter.send", return_value=mocked) as send:
        with pytest.raises(MaxRetriesExceeded):
            make_manager(max_retries=1).get("https://api.test/")
        assert send.call_count == 2


def test_a_subclass_of_retry_gets_what_urllib3_gives_it(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    class Own(Retry):
        def is_retry(self, method: str, status_code: int, has_retry_after: bool = False) -> bool:
            return status_code in (200, 418)

        def get_retry_after(self, response) -> float | None:
            return float(response.headers["X-Pause"])

        def increment(self, *args, response=None, **kwargs):
            assert response.headers["X-Pause"]
            return super().increment(*args, response=response, **kwargs)

    teapot = Reply(status=418, headers={"X-Pause": "0.3"})
    url = server.script("/tea", teapot, Reply(status=404))
    assert make_manager(max_retries=Own(2)).get(url).status_code == 404
    first, second = server.received
    assert second.at - first.at >= 0.3
    url = server.script("/ok", Reply(headers={"X-Pause": "0.01"}))
    with pytest.raises(MaxRetriesExceeded) as caught:
        make_manager(max_retries=Own(2)).get(url)
    assert [attempt.status for attempt in caught.value.attempts] == [200, 200, 200]


def test_the_cut_body_of_a_redirect_that_is_not_followed_is_an_attempts_failure(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    headers = {"Location": "/there"}
    cut = Reply(status=302, headers=headers, body=b"x" * 100, cut_at=3)
    url = server.script("/go", cut, Reply.redirect("/there"))
    manager = make_manager()
    assert manager.get(url, allow_redirects=False).status_code == 302
    assert server.count() == 2
    server.script("/go", cut)
    with pytest.raises(ChunkedEncodingError):
        manager.session.send(
            requests.Request("GET", url).prepare(), allow_redirects=False, timeout=5
        )
    assert manager.circuit_breaker.fail_counter == 1
    assert manager.get(url).url.endswith("/there")  # followed, its body does not matter


def test_an_undecodable_body_gives_its_connection_back(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/bad", Reply(body=b"no gzip", headers={"Content-Encoding": "gzip"}))
    manager = make_manager(pool_block=True, pool_maxsize=1, total_timeout=20)
    for _ in range(2):
        with pytest.raises(requests.exceptions.ContentDecodingError):
            manager.get(url)
    assert server.count() == 2
    assert manager.circuit_breaker.fail_counter == 0


class VendorError(requests.ConnectionError):
    """With a constructor of its own, as an SDK's adapter may raise."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")


def test_an_error_with_a_constructor_of_its_own_is_stood_for_too(
    make_manager: MakeManager,
) -> None:
    with (
        patch("requests.adapters.HTTPAdapter.send", side_effect=VendorError(7, "x")),
        pytest.raises(VendorError) as caught,
    ):
        make_manager(max_retries=1).get("https://api.test/")
    assert isinstance(caught.value, MaxRetriesExceeded)
    assert isinstance(caught.value.last_error, VendorError)


def test_what_the_caller_was_just_dealing_with_changes_nothing(
    make_manager: MakeManager, server: ScriptedServer, tls_server: ScriptedServer
) -> None:
    """A call to a back-up is made in the `except` block of the primary's failure."""
    url = server.script("/pay", Reply(reset="after"))
    manager = make_manager(max_retries=2)
    server_down = "http://127.0.0.1:9/"  # discard; nobody listens
    try:
        manager.get(server_down)
    except requests.ConnectionError:
        with pytest.raises(requests.ConnectionError) as caught:
            manager.post(url, data=b"1 EUR")
    assert not isinstance(caught.value, MaxRetriesExceeded)
    assert server.count() == 1
    try:
        manager.get(tls_server.url)
    except requests.exceptions.SSLError:
        with pytest.raises(MaxRetriesExceeded):
            manager.get(server_down)
