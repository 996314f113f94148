"""From the setting `state` to a store: nothing is opened before it is used."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

from requests_connection_manager import ConfigurationError
from requests_connection_manager.limits.algorithms import Limit
from requests_connection_manager.limits.fallback import FallbackStore
from requests_connection_manager.limits.memory import MemoryStore
from requests_connection_manager.limits.opening import open_store
from requests_connection_manager.limits.redis import RedisStore
from requests_connection_manager.limits.sqlite import SQLiteStore
from requests_connection_manager.limits.store import Booked, Refused, Wanted
from tests.redis_server import RedisServer

WANTED = Wanted("scope", (Limit("gcra", 1, 3600.0, 1),), 1, 0.0, "")


def states(folder: Path, server: RedisServer) -> list[Any]:
    return [f"sqlite://{folder / 'limits.db'}", server.url, server.client()]


def test_memory_is_no_shared_store() -> None:
    assert isinstance(open_store("memory", "rcm", 0.25, "local"), MemoryStore)
    assert isinstance(open_store("memory", "rcm", 0.25, "raise"), MemoryStore)


@pytest.mark.parametrize(("number", "kind"), [(0, SQLiteStore), (1, RedisStore), (2, RedisStore)])
def test_what_a_state_is_kept_in(
    number: int, kind: type, tmp_path: Path, redis_server: RedisServer
) -> None:
    state = states(tmp_path, redis_server)[number]
    assert isinstance(open_store(state, "rcm", 0.25, "raise"), kind)
    assert isinstance(open_store(state, "rcm", 0.25, "local"), FallbackStore)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_two_with_the_same_prefix_share_the_state(
    number: int, tmp_path: Path, redis_server: RedisServer
) -> None:
    state = states(tmp_path, redis_server)[number]
    one, same, other = (open_store(state, each, 0.25, "local") for each in ("a", "a", "b"))
    try:
        assert isinstance(one.book(WANTED), Booked)
        assert isinstance(same.book(WANTED), Refused)
        assert isinstance(other.book(WANTED), Booked)
    finally:
        for store in (one, same, other):
            store.close()


def test_nothing_is_opened_before_the_first_booking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("something is opened")

    path = tmp_path / "limits.db"
    monkeypatch.setattr(socket, "socket", forbidden)
    monkeypatch.setattr(socket, "create_connection", forbidden)
    monkeypatch.setattr(sqlite3, "connect", forbidden)
    client = redis.Redis(port=1)
    for state in (f"sqlite://{path}", "redis://127.0.0.1:1/0", client):
        for fallback in ("local", "raise"):
            open_store(state, "rcm", 0.25, fallback).close()
    assert not path.exists()


def test_without_the_package_redis_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    url = "redis://user:secret@127.0.0.1:1/0"
    with pytest.raises(
        ConfigurationError, match=r"pip install 'requests_connection_manager\[redis\]'"
    ) as caught:
        open_store(url, "rcm", 0.25, "local")
    assert caught.value.field == "state"
    assert "secret" not in str(caught.value)


def test_who_uses_memory_only_imports_no_store_of_others() -> None:
    script = """
import sys
from requests_connection_manager.limits.opening import open_store
open_store("memory", "rcm", 0.25, "local")
print(sorted({"redis", "sqlite3"} & set(sys.modules)))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert ran.stdout == "[]\n"
