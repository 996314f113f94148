"""max_concurrency: how many attempts are under way at once, in order, and when a slot is free."""

from __future__ import annotations

import gc
import gzip
import io
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import requests
from urllib3 import HTTPResponse

from requests_connection_manager import (
    CircuitBreakerOpen,
    ConcurrencyLimitExceeded,
    ConnectionManager,
    ManagerClosed,
)
from requests_connection_manager.body_end import when_read
from requests_connection_manager.policies.concurrency import ConcurrencyLimiter, Slot
from requests_connection_manager.policies.line import Line, Place
from tests.conftest import MakeManager, in_threads
from tests.server import Reply, ScriptedServer, wait_until
from tests.test_fork import in_child
from tests.test_interrupts import interrupted_when

FAR = 20
LINES = b"".join(b"line %d\n" % n for n in range(500))


def limiter_of(manager: ConnectionManager, url: str) -> ConcurrencyLimiter:
    limiter = manager._endpoints.table.resolve(url).concurrency
    assert limiter is not None
    return limiter


def started(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def ended(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.join(FAR)
        assert not thread.is_alive()


class TestLine:
    def test_as_many_as_allowed_and_no_more(self) -> None:
        limiter = ConcurrencyLimiter("scope", 2)
        slots = [limiter.acquire() for _ in range(2)]
        with pytest.raises(ConcurrencyLimitExceeded, match=r"max_concurrency=2 of scope") as caught:
            limiter.acquire(0, "api.example.com")
        assert caught.value.endpoint == "api.example.com"
        assert "max_concurrency_wait" in str(caught.value)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
        slots[0].release()
        assert limiter.acquire(0).waited == 0

    def test_to_release_twice_frees_one_slot(self) -> None:
        limiter = ConcurrencyLimiter("scope", 2)
        first, second = limiter.acquire(), limiter.acquire()
        first.release()
        first.release()
        assert limiter.under_way == 1
        second.release()
        assert limiter.idle

    def test_first_come_first_served(self) -> None:
        limiter = ConcurrencyLimiter("scope", 1)
        held, order, threads = limiter.acquire(), [], []

        def wait(n: int) -> None:
            slot = limiter.acquire(FAR)
            order.append(n)
            slot.release()

        for n in range(20):
            threads.append(started(lambda n=n: wait(n)))
            wait_until(lambda n=n: len(limiter._line) == n + 1)
        assert not order
        held.release()
        ended(*threads)
        assert order == list(range(20))
        assert limiter.idle

    def test_a_newcomer_does_not_pass_who_waits(self) -> None:
        limiter = ConcurrencyLimiter("scope", 1)
        held = limiter.acquire()
        gone = Place()
        limiter._line.join(gone)  # waits, and does not look
        held.release()
        with pytest.raises(ConcurrencyLimitExceeded):
            limiter.acquire(0.01)
        del gone  # torn away by an interrupt, before it could leave
        assert limiter.acquire(FAR)

    def test_who_was_torn_away_blocks_nobody_though_the_traceback_is_kept(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As a REPL and a notebook keep the last one: it holds all frames, and what is in them."""
        limiter = ConcurrencyLimiter("scope", 1)
        held = limiter.acquire()

        def interrupted(line: Line, place: Place) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(Line, "leave", interrupted)
            with pytest.raises(KeyboardInterrupt) as kept:
                limiter.acquire(0.01)
        assert len(limiter._line) == 1
        held.release()
        assert limiter.acquire(FAR)
        assert kept.value.__traceback__ is not None

    def test_who_gives_up_lets_the_next_one_in(self) -> None:
        limiter = ConcurrencyLimiter("scope", 1)
        held = limiter.acquire()
        outcomes: list[object] = []

        def give_up() -> None:
            raise ManagerClosed("no longer")

        def wait(check: Callable[[], object] | None) -> None:
            try:
                outcomes.append(limiter.acquire(FAR, check=check))
            except ManagerClosed as error:
                outcomes.append(error)

        wanted = started(lambda: wait(None))
        wait_until(lambda: len(limiter._line) == 1)
        with pytest.raises(ManagerClosed):
            limiter.acquire(FAR, check=give_up)
        held.release()
        ended(wanted)
        assert isinstance(outcomes[0], Slot)

    def test_a_slot_that_nobody_holds_is_free(self) -> None:
        limiter = ConcurrencyLimiter("scope", 1)
        circle: list[object] = [limiter.acquire()]
        circle.append(circle)
        del circle
        gc.collect()
        assert limiter.idle

    @pytest.mark.parametrize("lock", ["_lock", "_bell"])
    def test_the_collector_may_give_it_back_wherever_a_thread_is(self, lock: str) -> None:
        """Under any lock of the limiter: nothing is waited for."""
        limiter = ConcurrencyLimiter("scope", 1)
        slot = limiter.acquire()
        getattr(limiter, lock).acquire(blocking=False)
        del slot
        assert limiter.under_way == 0

    def test_a_waiter_hears_of_what_the_collector_frees(self) -> None:
        limiter = ConcurrencyLimiter("scope", 1)
        held = [limiter.acquire()]
        waiter = started(lambda: limiter.acquire(FAR))
        wait_until(lambda: len(limiter._line) == 1)
        held.clear()
        ended(waiter)

    def test_under_load_none_is_lost_and_none_is_one_too_many(self) -> None:
        limiter, lock = ConcurrencyLimiter("scope", 3), threading.Lock()
        now, most, refused = [0], [0], [0]

        def work(n: int) -> None:
            for turn in range(60):
                try:
                    slot = limiter.acquire(0.0005 if (n + turn) % 5 == 0 else FAR)
                except ConcurrencyLimitExceeded:
                    with lock:
                        refused[0] += 1
                    continue
                with lock:
                    now[0] += 1
                    most[0] = max(most[0], now[0])
                time.sleep(0.0001)
                with lock:
                    now[0] -= 1
                if turn % 2:
                    slot.release()
                del slot

        in_threads(12, work)
        assert most[0] == 3
        assert limiter.idle

    def test_with_a_collector_that_runs_all_the_time(self) -> None:
        """It frees slots in whatever thread it runs, in the midst of taking one, too."""
        limiter, before = ConcurrencyLimiter("scope", 2), gc.get_threshold()
        ended: list[int] = []

        def work(n: int) -> None:
            for _ in range(50):
                circle: list[object] = [limiter.acquire(FAR, check=gc.collect)]
                circle.append(circle)
                del circle  # else it would be held while another slot is waited for
            ended.append(n)

        gc.freeze()  # what is there already need not be looked through each time
        gc.set_threshold(1, 1, 1)
        try:
            in_threads(6, work)
        finally:
            gc.set_threshold(*before)
            gc.unfreeze()
        gc.collect()
        assert len(ended) == 6
        assert limiter.idle

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_a_child_begins_with_all_slots_free(self) -> None:
        limiter = ConcurrencyLimiter("scope", 1)
        held = limiter.acquire()
        waiter = started(lambda: limiter.acquire(FAR))
        wait_until(lambda: len(limiter._line) == 1)

        def use() -> None:
            mine = limiter.acquire(0)
            held.release()  # the parent's: it frees nothing here
            assert limiter.under_way == 1
            mine.release()
            assert limiter.idle

        with limiter._lock:
            in_child(use)
        assert limiter.under_way == 1
        held.release()
        ended(waiter)


@pytest.mark.parametrize("through", ["manager", "session"])
def test_the_server_sees_no_more_at_once(
    make_manager: MakeManager, server: ScriptedServer, through: str
) -> None:
    url = server.script("/slow", Reply(delay=0.03))
    manager = make_manager(max_concurrency=4, rate_limit_requests=None, pool_maxsize=32)
    sender = manager if through == "manager" else manager.session
    in_threads(32, lambda n: sender.get(url))
    assert server.count() == 32
    assert server.most_at_once == 4
    assert limiter_of(manager, url).idle


def test_without_the_setting_there_is_no_bound(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(rate_limit_requests=None)
    endpoint = manager._endpoints.table.resolve(server.url)
    assert endpoint.concurrency is None
    assert "concurrency" not in manager.explain(server.url).order


def test_each_origin_has_slots_of_its_own_and_a_pattern_has_one_bound_for_all(
    make_manager: MakeManager, server: ScriptedServer, other_server: ScriptedServer
) -> None:
    manager = make_manager(
        max_concurrency=2,
        endpoint_configs={f"{server.host}/one": {"max_concurrency": 1}},
    )
    here, there = limiter_of(manager, server.url), limiter_of(manager, other_server.url)
    assert here is not there
    assert (here.most, here.scope) == (2, server.origin)
    own = limiter_of(manager, server.url + "/one")
    assert own is limiter_of(manager, other_server.url + "/one")
    assert (own.most, own.scope) == (1, f"{server.host}/one")
    order = manager.explain(server.url).order
    assert order.index("concurrency") < order.index("rate limit") < order.index("send")


def test_a_change_elsewhere_leaves_the_slots_alone(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(max_concurrency=2)
    limiter = limiter_of(manager, server.url)
    manager.add_endpoint_config("api.example.com", {"timeout": 3})
    assert limiter_of(manager, server.url) is limiter


def test_a_crawler_leaves_no_slots_behind(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(max_concurrency=1)
    busy = manager.get(server.url, stream=True)
    limiter = limiter_of(manager, server.url)
    for n in range(5000):
        manager._endpoints.table.resolve(f"http://{n}.test/")
    assert len(manager._endpoints._kept.concurrency.all()) < 4200
    assert limiter_of(manager, server.url) is limiter
    busy.close()


class TestUntilTheBodyIsRead:
    @pytest.fixture(params=["deadline", "no deadline"])
    def manager(self, request: Any, make_manager: MakeManager) -> ConnectionManager:
        bound = {"total_timeout": FAR} if request.param == "deadline" else {}
        return make_manager(max_concurrency=1, max_concurrency_wait=0, **bound)

    @pytest.fixture(params=["chunked", "with a length", "until the end", "gzip"])
    def url(self, request: Any, server: ScriptedServer) -> str:
        packed = gzip.compress(LINES)
        reply = {
            "chunked": Reply(body=LINES, chunked=True),
            "with a length": Reply(body=LINES),
            "until the end": Reply(body=LINES, headers={"Connection": "close"}),
            "gzip": Reply(body=packed, headers={"Content-Encoding": "gzip"}),
        }[request.param]
        return server.script("/lines", reply)

    @pytest.mark.parametrize(
        "read",
        [
            lambda r: b"".join(r.iter_content(100)),
            lambda r: b"".join(r.iter_content(None)),
            lambda r: b"".join(line + b"\n" for line in r.iter_lines()),
            lambda r: b"".join(r.raw.stream(100, decode_content=True)),
            lambda r: r.content,
            lambda r: r.text.encode(),
        ],
    )
    def test_read_to_its_end(self, manager: ConnectionManager, url: str, read: Any) -> None:
        limiter = limiter_of(manager, url)
        response = manager.get(url, stream=True)
        assert limiter.under_way == 1
        assert read(response) == LINES
        assert limiter.under_way == 0
        assert manager.get(url).content == LINES

    @pytest.mark.parametrize(
        "read",
        [
            lambda r: b"".join(iter(lambda: r.raw.read(100), b"")),
            lambda r: r.raw.read(),
            lambda r: r.raw.drain_conn(),
        ],
    )
    def test_read_raw(self, manager: ConnectionManager, server: ScriptedServer, read: Any) -> None:
        url = server.script("/raw", Reply(body=LINES))
        response = manager.get(url, stream=True)
        read(response)
        assert limiter_of(manager, url).under_way == 0
        assert manager.get(url).content == LINES

    @pytest.mark.parametrize(
        "leave",
        [
            lambda r: r.close(),
            lambda r: r.raw.close(),
            lambda r: r.raw.release_conn(),
            lambda r: r.__exit__(),
            lambda r: r.raw.__exit__(None, None, None),
        ],
    )
    def test_left_in_the_middle(self, manager: ConnectionManager, url: str, leave: Any) -> None:
        response = manager.get(url, stream=True)
        pieces = response.iter_content(5)  # kept: an iterator that is dropped ends the body
        assert next(pieces) == LINES[:5]
        assert limiter_of(manager, url).under_way == 1
        with pytest.raises(ConcurrencyLimitExceeded):
            manager.get(url)
        leave(response)
        assert limiter_of(manager, url).under_way == 0

    def test_dropped(self, manager: ConnectionManager, url: str) -> None:
        """By count, not by the collector: there is no circle."""
        gc.disable()
        try:
            response = manager.get(url, stream=True)
            assert limiter_of(manager, url).under_way == 1
            del response
            assert limiter_of(manager, url).under_way == 0
        finally:
            gc.enable()

    def test_unstreamed_it_is_free_when_the_call_returns(
        self, manager: ConnectionManager, url: str
    ) -> None:
        kept = [manager.get(url) for _ in range(3)]
        assert limiter_of(manager, url).idle
        assert {response.content for response in kept} == {LINES}

    @pytest.mark.parametrize("chunked", [False, True])
    def test_a_body_that_is_cut(
        self, manager: ConnectionManager, server: ScriptedServer, chunked: bool
    ) -> None:
        url = server.script("/cut", Reply(body=LINES, cut_at=1000, chunked=chunked))
        response = manager.get(url, stream=True)
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            list(response.iter_lines())
        assert limiter_of(manager, url).under_way == 0
        with pytest.raises(requests.RequestException):
            manager.get(url)
        assert server.count() == 5  # three retries, each with the one slot
        assert limiter_of(manager, url).idle

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize("status", [200, 204, 304])
    def test_where_there_is_no_body_it_is_free_at_once(
        self, manager: ConnectionManager, server: ScriptedServer, method: str, status: int
    ) -> None:
        body = LINES if method == "HEAD" else b""
        url = server.script("/empty", Reply(status=status, body=body))
        responses = [manager.request(method, url, stream=True) for _ in range(3)]
        assert [response.status_code for response in responses] == [status] * 3
        assert [response.content for response in responses] == [b""] * 3

    def test_a_slot_outlives_the_deadline_of_its_call(
        self, make_manager: MakeManager, server: ScriptedServer
    ) -> None:
        manager = make_manager(max_concurrency=1, max_concurrency_wait=0, total_timeout=FAR)
        response = manager.get(server.url, stream=True)
        assert limiter_of(manager, server.url).under_way == 1
        response.close()


def test_retries_and_redirects_each_take_the_one_slot(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(max_concurrency=1, max_concurrency_wait=0)
    server.script("/flaky", Reply(status=503, body=LINES), Reply.redirect("/there"))
    server.script("/there", Reply(status=302, body=LINES, headers={"Location": "/end"}))
    for stream in (False, True):
        server.script("/flaky", Reply(status=503, body=LINES), Reply.redirect("/there"))
        with manager.get(server.url + "/flaky", stream=stream) as response:
            assert response.url == server.url + "/end"
        assert limiter_of(manager, server.url).idle
    assert server.count() == 8


def test_the_last_answer_of_exhausted_retries(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/down", Reply(status=503, body=LINES * 50))
    manager = make_manager(max_concurrency=1, max_concurrency_wait=0)
    for stream in (False, True):
        with pytest.raises(requests.exceptions.RetryError):
            manager.get(url, stream=stream)
        assert limiter_of(manager, url).idle


def test_a_wait_is_bounded_and_gives_the_permit_back(
    make_manager: MakeManager, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a failure for the breaker, nor retried, nor a permit spent."""
    manager = make_manager(
        max_concurrency=1,
        max_concurrency_wait=0.05,
        rate_limit_requests=3,
        rate_limit_max_wait=0,
        circuit_breaker_failure_threshold=1,
    )
    stream = manager.get(server.url, stream=True)
    for _ in range(5):
        with pytest.raises(ConcurrencyLimitExceeded, match=server.origin) as caught:
            manager.get(server.url)
        assert caught.value.request is not None
        assert caught.value.endpoint == server.origin
    assert server.count() == 1
    assert manager.circuit_breaker.current_state == "closed"
    stream.close()
    for _ in range(2):
        assert manager.get(server.url).status_code == 200
    counts = manager.stats().scopes[server.origin].counts
    assert counts.failures == {"ConcurrencyLimitExceeded": 5}
    assert (counts.calls, counts.let_go, counts.attempts) == (8, 3, 3)


def test_a_wait_is_logged(
    make_manager: MakeManager, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    manager = make_manager(max_concurrency=1)
    stream = manager.get(server.url, stream=True)
    with caplog.at_level("INFO", "requests_connection_manager"):
        other = started(lambda: manager.get(server.url))
        wait_until(lambda: len(limiter_of(manager, server.url)._line) == 1)
        stream.close()
        ended(other)
    assert "for a slot" in caplog.text


def test_a_deadline_bounds_the_wait(make_manager: MakeManager, server: ScriptedServer) -> None:
    manager = make_manager(
        max_concurrency=1, endpoint_configs={f"{server.host}": {"total_timeout": 0.2}}
    )
    stream = manager.get(server.url, stream=True)
    with pytest.raises(ConcurrencyLimitExceeded):
        manager.get(server.url)
    stream.close()
    assert manager.get(server.url).status_code == 200


def test_a_circuit_that_opens_meanwhile_is_asked_again(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(max_concurrency=1, rate_limit_requests=2, rate_limit_max_wait=0)
    stream = manager.get(server.url, stream=True)
    outcomes: list[object] = []

    def call() -> None:
        try:
            outcomes.append(manager.get(server.url))
        except CircuitBreakerOpen as error:
            outcomes.append(error)

    waiter = started(call)
    wait_until(lambda: len(limiter_of(manager, server.url)._line) == 1)
    [circuit] = manager._endpoints.circuits().values()
    circuit.open()
    stream.close()
    ended(waiter)
    assert isinstance(outcomes[0], CircuitBreakerOpen)
    assert server.count() == 1
    circuit.close()
    assert manager.get(server.url).status_code == 200  # with the permit that came back


def test_a_trial_that_finds_no_slot_leaves_its_place(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(
        max_concurrency=1, max_concurrency_wait=0, circuit_breaker_recovery_timeout=0
    )
    stream = manager.get(server.url, stream=True)
    [circuit] = manager._endpoints.circuits().values()
    circuit.open()
    for _ in range(2):
        with pytest.raises(ConcurrencyLimitExceeded):
            manager.get(server.url)
    assert circuit.current_state == "half-open"
    stream.close()
    assert manager.get(server.url).status_code == 200
    assert circuit.current_state == "closed"


def test_ctrl_c_in_the_line(make_manager: MakeManager, server: ScriptedServer) -> None:
    manager = make_manager(max_concurrency=1, rate_limit_requests=3, rate_limit_max_wait=0)
    limiter = limiter_of(manager, server.url)
    stream = manager.get(server.url, stream=True)
    interrupted_when(lambda: len(limiter._line) == 1, lambda: manager.get(server.url))
    assert not limiter._line
    stream.close()
    for _ in range(2):  # its permit came back
        assert manager.get(server.url).status_code == 200
    assert limiter.idle


def test_ctrl_c_in_an_attempt(make_manager: MakeManager, server: ScriptedServer) -> None:
    url = server.script("/slow", Reply(delay=FAR), Reply())
    manager = make_manager(max_concurrency=1, max_concurrency_wait=0)
    interrupted_when(lambda: server.count() == 1, lambda: manager.get(url))
    assert manager.get(url).status_code == 200


def test_a_closed_manager_lets_nobody_wait(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(max_concurrency=1)
    stream = manager.get(server.url, stream=True)
    outcomes: list[object] = []

    def call(n: int) -> None:
        try:
            outcomes.append(manager.get(server.url))
        except requests.RequestException as error:
            outcomes.append(error)

    def close_when_all_wait() -> None:
        wait_until(lambda: len(limiter_of(manager, server.url)._line) == 5)
        manager.close()

    closer = started(close_when_all_wait)
    in_threads(5, call)
    ended(closer)
    assert {type(each) for each in outcomes} == {ManagerClosed}
    assert server.count() == 1
    stream.close()


def test_a_batch_keeps_the_bound_and_leaves_the_line_when_stopped(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/slow", Reply(delay=0.02))
    free = {f"{server.host}/free": {"max_concurrency": None}}
    manager = make_manager(max_concurrency=2, rate_limit_requests=None, endpoint_configs=free)
    results = manager.batch_request([("GET", url)] * 12, max_workers=6)
    assert [result.status_code for result in results] == [200] * 12
    assert server.most_at_once == 2
    held = [manager.get(server.url, stream=True) for _ in range(2)]
    first = server.script("/free", Reply(delay=0.5))  # when all others have been sent
    batch = manager.iter_batch([first, *[server.url] * 50], max_workers=6)
    assert next(batch).error is None
    limiter = limiter_of(manager, url)
    wait_until(lambda: len(limiter._line) >= 5)
    batch.close()
    wait_until(lambda: not limiter._line)
    assert server.count() == 15
    del held
    assert limiter.idle


class TestNestedCalls:
    def test_an_auth_that_asks_the_same_endpoint_needs_no_second_slot(
        self, make_manager: MakeManager, server: ScriptedServer
    ) -> None:
        """It runs while requests prepares the request: the slot is taken later."""
        manager = make_manager(max_concurrency=1, max_concurrency_wait=0)

        def auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers["X-Token"] = manager.get(server.url + "/token").text
            return request

        assert manager.get(server.url, auth=auth).status_code == 200
        assert server.count() == 2

    def test_a_response_hook_that_asks_it(
        self, make_manager: MakeManager, server: ScriptedServer
    ) -> None:
        manager = make_manager(max_concurrency=1, max_concurrency_wait=0)
        hooks = {"response": lambda response, **_: manager.get(server.url + "/more") and None}
        assert manager.get(server.url, hooks=hooks).status_code == 200
        assert server.count() == 2

    @pytest.mark.parametrize("cut_at", [None, 2])
    def test_a_response_hook_of_a_redirect_that_asks_it(
        self, make_manager: MakeManager, server: ScriptedServer, cut_at: int | None
    ) -> None:
        """The body of a redirect has been read by then; where it is cut, nobody minds."""
        manager = make_manager(max_concurrency=1, max_concurrency_wait=0)
        reply = Reply(status=302, body=b"moved", headers={"Location": "/end"}, cut_at=cut_at)
        url = server.script("/go", reply)
        hooks = {"response": lambda response, **_: manager.get(server.url + "/more") and None}
        answer = manager.get(url, hooks=hooks)
        assert (answer.status_code, len(answer.history)) == (200, 1)
        assert [each.path for each in server.received] == ["/go", "/more", "/end", "/more"]

    def test_one_that_asks_while_it_streams_is_refused_and_does_not_hang(
        self, make_manager: MakeManager, server: ScriptedServer
    ) -> None:
        manager = make_manager(max_concurrency=1, max_concurrency_wait=0.05)
        hooks = {"response": lambda response, **_: manager.get(server.url + "/more") and None}
        with pytest.raises(ConcurrencyLimitExceeded):
            manager.get(server.url, hooks=hooks, stream=True)
        gc.collect()  # the error held the answer
        wait_until(lambda: limiter_of(manager, server.url).idle)

    def test_a_body_that_asks_it_is_refused_and_does_not_hang(
        self, make_manager: MakeManager, server: ScriptedServer
    ) -> None:
        manager = make_manager(max_concurrency=1, max_concurrency_wait=0.05)

        def body() -> Iterator[bytes]:
            yield manager.get(server.url).content

        with pytest.raises(requests.ConnectionError) as caught:
            manager.post(server.url, data=body())
        assert isinstance(caught.value.__cause__, ConcurrencyLimitExceeded)
        assert limiter_of(manager, server.url).idle


class TestStandIns:
    def test_what_is_no_response_of_urllib3_frees_at_once(self) -> None:
        told: list[int] = []
        for raw in (None, SimpleNamespace(closed=False)):
            response = requests.Response()
            response.raw = raw
            when_read(response, lambda: told.append(1))
        when_read(SimpleNamespace(), lambda: told.append(1))
        assert told == [1, 1, 1]

    def test_a_mocked_transport_leaks_nothing(
        self, make_manager: MakeManager, server: ScriptedServer
    ) -> None:
        manager = make_manager(max_concurrency=1, max_concurrency_wait=0)
        answer = requests.Response()
        answer.status_code, answer.url = 200, server.url
        for target in ("requests.adapters.HTTPAdapter.send", "requests.Session.request"):
            with patch(target, return_value=answer):
                for stream in (False, True):
                    assert manager.get(server.url, stream=stream).status_code == 200
        assert limiter_of(manager, server.url).idle
        assert server.count() == 0

    def test_a_mock_that_is_a_response_of_urllib3_frees_at_once(
        self, make_manager: MakeManager, server: ScriptedServer
    ) -> None:
        def send(adapter: object, request: requests.PreparedRequest, **_: Any) -> requests.Response:
            answer = requests.Response()
            answer.status_code, answer.url = 200, server.url
            answer.raw = HTTPResponse(io.BytesIO(LINES), status=200, preload_content=False)
            return answer

        manager = make_manager(max_concurrency=1, max_concurrency_wait=0)
        with patch("requests.adapters.HTTPAdapter.send", send):
            kept = [manager.get(server.url, stream=True) for _ in range(2)]
        assert [answer.content for answer in kept] == [LINES] * 2
        assert limiter_of(manager, server.url).idle

    def test_an_adapter_of_the_users_own_takes_no_slot(
        self, make_manager: MakeManager, server: ScriptedServer
    ) -> None:
        manager = make_manager(max_concurrency=1, max_concurrency_wait=0)
        manager.session.mount(server.url, requests.adapters.HTTPAdapter())
        held = [manager.get(server.url, stream=True) for _ in range(3)]
        assert limiter_of(manager, server.url).idle
        for response in held:
            response.close()
