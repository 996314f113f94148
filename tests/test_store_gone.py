"""Real stores that go in the middle of traffic: Redis stopped, frozen, read-only or full.

And a file that cannot be reached, written or read. Nothing here is asserted of short times: how
often somebody waited for a store is counted.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from requests_connection_manager import StateUnavailable
from requests_connection_manager.limits.algorithms import Limit
from requests_connection_manager.limits.opening import open_store
from requests_connection_manager.limits.store import Booked, Store, Wanted
from tests.redis_server import RedisServer
from tests.server import wait_until

REQUESTS, PERIOD = 20, 0.5
LIMIT = Limit("sliding_window", REQUESTS, PERIOD, REQUESTS)
WANTED = Wanted("scope", (LIMIT,), 1, 0.0, "host")
THREADS = 6
TIMEOUT = 0.25
FEW = THREADS + 4
"""Once for each thread, and for the tries of some seconds: after 1, 2 and 4 s."""


class Watched:
    """A store that counts who waits in it for nothing."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.tried = self.failed = 0
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def book(self, wanted: Wanted) -> Any:
        with self._lock:
            self.tried += 1
        try:
            return self.store.book(wanted)
        except StateUnavailable:
            with self._lock:
                self.failed += 1
            raise


class Traffic:
    """Threads that ask for permits again and again, and take no wait for an answer."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.granted: list[tuple[float, float]] = []
        """When each was asked for, and when it was had."""
        self.errors: list[BaseException] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(THREADS)]

    def __enter__(self) -> Traffic:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for each in self._threads:
            each.join(20)
        assert not any(each.is_alive() for each in self._threads)

    def _ask(self) -> None:
        for _ in range(20_000):
            if self._over.wait(0.002):
                return
            asked = time.monotonic()
            try:
                answer = self.store.book(WANTED)
            except BaseException as error:
                self.errors.append(error)
                return
            if isinstance(answer, Booked):
                self.granted.append((asked, time.monotonic()))

    def goes_on(self, seconds: float = 0.0) -> None:
        """Return when the time is over, and permits were granted after that."""
        time.sleep(seconds)
        granted = len(self.granted)
        wait_until(lambda: len(self.granted) > granted + THREADS or self.errors)

    def most_in_one_period(self) -> int:
        """Count what was certainly granted within one period, however long an answer took."""
        asked = sorted(each[0] for each in self.granted)
        had = sorted(each[1] for each in self.granted)
        return max(bisect_left(had, start + PERIOD) - n for n, start in enumerate(asked))


@contextmanager
def watched(
    monkeypatch: pytest.MonkeyPatch, state: Any, fallback: str = "local"
) -> Iterator[tuple[Store, Watched]]:
    """Open a store; if it stands in for another, that one is watched."""
    store = open_store(state, "rcm", TIMEOUT, fallback)
    shared = Watched(getattr(store, "shared", store))
    if fallback == "local":
        monkeypatch.setattr(store, "shared", shared)
    try:
        yield store, shared
    finally:
        store.close()


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


def answers(shared: Watched, by: int = 3) -> None:
    """Wait until the shared store books again, several times."""
    good = shared.tried - shared.failed
    wait_until(lambda: shared.tried - shared.failed >= good + by)


def test_redis_is_stopped_and_comes_back_in_the_middle_of_traffic(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with watched(monkeypatch, own_redis.url) as (store, shared), Traffic(store) as traffic:
        traffic.goes_on()
        for absences in (1, 2):
            failed = shared.failed
            own_redis.stop()
            traffic.goes_on(1.2)
            assert failed < shared.failed <= failed + FEW
            assert len(warnings_in(caplog)) == absences
            own_redis.start()
            answers(shared)
    assert not traffic.errors
    # each change starts a count of its own
    assert traffic.most_in_one_period() <= 2 * REQUESTS


def test_while_redis_is_gone_the_same_numbers_hold_here(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_redis.stop()
    with watched(monkeypatch, own_redis.url) as (store, _), Traffic(store) as traffic:
        traffic.goes_on(3 * PERIOD)
    assert not traffic.errors
    assert traffic.most_in_one_period() <= REQUESTS
    assert len(traffic.granted) >= 2 * REQUESTS


def test_a_redis_that_answers_nothing_holds_up_each_thread_once(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with watched(monkeypatch, own_redis.url) as (store, shared), Traffic(store) as traffic:
        traffic.goes_on()
        own_redis.freeze()
        traffic.goes_on(3 * TIMEOUT)
        assert 0 < shared.failed <= FEW
        assert len(warnings_in(caplog)) == 1
        own_redis.thaw()
        answers(shared)
    assert not traffic.errors
    assert traffic.most_in_one_period() <= 2 * REQUESTS


def test_a_slow_redis_is_waited_for(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with watched(monkeypatch, own_redis.url) as (store, shared), own_redis.client() as client:
        store.book(WANTED)
        for _ in range(5):
            client.client_pause(60)
            store.book(WANTED)
    assert shared.failed == 0
    assert not warnings_in(caplog)


@contextmanager
def a_replica(client: redis.Redis) -> Iterator[None]:
    client.replicaof("127.0.0.1", "1")
    try:
        yield
    finally:
        client.replicaof("NO", "ONE")


@contextmanager
def a_full_one(client: redis.Redis) -> Iterator[None]:
    client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)


@contextmanager
def one_that_wants_a_password(client: redis.Redis) -> Iterator[None]:
    client.config_set("requirepass", "secret")
    client.client_kill_filter(_type="normal", skipme=True)
    try:
        yield
    finally:
        client.config_set("requirepass", "")


KINDS = [a_replica, a_full_one, one_that_wants_a_password]


@pytest.mark.parametrize("kind", KINDS)
def test_a_redis_that_refuses_to_write_is_gone_until_it_writes(
    own_redis: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: Callable[[redis.Redis], Any],
) -> None:
    with (
        watched(monkeypatch, own_redis.url) as (store, shared),
        own_redis.client() as client,
        Traffic(store) as traffic,
    ):
        traffic.goes_on()
        with kind(client):
            traffic.goes_on(PERIOD)
            assert 0 < shared.failed <= FEW
        answers(shared)
        assert len(warnings_in(caplog)) == 1
    assert not traffic.errors
    assert traffic.most_in_one_period() <= 2 * REQUESTS


@pytest.mark.parametrize("kind", KINDS)
def test_who_wants_to_know_is_told_and_nothing_is_booked(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, kind: Callable[[redis.Redis], Any]
) -> None:
    with (
        watched(monkeypatch, own_redis.url, "raise") as (store, _),
        own_redis.client() as client,
    ):
        assert isinstance(store.book(WANTED), Booked)
        before = {key: client.dump(key) for key in client.scan_iter()}
        with kind(client):
            for _ in range(3):
                with pytest.raises(StateUnavailable) as caught:
                    store.book(WANTED)
                assert caught.value.__cause__ is not None
        assert {key: client.dump(key) for key in client.scan_iter()} == before
        assert isinstance(store.book(WANTED), Booked)


def test_a_redis_that_was_stopped_is_told_of_at_every_booking(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with watched(monkeypatch, own_redis.url, "raise") as (store, _):
        assert isinstance(store.book(WANTED), Booked)
        own_redis.stop()
        for _ in range(3):
            with pytest.raises(StateUnavailable):
                store.book(WANTED)
            with pytest.raises(StateUnavailable):
                store.pause("scope", "host", 1.0)
        own_redis.start()
        assert isinstance(store.book(WANTED), Booked)
    assert not warnings_in(caplog)


def test_a_frozen_redis_is_waited_for_once_a_booking(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with watched(monkeypatch, own_redis.url, "raise") as (store, _):
        store.book(WANTED)
        scripts = own_redis.calls()["evalsha"]
        own_redis.freeze()
        try:
            with pytest.raises(StateUnavailable):
                store.book(WANTED)
        finally:
            own_redis.thaw()
        wait_until(lambda: isinstance(store.book(WANTED), Booked))
        # the one that was given up, which it carries out late, and the one after it; no retries
        assert own_redis.calls()["evalsha"] <= scripts + 2


def test_a_client_that_would_wait_for_ever_does_not(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = own_redis.client()  # it has no time-out
    with watched(monkeypatch, client) as (store, shared), Traffic(store) as traffic:
        traffic.goes_on()
        own_redis.freeze()
        traffic.goes_on(2 * TIMEOUT)
        own_redis.thaw()
        answers(shared)
    client.close()
    assert not traffic.errors


def test_a_connection_that_redis_closed_meanwhile_is_no_absence(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        watched(monkeypatch, redis_server.url, "raise") as (store, _),
        redis_server.client() as client,
    ):
        store.book(WANTED)
        client.client_kill_filter(_type="normal", skipme=True)
        assert isinstance(store.book(WANTED), Booked)


# SQLite


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "limits.db"


def url_of(path: Path) -> str:
    return f"sqlite://{path}"


def test_a_file_whose_folder_comes_and_goes(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    aside = path.parent.with_name("aside")
    with watched(monkeypatch, url_of(path)) as (store, shared), Traffic(store) as traffic:
        traffic.goes_on()
        assert len(warnings_in(caplog)) == 1
        assert shared.failed <= FEW
        path.parent.mkdir()
        answers(shared)
        path.parent.rename(aside)
        traffic.goes_on(PERIOD)
        aside.rename(path.parent)
        answers(shared)
    assert not traffic.errors
    assert traffic.most_in_one_period() <= 2 * REQUESTS


def test_a_file_that_another_program_keeps_locked(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    with watched(monkeypatch, url_of(path)) as (store, shared), Traffic(store) as traffic:
        traffic.goes_on()
        with locked_by_another(path):
            traffic.goes_on(3 * TIMEOUT)
            assert 0 < shared.failed <= FEW
        answers(shared)
        assert len(warnings_in(caplog)) == 1
    assert not traffic.errors
    assert traffic.most_in_one_period() <= 2 * REQUESTS


@contextmanager
def locked_by_another(path: Path) -> Iterator[None]:
    script = """
        import sqlite3, sys
        connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
        connection.execute("BEGIN EXCLUSIVE")
        print("locked", flush=True)
        sys.stdin.read()
        connection.execute("COMMIT")
    """
    other = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        try:
            yield
        finally:
            other.stdin.close()
            assert other.wait(20) == 0


def test_a_file_that_becomes_garbage_and_is_taken_away(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    with watched(monkeypatch, url_of(path)) as (store, shared), Traffic(store) as traffic:
        traffic.goes_on()
        garbage = path.with_name("garbage")
        garbage.write_bytes(b"no database at all " * 1000)
        remove_companions(path)
        garbage.replace(path)
        wait_until(lambda: shared.failed)
        traffic.goes_on(PERIOD)
        assert shared.failed <= FEW
        assert len(warnings_in(caplog)) == 1
        path.unlink()
        answers(shared)
    assert not traffic.errors


def remove_companions(path: Path) -> None:
    for suffix in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def test_a_file_that_is_deleted_is_begun_anew_by_all(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir()
    wanted = WANTED._replace(limits=(LIMIT._replace(period=3600.0),))
    with (
        watched(monkeypatch, url_of(path)) as (one, _),
        watched(monkeypatch, url_of(path)) as (other, _),
    ):
        one.book(wanted)
        other.book(wanted)
        path.unlink()
        remove_companions(path)
        granted = [isinstance(each.book(wanted), Booked) for each in [one, other] * REQUESTS]
        assert sum(granted) == REQUESTS  # they share what is there now


@pytest.mark.parametrize("kind", ["full", "read-only"])
def test_a_file_that_cannot_be_written(tmp_path: Path, kind: str) -> None:
    """In a process of its own, which loses the right to write, or the room for it."""
    said = in_another_program(CANNOT_WRITE[kind], kind)
    assert said["errors"] == []
    assert said["granted"] == REQUESTS  # of the local store, while the file could not be written
    assert said["warnings"] == 1
    assert said["raised"] == "StateUnavailable"
    assert said["failed"] <= 4
    assert said["returned"]


PROLOGUE = """
    import json, logging, os, shutil, sys, tempfile, time
    from pathlib import Path
    from requests_connection_manager import StateUnavailable
    from requests_connection_manager.limits.algorithms import Limit
    from requests_connection_manager.limits.opening import open_store
    from requests_connection_manager.limits.store import Booked, Wanted
    from tests.test_store_gone import Watched

    REQUESTS = 20
    warnings = []
    class Collect(logging.Handler):
        def emit(self, record):
            warnings.append(record)
    logging.getLogger("requests_connection_manager").addHandler(Collect(logging.WARNING))

    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    def stores(name):
        url = f"sqlite://{folder / name}"
        return [open_store(url, "rcm", 0.25, each)
                for each in ("local", "raise")]
    def wanted(scope):
        return Wanted(scope, (Limit("sliding_window", REQUESTS, 3600.0, 20),), 1, 0.0, "")

    def measure(lose, find):
        local, strict = stores("limits.db")
        local.shared = shared = Watched(local.shared)
        local.book(wanted("before"))
        strict.book(wanted("before"))
        local.close()  # what is open may be written further
        strict.close()
        lose()
        errors, granted, raised = [], 0, ""
        for _ in range(3 * REQUESTS):
            try:
                granted += isinstance(local.book(wanted("gone")), Booked)
            except BaseException as error:
                errors.append(repr(error))
        try:
            for _ in range(1000):  # the file has some room left, perhaps
                strict.book(wanted("strict"))
        except BaseException as error:
            raised = type(error).__name__
        failed = shared.failed
        find()
        good = shared.tried - shared.failed
        ends = time.monotonic() + 15
        while shared.tried - shared.failed == good and time.monotonic() < ends:
            time.sleep(0.05)
            local.book(wanted("after"))
        strict.book(wanted("after"))
        print(json.dumps({
            "errors": errors, "granted": granted, "raised": raised, "failed": failed,
            "warnings": len(warnings), "returned": shared.tried - shared.failed > good,
        }))
"""
CANNOT_WRITE = {
    "full": """
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        measure(
            lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1])),
            lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before),
        )
        shutil.rmtree(folder)
    """,
    # Root may write wherever it wants to; so it becomes somebody else in between.
    "read-only": """
        NOBODY = 65534
        def allow(mode):
            for each in folder.iterdir():
                each.chmod(mode)
            folder.chmod(mode | 0o111)
        def lose():
            allow(0o444)
            if os.geteuid() == 0:
                os.seteuid(NOBODY)
        def find():
            if os.getuid() == 0:
                os.seteuid(0)
            allow(0o666)
        measure(lose, find)
        shutil.rmtree(folder)
    """,
}


def in_another_program(script: str, name: str) -> Any:
    whole = textwrap.dedent(PROLOGUE) + textwrap.dedent(script)
    ran = subprocess.run(
        [sys.executable, "-c", whole],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert ran.returncode == 0, f"{name}: {ran.stderr}"
    return json.loads(ran.stdout)


def test_the_file_that_is_there_at_last_is_a_good_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir()
    with watched(monkeypatch, url_of(path)) as (store, _):
        store.book(WANTED)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
