"""What people test and watch with, around a manager and its session, with all policies on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import pytest
import requests
import requests_mock
import responses
import vcr
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from responses.registries import OrderedRegistry

from requests_connection_manager import (
    CircuitBreakerOpen,
    ConnectionManager,
    DeadlineExceeded,
    MaxRetriesExceeded,
    RateLimitExceeded,
)
from tests.conftest import MakeManager, in_threads
from tests.server import Reply, ScriptedServer

URL = "https://api.test/x"
BOTH = pytest.mark.parametrize("through", ["manager", "session"])


def sender(manager: ConnectionManager, through: str) -> Any:
    return manager if through == "manager" else manager.session


def counted(manager: ConnectionManager, scope: str = "https://api.test") -> tuple[int, int, int]:
    """Calls, attempts and retries."""
    counts = manager.stats().scopes[scope].counts
    return counts.calls, counts.attempts, counts.retries


def permits_used(manager: ConnectionManager, url: str = URL) -> int:
    limiter = manager._endpoints.table.resolve(url).limiter
    assert limiter is not None
    return min(limiter._window.num_calls, limiter.calls)


# responses: it stands in for HTTPAdapter.send, so each attempt of ours is one of its calls.


@BOTH
@responses.activate(registry=OrderedRegistry)
def test_responses_in_their_order_are_the_attempts_of_one_call(
    make_manager: MakeManager, through: str
) -> None:
    for status in (503, 503, 200):
        responses.get(URL, status=status, body=str(status))
    manager = make_manager(total_timeout=20)
    seen: list[int | None] = []
    manager.on_attempt(lambda event: seen.append(event.attempt.status))
    assert sender(manager, through).get(URL).text == "200"
    assert seen == [503, 503, 200]
    assert responses.assert_call_count(URL, 3)
    assert counted(manager) == (1, 3, 2)
    assert permits_used(manager) == 3


@BOTH
@responses.activate
def test_responses_that_are_errors_are_retried_and_trip_the_breaker(
    make_manager: MakeManager, through: str
) -> None:
    responses.get(URL, body=requests.ConnectionError("no route"))
    manager = make_manager(max_retries=2, circuit_breaker_failure_threshold=2)
    send = sender(manager, through)
    for _ in range(2):
        with pytest.raises(requests.ConnectionError) as caught:
            send.get(URL)
    assert isinstance(caught.value, MaxRetriesExceeded)
    assert str(caught.value.last_error) == "no route"
    with pytest.raises(CircuitBreakerOpen):
        send.get(URL)
    assert responses.assert_call_count(URL, 6)


@BOTH
@responses.activate
def test_responses_that_time_out_are_retried(make_manager: MakeManager, through: str) -> None:
    timeout = requests.ConnectTimeout("too slow")
    responses.get(URL, body=timeout)
    responses.get(URL, body="ok")
    manager = make_manager(total_timeout=20)
    assert sender(manager, through).get(URL).text == "ok"
    assert counted(manager) == (1, 2, 1)


@BOTH
@responses.activate
def test_responses_callbacks_see_what_would_be_sent(
    make_manager: MakeManager, through: str
) -> None:
    seen: list[requests.PreparedRequest] = []

    def answer(request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        seen.append(request)
        return (503 if len(seen) < 3 else 201), {"X-Answer": "1"}, "made"

    responses.add_callback(responses.PUT, URL, callback=answer)
    manager = make_manager(
        endpoint_configs={"api.test": {"api_key": "k3y", "api_key_query": "key"}}
    )

    @manager.register_pre_request_hook
    def add_header(context: Any) -> None:
        context.update_headers({"X-Hook": "1"})

    answered = sender(manager, through).put(URL, json={"a": 1})
    assert (answered.status_code, answered.text) == (201, "made")
    assert [each.url for each in seen] == [URL + "?key=k3y"] * 3
    assert [each.headers["X-Hook"] for each in seen] == ["1"] * 3
    assert [each.body for each in seen] == [b'{"a": 1}'] * 3


@BOTH
@responses.activate
def test_responses_meets_limits_and_keys_in_headers(
    make_manager: MakeManager, through: str
) -> None:
    matching = responses.matchers.header_matcher({"Authorization": "Bearer t0ken"})
    responses.get(URL, match=[matching])
    manager = make_manager(bearer_token="t0ken", rate_limit_requests=2, rate_limit_max_wait=0)
    send = sender(manager, through)
    assert [send.get(URL).status_code for _ in range(2)] == [200, 200]
    with pytest.raises(RateLimitExceeded):
        send.get(URL)
    assert len(responses.calls) == 2


@BOTH
@responses.activate
def test_responses_follows_redirects_hop_by_hop(make_manager: MakeManager, through: str) -> None:
    responses.get(URL, status=302, headers={"Location": "https://other.test/y"})
    responses.get("https://other.test/y", status=503)
    responses.get("https://other.test/y", body="there")
    manager = make_manager(api_key="k3y", api_key_query="key")
    assert sender(manager, through).get(URL).text == "there"
    urls = [call.request.url for call in responses.calls]
    assert urls == [URL + "?key=k3y", *["https://other.test/y"] * 2]
    assert permits_used(manager) == 3


@BOTH
@responses.activate
def test_responses_lets_real_requests_through(
    make_manager: MakeManager, server: ScriptedServer, through: str
) -> None:
    responses.add_passthru(server.url)
    server.script("/flaky", Reply(status=503), Reply(hang_up=True), Reply(body=b"real"))
    manager = make_manager(total_timeout=20, api_key="k3y", api_key_query="key")
    assert sender(manager, through).get(server.url + "/flaky").text == "real"
    assert [each.query for each in server.received] == ["key=k3y"] * 3
    with pytest.raises(requests.ConnectionError):  # of responses: nothing is known of it
        sender(manager, through).get("https://unknown.test")


@BOTH
@responses.activate
def test_responses_are_streamed_and_batched(make_manager: MakeManager, through: str) -> None:
    responses.get(URL, body="one\ntwo\n")
    manager = make_manager()
    with sender(manager, through).get(URL, stream=True) as streamed:
        assert list(streamed.iter_lines()) == [b"one", b"two"]
    results = manager.batch_request([("GET", URL)] * 5)
    assert [each.text for each in results] == ["one\ntwo\n"] * 5
    assert responses.assert_call_count(URL, 6)


# requests-mock: it stands in for the adapter, so that there are no retries.


@BOTH
def test_requests_mock_as_a_fixture_does(
    make_manager: MakeManager, requests_mock: requests_mock.Mocker, through: str
) -> None:
    requests_mock.get(URL, [{"text": "one"}, {"status_code": 503}, {"text": "three"}])
    manager = make_manager(
        circuit_breaker_failure_threshold=2,
        rate_limit_requests=3,
        rate_limit_max_wait=0,
        api_key="k3y",
    )
    send = sender(manager, through)
    assert [send.get(URL).status_code for _ in range(3)] == [200, 503, 200]
    with pytest.raises(RateLimitExceeded):
        send.get(URL)
    assert requests_mock.call_count == 3
    assert [each.headers["X-API-Key"] for each in requests_mock.request_history] == ["k3y"] * 3
    assert counted(manager) == (4, 3, 0)


@BOTH
def test_requests_mock_as_a_context_manager_with_real_http(
    make_manager: MakeManager, server: ScriptedServer, through: str
) -> None:
    server.script("/real", Reply(status=503), Reply(body=b"real"))
    manager = make_manager(api_key="k3y", api_key_query="key")
    send = sender(manager, through)
    with requests_mock.Mocker(real_http=True) as mocked:
        mocked.get(URL, exc=requests.ConnectTimeout)
        mocked.get(f"{server.url}/mocked", text="mocked")
        assert send.get(server.url + "/mocked").text == "mocked"
        assert send.get(server.url + "/real").text == "real"
        with pytest.raises(requests.ConnectTimeout):
            send.get(URL)
    assert [each.target for each in server.received] == ["/real?key=k3y"] * 2
    assert send.get(server.url + "/mocked").text == "ok"  # it has left no trace
    assert server.count("/mocked") == 1


@BOTH
def test_requests_mock_as_an_adapter_beside_the_real_one(
    make_manager: MakeManager, server: ScriptedServer, through: str
) -> None:
    """It is asked for what would be sent, with a key in the query."""
    key = {"api_key": "k3y", "api_key_query": "key"}
    manager = make_manager(circuit_breaker_failure_threshold=1, **key)
    adapter = requests_mock.Adapter()
    adapter.register_uri("GET", "mock://service/x", [{"text": "mocked"}, {"status_code": 500}])
    manager.session.mount("mock://", adapter)
    send = sender(manager, through)
    assert send.get("mock://service/x").text == "mocked"
    assert send.get("mock://service/x").status_code == 500
    with pytest.raises(CircuitBreakerOpen):
        send.get("mock://service/x")
    assert adapter.call_count == 2
    assert [each.query for each in adapter.request_history] == ["key=k3y"] * 2
    assert send.get(server.script("/flaky", Reply(status=503), Reply())).status_code == 200
    assert server.count("/flaky") == 2


@BOTH
def test_requests_mock_follows_redirects_hop_by_hop(
    make_manager: MakeManager, requests_mock: requests_mock.Mocker, through: str
) -> None:
    requests_mock.get(URL, status_code=302, headers={"Location": "https://other.test/y"})
    requests_mock.get("https://other.test/y", text="there")
    manager = make_manager(bearer_token="t0ken")
    assert sender(manager, through).get(URL).text == "there"
    first, second = requests_mock.request_history
    assert first.headers["Authorization"] == "Bearer t0ken"
    assert "Authorization" not in second.headers
    assert permits_used(manager) == 2


@BOTH
def test_requests_mock_on_the_session_alone(
    make_manager: MakeManager, server: ScriptedServer, through: str
) -> None:
    manager, other = make_manager(), make_manager()
    with requests_mock.Mocker(session=manager.session) as mocked:
        mocked.get(server.url + "/", text="mocked")
        assert sender(manager, through).get(server.url).text == "mocked"
        assert sender(other, through).get(server.url).text == "ok"
    assert server.count() == 1


# vcrpy: it stands in for the connections, below the retries.


@pytest.fixture
def cassettes(tmp_path: Path) -> vcr.VCR:
    return vcr.VCR(
        cassette_library_dir=str(tmp_path),
        filter_headers=["Authorization", "X-API-Key"],
        filter_query_parameters=["key"],
    )


@BOTH
def test_vcr_replays_what_it_has_recorded_attempt_by_attempt(
    make_manager: MakeManager,
    server: ScriptedServer,
    cassettes: vcr.VCR,
    tmp_path: Path,
    through: str,
) -> None:
    url = server.script("/flaky", Reply(status=503), Reply(body=b"recorded"))
    settings = {
        "total_timeout": 20,
        "bearer_token": "t0ken",
        "endpoint_configs": {"127.0.0.1/keyed": {"api_key": "k3y", "api_key_query": "key"}},
    }
    with cassettes.use_cassette("one.yaml") as cassette:
        send = sender(make_manager(**settings), through)
        assert send.get(url).text == "recorded"
        assert send.get(server.url + "/keyed").text == "ok"
        assert len(cassette) == 3
    assert [each.query for each in server.received] == ["", "", "key=k3y"]
    server.pause()
    written = (tmp_path / "one.yaml").read_text()
    assert "t0ken" not in written
    assert "k3y" not in written
    with cassettes.use_cassette("one.yaml", record_mode="none", allow_playback_repeats=False) as it:
        manager = make_manager(**settings)
        attempts: list[int | None] = []
        manager.on_attempt(lambda event: attempts.append(event.attempt.status))
        assert sender(manager, through).get(url).text == "recorded"
        assert sender(manager, through).get(server.url + "/keyed").text == "ok"
        assert it.all_played
        assert attempts == [503, 200, 200]
        with pytest.raises(vcr.errors.CannotOverwriteExistingCassetteException):
            sender(manager, through).get(url)


@BOTH
def test_vcr_records_and_replays_streams_and_uploads(
    make_manager: MakeManager,
    server: ScriptedServer,
    cassettes: vcr.VCR,
    through: str,
) -> None:
    url = server.script("/stream", Reply(body=b"line\n" * 1000, chunked=True))
    for pass_ in ("recorded", "replayed"):
        with cassettes.use_cassette("stream.yaml", record_mode="once"):
            send = sender(make_manager(), through)
            with send.get(url, stream=True) as response:
                assert list(response.iter_lines()) == [b"line"] * 1000, pass_
            assert send.post(server.url + "/up", data=iter([b"a", b"b"])).status_code == 200
            assert send.post(server.url + "/file", files={"f": b"content"}).status_code == 200
    assert server.count() == 3
    assert server.requests_to("/up")[0].body == b"ab"


@BOTH
def test_vcr_leaves_no_trace(
    make_manager: MakeManager, server: ScriptedServer, cassettes: vcr.VCR, through: str
) -> None:
    """A manager that was used before, within, and after."""
    manager = make_manager()
    send = sender(manager, through)
    send.get(server.url + "/before")
    with cassettes.use_cassette("mid.yaml"):
        manager.session.drop_pools()
        send.get(server.url + "/within")
    manager.session.drop_pools()
    with cassettes.use_cassette("mid.yaml", record_mode="none"):
        manager.session.drop_pools()
        assert send.get(server.url + "/within").text == "ok"
    manager.session.drop_pools()
    send.get(server.url + "/after")
    assert [server.count(path) for path in ("/before", "/within", "/after")] == [1, 1, 1]


# unittest.mock: whichever method is replaced, the policies that come before it act.


@BOTH
def test_a_patched_get_adapter_meets_the_policies_of_the_call(
    make_manager: MakeManager, through: str
) -> None:
    manager = make_manager(rate_limit_requests=2, rate_limit_max_wait=0)
    answer = requests.Response()
    answer.status_code, answer.url = 200, URL
    answer.request = requests.Request("GET", URL).prepare()
    answer._content = b"mocked"
    adapter = Mock()
    adapter.send.return_value = answer
    with patch.object(manager.session, "get_adapter", return_value=adapter):
        send = sender(manager, through)
        assert [send.get(URL).text for _ in range(2)] == ["mocked"] * 2
        with pytest.raises(RateLimitExceeded):
            send.get(URL)
    assert adapter.send.call_count == 2


@BOTH
def test_a_patched_send_of_the_session_meets_the_policies_of_the_call(
    make_manager: MakeManager, through: str
) -> None:
    manager = make_manager(circuit_breaker_failure_threshold=2, bearer_token="t0ken")
    with patch.object(manager.session, "send", return_value=Mock(status_code=500)) as send:
        for _ in range(2):
            assert sender(manager, through).get(URL) is send.return_value
        with pytest.raises(CircuitBreakerOpen):
            sender(manager, through).get(URL)
    assert send.call_count == 2
    assert send.call_args.args[0].headers["Authorization"] == "Bearer t0ken"


def test_a_patched_request_of_the_session_is_what_the_facade_calls(
    make_manager: MakeManager,
) -> None:
    manager = make_manager()
    with patch.object(manager.session, "request", return_value=Mock(status_code=200)) as request:
        assert manager.get(URL, params={"a": 1}) is request.return_value
        assert manager.session.get(URL) is request.return_value
        results = manager.batch_request([("GET", URL)] * 3)
    assert results == [request.return_value] * 3
    assert request.call_count == 5


@BOTH
def test_a_patched_request_class_wide_sees_a_key_for_the_query_nowhere_but_in_the_request(
    make_manager: MakeManager, through: str
) -> None:
    manager = make_manager(rate_limit_requests=1, rate_limit_max_wait=0, total_timeout=9)
    told: list[str] = []
    manager.register_post_response_hook(lambda context: told.append(context.response.status_code))
    with patch("requests.Session.request", return_value=Mock(status_code=204)) as request:
        assert sender(manager, through).get(URL).status_code == 204
        with pytest.raises(RateLimitExceeded):
            sender(manager, through).get(URL)
    assert request.call_args.kwargs["url"] == URL
    assert told == [204]


# OpenTelemetry: it wraps Session.send, and puts the context into the headers.


class Tracing:
    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.instrumentor = RequestsInstrumentor()

    def begin(self) -> None:
        self.instrumentor.instrument(tracer_provider=self.provider)

    def end(self) -> None:
        if self.instrumentor.is_instrumented_by_opentelemetry:
            self.instrumentor.uninstrument()

    @property
    def spans(self) -> list[Any]:
        return list(self.exporter.get_finished_spans())


@pytest.fixture
def tracing() -> Iterator[Tracing]:
    running = Tracing()
    yield running
    running.end()
    running.provider.shutdown()


@BOTH
@pytest.mark.parametrize("first", ["manager", "instrumentation"])
def test_each_call_is_a_span_whose_context_is_on_the_wire(
    make_manager: MakeManager, server: ScriptedServer, tracing: Tracing, first: str, through: str
) -> None:
    url = server.script("/flaky", Reply(status=503), Reply(), forever=Reply(status=404))
    settings = {"api_key": "k3y", "api_key_query": "key", "total_timeout": 20}
    if first == "manager":
        manager = make_manager(**settings)
        tracing.begin()
    else:
        tracing.begin()
        manager = make_manager(**settings)
    send = sender(manager, through)
    assert send.get(url).status_code == 200
    assert send.post(url).status_code == 404
    assert len(tracing.spans) == 2  # its attempts are the library's affair
    for span, sent in zip(tracing.spans, [server.received[1], server.received[2]], strict=True):
        assert f"{span.context.trace_id:032x}" in sent.headers["traceparent"]
        assert f"{span.context.span_id:016x}" in sent.headers["traceparent"]
        assert "k3y" not in str(span.to_json())
    first_attempt, second, _ = server.received
    assert first_attempt.headers["traceparent"] == second.headers["traceparent"]
    assert permits_used(manager, url) == 3
    assert counted(manager, server.origin) == (2, 3, 1)


@BOTH
def test_a_redirect_and_a_failure_are_spans_too(
    make_manager: MakeManager, server: ScriptedServer, tracing: Tracing, through: str
) -> None:
    tracing.begin()
    server.script("/go", Reply.redirect("/there"))
    server.script("/down", Reply(hang_up=True))
    manager = make_manager(max_retries=1, circuit_breaker_failure_threshold=1)
    send = sender(manager, through)
    assert send.get(server.url + "/go").status_code == 200
    assert server.count("/there") == 1
    with pytest.raises(MaxRetriesExceeded):
        send.get(server.url + "/down")
    with pytest.raises(CircuitBreakerOpen):
        send.get(server.url + "/there")
    went, failed = tracing.spans  # what was refused was not sent
    assert went.attributes["http.url"] == server.url + "/go"
    assert failed.attributes["http.url"] == server.url + "/down"
    assert (went.status.is_ok, failed.status.is_ok) == (True, False)
    assert permits_used(manager, server.url) == 4


def test_spans_of_threads_have_their_own_contexts(
    make_manager: MakeManager, server: ScriptedServer, tracing: Tracing
) -> None:
    tracing.begin()
    manager = make_manager(rate_limit_requests=None)
    tracer = tracing.provider.get_tracer("test")
    traces: dict[int, str] = {}

    def call(n: int) -> None:
        with tracer.start_as_current_span("outer") as outer:
            traces[n] = f"{outer.get_span_context().trace_id:032x}"
            manager.get(f"{server.url}/{n}")

    in_threads(16, call)
    for n in range(16):
        assert traces[n] in server.requests_to(f"/{n}")[0].headers["traceparent"]


@BOTH
def test_when_it_is_uninstrumented_nothing_is_left_of_it(
    make_manager: MakeManager, server: ScriptedServer, tracing: Tracing, through: str
) -> None:
    manager = make_manager()
    before = requests.Session.send
    tracing.begin()
    assert requests.Session.send is not before
    sender(manager, through).get(server.url)
    tracing.end()
    assert requests.Session.send is before
    sender(manager, through).get(server.url)
    assert len(tracing.spans) == 1
    assert "traceparent" in server.received[0].headers
    assert "traceparent" not in server.received[1].headers


@BOTH
def test_the_deadline_holds_while_it_is_watched(
    make_manager: MakeManager, server: ScriptedServer, tracing: Tracing, through: str
) -> None:
    tracing.begin()
    url = server.script("/slow", Reply(delay=30))
    manager = make_manager(total_timeout=0.3)
    with pytest.raises(DeadlineExceeded):
        sender(manager, through).get(url)
    assert len(tracing.spans) == 1
