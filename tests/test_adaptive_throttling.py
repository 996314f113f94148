"""adaptive_throttling: what an overloaded service would refuse is refused here, by chance."""

from __future__ import annotations

import os
import random
import threading
from unittest.mock import patch

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from requests_connection_manager import ConnectionManager, DeadlineExceeded, RateLimitExceeded
from requests_connection_manager.policies.adaptive_throttling import (
    WINDOW,
    AdaptiveThrottle,
    rejection_probability,
)
from tests.conftest import FakeClock, MakeManager, in_threads
from tests.server import Reply, ScriptedServer
from tests.test_fork import in_child

NEVER, ALWAYS = 1.0, 0.0


class Dice:
    """What chance says, as the test wants it."""

    def __init__(self, value: float = NEVER) -> None:
        self.value = value

    def __call__(self) -> float:
        return self.value


def throttle_of(manager: ConnectionManager, url: str) -> AdaptiveThrottle:
    throttle = manager._endpoints.table.resolve(url).throttle
    assert throttle is not None
    return throttle


def counts_of(manager: ConnectionManager, url: str) -> tuple[int, ...]:
    """Requests and accepts."""
    return throttle_of(manager, url)._counts.totals()


class TestFormula:
    @pytest.mark.parametrize(
        ("requests", "accepts", "k", "expected"),
        [
            (0, 0, 2, 0),
            (100, 100, 2, 0),
            (100, 50, 2, 0),
            (100, 25, 2, 50 / 108),
            (92, 0, 2, 0.92),
            (100, 50, 1.1, 45 / 108),
            (1, 0, 2, 1 / 9),
        ],
    )
    def test_that_of_the_book_with_the_padding_of_grpc(
        self, requests: int, accepts: int, k: float, expected: float
    ) -> None:
        assert rejection_probability(requests, accepts, k) == pytest.approx(expected)

    @given(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(1, 10))
    def test_always_a_probability_and_never_certainty(
        self, requests: int, accepts: int, k: float
    ) -> None:
        probability = rejection_probability(requests, min(accepts, requests), k)
        assert 0 <= probability < 1
        assert rejection_probability(requests + 1, min(accepts, requests), k) >= probability


class TestThrottle:
    def test_a_crowd_that_sets_out_together_is_let_go(self, clock: FakeClock) -> None:
        throttle = AdaptiveThrottle("origin", 2, clock, Dice(ALWAYS))
        for _ in range(100):
            throttle.ask()
        for _ in range(100):
            throttle.learn(True)
        throttle.ask()

    def test_a_rejection_counts_as_a_request(self, clock: FakeClock) -> None:
        dice = Dice(ALWAYS)
        throttle = AdaptiveThrottle("origin", 2, clock, dice)
        throttle.learn(False)
        before = throttle.probability
        with pytest.raises(RateLimitExceeded, match="adaptive throttling of origin") as caught:
            throttle.ask("api.example.com")
        assert throttle.probability > before
        assert caught.value.endpoint == "api.example.com"
        assert caught.value.retry_after == pytest.approx(9 / 8)
        assert "probability of 0.11, for 0 of the last 1 calls" in str(caught.value)

    def test_what_says_nothing_is_not_counted(self, clock: FakeClock) -> None:
        throttle = AdaptiveThrottle("origin", 2, clock)
        throttle.learn(None)
        assert throttle.idle

    def test_the_hint_is_bounded(self, clock: FakeClock) -> None:
        throttle = AdaptiveThrottle("origin", 2, clock, Dice(ALWAYS))
        for _ in range(1000):
            throttle.learn(False)
        with pytest.raises(RateLimitExceeded) as caught:
            throttle.ask()
        assert caught.value.retry_after == WINDOW

    def test_two_minutes_later_all_is_forgotten(self, clock: FakeClock) -> None:
        throttle = AdaptiveThrottle("origin", 2, clock, Dice(ALWAYS))
        for _ in range(1000):
            throttle.learn(False)
        assert not throttle.idle
        clock.now += WINDOW
        throttle.ask()
        assert throttle.idle

    def test_threads_share_it_exactly(self, clock: FakeClock) -> None:
        throttle = AdaptiveThrottle("origin", 2, clock, Dice(NEVER))

        def work(n: int) -> None:
            for turn in range(500):
                throttle.ask()
                throttle.learn(turn % 2 == 0)

        in_threads(8, work)
        assert throttle._counts.totals() == (4000, 2000)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_its_lock_opens_in_a_child(self, clock: FakeClock) -> None:
        throttle = AdaptiveThrottle("origin", 2, clock, Dice(NEVER))

        def use() -> None:
            throttle.ask()
            throttle.learn(True)
            assert not throttle.idle

        with throttle._lock:
            in_child(use)
        assert throttle.idle


class Backend:
    """Takes on so many requests a second, and refuses the others."""

    def __init__(self, throttle: AdaptiveThrottle, clock: FakeClock, rate: int) -> None:
        self.throttle, self.clock, self.rate = throttle, clock, rate

    def run(self, seconds: int, capacity: int) -> tuple[int, int]:
        """Return how many requests reached it, and how many it took on."""
        reached = accepted = 0
        for _ in range(seconds):
            left = capacity
            for _ in range(self.rate):
                self.clock.now += 1 / self.rate
                try:
                    self.throttle.ask()
                except RateLimitExceeded:
                    continue
                reached += 1
                accepted += left > 0
                self.throttle.learn(left > 0)
                left = max(0, left - 1)
        return reached, accepted


class TestSimulatedService:
    @given(
        seed=st.integers(0, 2**32),
        capacity=st.integers(0, 8),
        rate=st.integers(10, 25),
        k=st.sampled_from([1.5, 2.0, 3.0]),
    )
    @settings(max_examples=5, deadline=None)
    def test_it_is_sent_about_k_times_what_it_takes_on_and_recovers(
        self, seed: int, capacity: int, rate: int, k: float
    ) -> None:
        clock = FakeClock()
        throttle = AdaptiveThrottle("origin", k, clock, random.Random(seed).random)
        backend = Backend(throttle, clock, rate)
        assert backend.run(130, rate) == (130 * rate, 130 * rate)  # in health, none is rejected
        backend.run(240, capacity)  # the good times are forgotten
        reached, accepted = backend.run(120, capacity)
        fair = min(rate * 120, k * accepted)
        assert reached <= 1.15 * fair + 30
        assert accepted >= 0.5 * min(capacity * 120, reached)
        backend.run(2400, rate)  # by itself, but from nothing at all it takes a while
        assert backend.run(120, rate) == (120 * rate, 120 * rate)


def rejected_after_one_failure(seed: int, rate: float) -> int:
    """Return how many calls a healthy service is not sent after a failure, until it is forgotten.

    Once half of the calls were accepted, all are let go: what comes after needs no look.
    """
    clock = FakeClock()
    throttle, rejected = AdaptiveThrottle("origin", 2, clock, random.Random(seed).random), 0
    throttle.learn(False)
    while throttle.probability:
        clock.now += 1 / rate
        try:
            throttle.ask()
        except RateLimitExceeded:
            rejected += 1
        else:
            throttle.learn(True)
    return rejected


@pytest.mark.parametrize("rate", [0.1, 2, 20])
def test_one_failure_costs_a_healthy_service_next_to_nothing(rate: float) -> None:
    rejected = sorted(rejected_after_one_failure(seed, rate) for seed in range(200))
    assert rejected[100] == 0
    assert rejected[190] <= 2
    assert rejected[-1] <= 10


class TestCalls:
    """What a managed call tells the throttle."""

    @pytest.fixture
    def manager(self, make_manager: MakeManager) -> ConnectionManager:
        return make_manager(
            adaptive_throttling=True,
            rate_limit_requests=None,
            circuit_breaker_failure_threshold=None,
            max_retries=0,
        )

    @pytest.fixture(autouse=True)
    def dice(self, manager: ConnectionManager, server: ScriptedServer) -> Dice:
        throttle = throttle_of(manager, server.url)
        throttle._chance = Dice(NEVER)
        return throttle._chance

    @pytest.mark.parametrize(
        ("status", "accepted"),
        [(200, 1), (404, 1), (501, 1), (505, 1), (429, 0), (500, 0), (503, 0)],
    )
    @pytest.mark.parametrize("stream", [False, True])
    def test_answers(
        self,
        manager: ConnectionManager,
        server: ScriptedServer,
        status: int,
        accepted: int,
        stream: bool,
    ) -> None:
        url = server.script("/status", Reply(status=status))
        assert manager.get(url, stream=stream).status_code == status
        assert counts_of(manager, url) == (1, accepted)

    def test_errors_of_the_wire_are_not_accepted(
        self, manager: ConnectionManager, server: ScriptedServer
    ) -> None:
        for path, reply in {
            "/reset": Reply(reset="before"),
            "/cut": Reply(body=b"x" * 99, cut_at=9),
            "/slow": Reply(delay=20),
        }.items():
            url = server.script(path, reply)
            with pytest.raises(requests.RequestException):
                manager.get(url, timeout=0.2)
        assert counts_of(manager, server.url) == (3, 0)
        server.pause()
        with pytest.raises(requests.ConnectionError):
            manager.get(server.url)
        assert counts_of(manager, server.url) == (4, 0)

    def test_a_hop_counts_once_with_its_last_attempt(
        self, make_manager: MakeManager, server: ScriptedServer
    ) -> None:
        manager = make_manager(adaptive_throttling=3)
        assert throttle_of(manager, server.url).k == 3
        server.script("/flaky", Reply(status=503), Reply(status=429), Reply.redirect("/there"))
        assert manager.get(server.url + "/flaky").status_code == 200
        assert server.count() == 4
        assert counts_of(manager, server.url) == (2, 2)

    def test_rejections_of_others_and_mistakes_of_the_caller_say_nothing(
        self, make_manager: MakeManager, server: ScriptedServer
    ) -> None:
        manager = make_manager(
            adaptive_throttling=True, rate_limit_requests=1, rate_limit_max_wait=0
        )
        with pytest.raises(requests.exceptions.InvalidHeader):
            manager.get(server.url, headers={"X": "a\nb"})
        manager.get(server.url)
        with pytest.raises(RateLimitExceeded, match="rate limit"):
            manager.get(server.url)
        assert counts_of(manager, server.url) == (1, 1)

    def test_a_refusal_is_ours(self, make_manager: MakeManager, server: ScriptedServer) -> None:
        """Nothing is sent, no permit taken, and the breaker learns nothing."""
        manager = make_manager(
            adaptive_throttling=True,
            rate_limit_requests=2,
            rate_limit_max_wait=0,
            circuit_breaker_failure_threshold=2,
            max_retries=0,
        )
        throttle = throttle_of(manager, server.url)
        throttle._chance = dice = Dice(ALWAYS)
        assert manager.get(server.script("/down", Reply(status=503), Reply())).status_code == 503
        for session in (manager, manager.session):
            for _ in range(3):
                with pytest.raises(RateLimitExceeded, match="adaptive throttling") as caught:
                    session.get(server.url)
                assert caught.value.request is not None
        assert server.count() == 1
        assert manager.circuit_breaker.fail_counter == 1
        assert counts_of(manager, server.url) == (7, 0)
        dice.value = NEVER
        assert manager.get(server.url).status_code == 200
        counts = manager.stats().scopes[server.origin].counts
        assert counts.failures == {"status_503": 1, "RateLimitExceeded": 6}
        assert (counts.let_go, counts.attempts) == (2, 2)

    def test_a_refused_redirect_is_the_callers_to_see(
        self, manager: ConnectionManager, server: ScriptedServer, dice: Dice
    ) -> None:
        server.script("/go", Reply.redirect("/there"))
        for _ in range(4):
            throttle_of(manager, server.url).learn(False)
        chances = iter([NEVER, ALWAYS])
        throttle_of(manager, server.url)._chance = lambda: next(chances)
        with pytest.raises(RateLimitExceeded, match="adaptive"):
            manager.get(server.url + "/go")
        assert server.count() == 1
        assert counts_of(manager, server.url) == (6, 1)

    def test_a_trial_is_never_throttled(
        self, make_manager: MakeManager, server: ScriptedServer
    ) -> None:
        manager = make_manager(
            adaptive_throttling=True,
            circuit_breaker_failure_threshold=1,
            circuit_breaker_recovery_timeout=0,
            max_retries=0,
        )
        throttle_of(manager, server.url)._chance = Dice(ALWAYS)
        server.script("/", Reply(status=503), Reply())
        assert manager.get(server.url).status_code == 503
        assert manager.get(server.url).status_code == 200  # the trial, at a probability of 1/2
        assert manager.circuit_breaker.current_state == "closed"

    def test_a_mocked_session_is_counted_too(
        self, manager: ConnectionManager, server: ScriptedServer
    ) -> None:
        for status in (200, 429, 503):
            answer = requests.Response()
            answer.status_code, answer.url = status, server.url
            with patch("requests.Session.request", return_value=answer):
                manager.get(server.url)
        with (
            patch("requests.Session.request", side_effect=requests.ConnectionError),
            pytest.raises(requests.ConnectionError),
        ):
            manager.get(server.url)
        assert counts_of(manager, server.url) == (4, 1)

    def test_a_deadline_spent_waiting_says_nothing(
        self, make_manager: MakeManager, server: ScriptedServer
    ) -> None:
        manager = make_manager(
            adaptive_throttling=True, total_timeout=0.3, retry_statuses=[429], raise_on_status=False
        )
        url = server.script("/busy", Reply.retry_after(5, status=429))
        with pytest.raises(DeadlineExceeded):
            manager.get(url)
        assert counts_of(manager, url) == (1, 0)  # but the 429 before it does


def test_off_by_default_and_one_for_each_origin(
    make_manager: MakeManager, server: ScriptedServer, other_server: ScriptedServer
) -> None:
    manager = make_manager()
    assert manager._endpoints.table.resolve(server.url).throttle is None
    assert "adaptive throttling" not in manager.explain(server.url).order
    manager = make_manager(
        adaptive_throttling=True,
        endpoint_configs={f"127.0.0.1:{server.port}/a": {"timeout": 3}},
    )
    throttle = throttle_of(manager, server.url)
    assert (throttle.k, throttle.scope) == (2, server.origin)
    assert throttle_of(manager, server.url + "/a") is throttle
    assert throttle_of(manager, other_server.url) is not throttle
    order = manager.explain(server.url).order
    assert order.index("circuit breaker") < order.index("adaptive throttling")


def test_a_crowd_finds_a_service_down_and_up_again(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    """On the wire: far fewer requests than calls while it is down, and none lost when it is up."""
    url = server.script("/", Reply(status=503))
    manager = make_manager(
        adaptive_throttling=True,
        rate_limit_requests=None,
        circuit_breaker_failure_threshold=None,
        max_retries=0,
        pool_maxsize=8,
    )
    throttle, clock = throttle_of(manager, url), FakeClock()
    throttle._counts._clock = clock
    throttle._chance = random.Random(1).random
    rejected, lock = [0], threading.Lock()

    def work(n: int) -> None:
        for _ in range(100):
            try:
                manager.get(url)
            except RateLimitExceeded:
                with lock:
                    rejected[0] += 1

    in_threads(8, work)
    assert server.count() + rejected[0] == 800
    assert server.count() < 100
    server.script("/", Reply())
    clock.now += WINDOW
    server.forget()
    in_threads(8, work)
    assert server.count() == 800
