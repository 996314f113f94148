"""``total_timeout`` bounds the whole call, and each timeout its own half.

The upper bounds asserted here are generous: they tell a bounded call from an unbounded one, on a
busy machine, too. How close the bound is kept is measured in ``benchmarks/``.
"""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from contextvars import copy_context

import pytest
import requests
from urllib3.util import Timeout

from requests_connection_manager import DeadlineExceeded, RateLimitExceeded
from requests_connection_manager.policies.deadline import Deadline, shorten
from tests.conftest import MakeManager, full_backlog
from tests.server import Reply, ScriptedServer

DOWN = Reply(status=503)
LONG = 30  # what each of these would take without the bound
SOON = 10


def late(manager, send, total: float = 0.4) -> DeadlineExceeded:
    start = time.monotonic()
    with pytest.raises(DeadlineExceeded) as caught:
        send()
    took = time.monotonic() - start
    assert took < SOON
    assert isinstance(caught.value, requests.Timeout)
    assert caught.value.elapsed <= took
    assert f"total_timeout={total} s" in str(caught.value)
    assert caught.value.request is not None
    return caught.value


@pytest.mark.parametrize(
    "slow",
    [
        Reply(delay=LONG),
        Reply(header_drip=0.05, headers={"X-Padding": "x" * 600}),
        Reply(body=b"x" * 600, drip=0.05),
        Reply(body=b"x" * 600, drip=0.05, chunked=True),
        Reply(status=404, body=b"x" * 600, drip=0.05),
    ],
    ids=["silent", "head trickles", "body trickles", "chunks trickle", "error body trickles"],
)
def test_a_slow_answer_ends_at_the_deadline(
    make_manager: MakeManager, server: ScriptedServer, slow: Reply
) -> None:
    url = server.script("/slow", slow)
    manager = make_manager(total_timeout=0.4)
    error = late(manager, lambda: manager.get(url))
    assert server.count() == 1
    assert error.elapsed >= 0.4
    assert len(error.attempts) == 1
    assert manager.circuit_breaker.fail_counter == 1  # the service did not answer in time


def test_a_trickling_answer_over_tls_ends_there_too(
    make_manager: MakeManager, tls_server: ScriptedServer, bundle: str
) -> None:
    url = tls_server.script("/slow", Reply(body=b"x" * 600, drip=0.05))
    manager = make_manager(total_timeout=0.4, verify=bundle)
    late(manager, lambda: manager.get(url))


def test_the_body_of_a_redirect_ends_there_too(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script(
        "/slow", Reply(status=302, headers={"Location": "/x"}, body=b"x" * 600, drip=0.05)
    )
    manager = make_manager(total_timeout=0.4)
    late(manager, lambda: manager.get(url))
    late(manager, lambda: manager.get(url, allow_redirects=False))
    assert server.count("/x") == 0


def test_redirects_share_the_deadline(make_manager: MakeManager, server: ScriptedServer) -> None:
    url = server.script("/round", Reply(status=302, headers={"Location": "/round"}, delay=0.4))
    manager = make_manager(total_timeout=1)
    error = late(manager, lambda: manager.get(url), total=1)
    assert 2 <= server.count() <= 3
    assert len(error.attempts) == server.count()


def test_retries_share_it(make_manager: MakeManager, server: ScriptedServer) -> None:
    url = server.script("/down", Reply(status=503, delay=0.4))
    manager = make_manager(total_timeout=1, max_retries=50)
    error = late(manager, lambda: manager.get(url), total=1)
    assert 2 <= server.count() <= 3
    assert error.attempts[0].status == 503


def test_a_back_off_that_cannot_end_in_time_is_not_begun(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/busy", Reply.retry_after(20))
    manager = make_manager(total_timeout=0.4)
    error = late(manager, lambda: manager.get(url))
    assert server.count() == 1
    assert error.elapsed < 0.4
    assert error.response is not None
    assert error.response.headers["Retry-After"] == "20"
    assert "503" in str(error.__cause__)


def test_a_permit_that_cannot_come_in_time_is_not_waited_for(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(total_timeout=0.4, rate_limit_requests=1, rate_limit_period=LONG)
    manager.get(server.url)
    with pytest.raises(RateLimitExceeded) as caught:
        manager.get(server.url)
    assert caught.value.retry_after > LONG - SOON
    assert server.count() == 1
    assert manager.circuit_breaker.fail_counter == 0


def test_waiting_for_a_permit_takes_of_the_calls_time(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/slow", Reply(), Reply(delay=LONG))
    manager = make_manager(total_timeout=0.4, rate_limit_requests=1, rate_limit_period=0.3)
    manager.get(url)
    error = late(manager, lambda: manager.get(url))
    assert error.attempts[0].throttled > 0
    assert error.attempts[0].elapsed < 0.4


def test_a_blocking_pool_is_waited_for_until_the_deadline(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/held", Reply(body=b"x" * 100_000), Reply())
    manager = make_manager(total_timeout=0.4, pool_block=True, pool_maxsize=1)
    with manager.get(url, stream=True):
        late(manager, lambda: manager.get(url))
    assert server.count() == 1
    assert manager.circuit_breaker.fail_counter == 0
    assert manager.get(url).status_code == 200


def test_an_upload_that_the_server_does_not_read_ends_at_the_deadline(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]

        def blocks():
            for _ in range(2000):
                yield b"x" * 65_536

        manager = make_manager(total_timeout=0.4)
        late(manager, lambda: manager.post(f"http://127.0.0.1:{port}/", data=blocks()))


def test_what_is_streamed_is_the_callers_own_time(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/stream", Reply(body=b"x" * 30, drip=0.02))
    manager = make_manager(total_timeout=0.4, read_timeout=5)
    with manager.get(url, stream=True) as response:
        start = time.monotonic()
        assert len(response.content) == 30
    assert time.monotonic() - start >= 0.5  # beyond the deadline


def test_the_read_timeout_still_bounds_a_stream(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/stream", Reply(body=b"xx", drip=LONG))
    manager = make_manager(total_timeout=20, read_timeout=0.2)
    with manager.get(url, stream=True) as response, pytest.raises(requests.ConnectionError):
        response.content  # noqa: B018


def test_the_deadline_of_an_endpoint_is_its_own(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(
        endpoint_configs={f"127.0.0.1:{server.port}/quick": {"total_timeout": 0.4}}
    )
    late(manager, lambda: manager.get(server.script("/quick", Reply(delay=LONG))))
    assert manager.get(server.script("/patient", Reply(delay=0.5))).status_code == 200


def test_an_answer_in_time_is_not_disturbed(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(total_timeout=LONG)
    for _ in range(3):
        assert manager.get(server.url).content == b"ok"
    assert server.connections_made == 1


def test_threads_have_deadlines_of_their_own(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    here = f"127.0.0.1:{server.port}"
    manager = make_manager(
        pool_maxsize=20,
        endpoint_configs={f"{here}/short": {"total_timeout": 0.3}},
    )
    short = server.script("/short", Reply(delay=LONG))
    long = server.script("/long", Reply(delay=0.6))
    with ThreadPoolExecutor(20) as pool:
        shorts = [pool.submit(manager.get, short) for _ in range(4)]
        longs = [pool.submit(manager.get, long) for _ in range(10)]
    assert all(isinstance(each.exception(), DeadlineExceeded) for each in shorts)
    assert [each.result().status_code for each in longs] == [200] * 10


def test_shorten_takes_the_smaller() -> None:
    assert shorten((5, 9), 7) == (5, 7)
    assert shorten((None, None), 7) == (7, 7)


def test_a_released_deadline_never_comes() -> None:
    deadline = Deadline(0.001)
    deadline.release()
    assert not deadline.expired
    assert deadline.left() == float("inf")


# timeout, connect_timeout, read_timeout


def test_the_calls_timeout_wins_over_the_endpoints_and_the_managers(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    here = f"127.0.0.1:{server.port}"
    manager = make_manager(
        timeout=0.1, max_retries=0, endpoint_configs={f"{here}/patient": {"timeout": LONG}}
    )
    patient = server.script("/patient", Reply(delay=0.4))
    hasty = server.script("/hasty", Reply(delay=0.4))
    assert manager.get(patient).status_code == 200
    with pytest.raises(requests.ReadTimeout):
        manager.get(hasty)
    with pytest.raises(requests.ReadTimeout):
        manager.get(patient, timeout=0.1)
    for timeout in (LONG, (1, LONG), None, Timeout(LONG)):
        assert manager.get(hasty, timeout=timeout).status_code == 200


@pytest.mark.parametrize("timeout", [(1, LONG), LONG, None, Timeout(LONG)])
def test_each_form_of_timeout_is_bounded_by_the_deadline(
    make_manager: MakeManager, server: ScriptedServer, timeout: object
) -> None:
    url = server.script("/slow", Reply(delay=LONG))
    manager = make_manager(total_timeout=0.4)
    late(manager, lambda: manager.get(url, timeout=timeout))


@pytest.mark.parametrize("total", [None, 5])
def test_a_timeout_that_is_none_is_complained_of_as_in_requests(
    make_manager: MakeManager, server: ScriptedServer, total: float | None
) -> None:
    for timeout in ("soon", (1, 2, 3), -1, 0):
        with pytest.raises(ValueError, match="imeout"):
            make_manager(total_timeout=total).get(server.url, timeout=timeout)
    assert server.count() == 0


def test_a_redirect_has_the_timeout_of_its_own_url(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(
        max_retries=0,
        endpoint_configs={f"127.0.0.1:{server.port}/hasty": {"timeout": 0.1}},
    )
    server.script("/hasty", Reply(delay=0.5))
    url = server.script("/start", Reply.redirect("/hasty"))
    with pytest.raises(requests.ReadTimeout):
        manager.get(url)
    assert manager.get(url, timeout=LONG).status_code == 200  # the caller's own holds everywhere


def test_no_thread_is_left_behind(make_manager: MakeManager, server: ScriptedServer) -> None:
    manager = make_manager(total_timeout=0.3)
    mine = threading.active_count()
    with pytest.raises(DeadlineExceeded):
        manager.get(server.script("/slow", Reply(delay=LONG)))
    server.close()
    assert threading.active_count() <= mine


def test_connecting_and_the_handshake_share_what_is_left(make_manager: MakeManager) -> None:
    """A full backlog makes the connect slow; the handshake then never comes."""
    with full_backlog() as listener, ExitStack() as held:

        def make_room() -> None:
            time.sleep(0.5)
            with suppress(OSError):
                while True:
                    held.enter_context(listener.accept()[0])

        making_room = threading.Thread(target=make_room)
        making_room.start()
        manager = make_manager(total_timeout=1.5, max_retries=0)
        with pytest.raises(DeadlineExceeded) as caught:
            manager.get(f"https://127.0.0.1:{listener.getsockname()[1]}/")
        listener.shutdown(socket.SHUT_RDWR)
        making_room.join(10)
    assert caught.value.elapsed < 2.3  # the connect takes a second; anew, it would be 2.5


def test_a_deadline_that_passes_at_any_point_is_one(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    """A timeout of nothing or less would be a ValueError of urllib3's."""
    for seconds in (1e-9, 1e-6, 1e-5, 1e-4, 2e-4, 3e-4, 5e-4):
        manager = make_manager(total_timeout=seconds, circuit_breaker_failure_threshold=None)
        for _ in range(20):
            with suppress(DeadlineExceeded, RateLimitExceeded):
                manager.get(server.url)


def test_a_context_copied_from_a_call_is_not_that_call(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(total_timeout=0.4)
    copies = []
    manager.get(server.url, hooks={"response": lambda r, **_: copies.append(copy_context())})
    slow = requests.Request("GET", server.script("/slow", Reply(delay=LONG))).prepare()
    with pytest.raises(DeadlineExceeded):
        copies[0].run(manager.session.send, slow)


def test_a_streamed_answer_still_has_a_file_number(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    """Some clients wait for a stream with select()."""
    url = server.script("/stream", Reply(body=b"x" * 100_000))
    with make_manager(total_timeout=20).get(url, stream=True) as response:
        assert response.raw.fileno() > 0


@pytest.mark.parametrize("algorithm", ["fixed_window", "sliding_window"])
def test_what_comes_too_late_is_not_told_of_a_limit_that_has_room(
    algorithm: str, make_manager: MakeManager, server: ScriptedServer
) -> None:
    """The time went into signing; the permit would have been there."""

    def sign_slowly(request: requests.PreparedRequest) -> requests.PreparedRequest:
        time.sleep(0.45)
        return request

    manager = make_manager(total_timeout=0.4, rate_limit_algorithm=algorithm)
    late(manager, lambda: manager.get(server.url, auth=sign_slowly))
    assert server.count() == 0
