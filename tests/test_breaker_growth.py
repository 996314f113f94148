"""The time that a circuit stays open grows while trips follow each other, and no longer."""

from __future__ import annotations

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from requests_connection_manager import CircuitBreakerOpen
from requests_connection_manager.policies.circuit_breaker import Breaker, BreakerNumbers
from requests_connection_manager.policies.open_time import open_time
from tests.conftest import FakeClock, MakeManager
from tests.server import Reply, ScriptedServer

ERROR = requests.ConnectionError("down")


def make(clock: FakeClock, longest: float = 60, jitter: float = 0, threshold: int = 1) -> Breaker:
    numbers = BreakerNumbers(threshold, 10, recovery_max=longest, recovery_jitter=jitter)
    return Breaker("http://a.test", numbers, clock=clock)


def fail(breaker: Breaker) -> None:
    breaker.failed(breaker.admit(), ERROR)


def left(breaker: Breaker) -> float:
    with pytest.raises(CircuitBreakerOpen) as caught:
        breaker.admit()
    return caught.value.retry_after


def test_each_failed_trial_doubles_it_up_to_the_longest(clock) -> None:
    breaker = make(clock)
    for seconds in (10, 20, 40, 60, 60):
        fail(breaker)
        assert left(breaker) == pytest.approx(seconds)
        clock.now += seconds - 1
        assert left(breaker) == pytest.approx(1)
        clock.now += 1


def close_by_trial(breaker: Breaker, clock: FakeClock) -> None:
    clock.now += left(breaker)
    breaker.succeeded(breaker.admit())
    assert breaker.circuit.current_state == "closed"


def test_so_does_a_trip_soon_after_closing(clock) -> None:
    breaker = make(clock)
    fail(breaker)
    close_by_trial(breaker, clock)
    clock.now += 9.9
    fail(breaker)
    assert left(breaker) == pytest.approx(20)
    close_by_trial(breaker, clock)
    clock.now += 19.9
    fail(breaker)
    assert left(breaker) == pytest.approx(40)


def test_closed_for_longer_than_it_was_open_it_begins_anew(clock) -> None:
    breaker = make(clock)
    fail(breaker)
    clock.now += 10
    fail(breaker)
    close_by_trial(breaker, clock)
    assert not breaker.idle
    clock.now += 20.1
    assert breaker.idle
    fail(breaker)
    assert left(breaker) == pytest.approx(10)


def test_a_longest_time_below_the_first_means_that_nothing_grows(clock) -> None:
    breaker = make(clock, longest=1, jitter=1)
    for _ in range(5):
        fail(breaker)
        assert left(breaker) == pytest.approx(10)
        clock.now += 10


def test_jitter_shortens_all_but_the_first(clock) -> None:
    breakers = [make(clock, jitter=0.5) for _ in range(30)]
    for breaker in breakers:
        fail(breaker)
        assert left(breaker) == pytest.approx(10)
    clock.now += 10
    for breaker in breakers:
        fail(breaker)
    times = [left(breaker) for breaker in breakers]
    assert all(10 <= seconds <= 20 for seconds in times)
    assert len(set(times)) > 1


def test_a_hand_opens_it_for_the_first_time_exactly(clock) -> None:
    breaker = make(clock)
    for _ in range(3):
        fail(breaker)
        clock.now += 100
    breaker.circuit.open()
    assert left(breaker) == pytest.approx(10)
    for seconds in (10, 20):  # it was no trip
        clock.now += 10
        fail(breaker)
        assert left(breaker) == pytest.approx(seconds)
        clock.now += seconds - 10


def test_a_hand_that_opened_and_closed_it_leaves_no_trip_behind(clock) -> None:
    breaker = make(clock)
    breaker.circuit.force_open()
    clock.now += 5
    breaker.circuit.close()
    clock.now += 5
    fail(breaker)
    assert left(breaker) == pytest.approx(10)


def test_that_nobody_called_it_for_long_does_not_make_the_open_time_longer(clock) -> None:
    breaker = make(clock)
    fail(breaker)
    clock.now += 1000
    breaker.succeeded(breaker.admit())
    clock.now += 10.1
    fail(breaker)
    assert left(breaker) == pytest.approx(10)


@given(
    trips=st.integers(1, 10_000),
    shortest=st.floats(0, 1e6),
    longest=st.floats(0, 1e6),
    jitter=st.floats(0, 1),
    chance=st.floats(0, 1),
)
def test_the_time_keeps_its_bounds(
    trips: int, shortest: float, longest: float, jitter: float, chance: float
) -> None:
    seconds = open_time(trips, shortest, longest, jitter, chance)
    assert shortest <= seconds <= max(shortest, longest)
    assert open_time(1, shortest, longest, jitter, chance) == shortest
    assert open_time(trips + 1, shortest, longest, 0, 0) >= open_time(
        trips, shortest, longest, 0, 0
    )


def test_a_call_is_told_the_time_that_is_really_left(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    server.script("/", Reply(status=503))
    manager = make_manager(
        circuit_breaker_failure_threshold=1,
        circuit_breaker_recovery_timeout=0.01,
        circuit_breaker_recovery_max=3600,
        circuit_breaker_recovery_jitter=0,
        max_retries=0,
    )
    breaker = manager._endpoints.table.resolve(server.url).breaker
    breaker._open_time._trips = 15  # without waiting for them
    breaker._open_time.seconds = 3600
    breaker._open_time._closed_at = breaker._clock()
    manager.get(server.url)
    with pytest.raises(CircuitBreakerOpen) as caught:
        manager.get(server.url)
    assert 200 < caught.value.retry_after <= 0.01 * 2**15
