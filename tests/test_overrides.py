"""A subclass of the façade may override what a subclass of requests.Session may, and it acts."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from requests_connection_manager import ConnectionManager
from requests_connection_manager.overrides import OVERRIDABLE, AskingSession
from tests.server import Reply, ScriptedServer


class Overriding(ConnectionManager):
    """Notes what it is asked, and does nothing else."""

    def __init__(self, **settings: Any) -> None:
        self.asked: list[str] = []
        super().__init__(backoff_factor=0, **settings)


def _noting(name: str) -> Any:
    def method(self: Overriding, *args: Any, **kwargs: Any) -> Any:
        self.asked.append(name)
        return getattr(super(Overriding, self), name)(*args, **kwargs)

    return method


for _name in OVERRIDABLE:
    setattr(Overriding, _name, _noting(_name))


class Following(ConnectionManager):
    """Follows a Location whatever the status; one of requests' own tests has the same."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return super().get_redirect_target(resp) or resp.headers.get("Location")


@pytest.fixture
def overriding() -> Iterator[Overriding]:
    with Overriding() as manager:
        yield manager


def test_all_are_asked_in_a_call(overriding: Overriding, server: ScriptedServer) -> None:
    url = server.script("/old", Reply(status=503), Reply.redirect("/new"))
    answer = overriding.get(url)
    assert answer.url == server.url + "/new"
    assert {*overriding.asked} == {*OVERRIDABLE}
    assert overriding.asked.count("send") == 2  # as on a Session: once for each hop
    assert server.count() == 3


def test_what_it_says_is_done(server: ScriptedServer) -> None:
    url = server.script("/odd", Reply(status=200, headers={"Location": "/there"}))
    with Following() as manager:
        assert manager.get(url).url == server.url + "/there"
        assert manager.session.get(url).url == server.url + "/there"  # an SDK's call


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))]
)
def test_a_copy_has_its_own_owner(duplicate: Any, server: ScriptedServer) -> None:
    with Overriding() as manager, duplicate(manager) as other:
        manager.asked, other.asked = [], []
        assert other.get(server.url).ok
        assert (manager.asked, "send" in other.asked) == ([], True)
        with duplicate(manager.session) as alone:  # whose owner did not come along
            assert alone.get(server.url).ok
        assert manager.asked == []


def test_one_that_overrides_nothing_is_not_asked() -> None:
    class Named(ConnectionManager):
        name = "a"

    with Named() as manager:
        assert not isinstance(manager.session, AskingSession)


def test_it_is_let_go_of_with_its_session() -> None:
    manager = Overriding()
    manager.close()
    gone = weakref.ref(manager)
    del manager
    gc.collect()
    assert gone() is None
