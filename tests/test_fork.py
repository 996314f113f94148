"""A child process begins with locks that open, lines without ghosts, and connections of its own.

Each test holds in the parent what would be held in another's thread at the moment of the fork.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import threading
import traceback
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests

from requests_connection_manager import (
    CircuitBreakerOpen,
    ConnectionManager,
    OAuth2ClientCredentials,
    forking,
)
from requests_connection_manager.limits.absence import Absence
from requests_connection_manager.work_group import BatchStopped
from tests.conftest import MakeManager
from tests.server import PrivateCA, Reply, ScriptedServer, wait_until

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    # Python 3.12 warns of what these tests are about: a fork beside other threads
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

FAR = 25  # seconds; longer than any of this takes
LOCKS = (type(threading.Lock()), type(threading.RLock()))


class Child:
    """A forked process that does ``work`` and ends; ``join`` raises what went wrong in it."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._report, theirs = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            try:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)  # not the parent's watchdog
                signal.alarm(FAR)
                work()
            except BaseException:
                os.write(theirs, traceback.format_exc().encode()[:60_000])
            finally:
                os._exit(0)
        os.close(theirs)

    def join(self) -> None:
        with os.fdopen(self._report, "rb") as report:
            text = report.read().decode()
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        assert not text, text
        assert status == 0, f"the child ended with {status}: it hung"


def in_child(work: Callable[[], object]) -> None:
    Child(work).join()


def locks_within(root: object) -> dict[str, Any]:
    """Find all locks that an object holds, by the way to them."""
    found: dict[str, Any] = {}
    seen: dict[int, object] = {}
    todo: list[tuple[str, object]] = [("", root)]
    while todo:
        path, each = todo.pop()
        if id(each) in seen:
            continue
        seen[id(each)] = each
        if isinstance(each, LOCKS):
            found[path] = each
        else:
            todo += [(f"{path}.{name}", value) for name, value in parts_of(each)]
    return found


def parts_of(each: object) -> Iterator[tuple[str, object]]:
    if isinstance(each, (type, types.ModuleType, str, bytes, int, float, threading.Thread)):
        return
    if isinstance(each, weakref.ref):
        yield "()", each()
    elif isinstance(each, dict):
        yield from ((f"[{key!r:.20}]", value) for key, value in each.items())
    elif isinstance(each, (list, tuple, set, frozenset, deque)):
        yield from (("[]", value) for value in each)
    elif isinstance(each, types.FunctionType):
        yield from (("cell", cell.cell_contents) for cell in each.__closure__ or ())
    elif isinstance(each, types.MethodType):
        yield "self", each.__self__
    if type(each).__module__.partition(".")[0] not in ("builtins", "logging", "tests", "ssl"):
        yield from getattr(each, "__dict__", {}).items()
        for kind in type(each).__mro__:
            slots = kind.__dict__.get("__slots__", ())
            for name in [slots] if isinstance(slots, str) else slots:
                if hasattr(each, name):
                    yield name, getattr(each, name)


@contextmanager
def all_locked(root: object) -> Iterator[dict[str, Any]]:
    """Let another thread hold all locks of an object that are free."""
    locks = locks_within(root)
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        mine = [lock for lock in locks.values() if lock.acquire(blocking=False)]
        held.set()
        release.wait(2 * FAR)
        for lock in mine:
            lock.release()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(FAR)
    try:
        yield locks
    finally:
        release.set()
        holder.join(FAR)


class Waiting(threading.Thread):
    """A thread of the parent that is in a call."""

    def __init__(self, call: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        super().__init__(daemon=True)
        self._work = lambda: call(*args, **kwargs)
        self.outcome: object = None
        self.start()

    def run(self) -> None:
        try:
            self.outcome = self._work()
        except Exception as error:
            self.outcome = error


def test_no_lock_stays_locked(
    make_manager: MakeManager, server: ScriptedServer, other_server: ScriptedServer
) -> None:
    other_server.script("/token", Reply(body=b'{"access_token": "t", "expires_in": 1}'))
    server.script("/flaky", Reply(status=503), Reply(), forever=Reply(status=503))
    server.script("/cookie", Reply(headers={"Set-Cookie": "a=1"}))
    host = f"127.0.0.1:{server.port}"
    auth = OAuth2ClientCredentials(other_server.url + "/token", "me", "s3cr3t")
    manager = make_manager(
        circuit_breaker_failure_threshold=2,
        endpoint_configs={f"{host}/own": {"auth": auth, "rate_limit_requests": 50}},
    )
    changes: list[object] = []
    manager.on_breaker_change(changes.append)

    def use() -> None:
        assert manager.get(server.url).status_code == 200
        assert manager.session.get(server.url + "/own").status_code == 200
        assert manager.get(server.url + "/cookie").status_code == 200
        results = manager.batch_request([("GET", server.url)] * 4, max_workers=2)
        assert [result.status_code for result in results] == [200] * 4
        manager.register_pre_request_hook(use_nothing)
        assert manager.unregister_hook("pre_request", use_nothing)
        manager.add_endpoint_config(f"{host}/later", {"timeout": 5})
        manager.remove_endpoint_config(f"{host}/later")
        assert manager.get_stats()
        assert manager.explain(server.url)

    def use_nothing(context: object) -> None:
        return None

    use()
    proxied = manager.get("http://api.test/", proxies={"http": server.url})
    assert proxied.status_code == 200

    def use_in_child() -> None:
        use()
        assert manager.get("http://api.test/", proxies={"http": server.url}).status_code == 200
        assert manager.get(server.url + "/flaky").status_code == 200
        for _ in range(2):
            assert manager.post(server.url + "/flaky").status_code == 503
        with pytest.raises(CircuitBreakerOpen):
            manager.get(server.url)
        assert len(changes) == 1
        manager.session.drop_pools()
        manager.close()
        gc.collect()

    with all_locked((manager, auth)) as locks:
        names = " ".join(locks)
        for part in ("limiter", "breaker", "_hooks", "tally", "cookies", "pools", "tasks_done"):
            assert part in names
        child = Child(use_in_child)
    child.join()
    use()


def test_nobody_stands_in_the_line_of_a_child(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(rate_limit_requests=1, rate_limit_period=1)
    limiter = manager._endpoints.table.resolve(server.url).limiter
    assert manager.get(server.url + "/parent").status_code == 200
    in_line = [Waiting(manager.get, server.url + "/parent") for _ in range(3)]
    wait_until(lambda: len(limiter._line) >= 2)
    in_child(lambda: manager.get(server.url + "/child").raise_for_status())
    for each in in_line:
        each.join(FAR)
    assert (server.count("/parent"), server.count("/child")) == (4, 1)


def test_the_parents_trial_is_not_the_childs(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/back", Reply(status=503), Reply(delay=2), forever=Reply())
    manager = make_manager(
        circuit_breaker_failure_threshold=1, circuit_breaker_recovery_timeout=0, max_retries=0
    )
    manager.get(url)
    trial = Waiting(manager.get, url)
    wait_until(lambda: server.count("/back") == 2)

    def make_a_trial_of_its_own() -> None:
        assert manager.get(url).status_code == 200
        assert manager.circuit_breaker.current_state == "closed"

    in_child(make_a_trial_of_its_own)
    assert manager.circuit_breaker.current_state == "half-open"
    trial.join(FAR)
    assert manager.circuit_breaker.current_state == "closed"


def test_a_child_tells_of_its_own_circuits(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    """Though in the parent a listener is still at it."""
    url = server.script("/down", Reply(status=503), forever=Reply())
    manager = make_manager(
        circuit_breaker_failure_threshold=1, circuit_breaker_recovery_timeout=0, max_retries=0
    )
    told: list[str] = []
    go_on = threading.Event()

    @manager.on_breaker_change
    def listen(change: Any) -> None:
        told.append(change.new_state)
        if threading.current_thread() is not threading.main_thread():
            go_on.wait(FAR)

    tripping = Waiting(manager.get, url)
    wait_until(lambda: told == ["open"])

    def recover() -> None:
        assert manager.get(url).status_code == 200
        assert told == ["open", "half-open", "closed"]

    in_child(recover)
    go_on.set()
    tripping.join(FAR)


@pytest.fixture(params=["http", "https"])
def target(request: pytest.FixtureRequest, ca: PrivateCA) -> Iterator[ScriptedServer]:
    with ScriptedServer(tls=ca.server_context() if request.param == "https" else None) as running:
        yield running


@pytest.mark.parametrize("through", ["manager", "session"])
def test_connections_are_not_shared(
    make_manager: MakeManager, target: ScriptedServer, bundle: str, through: str
) -> None:
    manager = make_manager(verify=bundle)
    send = manager if through == "manager" else manager.session
    for _ in range(3):
        assert send.get(target.url + "/parent").status_code == 200
    assert target.connections_made == 1

    def use() -> None:
        assert manager.get_stats()["scopes"][target.origin]["connections_open"] == 0
        for _ in range(3):
            assert send.get(target.url + "/child").status_code == 200
        assert manager.get_stats()["scopes"][target.origin]["connections_open"] == 1
        manager.close()

    for _ in range(3):  # the parent's own use of its connection goes on between
        in_child(use)
        assert send.get(target.url + "/parent").status_code == 200
    parents = {each.connection for each in target.requests_to("/parent")}
    childs = [each.connection for each in target.requests_to("/child")]
    assert parents == {1}
    assert sorted(childs) == [2, 2, 2, 3, 3, 3, 4, 4, 4]


def test_what_the_parent_is_reading_is_left_to_it(
    make_manager: MakeManager, target: ScriptedServer, bundle: str
) -> None:
    """A stream of the forking thread, and an answer that another waits for."""
    body = bytes(range(256)) * 400
    target.script("/stream", Reply(body=body, drip=0.01, drip_size=10_000))
    target.script("/slow", Reply(body=body, delay=0.5))
    manager = make_manager(verify=bundle)
    stream = manager.get(target.url + "/stream", stream=True)
    slow = Waiting(manager.get, target.url + "/slow")
    wait_until(lambda: target.count("/slow") == 1)

    def use() -> None:
        with pytest.raises(requests.RequestException):
            stream.content  # noqa: B018
        stream.close()
        assert manager.get(target.url + "/child").status_code == 200
        manager.close()

    in_child(use)
    assert stream.content == body
    slow.join(FAR)
    assert isinstance(slow.outcome, requests.Response)
    assert slow.outcome.content == body
    assert {each.connection for each in target.requests_to("/child")} == {3}


def test_a_child_holds_no_connection_open_that_its_parent_closes(
    make_manager: MakeManager, target: ScriptedServer, bundle: str
) -> None:
    manager = make_manager(verify=bundle)
    stream = manager.get(target.script("/big", Reply(body=b"x" * 5_000_000)), stream=True)
    assert manager.get(target.url).status_code == 200
    wait_until(lambda: target.connections_open == 2)
    blocked, go_on = os.pipe()
    child = Child(lambda: select.select([blocked], [], [], FAR))
    manager.close()
    stream.close()
    wait_until(lambda: target.connections_open == 0)
    os.write(go_on, b"x")
    child.join()
    os.close(blocked)
    os.close(go_on)


@pytest.mark.skipif(
    sys.version_info < (3, 11), reason="http.client leaves the socket of a tunnel unclosed"
)
def test_a_connection_that_was_just_being_made_is_not_held_open_either(
    make_manager: MakeManager,
) -> None:
    """A proxy has accepted it, but does not say whether there will be a tunnel."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        manager = make_manager(timeout=1, max_retries=0)
        proxies = {"https": f"http://127.0.0.1:{mute.getsockname()[1]}"}
        calling = Waiting(manager.get, "https://api.test", proxies=proxies)
        with mute.accept()[0] as accepted:
            assert accepted.recv(1, socket.MSG_PEEK)
            blocked, go_on = os.pipe()
            child = Child(lambda: select.select([blocked], [], [], FAR))
            calling.join(FAR)
            assert isinstance(calling.outcome, requests.ConnectionError | requests.Timeout)
            accepted.settimeout(FAR / 2)
            while accepted.recv(4096):
                pass  # until the end, which comes while the child lives
        os.write(go_on, b"x")
        child.join()
        for each in (blocked, go_on):
            os.close(each)


def test_a_pool_that_blocks_has_all_its_places_in_a_child(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    slow = server.script("/slow", Reply(delay=1))
    manager = make_manager(pool_maxsize=2, pool_block=True, total_timeout=FAR / 2)
    taken = [Waiting(manager.get, slow) for _ in range(2)]
    wait_until(lambda: server.count("/slow") == 2)
    for_more = [Waiting(manager.get, slow) for _ in range(2)]  # these wait for a place

    def use() -> None:
        results = manager.batch_request([("GET", server.url + "/child")] * 6, max_workers=2)
        assert [result.status_code for result in results] == [200] * 6

    in_child(use)
    for each in [*taken, *for_more]:
        each.join(FAR)
        assert isinstance(each.outcome, requests.Response)
    assert server.count("/slow") == 4


def test_many_workers_are_forked_from_a_busy_parent(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    """As a pre-fork server does it, with a manager that was made and used before."""
    manager = make_manager(rate_limit_requests=100_000, pool_maxsize=16)
    over = threading.Event()

    def keep_busy() -> None:
        while not over.is_set():
            manager.get(server.url + "/parent").raise_for_status()
            manager.get_stats()

    busy = [Waiting(keep_busy) for _ in range(4)]
    wait_until(lambda: server.count("/parent") > 20)

    def serve(number: int) -> None:
        for _ in range(10):
            assert manager.get(f"{server.url}/child/{number}").status_code == 200
        results = manager.batch_request([("GET", f"{server.url}/child/{number}")] * 10)
        assert [each.status_code for each in results] == [200] * 10

    children = [Child(lambda n=n: serve(n)) for n in range(8)]
    for child in children:
        child.join()
    over.set()
    for each in busy:
        each.join(FAR)
    assert [each.outcome for each in busy] == [None] * 4
    by_process = [
        {each.connection for each in server.received if each.path == path}
        for path in ("/parent", *(f"/child/{n}" for n in range(8)))
    ]
    assert [server.count(f"/child/{n}") for n in range(8)] == [20] * 8
    assert sum(map(len, by_process)) == len(set().union(*by_process))


def test_a_batch_belongs_to_the_process_that_began_it(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    """Its workers are threads, which a child has not; it is told so, and does not wait for them."""
    slow = server.script("/slow", Reply(delay=0.5))
    manager = make_manager()
    results = manager.iter_batch([server.url, slow, slow, slow], max_workers=2)
    assert next(results).error is None

    def go_on() -> None:
        with pytest.raises(BatchStopped):
            list(results)
        assert [each.error for each in manager.iter_batch([server.url])] == [None]

    in_child(go_on)
    assert [each.error for each in results] == [None] * 3
    assert server.count("/slow") == 3


def test_a_callback_of_a_batch_may_fork(make_manager: MakeManager, server: ScriptedServer) -> None:
    manager = make_manager()

    def fork(result: Any) -> None:
        in_child(lambda: manager.get(server.url + "/child").raise_for_status())

    urls = [f"{server.url}/{n}" for n in range(4)]
    results = list(manager.iter_batch(urls, max_workers=2, callbacks=[fork]))
    assert [each.callbacks for each in results] == [(None,)] * 4
    assert server.count("/child") == 4
    assert server.count() == 8


def test_a_hook_may_fork_in_the_course_of_a_call(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(total_timeout=FAR)

    @manager.on_attempt
    def fork(event: Any) -> None:
        if event.url.endswith("/parent"):
            in_child(lambda: manager.get(server.url + "/child").raise_for_status())

    assert manager.get(server.url + "/parent").text == "ok"
    assert (server.count("/parent"), server.count("/child")) == (1, 1)


def test_managers_that_are_gone_are_not_kept_for_it() -> None:
    gc.collect()
    before = len(forking._owners)
    manager = ConnectionManager()
    assert len(forking._owners) > before
    manager.close()
    del manager
    gc.collect()
    assert len(forking._owners) == before


def test_a_child_tries_itself_what_the_parent_was_just_trying() -> None:
    absence = Absence("it")
    absence.failed(ConnectionError("refused"))
    absence._next = 0

    def work() -> None:
        assert absence.may_try()

    with absence._lock:
        Child(work).join()
