"""What the retry policy decides, from values; and what the wire then sees."""

from __future__ import annotations

import io
import socket
import tempfile
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from unittest.mock import MagicMock, patch

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from requests.exceptions import ChunkedEncodingError, RetryError
from urllib3.util.retry import Retry

from requests_connection_manager import MaxRetriesExceeded
from requests_connection_manager.policies.retry import Again, RetryPolicy, Stop
from requests_connection_manager.settings import Settings, manager_layer
from tests.conftest import MakeManager
from tests.server import Reply, ScriptedServer

DOWN = Reply(status=503)


def policy(chance: float = 0.0, **settings: object) -> RetryPolicy:
    return RetryPolicy(Settings(**manager_layer(settings)), chance=lambda: chance)  # type: ignore[arg-type]


def answer(status: int, **headers: str) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return response


def delays(of: RetryPolicy, status: int = 503, method: str = "GET") -> list[float]:
    """The delays before each retry until the policy stops."""
    retry, found = of.begin({}), []
    while True:
        decision = of.after_response(retry, method, "/", answer(status))
        if not isinstance(decision, Again):
            assert isinstance(decision, Stop)
            return found
        found.append(decision.delay)
        retry = decision.retry


def test_the_delays_are_urllib3s() -> None:
    assert delays(policy(max_retries=5)) == pytest.approx([0, 0.6, 1.2, 2.4, 4.8])
    assert delays(policy(max_retries=9, backoff_max=3)) == pytest.approx(
        [0, 0.6, 1.2, 2.4, 3, 3, 3, 3, 3]
    )


@given(chance=st.floats(0, 1), jitter=st.floats(0, 1))
def test_jitter_shortens_a_delay_by_its_fraction_at_most(chance: float, jitter: float) -> None:
    jittered = delays(policy(chance, max_retries=4, backoff_jitter=jitter))
    for got, full in zip(jittered, [0, 0.6, 1.2, 2.4], strict=True):
        assert full * (1 - jitter) - 1e-9 <= got <= full + 1e-9
    assert jittered == pytest.approx([d * (1 - jitter * chance) for d in [0, 0.6, 1.2, 2.4]])


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_the_default_statuses_are_retried(status: int) -> None:
    assert len(delays(policy(), status)) == 3


@pytest.mark.parametrize("status", [200, 302, 400, 404, 413, 501, 505])
def test_others_stand(status: int) -> None:
    assert policy().after_response(policy().begin({}), "GET", "/", answer(status)) is None


@pytest.mark.parametrize(
    ("method", "headers", "retried"),
    [
        ("GET", {}, True),
        ("PUT", {}, True),
        ("POST", {}, False),
        ("PATCH", {}, False),
        ("POST", {"Idempotency-Key": "1"}, True),
    ],
)
def test_methods(method: str, headers: dict, retried: bool) -> None:
    it = policy()
    headers = requests.structures.CaseInsensitiveDict(headers)
    decision = it.after_response(it.begin(headers), method, "/", answer(503))
    assert isinstance(decision, Again) is retried
    error = requests.ReadTimeout("slow")
    assert isinstance(it.after_error(it.begin(headers), method, "/", error), Again) is retried
    never_left = requests.ConnectTimeout("far")
    assert isinstance(it.after_error(it.begin(headers), method, "/", never_left), Again)


def test_no_method_and_any_method() -> None:
    none = policy(retry_methods=[])
    assert none.after_response(none.begin({}), "GET", "/", answer(503)) is None
    every = policy(retry_methods=None)
    assert isinstance(every.after_response(every.begin({}), "POST", "/", answer(503)), Again)


@pytest.mark.parametrize(
    "error",
    [
        requests.exceptions.InvalidURL("x"),
        requests.exceptions.InvalidHeader("x"),
        requests.exceptions.MissingSchema("x"),
        requests.exceptions.ContentDecodingError("x"),
        requests.TooManyRedirects("x"),
        ValueError("x"),
        KeyError("x"),
    ],
)
def test_mistakes_of_the_caller_are_not_retried(error: Exception) -> None:
    assert policy().after_error(policy().begin({}), "GET", "/", error) is None


@pytest.mark.parametrize(
    ("hint", "delay"),
    [
        ("7", 7),
        (" 7 ", 7),
        ("0", 0),  # nothing to wait for: the back-off, which is 0 at first
        ("soon", 0),
        ("", 0),
        ("-3", 0),
        ("1.5", 0),
        ("9" * 5000, 0),
        ("Fri, 99 Foo 2026 99:99:99 GMT", 0),
        ("Mon, 01 Jan 0001 00:00:00 GMT", 0),
        ("Mon, 01 Jan 99999 00:00:00 GMT", 0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0),  # long past
    ],
)
def test_retry_after_in_seconds_and_what_is_malformed(hint: str, delay: float) -> None:
    decision = policy().after_response(
        policy().begin({}), "GET", "/", answer(503, Retry_After=hint)
    )
    assert isinstance(decision, Again)
    assert decision.delay == delay


def test_retry_after_as_a_date() -> None:
    when = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=30), usegmt=True)
    decision = policy().after_response(
        policy().begin({}), "GET", "/", answer(429, Retry_After=when)
    )
    assert isinstance(decision, Again)
    assert 27 < decision.delay <= 30


@pytest.mark.parametrize(("hint", "seconds"), [("61", 61), ("86400", 86400)])
def test_a_longer_hint_stops_and_is_told(hint: str, seconds: float) -> None:
    decision = policy().after_response(
        policy().begin({}), "GET", "/", answer(429, Retry_After=hint)
    )
    assert isinstance(decision, Stop)
    assert decision.retry_after == seconds


def test_the_hint_can_be_disregarded() -> None:
    it = policy(respect_retry_after=False)
    decision = it.after_response(it.begin({}), "GET", "/", answer(503, Retry_After="3600"))
    assert isinstance(decision, Again)
    assert decision.delay == 0


def test_a_retry_object_decides_as_it_does_in_urllib3() -> None:
    it = policy(max_retries=Retry(5, status=2, status_forcelist=[418], backoff_factor=1))
    assert delays(it, 418) == [0, 2]
    # 413 is in its RETRY_AFTER_STATUS_CODES
    assert it.after_response(it.begin({}), "GET", "/", answer(413)) is None
    hinted = it.after_response(it.begin({}), "GET", "/", answer(413, Retry_After="2"))
    assert isinstance(hinted, Again)
    assert hinted.delay == 2
    reads_off = policy(max_retries=Retry(5, connect=False, read=0))
    error = requests.ConnectTimeout("x")
    assert reads_off.after_error(reads_off.begin({}), "GET", "/", error) is None
    assert isinstance(
        reads_off.after_error(reads_off.begin({}), "GET", "/", requests.ReadTimeout("x")), Stop
    )


@pytest.mark.parametrize("off", [0, False, Retry(0), Retry(False)])
def test_switched_off_everything_stands(off: object) -> None:
    it = policy(max_retries=off)
    assert it.after_response(it.begin({}), "GET", "/", answer(503)) is None
    assert it.after_error(it.begin({}), "GET", "/", requests.ReadTimeout("x")) is None


def test_retry_without_a_total_counts_its_kinds() -> None:
    it = policy(max_retries=Retry(None, status=2, status_forcelist=[503]))
    assert len(delays(it)) == 2


# On the wire


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
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            fillers.append(filler)
        with pytest.raises(requests.ConnectTimeout) as caught:
            make_manager(max_retries=1, connect_timeout=0.2).post(
                f"http://127.0.0.1:{address[1]}/", data="x"
            )
        for filler in fillers:
            filler.close()
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


# Bodies


def numbers():
    yield b"one"
    yield b"two"


def test_a_body_that_cannot_be_replayed_is_not_sent_twice(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/upload", Reply(reset="after"))
    with pytest.raises(requests.ConnectionError, match="its body can be read only once") as caught:
        make_manager().put(url, data=numbers())
    assert isinstance(caught.value, MaxRetriesExceeded)
    assert len(caught.value.attempts) == 1
    assert server.count() == 1


@pytest.mark.parametrize(
    "body", [bytearray(b"onetwo"), memoryview(b"onetwo"), numbers(), io.BytesIO(b"onetwo")]
)
def test_bodies_of_any_kind_arrive_whole(
    make_manager: MakeManager, server: ScriptedServer, body: object
) -> None:
    assert make_manager().put(server.url, data=body).status_code == 200
    assert server.received[0].body == b"onetwo"


class ReadOnce:
    """Hands out the same iterator every time; that cannot be told from one that can be reread."""

    def __init__(self) -> None:
        self.blocks = numbers()

    def __iter__(self):
        return self.blocks


class UnseekableFile(io.BytesIO):
    """Knows its position, and cannot go back to it; the raw body of a response is like that."""

    def seek(self, *_: object) -> int:
        raise io.UnsupportedOperation("seek")


@pytest.mark.parametrize("body", [ReadOnce(), UnseekableFile(b"onetwo")])
def test_what_cannot_surely_be_replayed_counts_as_such(
    make_manager: MakeManager, server: ScriptedServer, body: object
) -> None:
    url = server.script("/upload", Reply(hang_up=True), Reply())
    with pytest.raises(requests.ConnectionError, match="its body can be read only once"):
        make_manager().put(url, data=body)
    assert [each.body for each in server.received] == [b"onetwo"]


def test_nor_is_it_after_a_bad_status(make_manager: MakeManager, server: ScriptedServer) -> None:
    url = server.script("/upload", DOWN)
    with pytest.raises(RetryError, match="its body can be read only once") as caught:
        make_manager().put(url, data=numbers())
    assert caught.value.response is not None
    assert server.count() == 1


def test_a_pipe_cannot_be_replayed_either(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    class Pipe(io.RawIOBase):
        data = io.BytesIO(b"from a pipe")

        def readable(self) -> bool:
            return True

        def tell(self) -> int:
            raise OSError("a pipe has no position")

        def seekable(self) -> bool:
            return False

        def readinto(self, buffer: object) -> int:
            return self.data.readinto(buffer)  # type: ignore[arg-type]

    url = server.script("/upload", DOWN)
    with pytest.raises(RetryError, match="its body can be read only once"):
        make_manager().put(url, data=Pipe())
    assert server.count() == 1


def test_untouched_it_is_sent_after_a_refused_connection(
    make_manager: MakeManager, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.script("/upload", Reply())
    server.pause()
    manager = make_manager(max_retries=3)
    monkeypatch.setattr("requests_connection_manager.adapter._pause", lambda *_: server.resume())
    assert manager.put(url, data=numbers()).status_code == 200
    assert server.received[0].body == b"onetwo"


def test_a_file_is_sent_again_from_where_it_began(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/upload", DOWN, Reply(reset="after"), Reply())
    with tempfile.TemporaryFile() as file:
        file.write(b"skipped and sent")
        file.seek(len(b"skipped "))
        assert make_manager().put(url, data=file).status_code == 200
    assert [each.body for each in server.received] == [b"and sent"] * 3


@pytest.mark.parametrize("body", [b"bytes", "text", {"a": "1"}, io.BytesIO(b"x"), io.StringIO("x")])
def test_these_bodies_can_be_sent_again(
    make_manager: MakeManager, server: ScriptedServer, body: object
) -> None:
    url = server.script("/upload", DOWN, Reply())
    assert make_manager().put(url, data=body).status_code == 200
    first, second = server.received
    assert first.body == second.body
    assert first.body


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
