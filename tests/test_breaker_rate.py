"""A circuit that opens on the rate of its failures, and answers that are too slow to be good."""

from __future__ import annotations

import time
from contextlib import suppress

import pybreaker
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from requests_connection_manager import (
    CircuitBreakerOpen,
    ConfigurationError,
    ConnectionManager,
    MaxRetriesExceeded,
)
from requests_connection_manager.policies.circuit_breaker import Breaker, BreakerNumbers
from requests_connection_manager.policies.outcome_window import OutcomeWindow
from tests.conftest import FakeClock, MakeManager
from tests.server import Reply, ScriptedServer

ERROR = requests.ConnectionError("down")
DOWN = Reply(status=503)


def make(clock: FakeClock, **numbers) -> Breaker:
    given = {"failure_rate": 0.5, "window": 10, "minimum_calls": 4, **numbers}
    return Breaker(
        "http://a.test", BreakerNumbers(given.pop("threshold", None), 10, **given), clock=clock
    )


def send(breaker: Breaker, outcomes: str) -> str:
    """Make a call for each ``.`` (good) and ``x`` (bad); return the state."""
    for outcome in outcomes:
        if outcome == ".":
            breaker.succeeded(breaker.admit())
        else:
            breaker.failed(breaker.admit(), ERROR)
    return breaker.circuit.current_state


def test_the_rate_opens_it_though_no_two_failures_follow_each_other(clock) -> None:
    breaker = make(clock)
    assert send(breaker, ".x.") == "closed"
    assert send(breaker, "x") == "open"
    with pytest.raises(CircuitBreakerOpen, match="is open after ConnectionError") as caught:
        breaker.admit()
    assert caught.value.retry_after == pytest.approx(10)


def test_the_rate_says_nothing_of_few_calls(clock) -> None:
    breaker = make(clock, minimum_calls=20)
    assert send(breaker, "x" * 19) == "closed"
    assert send(breaker, "x") == "open"


def test_a_success_can_be_the_call_that_makes_enough_of_them(clock) -> None:
    assert send(make(clock), "xxx.") == "open"


def test_what_is_older_than_the_window_counts_no_more(clock) -> None:
    breaker = make(clock)
    assert send(breaker, "xxx") == "closed"
    clock.now += 10
    assert send(breaker, "x..") == "closed"
    assert send(breaker, "x") == "open"


def test_failures_in_a_row_open_it_too_if_they_are_to(clock) -> None:
    breaker = make(clock, threshold=2)
    assert send(breaker, "........xx") == "open"


def test_without_a_threshold_failures_in_a_row_do_not(clock) -> None:
    breaker = make(clock, failure_rate=1.0, minimum_calls=50)
    assert send(breaker, "." + "x" * 100) == "closed"


def test_every_change_of_state_begins_a_new_window(clock) -> None:
    breaker = make(clock)
    send(breaker, "xxxx")
    clock.now += 10
    assert send(breaker, ".") == "closed"  # the trial, which is not counted itself
    assert send(breaker, "xxx") == "closed"
    assert send(breaker, "x") == "open"


def test_what_says_nothing_and_what_comes_late_is_not_counted(clock) -> None:
    breaker = make(clock)
    late = [breaker.admit() for _ in range(10)]
    for _ in range(10):
        breaker.withdraw(breaker.admit())
    send(breaker, "xxxx")
    breaker.circuit.close()
    for admission in late:
        breaker.failed(admission, ERROR)
    assert breaker.circuit.current_state == "closed"


def test_it_is_not_idle_while_failures_are_in_the_window(clock) -> None:
    breaker = make(clock)
    send(breaker, "x.")
    assert not breaker.idle
    clock.now += 10
    assert breaker.idle


def test_what_somebody_excludes_is_a_success_for_the_rate_too(clock) -> None:
    breaker = make(clock, threshold=3)
    breaker.circuit.add_excluded_exception(requests.ConnectionError)
    assert send(breaker, "xxxxxxxx") == "closed"
    assert (breaker._window.total, breaker._window.failures) == (8, 0)
    breaker.circuit.remove_excluded_exception(requests.ConnectionError)
    assert send(breaker, "xxx") == "open"


class Raises(pybreaker.CircuitBreakerListener):
    def success(self, cb) -> None:
        raise RuntimeError("a listener")

    def failure(self, cb, exc) -> None:
        raise RuntimeError("a listener")


def test_a_listener_that_raises_hides_nothing_from_the_rate(clock) -> None:
    breaker = make(clock)
    breaker.circuit.add_listener(Raises())
    for outcome in ".x.x":
        with pytest.raises(RuntimeError, match="a listener"):
            send(breaker, outcome)
    assert breaker.circuit.current_state == "open"


@pytest.mark.parametrize("total", [20, 25, 50, 100, 200])
@pytest.mark.parametrize("percent", range(1, 101))
def test_a_rate_that_is_reached_exactly_is_reached(clock, percent: int, total: int) -> None:
    failures, rest = divmod(percent * total, 100)
    window = OutcomeWindow(30, clock)
    for n in range(total):
        window.add(failed=n < failures)
    assert window.exceeds(percent / 100, 20) is (rest == 0)


@given(
    st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=60),
    st.floats(0.5, 20),
)
def test_the_window_counts_what_is_younger_and_nothing_that_is_older(
    outcomes: list[tuple[float, bool]], seconds: float
) -> None:
    clock = FakeClock()
    window = OutcomeWindow(seconds, clock)
    counted = []
    for pause, failed in outcomes:
        clock.now += pause
        window.add(failed)
        counted.append((clock.now, failed))
    young = [failed for at, failed in counted if clock.now - at < 0.9 * seconds - 1e-6]
    all_of_it = [failed for at, failed in counted if clock.now - at <= seconds + 1e-6]
    assert len(young) <= window.total <= len(all_of_it)
    assert sum(young) <= window.failures <= sum(all_of_it)
    window.clear()
    assert (window.total, window.failures) == (0, 0)


# Around real calls


def test_calls_that_fail_half_of_the_time_open_it(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(
        circuit_breaker_failure_threshold=None,
        circuit_breaker_failure_rate=0.5,
        circuit_breaker_minimum_calls=6,
        max_retries=0,
    )
    url = server.script("/flaky", *[Reply(), DOWN] * 3)
    assert [manager.get(url).status_code for _ in range(6)] == [200, 503] * 3
    with pytest.raises(CircuitBreakerOpen, match="after status 503"):
        manager.get(url)
    assert server.count() == 6


def slow_manager(make_manager: MakeManager, **settings) -> ConnectionManager:
    return make_manager(
        circuit_breaker_failure_threshold=2, circuit_breaker_slow_call=0.2, **settings
    )


def test_a_slow_answer_is_a_failure_which_the_caller_gets(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = slow_manager(make_manager)
    url = server.script("/slow", Reply(delay=0.25), Reply(), *[Reply(delay=0.25)] * 2)
    for failures in (1, 0, 1):
        assert manager.get(url).status_code == 200
        assert manager.circuit_breaker.fail_counter == failures
    assert manager.get(url).status_code == 200
    words = r"an answer that took [\d.]+ s, circuit_breaker_slow_call=0\.2"
    with pytest.raises(CircuitBreakerOpen, match=words) as bad:
        manager.get(url)
    assert server.count() == 4
    assert str(bad.value.last_error).startswith("an answer that took ")


def test_a_trial_that_is_slow_opens_it_again(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = slow_manager(
        make_manager, circuit_breaker_recovery_timeout=0.05, circuit_breaker_recovery_jitter=0
    )
    url = server.script("/slow", *[Reply(delay=0.25)] * 3)
    for _ in range(2):
        manager.get(url)
    time.sleep(0.06)
    assert manager.get(url).status_code == 200
    assert manager.circuit_breaker.current_state == "open"


def test_only_the_last_attempt_is_timed(make_manager: MakeManager, server: ScriptedServer) -> None:
    manager = slow_manager(make_manager, max_retries=1)
    manager.get(server.script("/slow", Reply(status=503, delay=0.25), Reply()))
    assert manager.circuit_breaker.fail_counter == 0


def test_a_slow_answer_is_not_held_back_by_a_deadline(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = slow_manager(make_manager, total_timeout=5)
    manager.get(server.script("/slow", Reply(delay=0.25)))
    assert manager.circuit_breaker.fail_counter == 1


def test_what_another_adapter_sends_is_timed_too(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = slow_manager(make_manager)
    manager.session.mount(server.url, requests.adapters.HTTPAdapter())
    manager.get(server.script("/slow", Reply(delay=0.25)))
    assert manager.circuit_breaker.fail_counter == 1


def test_a_rate_alone_makes_a_breaker(make_manager: MakeManager, server: ScriptedServer) -> None:
    manager = make_manager(
        circuit_breaker_failure_threshold=None,
        endpoint_configs={"127.0.0.1/rated": {"circuit_breaker_failure_rate": 1}},
        max_retries=0,
    )
    for path in ("/x", "/rated"):
        with suppress(MaxRetriesExceeded):
            manager.get(server.script(path, DOWN))
    assert list(manager.circuit_breakers) == [f"127.0.0.1/rated ({server.origin})"]


@pytest.mark.parametrize("rate", [0, 1.1, "half"])
def test_an_impossible_rate_is_refused(rate: object) -> None:
    with pytest.raises(ConfigurationError):
        ConnectionManager(circuit_breaker_failure_rate=rate)
