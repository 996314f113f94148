"""The pybreaker object of a circuit that a fleet shares: listeners, numbers, looking, its lock."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pybreaker
import pytest
import requests

from requests_connection_manager import StateUnavailable
from requests_connection_manager.limits.absence import Absence
from requests_connection_manager.policies.circuit import look_at, worst_of
from requests_connection_manager.policies.circuit_breaker import Breaker
from tests.conftest import FakeClock, MakeManager
from tests.redis_server import RedisServer
from tests.server import ScriptedServer
from tests.test_shared_breaker import ERROR, SHARED, Bench, fail, refused


@pytest.fixture
def bench(redis_server: RedisServer, clock: FakeClock) -> Iterator[Bench]:
    made = Bench(redis_server, clock)
    yield made
    made.close()


class Hears(pybreaker.CircuitBreakerListener):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def before_call(self, cb: Any, func: Any, *args: Any, **kwargs: Any) -> None:
        self.heard.append(f"before {func.__name__}")

    def success(self, cb: Any) -> None:
        self.heard.append(f"success {cb.known_state}")

    def failure(self, cb: Any, exc: BaseException) -> None:
        self.heard.append(f"failure {cb.known_state} {exc}")

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        self.heard.append(f"{old_state.name} -> {new_state.name}")


def test_a_listener_hears_what_it_would_of_a_circuit_in_memory(bench: Bench) -> None:
    heard = []
    for breaker in (Breaker("http://a.test", bench.numbers, bench.clock), bench.breaker()):
        listener = Hears()
        breaker.circuit.add_listener(listener)
        early = breaker.admit()
        for outcome in ".x.xx":
            if outcome == "x":
                fail(breaker)
            else:
                breaker.succeeded(breaker.admit())
        breaker.succeeded(early)  # of an earlier generation: nothing is said
        breaker.failed(early, ERROR)
        bench.clock.now += 10
        fail(breaker)
        bench.clock.now += 20
        breaker.succeeded(breaker.admit())
        breaker.circuit.force_closed()
        fail(breaker)
        breaker.succeeded(breaker.admit())
        # pybreaker tells its listeners of a hand's change from closed to closed
        heard.append([each for each in listener.heard if each != "closed -> closed"])
    assert heard[0] == heard[1]
    assert heard[0][-4:] == [
        *("open -> half-open", "before replay_success"),
        *("half-open -> closed", "success closed"),
    ]


class Raises(pybreaker.CircuitBreakerListener):
    def failure(self, cb: Any, exc: BaseException) -> None:
        raise RuntimeError("a listener")


def test_a_listener_that_raises_hides_nothing(bench: Bench) -> None:
    breaker = bench.breaker()
    breaker.circuit.add_listener(Raises())
    for _ in range(2):
        with pytest.raises(RuntimeError, match="a listener"):
            fail(breaker)
    assert breaker.circuit.known_state == "open"
    assert [each.new_state for each in bench.told] == ["open"]


@pytest.mark.parametrize("name", ["fail_max", "reset_timeout", "success_threshold"])
def test_its_numbers_are_those_of_the_settings(bench: Bench, name: str) -> None:
    circuit = bench.breaker().circuit
    before = getattr(circuit, name)
    with pytest.raises(AttributeError, match="of its settings: circuit_breaker_"):
        setattr(circuit, name, 1)
    assert getattr(circuit, name) == before


def test_to_look_at_a_forced_circuit_keeps_it(bench: Bench, redis_server: RedisServer) -> None:
    breaker = bench.breaker()
    breaker.circuit.force_open()
    with redis_server.client() as client:
        (key,) = client.keys()
        client.expire(key, 1000)
        assert breaker.circuit.current_state == "open"
        assert client.ttl(key) > 600_000


def test_a_redis_that_is_full_is_gone_until_it_can_be_written_to(
    own_redis: RedisServer, clock: FakeClock
) -> None:
    bench = Bench(own_redis, clock)
    absence = Absence("it", clock)
    breaker = bench.breaker(absence=absence)
    with own_redis.client() as client:
        client.config_set("maxmemory", "1")
        fail(breaker)
        assert absence.gone
        clock.now += 2
        fail(breaker)
        assert absence.gone
        assert 0 < refused(breaker) <= 10
        client.config_set("maxmemory", "0")
        clock.now += 5
        assert not breaker.admit().is_trial
        assert not absence.gone
        assert client.keys() == []  # the question leaves nothing there
    bench.close()


# The lock


def lock_was_free(breaker: Any, act: Any) -> list[bool]:
    """Say of each question to Redis in the course of ``act`` whether others could have the lock."""
    step, free = breaker._there.step, []

    def watched(*arguments: Any) -> Any:
        def try_it() -> None:
            free.append(breaker._lock.acquire(timeout=0.2))
            if free[-1]:
                breaker._lock.release()

        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
        return step(*arguments)

    breaker._there.step = watched
    try:
        act()
    finally:
        breaker._there.step = step
    return free


def test_redis_is_not_asked_while_a_call_of_pybreakers_holds_the_lock(
    redis_server: RedisServer, clock: FakeClock
) -> None:
    bench = Bench(redis_server, clock, failure_threshold=1)
    one, other = bench.breaker(), bench.breaker()
    circuit = one.circuit

    def fails() -> None:
        assert circuit.current_state == "closed"
        raise ERROR

    def trips() -> None:
        with pytest.raises(requests.ConnectionError):
            circuit.call(fails)

    assert lock_was_free(one, trips) == [True, True]
    assert other.circuit.current_state == "open"  # that it tripped is told to all
    assert [each.new_state for each in bench.told] == ["open", "open"]
    clock.now += 10
    other.succeeded(other.admit())
    assert lock_was_free(one, lambda: circuit.call(lambda: circuit.call(lambda: 1))) == [True]
    bench.close()


def test_what_a_call_of_pybreakers_came_to_is_not_lost_with_redis(
    own_redis: RedisServer, clock: FakeClock
) -> None:
    bench = Bench(own_redis, clock, failure_threshold=1)
    circuit = bench.breaker().circuit

    def stops() -> None:
        own_redis.stop()
        raise ERROR

    with pytest.raises(requests.ConnectionError):
        circuit.call(stops)
    assert circuit.known_state == "open"
    bench.close()


# Looking at many


def test_stats_look_at_each_circuit_once(
    make_manager: MakeManager,
    server: ScriptedServer,
    other_server: ScriptedServer,
    redis_server: RedisServer,
) -> None:
    manager = make_manager(state=redis_server.url, **SHARED)
    for each in (server, other_server):
        manager.get(each.url)
    before = redis_server.calls()["evalsha"]
    assert manager.stats().circuit_breaker_state == "closed"
    assert redis_server.calls()["evalsha"] == before + 2
    manager.circuit_breakers[server.origin].force_open()
    stats = manager.stats()
    assert stats.circuit_breaker_state == "open"
    assert stats.scopes[server.origin].breaker_state == "open"
    assert "forced open" in str(manager.explain(server.url).breaker)


@pytest.mark.parametrize("raises", [True, False])
def test_where_one_cannot_be_looked_at_the_others_are_not_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, raises: bool
) -> None:
    absence = None if raises else Absence("it", bench.clock)
    circuits = [bench.breaker(absence=absence).circuit for _ in range(5)]
    fail(bench.breaker(), 2)
    asked = []

    def unavailable(*_: object) -> str:
        asked.append(1)
        raise StateUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(bench._scripts, "run", unavailable)
        look_at(circuits)
        assert worst_of(circuits) == ("closed", 0)
        assert len(asked) == 1
    bench.clock.now += 2
    look_at([*circuits, Breaker("http://b.test", bench.numbers).circuit])
    assert worst_of(circuits) == ("open", 2)
    assert worst_of([]) == ("closed", 0)
