"""Circuits that people move by hand: what stays, what calls may still change, and who is told."""

from __future__ import annotations

import os
import threading

import pybreaker
import pytest
import requests

from requests_connection_manager import BreakerChanged, CircuitBreakerOpen, ConnectionManager
from requests_connection_manager.policies.circuit_breaker import Breaker, BreakerNumbers
from tests.conftest import FakeClock, MakeManager
from tests.server import Reply, ScriptedServer
from tests.test_fork import in_child

ERROR = requests.ConnectionError("down")
DOWN = Reply(status=503)


def make(clock: FakeClock, **numbers) -> Breaker:
    return Breaker(
        "http://a.test", BreakerNumbers(2, 10, recovery_jitter=0, **numbers), clock=clock
    )


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.failed(breaker.admit(), ERROR)


def test_forced_open_it_stays_so_without_a_trial(clock) -> None:
    breaker = make(clock)
    breaker.circuit.force_open()
    assert (breaker.circuit.current_state, breaker.circuit.forced) == ("open", "open")
    for _ in range(3):
        clock.now += 1000
        with pytest.raises(CircuitBreakerOpen, match="somebody forced it") as caught:
            breaker.admit()
        assert caught.value.retry_after == 10
    assert not breaker.idle


@pytest.mark.parametrize("command", ["close", "reset"])
def test_until_it_is_closed_or_reset(clock, command: str) -> None:
    breaker = make(clock)
    breaker.circuit.force_open()
    getattr(breaker.circuit, command)()
    assert (breaker.circuit.current_state, breaker.circuit.forced) == ("closed", None)
    fail(breaker, 2)
    assert breaker.circuit.current_state == "open"


@pytest.mark.parametrize("numbers", [{}, {"failure_rate": 0.1, "minimum_calls": 1}])
def test_forced_closed_it_lets_all_through_whatever_fails(clock, numbers: dict) -> None:
    breaker = make(clock, **numbers)
    fail(breaker, 1)
    breaker.circuit.force_closed()
    fail(breaker, 20)
    assert (breaker.circuit.current_state, breaker.circuit.forced) == ("closed", "closed")
    assert breaker.circuit.fail_counter == 0
    assert not breaker.idle
    breaker.circuit.close()
    fail(breaker, 20)
    breaker.circuit.reset()
    assert breaker.circuit.forced is None
    fail(breaker, 2 if not numbers else 1)
    assert breaker.circuit.current_state == "open"


def test_an_open_circuit_can_be_forced_closed(clock) -> None:
    breaker = make(clock)
    fail(breaker, 2)
    breaker.circuit.force_closed()
    fail(breaker, 5)
    assert breaker.circuit.current_state == "closed"


def test_reset_forgets_counters_and_growth(clock) -> None:
    breaker = make(clock, success_threshold=2)
    fail(breaker, 2)
    for _ in range(3):
        clock.now += 1000
        fail(breaker)
    clock.now += 1000
    breaker.succeeded(breaker.admit())
    assert breaker.circuit.success_counter == 1
    breaker.circuit.reset()
    circuit = breaker.circuit
    assert (circuit.current_state, circuit.fail_counter, circuit.success_counter) == (
        "closed",
        0,
        0,
    )
    assert breaker.idle
    fail(breaker, 2)
    with pytest.raises(CircuitBreakerOpen) as caught:
        breaker.admit()
    assert caught.value.retry_after == pytest.approx(10)


@pytest.mark.parametrize("command", ["force_open", "force_closed", "reset", "open", "close"])
def test_a_trial_that_is_out_has_no_say_any_more(clock, command: str) -> None:
    breaker = make(clock)
    fail(breaker, 2)
    clock.now += 10
    trial = breaker.admit()
    getattr(breaker.circuit, command)()
    state = breaker.circuit.current_state
    breaker.succeeded(trial)
    breaker.failed(trial, ERROR)
    assert (breaker.circuit.current_state, breaker.circuit.fail_counter) == (
        state,
        2 if state == "open" else 0,
    )


def test_what_a_hand_does_is_told_at_once(
    manager: ConnectionManager, server: ScriptedServer
) -> None:
    manager.get(server.url)
    heard: list[BreakerChanged] = []
    manager.on_breaker_change(heard.append)
    circuit = manager.circuit_breakers[server.origin]
    for command in ("force_open", "reset", "force_closed", "half_open", "close"):
        getattr(circuit, command)()
    assert [(event.old_state, event.new_state, event.forced) for event in heard] == [
        ("closed", "open", "open"),
        ("open", "closed", None),
        ("closed", "closed", "closed"),
        ("closed", "half-open", None),
        ("half-open", "closed", None),
    ]


def test_what_changes_nothing_is_not_told(manager: ConnectionManager, server) -> None:
    manager.get(server.url)
    heard: list[tuple[str, str, str | None]] = []
    manager.on_breaker_change(
        lambda event: heard.append((event.old_state, event.new_state, event.forced))
    )
    circuit = manager.circuit_breakers[server.origin]
    circuit.close()
    circuit.reset()
    assert not heard
    for command in ("force_closed", "close", "force_closed", "reset", "reset"):
        getattr(circuit, command)()
    assert heard == [("closed", "closed", "closed"), ("closed", "closed", None)]
    heard.clear()
    for command in ("open", "force_open", "force_open", "open"):
        getattr(circuit, command)()
    assert heard == [("closed", "open", None), ("open", "open", "open"), ("open", "open", None)]


def test_what_somebody_calls_through_a_forced_circuit_does_not_move_it(clock) -> None:
    circuit = make(clock).circuit
    circuit.force_open()
    with pytest.raises(pybreaker.CircuitBreakerError, match="forced open"):
        circuit.call(lambda: 1)
    assert (circuit.forced, circuit.current_state) == ("open", "open")
    circuit.force_closed()
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            circuit.call(lambda: 1 // 0)
    assert circuit.call(lambda: 1) == 1
    with circuit.calling():
        pass
    assert (circuit.forced, circuit.current_state) == ("closed", "closed")
    circuit.reset()
    assert circuit.call(lambda: 1) == 1
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            circuit.call(lambda: 1 // 0)
    assert circuit.current_state == "open"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_hand_moves_it_in_a_child_though_a_call_was_moving_it_in_the_parent(clock) -> None:
    circuit = make(clock).circuit

    def use() -> None:
        circuit.force_open()
        assert circuit.forced == "open"
        circuit.close()
        assert (circuit.forced, circuit.current_state) == (None, "closed")

    moving, forked = threading.Event(), threading.Event()

    def move() -> None:
        with circuit.moving_itself():
            moving.set()
            forked.wait(20)

    thread = threading.Thread(target=move)
    thread.start()
    moving.wait(20)
    in_child(use)
    forked.set()
    thread.join()


def test_it_survives_a_change_of_the_numbers(
    manager: ConnectionManager, server: ScriptedServer
) -> None:
    manager.get(server.url)
    manager.circuit_breakers[server.origin].force_open()
    heard: list[BreakerChanged] = []
    manager.on_breaker_change(heard.append)
    host = f"127.0.0.1:{server.port}"
    for config in ({"timeout": 3}, {"circuit_breaker_slow_call": 9}, {"circuit_breaker_window": 9}):
        manager.add_endpoint_config(host, config)
        with pytest.raises(CircuitBreakerOpen, match="somebody forced it"):
            manager.get(server.url)
        assert len(manager.circuit_breakers) == 1
    [circuit] = manager.circuit_breakers.values()
    circuit.force_closed()
    manager.add_endpoint_config(host, {"circuit_breaker_window": 8})
    [circuit] = manager.circuit_breakers.values()
    assert (circuit.forced, circuit.current_state) == ("closed", "closed")
    manager.remove_endpoint_config(host)
    manager.get(server.url)
    [circuit] = manager.circuit_breakers.values()
    assert circuit.forced is None
    changes = [(each.old_state, each.new_state, each.forced) for each in heard]
    assert changes == [("open", "closed", "closed")]


def test_a_pattern_that_sets_no_numbers_any_more_hands_nothing_on(
    manager: ConnectionManager, server: ScriptedServer
) -> None:
    """What takes its place is for all the rest of the origin, too."""
    own = f"127.0.0.1:{server.port}/own"
    manager.add_endpoint_config(own, {"circuit_breaker_window": 9})
    manager.get(server.url + "/own")
    [circuit] = manager.circuit_breakers.values()
    circuit.force_open()
    manager.add_endpoint_config(own, {"timeout": 3})
    assert manager.get(server.url + "/own").status_code == 200
    assert manager.get(server.url).status_code == 200


def test_and_what_is_not_its_own_is_left_alone(
    manager: ConnectionManager, server: ScriptedServer, other_server: ScriptedServer
) -> None:
    """A pattern below the forced one makes a circuit of its own, and so does another origin."""
    host = f"127.0.0.1:{server.port}"
    manager.get(server.url)
    manager.get(other_server.url)
    manager.circuit_breakers[server.origin].force_open()
    manager.add_endpoint_config(f"{host}/own", {"circuit_breaker_window": 9})
    assert manager.get(server.url + "/own").status_code == 200
    manager.add_endpoint_config("127.0.0.1", {"circuit_breaker_window": 8})
    assert manager.get(server.url + "/own").status_code == 200
    assert manager.get(other_server.url).status_code == 200
    with pytest.raises(CircuitBreakerOpen):
        manager.get(server.url)


def test_calls_through_a_forced_circuit(make_manager: MakeManager, server: ScriptedServer) -> None:
    url = server.script("/down", DOWN)
    manager = make_manager(
        circuit_breaker_failure_threshold=1, circuit_breaker_recovery_timeout=0, max_retries=0
    )
    manager.get(server.url)
    circuit = manager.circuit_breakers[server.origin]
    circuit.force_closed()
    for _ in range(3):
        assert manager.get(url).status_code == 503
    assert "forced closed" in str(manager.explain(url))
    circuit.force_open()
    for _ in range(3):
        with pytest.raises(CircuitBreakerOpen) as caught:
            manager.get(server.url)
        assert caught.value.retry_after > 0
    assert server.count() == 4
    assert manager.get_stats()["circuit_breaker_state"] == "open"
    circuit.reset()
    assert manager.get(server.url).status_code == 200
