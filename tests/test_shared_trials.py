"""Trials of a circuit that a fleet shares: whose place it is, and which outcomes count."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import pybreaker
import pytest

from requests_connection_manager import CircuitBreakerOpen, StateUnavailable
from requests_connection_manager.assembly.breakers import _lease
from requests_connection_manager.limits.absence import Absence
from requests_connection_manager.policies.given_trials import SharedAdmission
from requests_connection_manager.settings import Settings
from tests.conftest import FakeClock, MakeManager, in_threads
from tests.redis_server import RedisServer
from tests.server import Reply, ScriptedServer, wait_until
from tests.test_shared_breaker import DOWN, ERROR, SHARED, Bench, fail, refused


@pytest.fixture
def bench(redis_server: RedisServer, clock: FakeClock) -> Iterator[Bench]:
    made = Bench(redis_server, clock)
    yield made
    made.close()


@pytest.mark.parametrize(("outcome", "state"), [("succeeded", "closed"), ("failed", "open")])
def test_a_trial_counts_though_another_process_has_its_place(
    bench: Bench, outcome: str, state: str
) -> None:
    one, other, trial = bench.trial_of_two()
    bench.clock.now += 31
    later = other.admit()
    assert later.is_trial
    if outcome == "succeeded":
        one.succeeded(trial)
    else:
        one.failed(trial, ERROR)
    assert other.circuit.current_state == state
    other.failed(later, ERROR)  # of a generation that is over
    assert one.circuit.current_state == state


def test_a_trial_that_was_overtaken_does_not_free_the_place_of_the_later_one(
    redis_server: RedisServer, clock: FakeClock
) -> None:
    bench = Bench(redis_server, clock, success_threshold=3)
    one, other, first = bench.trial_of_two()
    clock.now += 31
    second = other.admit()
    one.succeeded(first)
    refused(one)
    other.succeeded(second)
    one.succeeded(one.admit())
    assert other.circuit.current_state == "closed"
    bench.close()


def test_a_process_gives_no_second_trial_while_its_own_is_under_way(bench: Bench) -> None:
    one, other, trial = bench.trial_of_two()
    for _ in range(10):
        bench.clock.now += 20
        refused(one)  # which keeps its place over the fleet, too
        refused(other)
    bench.clock.now += 1000
    refused(one)
    refused(other)
    one.succeeded(trial)
    assert other.circuit.current_state == "closed"


def test_a_trial_takes_its_place_again_where_it_was_overtaken_and_that_one_withdrew(
    bench: Bench,
) -> None:
    one, other, trial = bench.trial_of_two()
    bench.clock.now += 31
    other.withdraw(other.admit())
    refused(one)
    refused(other)
    del trial
    gc.collect()
    assert one.admit().is_trial


@pytest.mark.parametrize("outcome", ["succeeded", "withdraw"])
def test_a_trial_that_ends_while_another_call_shows_it_does_not_come_back(
    redis_server: RedisServer, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    """Else all would wait for it until its lease is over, and nobody has it."""
    bench = Bench(redis_server, clock, success_threshold=2)
    one, other = bench.breaker(), bench.breaker()
    fail(one, 2)
    clock.now += 10
    trial = one.admit()
    step = one._there.step

    def step_after_its_end(*arguments):
        monkeypatch.undo()
        getattr(one, outcome)(trial)
        return step(*arguments)

    monkeypatch.setattr(one._there, "step", step_after_its_end)
    refused(one)
    assert other.admit().is_trial
    bench.close()


def test_a_trial_that_came_back_while_redis_goes_makes_place_for_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = bench.breaker()
    fail(one, 2)
    bench.clock.now += 10
    trial = one.admit()
    step = one._there.step

    def step_after_its_end(*arguments):
        monkeypatch.undo()
        one.withdraw(trial)
        seen = step(*arguments)
        monkeypatch.setattr(bench._scripts, "run", closed)
        return seen

    def closed(*_: object) -> str:
        raise ConnectionError("it is gone")

    monkeypatch.setattr(one._there, "step", step_after_its_end)
    refused(one)
    monkeypatch.undo()
    assert one.admit().is_trial


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_a_trial_that_was_granted_and_never_had_makes_place_for_the_next(
    bench: Bench, kind: type[BaseException]
) -> None:
    """Else the fleet would wait for as long as for one whose process died."""

    class Listener(pybreaker.CircuitBreakerListener):
        def state_change(self, cb, old_state, new_state) -> None:
            cb.remove_listener(self)
            raise kind("between the answer of Redis and the trial")

    one, other = bench.breaker(), bench.breaker()
    fail(one, 2)
    bench.clock.now += 10
    one.circuit.add_listener(Listener())
    with pytest.raises(kind):
        one.admit()
    refused(other)  # it cannot know
    trial = one.admit()
    assert trial.is_trial
    assert one._trials.lost == ()  # and it is told of no more


@pytest.mark.parametrize("may_go_on", [True, False])
def test_a_trial_of_which_the_answer_did_not_come_makes_place_for_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, may_go_on: bool
) -> None:
    one = bench.breaker(absence=Absence("it", bench.clock) if may_go_on else None)
    fail(one, 2)
    bench.clock.now += 10
    run = bench._scripts.run

    def cut(*arguments: object) -> str:
        run(*arguments)
        raise ConnectionError("after the question")

    with monkeypatch.context() as patched:
        patched.setattr(bench._scripts, "run", cut)
        with suppress(StateUnavailable):
            one.withdraw(one.admit())  # its own, where it may go on alone
    bench.clock.now += 30
    assert isinstance(admission := one.admit(), SharedAdmission)
    assert admission.is_trial


@pytest.mark.parametrize("is_known", [True, False])
def test_a_trial_under_way_says_nothing_of_a_later_generation(bench: Bench, is_known: bool) -> None:
    one, other, trial = bench.trial_of_two()
    other.circuit.open()
    bench.clock.now += 10
    if is_known:
        other.withdraw(other.admit())
        assert one.circuit.current_state == "half-open"
    assert one.admit().is_trial
    one.failed(trial, ERROR)
    assert other.circuit.current_state == "half-open"


def test_a_lost_name_that_begins_with_that_of_the_trial_does_not_free_it(
    bench: Bench,
) -> None:
    one, other = bench.breaker(), bench.breaker()
    fail(other, 2)
    bench.clock.now += 10
    trial = one.admit()
    assert trial.is_trial
    one._trials._held = None  # else this process would not ask for another
    one._trials.lose(trial.name + "0")
    refused(one)
    one._trials.lose(trial.name)
    assert one.admit().is_trial


def test_with_raise_what_redis_has_not_heard_counts_nowhere(
    own_redis: RedisServer, clock: FakeClock
) -> None:
    bench = Bench(own_redis, clock, failure_threshold=1)
    breaker = bench.breaker()
    good, bad = breaker.admit(), breaker.admit()
    own_redis.stop()
    breaker.failed(bad, ERROR)
    breaker.succeeded(good)
    assert (breaker.circuit.known_state, breaker.circuit.fail_counter) == ("closed", 0)
    assert bench.told == []
    with pytest.raises(StateUnavailable):
        breaker.admit()
    own_redis.start()
    assert not breaker.admit().is_trial
    bench.close()


def test_whatever_goes_wrong_beside_redis_loses_no_answer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaker = bench.breaker()
    admission = breaker.admit()

    def closed(*_: object) -> str:
        raise ValueError("I/O operation on closed file; s3cret")

    monkeypatch.setattr(bench._scripts, "run", closed)
    breaker.failed(admission, ERROR)
    with pytest.raises(StateUnavailable, match="ValueError") as caught:
        breaker.admit()
    assert "s3cret" not in str(caught.value)
    monkeypatch.setattr(bench._scripts, "run", lambda *_: "no answer of ours")
    with pytest.raises(StateUnavailable):
        breaker.admit()


def test_who_may_go_on_alone_counts_here_what_could_not_be_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaker = bench.breaker(absence=Absence("it", bench.clock))
    admissions = [breaker.admit() for _ in range(2)]

    def closed(*_: object) -> str:
        raise AttributeError("of a connection that was closed beneath it")

    monkeypatch.setattr(bench._scripts, "run", closed)
    for each in admissions:
        breaker.failed(each, ERROR)
    assert breaker.circuit.known_state == "open"


@pytest.mark.parametrize("outcome", ["succeeded", "failed"])
def test_an_admission_that_a_trip_has_overtaken_counts_nowhere(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    """Though Redis is out of reach when its outcome is known; pybreaker would raise its own."""
    one = bench.breaker(absence=Absence("it", bench.clock))
    fail(one)
    step = one._there.step

    def step_before_the_trip(*arguments):
        monkeypatch.undo()
        seen = step(*arguments)
        fail(one)  # of another thread, whose answer is the first to be taken over
        return seen

    monkeypatch.setattr(one._there, "step", step_before_the_trip)
    admission = one.admit()
    assert one.circuit.known_state == "open"

    def closed(*_: object) -> str:
        raise ConnectionError("it is gone")

    monkeypatch.setattr(bench._scripts, "run", closed)
    getattr(one, outcome)(admission, *([ERROR] if outcome == "failed" else []))
    assert one.circuit.known_state == "open"
    assert one.circuit.fail_counter == 2


def test_a_clock_that_is_set_back_hides_no_answer(redis_server, clock) -> None:
    bench = Bench(redis_server, clock, failure_threshold=5)
    breaker = bench.breaker()
    fail(breaker)
    clock.now -= 9
    breaker.succeeded(breaker.admit())
    for _ in range(6):
        fail(breaker)
        breaker.succeeded(breaker.admit())
    breaker.circuit.force_closed()
    assert breaker.circuit.forced == "closed"
    bench.close()


def test_an_answer_that_was_overtaken_by_a_later_one_is_not_taken_over(bench: Bench) -> None:
    one, other = bench.breaker(), bench.breaker()
    step = one._there.step

    def slow(*arguments: object) -> object:
        seen = step(*arguments)
        one._there.step = step
        fail(other, 2)
        assert one.circuit.current_state == "open"
        return seen

    one._there.step = slow
    one.admit()  # as it was when it asked
    assert one.circuit.known_state == "open"
    assert [(each.old_state, each.new_state) for each in bench.told].count(("closed", "open")) == 2


def test_what_is_seen_when_a_trial_is_withdrawn_is_told(bench: Bench) -> None:
    one, other = bench.breaker(), bench.breaker()
    fail(one, 2)
    bench.clock.now += 10
    trial = one.admit()
    other.circuit.force_open()
    bench.told.clear()
    one.withdraw(trial)
    assert [(each.old_state, each.forced) for each in bench.told] == [("half-open", "open")]


@pytest.mark.parametrize(
    ("given", "lease"),
    [
        ({"total_timeout": 100.0, "timeout": 500}, 200),
        ({"timeout": (5, 40)}, 90),
        ({"timeout": 0.2}, 30),
        ({"timeout": None}, 240),
    ],
)
def test_a_lease_is_longer_than_what_the_settings_allow_a_call(given, lease: float) -> None:
    assert _lease(Settings(**given), 10) == lease
    assert _lease(Settings(**given), 1000) == 1000


# Around real calls


def test_a_trial_of_which_the_body_trickles_closes_the_circuit(
    make_manager: MakeManager,
    server: ScriptedServer,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("requests_connection_manager.assembly.breakers._SHORTEST_LEASE", 0.0)
    manager = make_manager(
        state=redis_server.url,
        timeout=0.6,  # and so a lease of 2.4 s, of which the trial takes more
        circuit_breaker_failure_threshold=1,
        circuit_breaker_recovery_timeout=0.2,
        **SHARED,
    )
    trickles = Reply(body=b"x" * 30, drip=0.1)
    url = server.script("/", DOWN, trickles, forever=Reply())
    manager.get(url)
    seen: Counter[str] = Counter()

    def call(_: int) -> None:
        while not seen["200"]:
            try:
                seen[str(manager.get(url).status_code)] += 1
            except CircuitBreakerOpen:
                seen["rejected"] += 1

    in_threads(4, call)
    assert manager.circuit_breaker.current_state == "closed"
    assert seen["200"] <= 4
    assert seen["rejected"]
    _, trial, *later = (each.at for each in server.received)
    assert all(at - trial > 2.8 for at in later)  # it was alone, though its lease was over


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=303, body=b"", headers={"Location": "/receipt"}, delay=0.5),
        Reply(status=503, delay=0.5),
    ],
    ids=["redirect", "retry"],
)
def test_with_raise_the_first_request_of_a_call_may_have_been_sent(
    make_manager: MakeManager, server: ScriptedServer, own_redis: RedisServer, reply: Reply
) -> None:
    manager = make_manager(
        state=own_redis.url, state_fallback="raise", rate_limit_requests=100, max_retries=1
    )
    url = server.script("/order", reply)
    errors = []

    def call(n: int) -> None:
        if n == 0:
            with pytest.raises(StateUnavailable) as caught:
                manager.get(url)
            errors.append(caught.value)
        else:
            wait_until(lambda: server.count() == 1)
            own_redis.stop()

    in_threads(2, call)
    assert [each.path for each in server.received] == ["/order"]
    assert ("503" in str(errors[0].__cause__)) == (reply.status == 503)
