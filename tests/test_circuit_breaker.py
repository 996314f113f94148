"""The two short steps around pybreaker, on a fake clock and with many threads."""

from __future__ import annotations

import threading

import pybreaker
import pytest
import requests

from requests_connection_manager import CircuitBreakerOpen
from requests_connection_manager.policies.circuit import WorstCircuit
from requests_connection_manager.policies.circuit_breaker import Breaker, BreakerNumbers
from tests.conftest import in_threads

ERROR = requests.ConnectionError("down")


def make(clock, threshold: int = 3, recovery: float = 10, trials: int = 1) -> Breaker:
    numbers = BreakerNumbers(threshold, recovery, trials, recovery_jitter=0)
    return Breaker("http://a.test", numbers, clock=clock)


def trip(breaker: Breaker) -> None:
    for _ in range(breaker.circuit.fail_max):
        breaker.failed(breaker.admit(), ERROR)


def test_failures_in_a_row_open_it(clock) -> None:
    breaker = make(clock)
    for _ in range(2):
        breaker.failed(breaker.admit(), ERROR)
    assert breaker.circuit.current_state == "closed"
    assert breaker.circuit.fail_counter == 2
    breaker.failed(breaker.admit(), ERROR)
    assert breaker.circuit.current_state == "open"


def test_a_success_resets_the_count(clock) -> None:
    breaker = make(clock)
    for _ in range(5):
        breaker.failed(breaker.admit(), ERROR)
        breaker.failed(breaker.admit(), ERROR)
        breaker.succeeded(breaker.admit())
    assert breaker.circuit.current_state == "closed"


def test_what_says_nothing_counts_neither_way(clock) -> None:
    breaker = make(clock)
    breaker.failed(breaker.admit(), ERROR)
    breaker.withdraw(breaker.admit())
    assert breaker.circuit.fail_counter == 1


def test_open_it_rejects_and_says_for_how_long_and_why(clock) -> None:
    breaker = make(clock)
    trip(breaker)
    clock.now += 4
    with pytest.raises(CircuitBreakerOpen, match="is open after ConnectionError") as caught:
        breaker.admit("api.example.com")
    assert caught.value.retry_after == pytest.approx(6)
    assert caught.value.endpoint == "api.example.com"
    assert isinstance(caught.value.last_error, requests.ConnectionError)
    assert caught.value.last_error.__traceback__ is None


def test_half_open_exactly_one_trial_is_out(clock) -> None:
    breaker = make(clock)
    trip(breaker)
    clock.now += 10
    trial = breaker.admit()
    assert trial.is_trial
    for _ in range(5):
        with pytest.raises(CircuitBreakerOpen) as caught:
            breaker.admit()
        assert 0 < caught.value.retry_after <= 1
    breaker.succeeded(trial)
    assert breaker.circuit.current_state == "closed"
    assert not breaker.admit().is_trial


def test_a_failed_trial_opens_it_for_twice_the_time(clock) -> None:
    breaker = make(clock)
    trip(breaker)
    clock.now += 15
    breaker.failed(breaker.admit(), ERROR)
    with pytest.raises(CircuitBreakerOpen) as caught:
        breaker.admit()
    assert caught.value.retry_after == pytest.approx(20)
    assert breaker.circuit.current_state == "open"


def test_a_withdrawn_trial_makes_place_for_the_next(clock) -> None:
    breaker = make(clock)
    trip(breaker)
    clock.now += 10
    breaker.withdraw(breaker.admit())
    assert breaker.circuit.current_state == "half-open"
    assert breaker.admit().is_trial


def test_several_trials_must_succeed_one_after_the_other(clock) -> None:
    breaker = make(clock, trials=2)
    trip(breaker)
    clock.now += 10
    first = breaker.admit()
    with pytest.raises(CircuitBreakerOpen):
        breaker.admit()
    breaker.succeeded(first)
    assert breaker.circuit.current_state == "half-open"
    second = breaker.admit()
    assert second.is_trial
    breaker.succeeded(second)
    assert breaker.circuit.current_state == "closed"


@pytest.mark.parametrize("late", ["succeeded", "failed", "withdraw"])
def test_a_late_answer_from_before_the_trip_changes_nothing(clock, late: str) -> None:
    breaker = make(clock)
    early = breaker.admit()
    trip(breaker)
    opened_at = breaker.circuit._state_storage.opened_at
    clock.now += 4
    end(breaker, late, early)
    assert breaker.circuit.current_state == "open"
    assert breaker.circuit._state_storage.opened_at == opened_at
    with pytest.raises(CircuitBreakerOpen) as caught:
        breaker.admit()
    assert caught.value.retry_after == pytest.approx(6)
    clock.now += 6
    trial = breaker.admit()
    end(breaker, late, early)
    assert breaker.circuit.current_state == "half-open"
    with pytest.raises(CircuitBreakerOpen):  # the trial's place is still taken
        breaker.admit()
    breaker.succeeded(trial)
    end(breaker, late, early)
    assert breaker.circuit.current_state == "closed"
    assert breaker.circuit.fail_counter == 0


def end(breaker: Breaker, how: str, admission) -> None:
    if how == "failed":
        breaker.failed(admission, ERROR)
    else:
        getattr(breaker, how)(admission)


def test_a_late_trial_of_an_earlier_half_open_time_changes_nothing(clock) -> None:
    breaker = make(clock)
    trip(breaker)
    clock.now += 10
    first = breaker.admit()
    breaker.circuit.open()  # forced
    clock.now += 10
    second = breaker.admit()
    breaker.succeeded(first)
    assert breaker.circuit.current_state == "half-open"
    breaker.failed(second, ERROR)
    assert breaker.circuit.current_state == "open"


def test_the_real_object_can_be_forced(clock) -> None:
    breaker = make(clock)
    breaker.circuit.open()
    with pytest.raises(CircuitBreakerOpen, match="is open: nothing was sent"):
        breaker.admit()
    breaker.circuit.close()
    assert not breaker.admit().is_trial
    breaker.circuit.half_open()
    assert breaker.admit().is_trial


def test_of_fifty_threads_one_gets_the_trial(clock) -> None:
    breaker = make(clock)
    trip(breaker)
    clock.now += 10
    start = threading.Barrier(50)
    admitted, rejected = [], []

    def ask(_: int) -> None:
        start.wait()
        try:
            admitted.append(breaker.admit())
        except CircuitBreakerOpen as error:
            rejected.append(error)

    in_threads(50, ask)
    assert len(admitted) == 1
    assert len(rejected) == 49


def test_failures_of_many_threads_trip_it_once(clock) -> None:
    breaker = make(clock, threshold=5)
    changes: list[str] = []

    class Changes(pybreaker.CircuitBreakerListener):
        def state_change(self, cb, old_state, new_state) -> None:
            changes.append(new_state.name)

    breaker.circuit.add_listener(Changes())
    admissions = [breaker.admit() for _ in range(40)]
    start = threading.Barrier(40)

    def fail(n: int) -> None:
        start.wait()
        breaker.failed(admissions[n], ERROR)

    in_threads(40, fail)
    assert changes == ["open"]
    assert breaker.circuit.fail_counter == 5


def test_a_listeners_own_error_is_not_swallowed(clock) -> None:
    class Broken(pybreaker.CircuitBreakerListener):
        def failure(self, cb, exc) -> None:
            raise LookupError("mine")

    breaker = make(clock)
    breaker.circuit.add_listener(Broken())
    with pytest.raises(LookupError, match="mine"):
        breaker.failed(breaker.admit(), ERROR)


def test_an_error_that_cannot_be_made_again_is_kept_in_words(clock) -> None:
    class Odd(requests.ConnectionError):
        def __init__(self, *, needed: str) -> None:
            super().__init__(needed)

    breaker = make(clock, threshold=1)
    breaker.failed(breaker.admit(), Odd(needed="secret"))
    with pytest.raises(CircuitBreakerOpen) as caught:
        breaker.admit()
    assert "Odd" in str(caught.value.last_error)
    assert "secret" not in str(caught.value)


def test_idle_when_it_counts_no_recent_failure(clock) -> None:
    breaker = make(clock)
    assert breaker.idle
    breaker.failed(breaker.admit(), ERROR)
    assert not breaker.idle
    clock.now += 10.1
    assert breaker.idle


def test_the_worst_circuit_speaks_for_all(clock) -> None:
    good, bad, worse = make(clock), make(clock), make(clock)
    circuits = {"good": good.circuit}
    worst = WorstCircuit(lambda: circuits)
    assert (worst.current_state, worst.fail_counter) == ("closed", 0)
    circuits["bad"] = bad.circuit
    bad.failed(bad.admit(), ERROR)
    assert (worst.current_state, worst.fail_counter) == ("closed", 1)
    trip(worse)
    circuits["worse"] = worse.circuit
    assert (worst.current_state, worst.fail_counter) == ("open", 3)
    clock.now += 10
    worse.admit()
    assert worst.current_state == "half-open"
    assert WorstCircuit(dict).current_state == "closed"
