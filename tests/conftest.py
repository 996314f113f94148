from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from requests_connection_manager import ConnectionManager
from tests.redis_server import RedisServer
from tests.server import ScriptedServer, private_ca

MakeManager = Callable[..., ConnectionManager]

settings.register_profile("any machine", deadline=None)  # a busy one may take its time
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy or CA bundle of the machine has a say in what a test shows."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as running:
        yield running


@pytest.fixture
def other_server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as running:
        yield running


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    """The running Redis, with nothing in it."""
    with shared_redis.client() as client:
        client.flushall()
        client.script_flush()
        client.config_resetstat()
    return shared_redis


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """One that a test may stop."""
    with RedisServer() as running:
        yield running


@pytest.fixture(scope="session")
def ca():
    return private_ca()


@pytest.fixture
def tls_server(ca) -> Iterator[ScriptedServer]:
    with ScriptedServer(tls=ca.server_context()) as running:
        yield running


@pytest.fixture
def bundle(ca, tmp_path: Path) -> str:
    return ca.ca_bundle(tmp_path)


@pytest.fixture
def make_manager() -> Iterator[MakeManager]:
    """Makes managers that retry without pause unless told otherwise, and closes them."""
    made: list[ConnectionManager] = []

    def make(**settings: Any) -> ConnectionManager:
        made.append(ConnectionManager(**{"backoff_factor": 0, **settings}))
        return made[-1]

    yield make
    for manager in made:
        manager.close()


@pytest.fixture
def manager(make_manager: MakeManager) -> ConnectionManager:
    return make_manager()


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No garbage is collected: an interrupt in what Hypothesis hangs into that is no test's."""
    gc.disable()
    yield
    gc.enable()


class FakeClock:
    """A clock that a test moves; sleeping moves it, too."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def in_threads(count: int, work: Callable[[int], object]) -> None:
    """Let ``count`` threads do ``work``, each with its number, and wait for all of them."""
    threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)


@contextmanager
def full_backlog() -> Iterator[socket.socket]:
    """A listener that answers no further handshake, until it accepts one that it has."""
    with socket.socket() as listener, ExitStack() as held:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = held.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener
