"""What listeners are told of: attempts, retries, waits, and changes of a circuit."""

from __future__ import annotations

import dataclasses
import logging
import threading

import pytest
import requests

from requests_connection_manager import (
    AttemptMade,
    BreakerChanged,
    ConnectionManager,
    ConnectionManagerError,
    Event,
    RetryPlanned,
    Throttled,
)
from tests.conftest import MakeManager, in_threads
from tests.server import Reply, ScriptedServer


class Listener:
    def __init__(self) -> None:
        self.heard: list[Event] = []

    def on_attempt(self, event: Event) -> None:
        self.heard.append(event)

    on_retry = on_throttle = on_breaker_change = on_attempt


def listening(manager: ConnectionManager) -> list[Event]:
    listener = Listener()
    manager.add_middleware(listener)
    return listener.heard


def test_attempts_and_retries_are_told_in_order(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    server.script("/a", Reply(status=503), Reply(reset="after"), Reply())
    manager = make_manager(backoff_factor=0.001, backoff_jitter=0)
    heard = listening(manager)
    manager.get(server.url + "/a?token=s3cret", headers={"X-Api-Key": "s3cret"})
    assert [type(event) for event in heard] == [
        *(AttemptMade, RetryPlanned, AttemptMade, RetryPlanned, AttemptMade),
    ]
    first, again, second, later, third = heard
    assert isinstance(first, AttemptMade)
    assert (first.method, first.url) == ("GET", server.url + "/a")
    assert (first.endpoint, first.attempt.number, first.attempt.status) == (server.url, 1, 503)
    assert isinstance(again, RetryPlanned)
    assert again.attempt == first.attempt
    assert isinstance(second, AttemptMade)
    assert isinstance(second.attempt.error, requests.ConnectionError)
    assert isinstance(later, RetryPlanned)
    assert later.delay == 0.002
    assert isinstance(third, AttemptMade)
    assert (third.attempt.number, third.attempt.delay) == (3, 0.002)
    assert "s3cret" not in repr(heard)
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.url = ""  # type: ignore[misc]


def test_a_decorator_registers_and_leaves_the_function_alone(
    server: ScriptedServer, manager: ConnectionManager
) -> None:
    heard: list[AttemptMade] = []

    @manager.on_attempt
    def note(event: AttemptMade) -> None:
        heard.append(event)

    manager.get(server.url)
    note(heard[0])
    assert len(heard) == 2


def test_a_wait_for_a_permit_is_told(server: ScriptedServer, make_manager: MakeManager) -> None:
    manager = make_manager(rate_limit_requests=2, rate_limit_period=0.05)
    heard: list[Throttled] = []
    manager.on_throttle(heard.append)
    for _ in range(3):
        manager.get(server.url)
    (event,) = heard
    assert (event.endpoint, event.waited > 0) == (server.url, True)
    assert event.scope == "all endpoints without a limit of their own"


def test_changes_of_a_circuit_are_told_and_no_lock_is_held(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    manager = make_manager(
        circuit_breaker_failure_threshold=1, circuit_breaker_recovery_timeout=0, max_retries=0
    )
    heard: list[BreakerChanged] = []

    @manager.on_breaker_change
    def note(event: BreakerChanged) -> None:
        heard.append(event)
        lock = manager.circuit_breakers[server.url]._lock
        other = threading.Thread(target=lambda: lock.acquire() and lock.release())
        other.start()
        other.join(5)
        assert not other.is_alive()

    server.script("/", Reply(status=503), Reply(status=500), Reply())
    for _ in range(3):
        manager.get(server.url)
    assert [(event.old_state, event.new_state) for event in heard] == [
        ("closed", "open"),
        *[("open", "half-open"), ("half-open", "open")],
        *[("open", "half-open"), ("half-open", "closed")],
    ]
    assert {event.endpoint for event in heard} == {server.url}
    assert [str(event.last_error) for event in heard] == ["status 503"] * 2 + ["status 500"] * 3


def test_a_circuit_that_is_moved_by_hand_is_told_once(
    server: ScriptedServer, manager: ConnectionManager
) -> None:
    manager.get(server.url)
    heard: list[BreakerChanged] = []
    manager.on_breaker_change(heard.append)
    manager.circuit_breakers[server.url].open()
    with pytest.raises(ConnectionManagerError):
        manager.get(server.url)
    assert [event.new_state for event in heard] == ["open"]


class Veto(ConnectionManagerError):
    pass


@pytest.mark.parametrize("event", ["on_attempt", "on_retry", "on_throttle"])
def test_a_listener_may_veto_and_nothing_is_lost(
    event: str, server: ScriptedServer, make_manager: MakeManager
) -> None:
    server.script("/", Reply(status=503, body=b"x" * 1_000_000))
    manager = make_manager(
        pool_maxsize=1,
        pool_block=True,
        total_timeout=5,
        rate_limit_requests=2 if event == "on_throttle" else 20,
        rate_limit_period=0.7,
        backoff_factor=0.01,
        circuit_breaker_failure_threshold=50,
        max_retries=2,
    )

    def veto(event: Event) -> None:
        raise Veto("no more")

    getattr(manager, event)(veto)
    for _ in range(3):
        with pytest.raises(Veto):
            manager.get(server.url, stream=True)
    if event != "on_throttle":
        assert server.count() == 3
    assert manager.circuit_breakers[server.url].fail_counter > 0


def test_a_listener_that_raises_is_logged(
    server: ScriptedServer, make_manager: MakeManager, caplog: pytest.LogCaptureFixture
) -> None:
    server.script("/", Reply(status=503), Reply())
    manager = make_manager(circuit_breaker_failure_threshold=1)

    def broken(event: Event) -> None:
        raise Veto if event.name == "on_breaker_change" else ValueError("broken")

    for event in ("on_attempt", "on_retry", "on_breaker_change"):
        getattr(manager, event)(broken)
    manager.get(server.url)
    server.script("/", Reply(status=500))
    manager = make_manager(circuit_breaker_failure_threshold=1, max_retries=0)
    manager.on_breaker_change(broken)
    assert manager.get(server.url).status_code == 500
    assert caplog.text.count("hook broken raised ValueError: broken") == 3
    assert caplog.text.count("hook broken raised Veto") == 1


def test_every_attempt_is_told_of_under_threads(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    manager = make_manager(rate_limit_requests=None)
    heard = listening(manager)
    in_threads(8, lambda _: [manager.get(server.url) for _ in range(20)])
    assert len(heard) == server.count() == 160


def test_changes_of_a_circuit_are_told_in_their_order(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    """Whoever is slow to listen, and whatever calls a listener makes."""
    manager = make_manager(
        circuit_breaker_failure_threshold=1, circuit_breaker_recovery_timeout=0, max_retries=0
    )
    heard: list[str] = []
    has_closed, may_go_on = threading.Event(), threading.Event()

    @manager.on_breaker_change
    def slow(event: BreakerChanged) -> None:
        if event.new_state == "open":
            manager.get(server.url + "/well")  # the trial, which closes the circuit
            has_closed.set()
            may_go_on.wait(5)

    manager.on_breaker_change(lambda event: heard.append(event.new_state))
    server.script("/", Reply(status=503))
    tripping = threading.Thread(target=manager.get, args=(server.url,))
    tripping.start()
    assert has_closed.wait(5)
    manager.get(server.url + "/well")
    assert heard == []
    may_go_on.set()
    tripping.join(5)
    assert heard == ["open", "half-open", "closed"]


def test_a_retry_that_cannot_be_in_time_is_not_told(
    server: ScriptedServer, make_manager: MakeManager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server.script("/", Reply.retry_after(30))
    manager = make_manager(total_timeout=5)
    heard: list[Event] = []
    manager.on_retry(heard.append)
    with pytest.raises(requests.Timeout):
        manager.get(server.url)
    assert (heard, "again in" in caplog.text) == ([], False)


def test_a_listener_that_takes_over_the_trial_costs_no_permit(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    manager = make_manager(
        rate_limit_requests=1,
        rate_limit_period=0.2,
        circuit_breaker_failure_threshold=1,
        circuit_breaker_recovery_timeout=0,
        max_retries=0,
    )
    server.script("/", Reply(status=503), Reply())
    manager.get(server.url)
    asked: list[Event] = []

    @manager.on_throttle
    def look_first(event: Throttled) -> None:
        asked.append(event)
        if len(asked) == 1:
            manager.get(server.url + "/health")

    manager.get(server.url)
    found = manager.get_stats()["scopes"][server.url]
    assert (server.count(), found["attempts"], found["permits_waited_for"]) == (3, 3, len(asked))


def test_the_reason_of_an_earlier_opening_is_not_told_again(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    manager = make_manager(
        circuit_breaker_failure_threshold=1, circuit_breaker_recovery_timeout=0, max_retries=0
    )
    server.script("/", Reply(status=503), Reply())
    manager.get(server.url)
    manager.get(server.url)
    circuit = manager.circuit_breakers[server.url]
    circuit.reset_timeout = 60
    circuit.open()
    with pytest.raises(ConnectionManagerError) as caught:
        manager.get(server.url)
    assert "503" not in str(caught.value)
