"""A manager and its session can be copied and pickled: what was set goes along, no state."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from requests_connection_manager import ConnectionManager, ManagerClosed, RateLimitExceeded
from tests.server import Reply, ScriptedServer

DUPLICATE = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda it: pickle.loads(pickle.dumps(it)),
}
duplicated = pytest.mark.parametrize("duplicate", DUPLICATE.values(), ids=DUPLICATE)
Duplicate = Callable[[Any], Any]


def note(context: Any) -> None:
    context.kwargs["headers"] = {"X-Hook": "ran"}


@duplicated
def test_what_was_set_goes_along(duplicate: Duplicate, server: ScriptedServer) -> None:
    with ConnectionManager(
        bearer_token="first",
        max_retries=1,
        timeout=7,
        pool_maxsize=3,
        endpoint_configs={"127.0.0.1/v2": {"timeout": 2}},
    ) as manager:
        manager.headers["X-Own"] = "1"
        manager.cookies.set("seen", "yes")
        manager.max_redirects = 4
        manager.verify = False
        manager.set_bearer_token("second")
        manager.add_endpoint_config("127.0.0.1/v3", {"timeout": 3})
        manager.register_pre_request_hook(note)
        other = duplicate(manager)
    with other:  # the first is closed by now
        other.get(server.url + "/")
        assert other.get_endpoint_configs() == manager.get_endpoint_configs()
        assert other.explain(server.url + "/v2").endpoint == "127.0.0.1/v2"
        assert (other.timeout, other.verify, other.max_redirects) == (7, False, 4)
        assert other.session.pools == manager.session.pools
    headers = server.received[-1].headers
    assert headers["Authorization"] == "Bearer second"
    assert (headers["X-Own"], headers["X-Hook"], headers["Cookie"]) == ("1", "ran", "seen=yes")


@duplicated
def test_a_copy_is_on_its_own(duplicate: Duplicate, server: ScriptedServer) -> None:
    numbers = {"rate_limit_requests": 1, "rate_limit_period": 60, "rate_limit_max_wait": 0}
    with ConnectionManager(**numbers) as manager:
        manager.get(server.url + "/")
        with duplicate(manager) as other:
            other.get(server.url + "/")  # a limiter, and connections, of its own
            with pytest.raises(RateLimitExceeded):
                other.get(server.url + "/")
            assert other.stats().requests_made == 1
            other.set_bearer_token("x")
            other.add_endpoint_config("127.0.0.1/v3", {"timeout": 3})
            other.on_attempt(print)
        assert manager.bearer_token is None
        assert manager.get_endpoint_configs() == {}
        assert manager.stats().requests_made == 1
        with pytest.raises(RateLimitExceeded):  # which it says itself: it is not closed
            manager.get(server.url + "/")
    assert server.connections_made == 2


@duplicated
def test_a_session_alone_stays_managed(duplicate: Duplicate, server: ScriptedServer) -> None:
    server.script("/", Reply(status=503), Reply())
    with ConnectionManager(backoff_factor=0, api_key="k") as manager:
        session = duplicate(manager.session)
    assert isinstance(session, requests.Session)
    with session:
        assert session.get(server.url + "/").status_code == 200
    assert [each.headers["X-API-Key"] for each in server.received] == ["k", "k"]


@duplicated
def test_adapters_of_the_users_own_go_along(duplicate: Duplicate) -> None:
    own = HTTPAdapter(max_retries=4)
    with ConnectionManager() as manager:
        manager.mount("https://slow.test/", own)
        other = duplicate(manager)
    assert list(other.adapters) == list(manager.adapters)
    kept = other.get_adapter("https://slow.test/")
    assert type(kept) is HTTPAdapter
    assert kept.max_retries.total == 4
    ours = {id(other.get_adapter(url)) for url in ("https://a.test/", "http://a.test/")}
    assert len(ours) == 1
    assert ours.isdisjoint({id(each) for each in manager.adapters.values()})


def test_locks_that_are_held_are_not_copied(server: ScriptedServer) -> None:
    server.script("/slow", Reply(delay=1))
    with ConnectionManager() as manager:
        under_way = threading.Thread(target=manager.get, args=(server.url + "/slow",))
        under_way.start()
        while not server.received:
            time.sleep(0.01)
        with pickle.loads(pickle.dumps(manager)) as other:
            assert other.get(server.url + "/").status_code == 200
        under_way.join()


def get_status(manager: ConnectionManager, url: str) -> tuple[int, int]:
    with manager:
        return manager.get(url).status_code, manager.stats().requests_made


def test_another_process_can_be_given_one(server: ScriptedServer) -> None:
    with (
        ConnectionManager(basic_auth=("u", "p")) as manager,
        multiprocessing.get_context("spawn").Pool(1) as pool,
    ):
        status, made = pool.apply(get_status, (manager, server.url + "/"))
    assert (status, made) == (200, 1)
    assert server.received[-1].headers["Authorization"].startswith("Basic ")


def test_a_copy_of_a_closed_manager_is_open(server: ScriptedServer) -> None:
    manager = ConnectionManager()
    manager.close()
    with copy.copy(manager) as other:
        assert other.get(server.url + "/").status_code == 200
    with pytest.raises(ManagerClosed):
        manager.get(server.url + "/")


def test_a_subclass_keeps_what_it_adds() -> None:
    with Client("name") as client:
        other = pickle.loads(pickle.dumps(client))
    assert type(other) is Client
    assert other.name == "name"
    other.close()


class Client(ConnectionManager):
    def __init__(self, name: str) -> None:
        super().__init__(timeout=3)
        self.name = name


def test_what_cannot_be_pickled_says_so() -> None:
    with ConnectionManager(ssl_context=ssl.create_default_context()) as manager:
        with pytest.raises(TypeError, match="SSLContext"):
            pickle.dumps(manager)
        with copy.copy(manager) as other:
            assert other.ssl_context is manager.ssl_context
