"""A batch that is closed, dropped or interrupted: it returns at once and sends nothing more."""

from __future__ import annotations

import gc
import itertools
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator

import pytest
import requests

from requests_connection_manager import ConnectionManager, DeadlineExceeded, ManagerClosed
from requests_connection_manager.batch import BatchResult, batch_request, iter_batch
from requests_connection_manager.work_group import BatchStopped, WorkGroup, current_group
from tests.conftest import MakeManager
from tests.server import Reply, ScriptedServer, wait_until
from tests.test_interrupts import interrupted_when

FAR = 30
SOON = Reply(delay=0.5)
"""For a first result that comes when all others have been sent."""


@pytest.fixture(autouse=True)
def threads() -> Iterator[set[threading.Thread]]:
    """The threads from before the test; when it is over, there are no others."""
    before = set(threading.enumerate())
    yield before
    wait_until(lambda: not workers_beside(before))


def workers_beside(before: set[threading.Thread]) -> set[threading.Thread]:
    return {each for each in threading.enumerate() if "batch" in each.name} - before


class Held:
    """Answers "slow" when it is told to, and "after 3" when three requests have begun."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.began = 0
        self.closed = 0
        self._lock = threading.Lock()

    def send(self, **keywords: object) -> requests.Response:
        with self._lock:
            self.began += 1
        url = str(keywords["url"])
        if url == "slow":
            assert self.let_go.wait(20)
        elif url != "fast":
            wait_until(lambda: self.began == int(url.removeprefix("after ")))
        response = requests.Response()
        response.status_code = 200
        response.close = self._count_closed  # type: ignore[method-assign]
        return response

    def _count_closed(self) -> None:
        with self._lock:
            self.closed += 1


def test_closing_waits_for_nothing_and_sends_nothing_more(
    manager: ConnectionManager, server: ScriptedServer, threads: set[threading.Thread]
) -> None:
    first, slow = server.script("/first", SOON), server.script("/slow", Reply(delay=FAR))
    results = manager.iter_batch(itertools.chain([first], itertools.repeat(slow)))
    assert next(results).index == 0
    wait_until(lambda: server.count("/slow") == 5)
    results.close()
    assert len(workers_beside(threads)) == 5  # the server has not answered
    assert list(results) == []
    server.close()
    wait_until(lambda: not workers_beside(threads))
    assert server.count("/slow") == 5
    assert manager.circuit_breaker.fail_counter <= 5


def test_late_answers_are_closed() -> None:
    held = Held()
    results = iter_batch(held.send, ["after 4", *["slow"] * 50], max_workers=4)
    next(results)
    wait_until(lambda: held.began == 5)
    results.close()
    assert held.closed == 0
    held.let_go.set()
    wait_until(lambda: held.closed == 4)
    assert held.began == 5


def test_answers_that_nobody_took_are_closed() -> None:
    held = Held()
    results = iter_batch(held.send, ["after 2", "slow"], max_workers=2)
    next(results)
    held.let_go.set()
    results.close()
    wait_until(lambda: held.closed == 1)


def test_answers_whose_turn_had_not_come_are_closed() -> None:
    held = Held()
    results = iter_batch(held.send, ["after 6", *["fast"] * 50], max_workers=3, ordered=True)
    assert next(results).index == 0
    results.close()
    wait_until(lambda: held.closed == 5)
    assert held.began == 6


def test_many_stops_lose_no_answer() -> None:
    """The race between an answer that comes and the stop: one of the two sides closes it."""
    held = Held()
    handed_out = 0
    for number in range(300):
        results = iter_batch(held.send, itertools.repeat("fast"), max_workers=4)
        for _ in range(number % 7 + 1):
            next(results)
            handed_out += 1
        results.close()
    wait_until(lambda: held.closed == held.began - handed_out)


def test_callbacks_do_not_run_for_late_answers() -> None:
    held, called = Held(), []
    items = ["after 2", *["slow"] * 5]
    results = iter_batch(held.send, items, max_workers=2, callbacks=[called.append])
    next(results)
    results.close()
    held.let_go.set()
    wait_until(lambda: held.closed == held.began - 1)
    assert len(called) == 1


def test_a_streamed_answer_does_not_keep_its_connection(
    manager: ConnectionManager, server: ScriptedServer
) -> None:
    big = server.script("/big", Reply(body=b"x" * 5_000_000, delay=0.1))
    results = manager.iter_batch([("GET", big, {"stream": True})] * 50)
    with next(results).response:
        results.close()
    wait_until(lambda: server.connections_open == 0)
    assert server.count() <= 11


def test_what_waits_for_a_permit_is_not_sent(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(rate_limit_requests=1, rate_limit_period=0.7)
    limiter = manager._endpoints.table.resolve(server.url).limiter

    def items() -> Iterator[str]:
        yield from [server.url] * 7
        wait_until(lambda: len(limiter._line) == 4)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(manager.iter_batch(items(), max_workers=4))
    assert len(limiter._line) == 4  # it did not wait for them
    wait_until(lambda: not limiter._line)
    assert server.count() == 1
    assert manager.get(server.url).ok  # the permits of the next window were given back
    assert server.count() == 2


def test_what_waits_for_a_permit_leaves_the_line_to_others(
    make_manager: MakeManager, server: ScriptedServer, threads: set[threading.Thread]
) -> None:
    manager = make_manager(rate_limit_requests=1, rate_limit_period=3600)
    limiter = manager._endpoints.table.resolve(server.url).limiter
    url = server.script("/", SOON)  # whichever gets the permit
    results = manager.iter_batch([url] * 8, max_workers=4)
    next(results)
    wait_until(lambda: len(limiter._line) == 4)
    results.close()
    wait_until(lambda: not limiter._line and not workers_beside(threads))
    assert server.count() == 1


def test_what_backs_off_is_not_sent_again(
    make_manager: MakeManager, server: ScriptedServer, threads: set[threading.Thread]
) -> None:
    busy = server.script("/busy", Reply.retry_after(FAR))
    manager = make_manager(rate_limit_requests=None, respect_server_limits=False)
    results = manager.iter_batch([server.script("/first", SOON), *[busy] * 9], max_workers=3)
    next(results)
    wait_until(lambda: server.count("/busy") == 3)
    results.close()
    wait_until(lambda: not workers_beside(threads))  # long before the back-off is over
    assert server.count("/busy") == 3
    assert manager.circuit_breaker.fail_counter == 0


def test_a_trial_that_is_stopped_gives_its_place_back(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(
        circuit_breaker_failure_threshold=1,
        circuit_breaker_recovery_timeout=0,
        rate_limit_requests=1,
        rate_limit_period=0.7,
        max_retries=0,
    )
    manager.get(server.script("/down", Reply(status=503)))
    limiter = manager._endpoints.table.resolve(server.url).limiter

    def items() -> Iterator[str]:
        yield server.url
        wait_until(lambda: len(limiter._line) == 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(manager.iter_batch(items(), max_workers=1))
    assert manager.circuit_breaker.current_state == "half-open"
    wait_until(lambda: not limiter._line)
    assert manager.get(server.url).ok
    assert manager.circuit_breaker.current_state == "closed"
    assert server.count() == 2


def test_a_redirect_is_not_followed_after_the_stop(
    manager: ConnectionManager, server: ScriptedServer, threads: set[threading.Thread]
) -> None:
    first = server.script("/first", SOON)
    away = server.script("/go", Reply(status=302, delay=1.5, headers={"Location": "/there"}))
    results = manager.iter_batch([first, away])
    next(results)
    wait_until(lambda: server.count("/go") == 1)
    results.close()
    wait_until(lambda: not workers_beside(threads))
    assert server.count("/there") == 0


def test_a_batch_that_is_dropped_is_stopped() -> None:
    held = Held()
    results = iter_batch(held.send, ["after 2", *["slow"] * 50], max_workers=2)
    next(results)
    wait_until(lambda: held.began == 3)
    del results
    held.let_go.set()
    wait_until(lambda: held.closed == 2)
    assert held.began == 3


def test_closed_from_another_thread() -> None:
    held = Held()
    results = iter_batch(held.send, ["after 2", *["slow"] * 50], max_workers=2)
    next(results)
    closer = threading.Thread(target=results.close)
    closer.start()
    closer.join(20)
    assert not closer.is_alive()
    assert list(results) == []
    held.let_go.set()


def test_a_batch_that_was_never_begun() -> None:
    held = Held()
    iter_batch(held.send, ["fast"], max_workers=1).close()
    assert held.began == 0


def test_an_error_in_the_loop_of_the_consumer_stops_it() -> None:
    held = Held()

    def consume() -> None:
        for result in iter_batch(held.send, itertools.repeat("fast"), max_workers=2):
            raise KeyError(result.index)

    with pytest.raises(KeyError):
        consume()
    wait_until(lambda: held.closed == held.began - 1)


def test_the_answers_of_a_list_that_fails_are_closed() -> None:
    held = Held()

    def send(**keywords: object) -> requests.Response:
        if keywords["url"] == "broken":
            raise requests.ConnectionError
        return held.send(**keywords)

    items = [("GET", "fast")] * 20 + [("GET", "broken")] + [("GET", "fast")] * 50_000
    with pytest.raises(requests.ConnectionError):
        batch_request(send, items, max_workers=3, return_exceptions=False)
    wait_until(lambda: held.closed == held.began)
    # of six that may be taken at a time, some were not yet begun, or others went on meanwhile
    assert 14 <= held.began < 25_000


def test_a_nested_batch_is_stopped_with_its_outer() -> None:
    held, ended = Held(), []

    def nest(result: BatchResult) -> None:
        try:
            for _ in iter_batch(held.send, itertools.repeat("fast"), max_workers=2):
                pass
        except BatchStopped as error:
            ended.append(error)
            raise

    def items() -> Iterator[str]:
        yield "fast"
        wait_until(lambda: held.began > 20)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(iter_batch(held.send, items(), max_workers=1, callbacks=[nest]))
    wait_until(lambda: len(ended) == 1)
    wait_until(lambda: held.closed >= 1)


def test_what_callbacks_have_set_going_goes_on_after_a_batch_has_ended(
    manager: ConnectionManager, server: ScriptedServer
) -> None:
    seen: list[WorkGroup | None] = []
    list(manager.iter_batch([server.url], callbacks=[lambda _: seen.append(current_group.get())]))
    [group] = seen
    assert group is not None
    assert not group.stopped
    assert current_group.get() is None


def test_ctrl_c_in_a_batch(manager: ConnectionManager, server: ScriptedServer) -> None:
    slow = server.script("/slow", Reply(delay=FAR))
    took = interrupted_when(
        lambda: server.count() == 5, lambda: manager.batch_request([("GET", slow)] * 50)
    )
    assert took < FAR
    server.close()
    assert server.count() == 5


SCRIPT = """
import sys
from requests_connection_manager import ConnectionManager
url = sys.argv[1]
manager = ConnectionManager(rate_limit_requests=8)
for result in manager.iter_batch([url + "/first"] + [url + "/slow"] * 1000, max_workers=10):
    print(result.index, flush=True)
    {then}
"""


def run_against(server: ScriptedServer, then: str) -> subprocess.Popen[str]:
    server.script("/first", SOON)
    server.script("/slow", Reply(delay=FAR))
    code = SCRIPT.format(then=then)
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_ctrl_c_ends_a_script(server: ScriptedServer) -> None:
    """With seven requests in flight and three workers in the line of the limiter."""
    with run_against(server, then="pass") as script:
        wait_until(lambda: server.count("/slow") == 7)
        script.send_signal(signal.SIGINT)
        _, noise = script.communicate(timeout=20)
    assert script.returncode not in (0, None)
    assert noise.count("Traceback") == 1
    assert noise.rstrip().endswith("KeyboardInterrupt")
    assert server.count("/slow") == 7


def test_the_interpreter_may_end_in_the_middle_of_a_batch(server: ScriptedServer) -> None:
    with run_against(server, then="import time; time.sleep(0.2); sys.exit(7)") as script:
        _, noise = script.communicate(timeout=20)
    assert (script.returncode, noise) == (7, "")


def test_a_batch_that_is_left_open_does_not_hold_up_the_exit(server: ScriptedServer) -> None:
    with run_against(server, then="break") as script:
        _, noise = script.communicate(timeout=20)
    assert (script.returncode, noise) == (0, "")


def test_a_manager_that_is_closed_ends_what_waits(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(rate_limit_requests=1, rate_limit_period=3600)
    limiter = manager._endpoints.table.resolve(server.url).limiter
    results = manager.iter_batch([server.script("/first", SOON), *[server.url] * 4])
    assert next(results).error is None
    wait_until(lambda: len(limiter._line) == 4)
    manager.close()
    assert {type(result.error) for result in results} == {ManagerClosed}
    assert server.count() == 1


def test_a_manager_that_is_closed_sends_no_retry(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    server.script("/busy", Reply.retry_after(1), Reply())
    manager = make_manager()
    manager.on_retry(lambda event: manager.close())
    with pytest.raises(ManagerClosed):
        manager.get(server.url + "/busy")
    assert server.count() == 1
    wait_until(lambda: server.connections_open == 0)


def test_a_batch_in_the_course_of_a_call_keeps_to_its_deadline(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    slow = server.script("/slow", Reply(delay=FAR))
    manager = make_manager(endpoint_configs={f"{server.host}/first": {"total_timeout": 0.5}})
    outcomes: list[object] = []

    def ask_first(request: requests.PreparedRequest) -> requests.PreparedRequest:
        outcomes.extend(manager.batch_request([("GET", slow)]))
        return request

    with pytest.raises(DeadlineExceeded):
        manager.get(server.url + "/first", auth=ask_first)
    assert isinstance(outcomes[0], DeadlineExceeded)


def test_an_error_that_a_batch_raises_keeps_nothing_alive(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    class Broken(Exception):
        pass

    def broken() -> Iterator[str]:
        yield server.url
        raise Broken

    manager = make_manager(rate_limit_requests=None)
    gc.collect()
    gc.disable()
    try:
        alive = []
        try:
            items = [*[("GET", server.url)] * 9, ("GET", "nope://x")]
            manager.batch_request(items, return_exceptions=False)
        except requests.RequestException as error:
            alive.append(weakref.ref(error))
        try:
            list(manager.iter_batch(broken()))
        except Broken as error:
            alive.append(weakref.ref(error))
        wait_until(lambda: [each() for each in alive] == [None, None])
    finally:
        gc.enable()


def test_a_thread_that_cannot_be_started_is_done_without(
    monkeypatch: pytest.MonkeyPatch, manager: ConnectionManager, server: ScriptedServer
) -> None:
    start, started = threading.Thread.start, []

    def limited(thread: threading.Thread) -> None:
        if thread.name.startswith("batch"):
            if len(started) == 2:
                raise RuntimeError("can't start new thread")
            started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    assert len(manager.batch_request([("GET", server.url)] * 20, max_workers=9)) == 20
