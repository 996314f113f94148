"""What Redis computes in Lua, and SQLite keeps in columns, is what Python computes, to the bit."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from requests_connection_manager.limits import sqlite
from requests_connection_manager.limits.memory import MemoryStore
from requests_connection_manager.limits.redis import RedisStore
from requests_connection_manager.limits.sqlite import SQLiteStore
from tests.conftest import FakeClock
from tests.pure_store import PureStore, walk
from tests.redis_server import RedisServer


@pytest.mark.parametrize("seed", range(4))
def test_lua_and_python_agree_step_by_step(
    seed: int, clock: FakeClock, redis_server: RedisServer
) -> None:
    """With weights, refusals, several limits, permits given back, pauses, and a clock set back."""
    clock.now = 1_763_732_737.123457
    store = RedisStore(redis_server.url, timeout=10, clock=clock)
    # units so long that nothing expires on the clock of Redis, which is another
    walk(random.Random(seed), clock, [PureStore(clock, forgets=False), store], 1500, unit=1e5)
    store.close()


@pytest.mark.parametrize("seed", range(3))
def test_sqlite_and_python_agree_step_by_step(
    seed: int, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_PURGES", 0.5)
    monkeypatch.setattr(sqlite, "purge", lambda *_: None)  # what is gone cannot come back
    clock.now = 1_763_732_737.123457
    store = SQLiteStore(str(tmp_path / "limits.db"), timeout=10, clock=clock)
    walk(random.Random(seed), clock, [PureStore(clock, forgets=True), store], 2000, unit=1)
    store.close()


@pytest.mark.parametrize("seed", range(3))
def test_memory_and_python_agree_step_by_step(
    seed: int, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryStore, "_purge", lambda *_: None)
    walk(
        random.Random(seed),
        clock,
        [PureStore(clock, forgets=False), MemoryStore(clock)],
        4000,
        unit=1,
    )
