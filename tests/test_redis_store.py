"""What is special to the state of limits in Redis."""

from __future__ import annotations

import gc
import math
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from requests_connection_manager import ConfigurationError
from requests_connection_manager.exceptions import StateUnavailable
from requests_connection_manager.limits.algorithms import ALGORITHMS, Limit
from requests_connection_manager.limits.redis import RedisStore
from requests_connection_manager.limits.store import Booked, Paused, Wanted
from tests.conftest import in_threads
from tests.each_step import interrupt_each_step
from tests.redis_server import RedisServer
from tests.test_fork import Child, in_child

ALL = tuple(Limit(name, 4, 3600.0, 4) for name in ALGORITHMS)
ASKED = Wanted("api", (ALL[0],), 1, 0.0, "server")


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[RedisStore]:
    made = RedisStore(redis_server.url, timeout=10)
    yield made
    made.close()


def granted(store: RedisStore, tries: int = 10, asked: Wanted = ASKED) -> int:
    return sum(isinstance(store.book(asked), Booked) for _ in range(tries))


def acts(store: RedisStore) -> list[Callable[[], object]]:
    return [
        lambda: store.book(ASKED),
        lambda: store.pause("api", "server", 1),
        lambda: store.paused("api", "server"),
        lambda: store.give_back(ASKED, Booked(0.0, "\n1 1 1\n")),
    ]


@pytest.mark.parametrize("limits", [*((each,) for each in ALL), ALL])
def test_a_booking_is_one_command(
    store: RedisStore, redis_server: RedisServer, limits: tuple[Limit, ...]
) -> None:
    asked = ASKED._replace(limits=limits, longest=math.inf)
    store.book(asked)
    before = redis_server.calls()
    for _ in range(10):
        store.book(asked)
    after = redis_server.calls()
    assert after["evalsha"] - before["evalsha"] == 10
    # what scripts do is counted, too; beside them there is nothing but our own looking
    new = {name for name in after if after[name] != before.get(name, 0)}
    inside = {"get", "set", "time", "llen", "lindex", "rpush", "lpop", "pexpire"}
    assert new <= {"evalsha", "info", "client", "hello", *inside}


def test_all_keys_have_their_end(store: RedisStore, redis_server: RedisServer) -> None:
    asked = ASKED._replace(limits=ALL, longest=math.inf)
    booked = [store.book(asked) for _ in range(6)]
    for each in reversed(booked[3:]):
        assert isinstance(each, Booked)
        store.give_back(asked, each)
    store.pause("api", "server", 30)
    with redis_server.client() as client:
        found = client.keys()
        assert len(found) == len(ALL) + 2
        for key in found:
            assert 0 < client.pttl(key) <= 4 * 3600 * 1000


def test_what_has_ended_is_gone(store: RedisStore, redis_server: RedisServer) -> None:
    short = tuple(each._replace(period=0.05) for each in ALL)
    store.book(ASKED._replace(limits=short))
    with redis_server.client() as client:
        deadline = time.monotonic() + 10
        while client.keys() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not client.keys()


def test_what_is_about_to_end_may_still_be_given_back(store: RedisStore) -> None:
    """In its last millisecond a key has 0 to live, which no key may be given."""
    asked = Wanted("api", (Limit("leaky_bucket", 2000, 1.0, 2000),), 1, math.inf, "server")
    for tries in range(60):
        store.book(asked)
        booked = store.book(asked)
        assert isinstance(booked, Booked)
        time.sleep(booked.wait + tries % 10 / 10_000)
        store.give_back(asked, booked)


@pytest.mark.parametrize("scope", ["", "api", "{", "}", "{}", "a{b}c", "}{", "ä", "a b\n", "%7B"])
def test_all_keys_of_a_scope_are_in_one_slot(
    store: RedisStore, redis_server: RedisServer, scope: str
) -> None:
    store.book(ASKED._replace(scope=scope, limits=ALL))
    store.pause(scope, "a{b}", 30)
    store.pause(scope, "c", 30)
    with redis_server.client() as client:
        found: Any = client.keys()
    assert len(found) == len(ALL) + 3
    assert len({key_slot(key) for key in found}) == 1


def test_scopes_are_in_many_slots(store: RedisStore, redis_server: RedisServer) -> None:
    for n in range(50):
        store.book(ASKED._replace(scope=f"user {n}"))
    with redis_server.client() as client:
        found: Any = client.keys()
    assert len({key_slot(key) for key in found}) > 40


def test_a_server_of_a_cluster_takes_it() -> None:
    """One that owns all slots; it refuses commands whose keys are in different ones."""
    with RedisServer("--cluster-enabled", "yes") as server, server.client() as client:
        client.execute_command("CLUSTER ADDSLOTS", *range(16384))
        deadline = time.monotonic() + 20
        while b"'cluster_state': 'ok'" not in str(client.execute_command("CLUSTER INFO")).encode():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        cluster = redis.RedisCluster(host="127.0.0.1", port=server.port)
        asked = ASKED._replace(limits=ALL, longest=math.inf)
        for source in (server.url, cluster):
            store = RedisStore(source, timeout=10)
            booked = store.book(asked)
            assert isinstance(booked, Booked)
            store.give_back(asked, booked)
            store.pause("other", "server", 30)
            assert store.paused("other", "server") > 0
            store.close()
        cluster.close()


def test_scripts_that_were_flushed_are_sent_again(
    store: RedisStore, redis_server: RedisServer
) -> None:
    assert granted(store, 2) == 2
    with redis_server.client() as client:
        client.script_flush()
    assert granted(store) == 2


def test_a_restart_is_survived(store: RedisStore) -> None:
    with RedisServer() as server:
        store = RedisStore(server.url, timeout=5)
        assert granted(store) == 4
        server.stop()
        for act in acts(store):
            with pytest.raises(StateUnavailable, match="ConnectionError"):
                act()
        server.start()
        assert granted(store) == 4  # it had nothing on disk
        store.close()


def test_a_server_that_hangs_is_given_up_in_time() -> None:
    """One that answered before, and one that accepts connections only; nothing is tried twice."""
    with RedisServer() as server:
        warm, cold = RedisStore(server.url, timeout=0.1), RedisStore(server.url, timeout=0.1)
        plain = redis.Redis(port=server.port)
        of_client = RedisStore(plain, timeout=0.1)
        assert granted(warm, 2) == 2
        server.freeze()
        for store in (warm, cold, of_client):
            for act in acts(store):
                began = time.monotonic()
                with pytest.raises(StateUnavailable):
                    act()
                assert time.monotonic() - began < 3  # redis-py's own ways: a minute
        server.thaw()
        deadline = time.monotonic() + 20
        while True:
            try:
                assert granted(warm) <= 4
                break
            except StateUnavailable:
                assert time.monotonic() < deadline
        for each in (warm, cold, of_client, plain):
            each.close()


def test_a_late_answer_is_not_taken_for_that_of_the_next() -> None:
    with RedisServer() as server:
        store = RedisStore(server.url, timeout=0.1)
        assert granted(store, 1) == 1
        server.freeze()
        with pytest.raises(StateUnavailable):
            store.pause("api", "server", 1000)
        server.thaw()
        deadline = time.monotonic() + 20
        while True:
            try:
                answer = store.book(ASKED._replace(pause="none"))
                break
            except StateUnavailable:
                assert time.monotonic() < deadline
        assert isinstance(answer, Booked)
        store.close()


@pytest.mark.parametrize("decode", [True, False])
def test_a_client_is_asked_where_to(redis_server: RedisServer, decode: bool) -> None:
    client = redis_server.client(decode_responses=decode, db=3)
    store = RedisStore(client, timeout=10)
    asked = ASKED._replace(limits=ALL, longest=math.inf)
    booked = store.book(asked)
    assert isinstance(booked, Booked)
    store.give_back(asked, booked)
    assert granted(store) == 4
    assert client.dbsize() == 1
    with redis_server.client() as other:
        assert other.dbsize() == 0
    store.close()
    assert client.ping()  # closing the store leaves it open
    client.close()


class Imitation:
    """Any client that is no ``redis.Redis``."""

    def __init__(self, client: redis.Redis) -> None:
        self.evalsha, self.execute_command = client.evalsha, client.execute_command
        self.close = client.close


class Own(redis.Redis):
    pass


def impatient(server: RedisServer) -> list[Any]:
    """Sources that say for themselves how long they would wait, or how many at once."""
    return [
        Own(port=server.port),
        redis.Redis(connection_pool=redis.BlockingConnectionPool(port=server.port)),
        redis.Redis(port=server.port, max_connections=1, socket_timeout=60),
        f"{server.url}?socket_timeout=60&retry_on_timeout=true&max_connections=1&protocol=3",
    ]


def test_our_time_limit_holds_whatever_they_say() -> None:
    with RedisServer() as server:
        stores = [RedisStore(each, timeout=0.1) for each in impatient(server)]
        for store in stores:
            assert store.paused("api", "server") == 0
        server.freeze()
        for store in stores:
            began = time.monotonic()
            with pytest.raises(StateUnavailable):
                store.book(ASKED)
            assert time.monotonic() - began < 3
        server.thaw()
        for store in stores:
            store.close()


@pytest.mark.parametrize("number", range(4))
def test_a_small_pool_of_theirs_is_no_bound(redis_server: RedisServer, number: int) -> None:
    store = RedisStore(impatient(redis_server)[number], timeout=10)
    found: list[int] = []
    in_threads(8, lambda _: found.append(granted(store, 20)))
    assert sum(found) == 4
    store.close()


@pytest.mark.parametrize("option", ["timeout=6", "socket_timeout=soon", "nothing=1"])
def test_an_option_that_there_is_none_is_said_at_once(option: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot read"):
        RedisStore(f"redis://127.0.0.1:1/0?{option}")


@pytest.mark.usefixtures("uncollected")
def test_interrupts_at_any_moment_leave_no_answer_to_the_next(store: RedisStore) -> None:
    """Here: after each of the steps of a booking, one by one."""
    store.pause("long", "server", 1000)
    store.book(ASKED._replace(scope="long"))  # what is remembered of it takes no steps any more

    def look(step: int) -> None:
        answer = store.book(ASKED._replace(scope=str(step)))
        assert isinstance(answer, Booked)
        assert len(store.scripts._idle) <= 1

    # Python tells of an interrupt in those, and goes on
    spared = ("__del__", "disconnect")
    assert interrupt_each_step(lambda: store.book(ASKED._replace(scope="long")), look, spared) > 50


class Answering:
    """A client whose answers are given."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def execute_command(self, *_: object) -> object:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    "answer",
    [b"", b"Bs3cr3t", b"Xs3cr3t", b"\xff", None, ValueError("s3cr3t"), OSError("s3cr3t")],
)
def test_what_is_no_answer_is_an_absence(answer: object) -> None:
    store = RedisStore(Answering(answer))
    with pytest.raises(StateUnavailable) as caught:
        store.book(ASKED)
    assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))
    context: BaseException | None = caught.value
    while context is not None:
        assert "s3cr3t" not in repr(context)
        context = context.__cause__ or context.__context__


def test_what_the_system_says_is_told(redis_server: RedisServer) -> None:
    with RedisServer() as server:
        server.stop()
        store = RedisStore(server.url)
        with pytest.raises(StateUnavailable) as caught:
            store.book(ASKED)
    assert str(server.port) in str(caught.value.__cause__)


class Provider(redis.CredentialProvider):
    def get_credentials(self) -> tuple[str, str]:
        return "user", "s3cr3t"


@pytest.mark.parametrize(
    "options",
    [{"password": b"s3cr3t"}, {"password": "s3cr3t\nx"}, {"credential_provider": Provider()}],
)
def test_an_echo_of_the_password_is_told_nowhere(options: dict[str, Any]) -> None:
    with RedisServer("--rename-command", "AUTH", "NOPE") as server:
        for kind in (redis.ConnectionPool, redis.BlockingConnectionPool):
            pool = kind(port=server.port, **options)
            store = RedisStore(redis.Redis(connection_pool=pool), timeout=2)
            with pytest.raises(StateUnavailable) as caught:
                store.book(ASKED)
            told = "".join(traceback.format_exception(caught.value))
            assert "s3cr3t" not in told
            assert caught.value.__cause__ is not None
            assert caught.value.__context__ is caught.value.__cause__.__context__ is None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_lasts_longer_than_redis_can_count_is_kept(store: RedisStore, algorithm: str) -> None:
    long = Limit(algorithm, 1, 1e14, 1000)
    assert isinstance(store.book(ASKED._replace(limits=(long,))), Booked)
    assert store.book(ASKED._replace(limits=(long,), permits=1))


@pytest.mark.parametrize("decode", [True, False])
def test_a_client_of_another_kind_is_used_as_it_is(redis_server: RedisServer, decode: bool) -> None:
    client = Imitation(redis_server.client(decode_responses=decode))
    store = RedisStore(client, timeout=10)
    asked = ASKED._replace(limits=ALL, longest=math.inf)
    booked = store.book(asked)
    assert isinstance(booked, Booked)
    store.give_back(asked, booked)
    assert granted(store) == 4
    store.pause("api", "server", 30)
    assert isinstance(store.book(ASKED), Paused)
    client.close()


def test_a_server_that_takes_no_writes_is_out_of_reach(
    store: RedisStore, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        client.config_set("maxmemory", 1)
        try:
            with pytest.raises(StateUnavailable):
                store.book(ASKED)
        finally:
            client.config_set("maxmemory", 0)
        assert granted(store) == 4
        client.replicaof("127.0.0.1", 1)
        try:
            with pytest.raises(StateUnavailable):
                store.book(ASKED._replace(scope="other"))
        finally:
            client.replicaof("NO", "ONE")


def test_a_log_that_was_evicted_without_its_state_begins_anew(
    store: RedisStore, redis_server: RedisServer
) -> None:
    sliding = ASKED._replace(limits=(Limit("sliding_window", 4, 3600.0, 4),))
    for gone in ("*:log", "*:4"):
        assert granted(store, asked=sliding) == 4
        with redis_server.client() as client:
            assert client.delete(*client.keys(gone)) == 1
        assert granted(store, asked=sliding) == 4
        with redis_server.client() as client:
            client.flushall()


def test_a_child_has_connections_of_its_own(store: RedisStore) -> None:
    """While other threads of the parent are in the midst of theirs."""
    plenty = Wanted("plenty", (Limit("gcra", 10**6, 1.0, 10**6),), 1, math.inf, "")
    over = threading.Event()
    failed: list[Exception] = []

    def keep_busy() -> None:
        try:
            while not over.is_set():
                store.book(plenty)
        except Exception as error:
            failed.append(error)

    def use() -> None:
        assert granted(store, 50, plenty) == 50
        store.close()
        gc.collect()

    busy = [threading.Thread(target=keep_busy) for _ in range(2)]
    for each in busy:
        each.start()
    children = [Child(use) for _ in range(4)]
    for child in children:
        child.join()
    over.set()
    for each in busy:
        each.join(20)
    assert not failed
    assert granted(store, 2) == 2
    in_child(lambda: granted(store, 1))
    assert granted(store) == 1


def test_no_password_is_told() -> None:
    """Neither by the store nor by its errors; be it wrong, or told to who knows no AUTH."""
    quoted = "s3cr3t%2Fpass%3Aword"
    with RedisServer() as server, RedisServer() as guarded:
        with guarded.client() as client:
            client.config_set("requirepass", "other")
        server.stop()
        for port in (server.port, guarded.port):
            url = f"redis://me:{quoted}@127.0.0.1:{port}/0"
            for source in (url, redis.Redis.from_url(url)):
                store = RedisStore(source, timeout=1)
                with pytest.raises(StateUnavailable) as caught:
                    store.book(ASKED)
                told = [repr(store), str(store), repr(caught.value), str(vars(caught.value))]
                told += traceback.format_exception(caught.value)
                for each in told:
                    assert "s3cr3t" not in each


def test_a_server_that_repeats_the_password_is_not_repeated() -> None:
    def answer(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            while asked := peer.recv(4096):
                peer.sendall(b"-ERR unknown command: " + asked.replace(b"\r\n", b" ") + b"\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,), daemon=True)
        thread.start()
        store = RedisStore(f"redis://:s3cr3t@127.0.0.1:{listener.getsockname()[1]}", timeout=2)
        with pytest.raises(StateUnavailable) as caught:
            store.book(ASKED)
        told = [repr(caught.value), *traceback.format_exception(caught.value)]
        assert not any("s3cr3t" in each for each in told)
        store.close()
        thread.join(10)


@pytest.mark.parametrize(
    "url",
    ["redis://:s3cr3t/x@host:1", "redis://:s3cr3t@host:port/0", "nothing://:s3cr3t@host/0"],
)
def test_a_url_that_cannot_be_read_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match="state") as caught:
        RedisStore(url)
    assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigurationError, match=r"requests_connection_manager\[redis\]"):
        RedisStore("redis://127.0.0.1:1/0")


def test_its_scripts_are_part_of_the_package() -> None:
    for name in ("booking.lua", "giving_back.lua", "pausing.lua"):
        assert files("requests_connection_manager.limits").joinpath(name).is_file()
