"""A streamed answer is the caller's: how it is read, and when its connection is free again.

And response hooks, which may read it, or put another in its place.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from tests.conftest import MakeManager, in_threads
from tests.server import Reply, ScriptedServer, wait_until

BOTH = pytest.mark.parametrize("through", ["manager", "session"])
DEADLINE = pytest.mark.parametrize("settings", [{}, {"total_timeout": 30}])
LINES = b"".join(b"line %d\n" % n for n in range(500))


def sender(manager: Any, through: str) -> Any:
    return manager if through == "manager" else manager.session


def idle(manager: Any, server: ScriptedServer) -> tuple[int, int]:
    scope = manager.stats().scopes[server.origin]
    return scope.connections_open, scope.connections_idle


@BOTH
@DEADLINE
@pytest.mark.parametrize("chunked", [False, True])
def test_whatever_way_it_is_read_to_its_end_the_connection_is_used_again(
    make_manager: MakeManager,
    server: ScriptedServer,
    through: str,
    settings: dict[str, Any],
    chunked: bool,
) -> None:
    url = server.script("/lines", Reply(body=LINES, chunked=chunked))
    manager = make_manager(**settings)
    ways = [
        lambda r: b"".join(r.iter_content(100)),
        lambda r: b"".join(r.iter_content(None)),
        lambda r: b"".join(line + b"\n" for line in r.iter_lines()),
        lambda r: b"".join(iter(lambda: r.raw.read(100), b"")),
        lambda r: b"".join(r.raw.stream(100)),
        lambda r: r.content,
        lambda r: r.text.encode(),
    ]
    for read in ways:
        response = sender(manager, through).get(url, stream=True)
        assert idle(manager, server) == (1, 0)
        assert read(response) == LINES
        assert idle(manager, server) == (1, 1)
    assert server.connections_made == 1


@BOTH
@DEADLINE
def test_what_is_closed_early_closes_its_connection(
    make_manager: MakeManager, server: ScriptedServer, through: str, settings: dict[str, Any]
) -> None:
    url = server.script("/big", Reply(body=b"x" * 3_000_000))
    manager = make_manager(**settings)
    with sender(manager, through).get(url, stream=True) as response:
        assert next(response.iter_content(10)) == b"x" * 10
    wait_until(lambda: server.connections_open == 0)
    assert idle(manager, server) == (0, 0)
    assert sender(manager, through).get(server.url).status_code == 200
    assert server.connections_made == 2


@BOTH
def test_a_stream_that_is_cut_is_the_callers_to_see(
    make_manager: MakeManager, server: ScriptedServer, through: str
) -> None:
    """Who has read its beginning cannot be given another."""
    url = server.script("/cut", Reply(body=LINES, cut_at=1000))
    manager = make_manager(circuit_breaker_failure_threshold=1)
    response = sender(manager, through).get(url, stream=True)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        list(response.iter_lines())
    assert server.count() == 1
    assert manager.circuit_breaker.current_state == "closed"


@BOTH
def test_server_sent_events_are_read_as_they_come(
    make_manager: MakeManager, server: ScriptedServer, through: str
) -> None:
    body = b"".join(b"data: %d\n\n" % n for n in range(5))
    url = server.script("/events", Reply(body=body, chunked=True, drip=0.1, drip_size=9))
    with sender(make_manager(), through).get(url, stream=True) as response:
        lines = [line for line in response.iter_lines(chunk_size=1) if line]
    assert lines == [b"data: %d" % n for n in range(5)]


def test_many_threads_read_streams_of_their_own(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(rate_limit_requests=None, pool_maxsize=16)
    for n in range(16):
        server.script(f"/{n}", Reply(body=b"%02d" % n * 50_000, chunked=True))
    wrong: list[int] = []

    def read(n: int) -> None:
        for _ in range(5):
            with manager.get(f"{server.url}/{n}", stream=True) as response:
                if b"".join(response.iter_content(7_000)) != b"%02d" % n * 50_000:
                    wrong.append(n)

    in_threads(16, read)
    assert wrong == []
    assert idle(manager, server)[0] == idle(manager, server)[1] <= 16


@BOTH
@pytest.mark.parametrize("stream", [False, True])
def test_response_hooks_run_in_their_order_and_may_replace_the_answer(
    make_manager: MakeManager, server: ScriptedServer, through: str, stream: bool
) -> None:
    server.script("/flaky", Reply(status=503), Reply(body=b'{"n": 1}'))
    seen: list[Any] = []

    def first(response: requests.Response, **kwargs: Any) -> None:
        seen.append(("first", response.status_code, response.json()))

    def replace(response: requests.Response, **kwargs: Any) -> requests.Response:
        other = requests.Response()
        other.status_code, other.url, other.request = 299, response.url, response.request
        other._content = json.dumps({"was": response.json()}).encode()
        seen.append(("replace", kwargs["stream"]))
        return other

    def last(response: requests.Response, **kwargs: Any) -> None:
        seen.append(("last", response.status_code))

    manager = make_manager(total_timeout=30)
    told: list[int] = []
    manager.register_post_response_hook(lambda context: told.append(context.response.status_code))
    send = sender(manager, through)
    manager.session.hooks["response"].append(last)
    answer = send.get(server.url + "/flaky", hooks={"response": [first, replace]}, stream=stream)
    assert answer.json() == {"was": {"n": 1}}
    assert answer.status_code == 299
    assert ("first", 200, {"n": 1}) in seen
    assert ("replace", stream) in seen
    assert told == [299]
    assert server.count() == 2  # hooks are for what stands, and not for each attempt


@BOTH
def test_a_hook_of_a_session_is_called_for_each_hop(
    make_manager: MakeManager, server: ScriptedServer, through: str
) -> None:
    server.script("/go", Reply.redirect("/there"))
    manager = make_manager()
    seen: list[int] = []
    manager.session.hooks["response"] = lambda response, **_: seen.append(response.status_code)
    assert sender(manager, through).get(server.url + "/go").status_code == 200
    assert seen == [302, 200]


@BOTH
def test_what_a_hook_raises_is_the_callers(
    make_manager: MakeManager, server: ScriptedServer, through: str
) -> None:
    manager = make_manager(circuit_breaker_failure_threshold=1)
    url = server.script("/missing", Reply(status=404))
    send = sender(manager, through)
    for _ in range(3):
        with pytest.raises(requests.HTTPError):
            send.get(url, hooks={"response": lambda response, **_: response.raise_for_status()})
    assert manager.circuit_breaker.current_state == "closed"
    assert idle(manager, server) == (1, 1)
    assert server.count() == 3
