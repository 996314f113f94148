"""A breaker that a fleet shares: in one process, as a fleet, and with Redis gone."""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from requests_connection_manager import (
    BreakerChanged,
    CircuitBreakerOpen,
    ConnectionManager,
    StateUnavailable,
)
from requests_connection_manager.limits.absence import Absence
from requests_connection_manager.limits.redis_scripts import Scripts
from requests_connection_manager.policies.circuit_breaker import Admission, Breaker, BreakerNumbers
from requests_connection_manager.policies.shared_breaker import SharedBreaker
from requests_connection_manager.policies.shared_circuit import CircuitInRedis
from tests.conftest import FakeClock, MakeManager, in_threads
from tests.redis_server import RedisServer
from tests.server import Reply, ScriptedServer, wait_until

ERROR = requests.ConnectionError("down")
DOWN = Reply(status=503)


class Bench:
    """Breakers of several processes, as it were, on one clock."""

    def __init__(self, redis: RedisServer, clock: FakeClock, **numbers: Any) -> None:
        given = {"failure_threshold": 2, "recovery_timeout": 10, "recovery_jitter": 0.0} | numbers
        self.numbers = BreakerNumbers(**given)
        self.clock = clock
        self._scripts = Scripts(redis.url, 5)
        self.told: list[BreakerChanged] = []

    def breaker(self, lease: float = 60, absence: Absence | None = None) -> SharedBreaker:
        there = CircuitInRedis(
            self._scripts, "test", "http://a.test", self.numbers, lease, self.clock
        )
        return SharedBreaker(
            "http://a.test", self.numbers, there, absence, self.clock, self.told.append
        )

    def trial_of_two(self) -> tuple[SharedBreaker, SharedBreaker, Admission]:
        """Return two breakers with a lease of 30 s, and the trial that the first has just got."""
        one, other = self.breaker(lease=30), self.breaker(lease=30)
        fail(one, 2)
        self.clock.now += 10
        return one, other, one.admit()

    def close(self) -> None:
        self._scripts.close()


@pytest.fixture
def bench(redis_server: RedisServer, clock: FakeClock) -> Iterator[Bench]:
    made = Bench(redis_server, clock)
    yield made
    made.close()


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.failed(breaker.admit(), ERROR)


def refused(breaker: Breaker) -> float:
    with pytest.raises(CircuitBreakerOpen) as caught:
        breaker.admit()
    return caught.value.retry_after


def test_failures_of_all_are_counted_together_and_open_it_for_all(bench: Bench) -> None:
    one, other = bench.breaker(), bench.breaker()
    fail(one)
    assert other.circuit.current_state == "closed"
    assert other.circuit.fail_counter == 1
    fail(other)
    assert [one.circuit.current_state, other.circuit.current_state] == ["open", "open"]
    bench.clock.now += 9.25
    assert refused(one) == pytest.approx(0.75)
    with pytest.raises(CircuitBreakerOpen, match="after ConnectionError"):
        bench.breaker().admit()


def test_one_trial_is_out_over_all(bench: Bench) -> None:
    one, other = bench.breaker(), bench.breaker()
    fail(one, 2)
    bench.clock.now += 10
    trial = one.admit()
    assert trial.is_trial
    assert 0 < refused(other) <= 1
    assert 0 < refused(one) <= 1
    one.succeeded(trial)
    assert not other.admit().is_trial
    assert [(told.old_state, told.new_state) for told in bench.told].count(
        ("half-open", "closed")
    ) == 2


def test_a_trial_that_is_withdrawn_or_lost_makes_place_for_the_next(bench: Bench) -> None:
    one, other = bench.breaker(), bench.breaker()
    fail(one, 2)
    bench.clock.now += 10
    one.withdraw(one.admit())
    assert other.admit().is_trial  # and nobody holds it any more
    gc.collect()
    refused(one)
    assert other.admit().is_trial


def test_the_trial_of_a_process_that_died_is_over_with_its_lease(bench: Bench) -> None:
    one, other, trial = bench.trial_of_two()
    bench.clock.now += 29.9
    refused(other)
    bench.clock.now += 0.2
    assert other.admit().is_trial
    one.withdraw(trial)  # too late to make place: it is another's
    refused(one)
    assert other.circuit.current_state == "half-open"


def test_a_trial_that_waits_keeps_its_place(bench: Bench) -> None:
    one, other, trial = bench.trial_of_two()
    for _ in range(5):
        bench.clock.now += 20
        trial = one.renew(trial)
        assert trial.is_trial
        refused(other)
    one.succeeded(trial)
    assert other.circuit.current_state == "closed"


def test_who_waited_is_told_what_others_have_seen_meanwhile(bench: Bench) -> None:
    one, other = bench.breaker(), bench.breaker()
    admission = one.admit()
    fail(other, 2)
    with pytest.raises(CircuitBreakerOpen):
        one.renew(admission)


@pytest.mark.parametrize("late", ["succeeded", "failed"])
def test_an_outcome_of_an_earlier_generation_changes_nothing_for_anybody(
    bench: Bench, late: str
) -> None:
    one, other = bench.breaker(), bench.breaker()
    early = one.admit()
    fail(other, 2)

    def comes() -> None:
        if late == "failed":
            one.failed(early, ERROR)
        else:
            one.succeeded(early)

    bench.clock.now += 4
    comes()
    assert refused(other) == pytest.approx(6)
    bench.clock.now += 6
    trial = other.admit()
    comes()
    refused(one)
    other.succeeded(trial)
    comes()
    assert other.circuit.current_state == "closed"
    assert other.circuit.fail_counter == 0


def test_trials_that_must_succeed_are_counted_together(redis_server, clock) -> None:
    bench = Bench(redis_server, clock, success_threshold=2)
    one, other = bench.breaker(), bench.breaker()
    fail(one, 2)
    clock.now += 10
    one.succeeded(one.admit())
    assert other.circuit.current_state == "half-open"
    other.succeeded(other.admit())
    assert one.circuit.current_state == "closed"
    bench.close()


def test_the_rate_is_that_of_all(redis_server, clock) -> None:
    bench = Bench(
        redis_server, clock, failure_threshold=None, failure_rate=0.5, minimum_calls=6, window=10
    )
    one, other = bench.breaker(), bench.breaker()
    for breaker in (one, other):
        breaker.succeeded(breaker.admit())
        fail(breaker)
    assert other.circuit.current_state == "closed"
    one.succeeded(one.admit())
    fail(one)
    assert other.circuit.current_state == "open"
    bench.close()


def test_what_somebody_excludes_is_a_success_for_all(redis_server, clock) -> None:
    bench = Bench(redis_server, clock, failure_rate=0.5, minimum_calls=4)
    breaker = bench.breaker()
    breaker.circuit.add_excluded_exception(requests.ConnectionError)
    fail(breaker, 8)
    assert breaker.circuit.current_state == "closed"
    assert bench.breaker().circuit.fail_counter == 0
    bench.close()


@pytest.mark.parametrize("percent", [7, 14, 28, 29, 56, 57, 58])  # 0.07 * 100 is more than 7
def test_a_rate_that_is_reached_exactly_is_reached(redis_server, clock, percent: int) -> None:
    bench = Bench(
        redis_server, clock, failure_threshold=None, failure_rate=percent / 100, minimum_calls=100
    )
    breaker = bench.breaker()
    for _ in range(100 - percent):
        breaker.succeeded(breaker.admit())
    fail(breaker, percent)
    assert breaker.circuit.current_state == "open"
    bench.close()


@pytest.mark.parametrize(("pause", "state"), [(9.5, "open"), (10, "closed")])
def test_what_is_older_than_the_window_counts_for_nobody(
    redis_server, clock, pause: float, state: str
) -> None:
    bench = Bench(
        redis_server, clock, failure_threshold=None, failure_rate=1.0, minimum_calls=4, window=10
    )
    fail(bench.breaker(), 3)
    clock.now += pause
    other = bench.breaker()
    fail(other)
    assert other.circuit.current_state == state
    bench.close()


def test_a_hand_moves_it_for_all_and_all_are_told(bench: Bench) -> None:
    one, other = bench.breaker(), bench.breaker()
    one.circuit.force_open()
    bench.clock.now += 100_000
    assert refused(other) == 10
    assert (other.circuit.forced, other.circuit.current_state) == ("open", "open")
    other.circuit.force_closed()
    fail(one, 5)
    assert (one.circuit.forced, one.circuit.current_state) == ("closed", "closed")
    one.circuit.reset()
    other.admit()
    assert other.circuit.forced is None
    one.circuit.open()
    assert refused(other) == pytest.approx(10)
    other.circuit.half_open()
    assert one.admit().is_trial
    changes = [(each.old_state, each.new_state) for each in bench.told]
    assert changes.count(("closed", "open")) == 4  # twice, told by both
    assert changes.count(("open", "closed")) == 2


def test_it_is_kept_under_one_key_which_is_forgotten_in_time(
    bench: Bench, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        bench.breaker().admit()
        assert client.keys() == []  # of a circuit that is closed there is nothing to keep
        fail(bench.breaker(), 2)
        (key,) = client.keys()
        assert key.startswith(b"{test:http://a.test}:circuit:")
        assert 600 < client.ttl(key) < 2000
        bench.breaker().circuit.force_open()
        assert 600_000 < client.ttl(key) <= 604_800


def test_a_circuit_that_redis_forgot_is_closed(bench: Bench, redis_server: RedisServer) -> None:
    one = bench.breaker()
    fail(one, 2)
    with redis_server.client() as client:
        client.flushall()
    assert not one.admit().is_trial
    fail(one, 2)
    refused(one)


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(["good", "bad", "withdraw", "hold", "late"]),
            st.sampled_from(["trip", "recover"]),
            st.sampled_from(["open", "close", "half_open", "force_open", "force_closed", "reset"]),
            st.sampled_from([0.3, 2.0, 7.5, 10.0, 25.0]),
        ),
        max_size=40,
    ),
    st.sampled_from([None, 0.5]),
)
def test_redis_decides_what_one_process_would(
    redis_server: RedisServer, steps: list[Any], rate: float | None
) -> None:
    with redis_server.client() as client:
        client.flushall()
    clock = FakeClock()
    bench = Bench(
        redis_server, clock, failure_rate=rate, minimum_calls=4, window=8, success_threshold=2
    )
    pair = (Breaker("http://a.test", bench.numbers, clock), bench.breaker(lease=1e6))
    held: list[tuple[Any, ...]] = []
    whole = {"trip": ["bad"] * 2, "recover": [pair[0]._left, "good", "good"]}
    for each in itertools.chain.from_iterable(whole.get(step, [step]) for step in steps):
        step = each() if callable(each) else each  # how long it is open now, or what was drawn
        if isinstance(step, (int, float)):
            clock.now += max(0, step)
        elif step == "late" and held:
            for breaker, admission in zip(pair, held.pop(), strict=True):
                if admission is not None:
                    breaker.failed(admission, ERROR)
        elif step in ("good", "bad", "withdraw", "hold", "late"):
            admissions = tuple(map(admitted, pair))
            assert [each is None for each in admissions] in ([True, True], [False, False])
            if step == "hold":
                held.append(admissions)
                continue
            for breaker, admission in zip(pair, admissions, strict=True):
                if admission is not None:
                    outcome(breaker, admission, step)
        else:
            for breaker in pair:
                getattr(breaker.circuit, step)()
        here, there = (each.circuit for each in pair)
        assert there.current_state == here.current_state
        assert there.forced == here.forced
        assert there.fail_counter == here.fail_counter
        if here.current_state == "open":
            assert pair[1]._left() == pytest.approx(pair[0]._left())
    bench.close()


def admitted(breaker: Breaker) -> Any:
    try:
        return breaker.admit()
    except CircuitBreakerOpen:
        return None


def outcome(breaker: Breaker, admission: Any, how: str) -> None:
    if how == "good":
        breaker.succeeded(admission)
    elif how == "bad":
        breaker.failed(admission, ERROR)
    else:
        breaker.withdraw(admission)


# Around real calls

SHARED = {"rate_limit_requests": None, "respect_server_limits": False, "max_retries": 0}


@pytest.mark.parametrize("rate", [None, 0.9])
def test_a_good_call_costs_one_command(
    make_manager: MakeManager, server: ScriptedServer, redis_server: RedisServer, rate
) -> None:
    manager = make_manager(state=redis_server.url, circuit_breaker_failure_rate=rate, **SHARED)
    manager.get(server.url)
    before = redis_server.calls()
    for _ in range(20):
        manager.get(server.url)
    after = redis_server.calls()
    sent = {name: after[name] - before.get(name, 0) for name in after}
    assert sent["evalsha"] == 20
    assert sent.get("eval", 0) == 0


WORKER = """
import json, sys, threading
from requests_connection_manager import ConnectionManager, CircuitBreakerOpen
url, settings = sys.argv[1], json.loads(sys.argv[2])
outcomes = []
with ConnectionManager(**settings) as manager:
    def work():
        try:
            outcomes.append(manager.get(url).status_code)
        except CircuitBreakerOpen:
            outcomes.append("rejected")
    try:
        manager.get(url)
    except CircuitBreakerOpen:
        print("open", flush=True)
    sys.stdin.readline()
    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads: each.start()
    for each in threads: each.join()
print(json.dumps(outcomes))
"""


def test_of_a_whole_fleet_exactly_one_makes_the_trial(
    make_manager: MakeManager, server: ScriptedServer, redis_server: RedisServer
) -> None:
    settings = {
        **SHARED,
        "state": redis_server.url,
        "circuit_breaker_failure_threshold": 1,
        "circuit_breaker_recovery_timeout": 3600,
    }
    manager = make_manager(**settings)
    url = server.script("/", DOWN, Reply(delay=1))
    manager.get(url)
    command = [sys.executable, "-c", WORKER, url, json.dumps(settings)]
    here = Path(__file__).parents[1]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(subprocess.Popen(command, cwd=here, **pipes)) for _ in range(4)
        ]
        for worker in workers:
            assert worker.stdout.readline() == "open\n"
        with redis_server.client() as client:
            (key,) = client.keys("*circuit*")
            client.hset(key, "until", "0")  # the time is over for all at once
        for worker in workers:
            worker.stdin.write("\n")
            worker.stdin.flush()
        outcomes = [each for worker in workers for each in json.loads(worker.stdout.readline())]
    assert sorted(outcomes, key=str) == [200] + ["rejected"] * 15
    assert server.count() == 2
    assert manager.circuit_breaker.current_state == "closed"


def shared(make_manager: MakeManager, redis: RedisServer, **settings: Any) -> ConnectionManager:
    both = {"state": redis.url, "circuit_breaker_failure_threshold": 2, **SHARED}
    return make_manager(**{**both, **settings})


@pytest.mark.parametrize("how", ["stop", "freeze"])
def test_with_redis_gone_each_goes_on_from_what_it_saw(
    make_manager: MakeManager,
    server: ScriptedServer,
    own_redis: RedisServer,
    caplog: pytest.LogCaptureFixture,
    how: str,
) -> None:
    url = server.script("/", Reply(), DOWN, DOWN, Reply())
    manager = shared(make_manager, own_redis)
    for _ in range(2):
        manager.get(url)
    getattr(own_redis, how)()
    assert manager.get(url).status_code == 503
    with pytest.raises(CircuitBreakerOpen):  # the failure seen in Redis, and that here
        manager.get(url)
    assert manager.circuit_breaker.current_state == "open"
    warnings = [each for each in caplog.records if "out of reach" in each.getMessage()]
    assert [each.levelname for each in warnings] == ["WARNING"]


def test_back_again_it_is_shared_again(
    make_manager: MakeManager, server: ScriptedServer, own_redis: RedisServer
) -> None:
    manager, other = shared(make_manager, own_redis), shared(make_manager, own_redis)
    url = server.script("/", Reply(), DOWN, DOWN, Reply())
    manager.get(url)
    own_redis.stop()
    for _ in range(2):
        manager.get(url)
    assert manager.circuit_breaker.current_state == "open"
    own_redis.start()
    wait_until(lambda: manager.circuit_breaker.current_state == "closed")  # as Redis says now
    other.get(url)
    other.circuit_breakers[server.origin].force_open()
    with pytest.raises(CircuitBreakerOpen):
        manager.get(url)


def test_a_redis_that_can_only_be_read_is_gone_until_it_can_be_written_to(
    redis_server: RedisServer, clock: FakeClock
) -> None:
    bench = Bench(redis_server, clock)
    absence = Absence("it", clock)
    breaker = bench.breaker(absence=absence)
    with redis_server.client() as client:
        client.replicaof("127.0.0.1", "1")
        try:
            fail(breaker)
            assert absence.gone
            clock.now += 2
            fail(breaker)
            assert absence.gone
        finally:
            client.replicaof("NO", "ONE")
    assert 0 < refused(breaker) <= 10
    clock.now += 5
    assert not breaker.admit().is_trial
    assert not absence.gone
    bench.close()


def test_it_raises_before_anything_is_sent_if_it_is_to(
    make_manager: MakeManager, server: ScriptedServer, own_redis: RedisServer
) -> None:
    manager = shared(make_manager, own_redis, state_fallback="raise")
    url = server.script("/slow", Reply(delay=0.5))
    answers = []

    def call(n: int) -> None:
        if n == 0:
            answers.append(manager.get(url).status_code)
        else:
            wait_until(lambda: server.count() == 1)
            own_redis.stop()

    in_threads(2, call)
    assert answers == [200]  # what was sent is not lost
    with pytest.raises(StateUnavailable) as caught:
        manager.get(url)
    assert caught.value.endpoint == server.origin
    assert server.count() == 1


@pytest.mark.parametrize("state", ["memory", "sqlite"])
def test_other_states_keep_breakers_to_themselves(
    make_manager: MakeManager, server: ScriptedServer, tmp_path: Path, state: str
) -> None:
    where = state if state == "memory" else f"sqlite://{tmp_path}/limits.db"
    one, other = (
        make_manager(state=where, circuit_breaker_failure_threshold=1, max_retries=0)
        for _ in range(2)
    )
    url = server.script("/", DOWN, Reply())
    one.get(url)
    assert other.get(url).status_code == 200
    assert one.circuit_breaker.current_state == "open"


def test_an_alone_trial_is_not_blocked_by_what_redis_may_have_heard(
    server: ScriptedServer, make_manager: MakeManager, own_redis: RedisServer
) -> None:
    """The question for the trial arrives, and its answer does not: it is asked for again."""
    manager = shared(
        make_manager,
        own_redis,
        circuit_breaker_failure_threshold=1,
        circuit_breaker_recovery_timeout=0.2,
        state_fallback="raise",
    )
    url = server.script("/", DOWN, Reply())
    manager.get(url)
    time.sleep(0.25)
    own_redis.freeze()
    with pytest.raises(StateUnavailable):
        manager.get(url)
    own_redis.thaw()
    with own_redis.client() as client:
        (key,) = client.keys("*circuit*")
        wait_until(lambda: client.hget(key, "state") == b"half-open")
    assert manager.get(url).status_code == 200
    assert manager.circuit_breaker.current_state == "closed"


def test_what_is_logged_holds_no_credential(
    make_manager: MakeManager, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    manager = make_manager(state="redis://user:s3cret@127.0.0.1:1/0", **SHARED)
    assert manager.get(server.url).status_code == 200
    assert "s3cret" not in caplog.text
    assert "s3cret" not in repr(manager.circuit_breakers)
