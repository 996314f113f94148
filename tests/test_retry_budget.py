"""retry_budget: how much more than its calls an origin is sent, whatever happens to it."""

from __future__ import annotations

import os
import threading
import time

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from requests_connection_manager import MaxRetriesExceeded
from requests_connection_manager.policies.retry_budget import WINDOW, RetryBudget
from requests_connection_manager.policies.rolling import Rolling
from tests.conftest import FakeClock, MakeManager, in_threads
from tests.server import Reply, ScriptedServer
from tests.test_fork import in_child

DOWN = Reply(status=503)


def granted(budget: RetryBudget, tries: int = 1000) -> int:
    return sum(budget.may_retry() for _ in range(tries))


class TestRolling:
    def test_counts_of_a_kind_are_forgotten_when_they_are_old(self, clock: FakeClock) -> None:
        counts = Rolling(10, 2, clock)
        counts.add(0)
        clock.now += 5
        counts.add(1, 3)
        counts.add(0)
        assert counts.totals() == (2, 3)
        clock.now += 5
        assert counts.totals() == (1, 3)
        clock.now += 5
        assert counts.totals() == (0, 0)
        assert not counts._steps

    @given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 1)), max_size=60))
    def test_it_holds_the_last_seconds_and_nothing_older(
        self, events: list[tuple[float, int]]
    ) -> None:
        clock = FakeClock()
        counts, seen = Rolling(10, 2, clock), []
        for pause, kind in events:
            clock.now += pause
            counts.add(kind)
            seen.append((clock.now, kind))
            for each, total in enumerate(counts.totals()):
                ages = [clock.now - at for at, of in seen if of == each]
                assert sum(age < 9.5 for age in ages) <= total <= sum(age <= 10 for age in ages)
            assert len(counts._steps) <= 20


class TestBudget:
    def test_a_ratio_of_the_calls_in_the_window(self, clock: FakeClock) -> None:
        budget = RetryBudget("origin", 0.2, 0, clock)
        assert granted(budget) == 0
        for _ in range(49):
            budget.call()
        assert granted(budget) == 9
        budget.call()
        assert granted(budget) == 1

    def test_a_floor_that_nobody_has_to_earn(self, clock: FakeClock) -> None:
        budget = RetryBudget("origin", 0, 1, clock)
        assert granted(budget) == WINDOW
        clock.now += WINDOW
        assert granted(budget) == WINDOW
        clock.now += 3600  # saves nothing up
        assert granted(budget) == WINDOW

    def test_what_calls_have_earned_is_gone_with_them(self, clock: FakeClock) -> None:
        budget = RetryBudget("origin", 0.2, 0, clock)
        for _ in range(100):
            budget.call()
        clock.now += WINDOW
        assert granted(budget) == 2  # of 20
        clock.now += 3600
        assert granted(budget) == 0
        assert budget.idle

    @pytest.mark.parametrize(
        ("ratio", "floor", "pause", "expected"),
        [(0, 0.09, 1, 324), (0.3, 0, 5, 216), (0.1, 0, 1, 360), (0, 0.01, 1, 36), (0.01, 0, 20, 1)],
    )
    def test_a_small_one_is_saved_up_until_it_is_a_whole_retry(
        self, clock: FakeClock, ratio: float, floor: float, pause: int, expected: int
    ) -> None:
        """Over an hour, though in ten seconds there is never one."""
        budget, retries = RetryBudget("origin", ratio, floor, clock), 0
        for _ in range(0, 3600, pause):
            clock.now += pause
            budget.call()
            retries += budget.may_retry()
        assert retries == pytest.approx(expected, abs=1)

    @given(st.integers(1, 100), st.integers(1, 300))
    def test_ratios_are_exact(self, percent: int, calls: int) -> None:
        budget = RetryBudget("origin", percent / 100, 0, FakeClock())
        for _ in range(calls):
            budget.call()
        assert granted(budget) == percent * calls // 100

    def test_a_forgotten_one_comes_back_no_richer(self, clock: FakeClock) -> None:
        budget = RetryBudget("origin", 0.2, 1, clock)
        assert budget.idle
        assert budget.may_retry()
        assert not budget.idle
        clock.now += 1
        assert budget.idle
        budget.call()
        assert not budget.idle

    def test_ratio_and_floor_of_0_allow_none(self, clock: FakeClock) -> None:
        budget = RetryBudget("origin", 0, 0, clock)
        budget.call()
        assert granted(budget) == 0

    @given(
        st.lists(st.tuples(st.floats(0, 4), st.integers(0, 30), st.integers(0, 30)), max_size=40),
        st.sampled_from([0, 0.1, 0.2, 1]),
        st.sampled_from([0, 0.5, 1, 10]),
    )
    def test_over_any_time_no_more_than_the_ratio_and_the_floor(
        self, load: list[tuple[float, int, int]], ratio: float, floor: float
    ) -> None:
        clock = FakeClock()
        budget, calls, retries = RetryBudget("origin", ratio, floor, clock), 0, 0
        began = clock.now
        for pause, more_calls, tries in load:
            clock.now += pause
            for _ in range(more_calls):
                budget.call()
            calls += more_calls
            retries += granted(budget, tries)
            seconds = clock.now - began + WINDOW
            assert retries <= ratio * calls + floor * seconds + 1e-5

    def test_threads_share_it_exactly(self, clock: FakeClock) -> None:
        budget = RetryBudget("origin", 0.5, 0, clock)
        got: list[int] = []

        def work(n: int) -> None:
            mine = 0
            for _ in range(500):
                budget.call()
                mine += budget.may_retry()
            got.append(mine)

        in_threads(8, work)
        assert sum(got) + granted(budget, 4000) == 2000

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_its_lock_opens_in_a_child(self, clock: FakeClock) -> None:
        budget = RetryBudget("origin", 1, 0, clock)

        def use() -> None:
            budget.call()
            assert budget.may_retry()
            assert not budget.idle

        with budget._lock:
            in_child(use)
        assert budget.idle


def test_when_it_is_spent_the_retries_end(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/down", DOWN)
    manager = make_manager(
        retry_budget=(0.5, 0), rate_limit_requests=None, circuit_breaker_failure_threshold=None
    )
    counts: list[int] = []
    for _ in range(6):
        with pytest.raises(MaxRetriesExceeded) as caught:
            manager.get(url)
        counts.append(len(caught.value.attempts))
    assert counts == [1, 2, 1, 2, 1, 2]
    assert server.count() == 9
    with pytest.raises(requests.exceptions.RetryError, match="retry budget of http") as refused:
        manager.get(url)
    assert "0.5 for each call and 0 a second" in str(refused.value)
    assert refused.value.response is not None
    assert refused.value.response.status_code == 503


def test_what_plain_requests_would_have_raised(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    server.pause()
    manager = make_manager(retry_budget=(0, 0), circuit_breaker_failure_threshold=None)
    with pytest.raises(requests.ConnectionError, match="1 attempt: the retry budget of") as caught:
        manager.get(server.url)
    assert isinstance(caught.value, MaxRetriesExceeded)
    server.resume()


@pytest.mark.parametrize(("respected", "hint"), [(True, 7), (False, None)])
def test_the_hint_of_the_server_is_handed_on(
    make_manager: MakeManager, server: ScriptedServer, respected: bool, hint: float | None
) -> None:
    url = server.script("/busy", Reply.retry_after(7))
    manager = make_manager(retry_budget=(0, 0), respect_retry_after=respected)
    with pytest.raises(MaxRetriesExceeded, match="budget") as caught:
        manager.get(url)
    assert caught.value.retry_after == hint


def test_with_raise_on_status_off_the_answer_stands(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/down", DOWN)
    manager = make_manager(retry_budget=(0, 0), raise_on_status=False)
    assert manager.get(url).status_code == 503
    assert server.count() == 1


def test_a_retry_that_could_not_be_made_spends_nothing(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/down", DOWN)
    manager = make_manager(retry_budget=(1, 0), circuit_breaker_failure_threshold=None)
    with pytest.raises(MaxRetriesExceeded, match="only once"):
        manager.put(url, data=iter([b"once"]))
    budget = manager._endpoints.table.resolve(url).retry_budget
    assert budget is not None
    assert granted(budget) == 1


def test_one_for_each_origin_and_none_without_the_setting(
    make_manager: MakeManager, server: ScriptedServer, other_server: ScriptedServer
) -> None:
    manager = make_manager(
        retry_budget=True,
        endpoint_configs={
            f"127.0.0.1:{server.port}/a": {"timeout": 3},
            f"127.0.0.1:{server.port}/off": {"retry_budget": None},
        },
    )

    def budget_of(url: str) -> RetryBudget | None:
        return manager._endpoints.table.resolve(url).retry_budget

    budget = budget_of(server.url)
    assert budget is not None
    assert (budget.ratio, budget.floor, budget.scope) == (0.2, 1, server.origin)
    assert budget_of(server.url + "/a") is budget
    assert budget_of(other_server.url) is not budget
    assert budget_of(server.url + "/off") is None
    assert "retry budget" in manager.explain(server.url).order
    assert "retry budget" not in manager.explain(server.url + "/off").order
    manager.add_endpoint_config("api.example.com", {"timeout": 3})
    assert budget_of(server.url) is budget
    assert make_manager()._endpoints.table.resolve(server.url).retry_budget is None


@pytest.mark.parametrize("floor", [0, 1])
def test_in_an_outage_the_wire_sees_little_more_than_the_calls(
    make_manager: MakeManager, server: ScriptedServer, floor: float
) -> None:
    """Without a budget: four times the calls."""
    url = server.script("/down", DOWN)
    manager = make_manager(
        retry_budget=(0.2, floor),
        rate_limit_requests=None,
        circuit_breaker_failure_threshold=None,
        pool_maxsize=16,
    )
    began, calls, lock = time.monotonic(), [0], threading.Lock()

    def work(n: int) -> None:
        for _ in range(25):
            with pytest.raises(MaxRetriesExceeded):
                manager.get(url)
            with lock:
                calls[0] += 1

    in_threads(16, work)
    seconds = time.monotonic() - began
    assert calls[0] == 400
    allowed = 400 * 1.2 + floor * (WINDOW + seconds)
    assert 400 < server.count() <= allowed
    counts = manager.stats().scopes[server.origin].counts
    assert (counts.attempts, counts.retries) == (server.count(), server.count() - 400)


def test_a_healthy_service_has_its_flaws_retried_as_before(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(retry_budget=True, rate_limit_requests=None)
    for n in range(60):
        url = server.script(f"/{n}", *([DOWN] if n % 8 == 0 else []), Reply())
        assert manager.get(url).status_code == 200
    assert server.count() == 68
