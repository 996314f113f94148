"""The five algorithms, which are pure: what they book, and that it is what their names promise."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from requests_connection_manager.limits.algorithms import (
    ALGORITHMS,
    BURSTS,
    STEPS,
    Limit,
    State,
    at_now,
    capacity,
    in_whole,
)
from tests.pure_store import PureLog

EVER = float("inf")
ROUNDING = 1e-6


class Line:
    """Books permits of one limit, one after the other."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.step = STEPS[limit.algorithm]
        self.state: State = ()
        self.log = PureLog()

    def earliest(self, now: float, n: int = 1) -> float:
        self.state = at_now(self.state, now, self.step.times)
        return self.step.earliest(self.state, now, n, self.limit, self.log)

    def book(self, now: float, n: int = 1, at: float | None = None) -> float:
        at = self.earliest(now, n) if at is None else at
        self.state = self.step.book(self.state, now, at, n, self.limit, self.log)
        return at


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("fixed_window", [0, 0, 0, 0, 10, 10, 10, 10, 20, 20]),
        ("sliding_window", [0, 0, 0, 0, 10, 10, 10, 10, 20, 20]),
        ("token_bucket", [0, 0, 2.5, 5, 7.5, 10, 12.5, 15, 17.5, 20]),
        ("leaky_bucket", [0, 2.5, 5, 7.5, 10, 12.5, 15, 17.5, 20, 22.5]),
        ("gcra", [0, 0, 2.5, 5, 7.5, 10, 12.5, 15, 17.5, 20]),
    ],
)
def test_a_crowd_is_given_these_times(algorithm: str, expected: list[float]) -> None:
    """Four in ten seconds, two at once where there is a burst; all come at the same moment."""
    line = Line(Limit(algorithm, 4, 10.0, 2))
    assert [line.book(0.0) for _ in expected] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        # at 9 three permits, at 12 three more: of 4 in 10 s, with a burst of 2
        ("fixed_window", [9, 9, 9, 12, 19, 19]),
        ("sliding_window", [9, 9, 9, 12, 19, 19]),
        ("token_bucket", [9, 9, 11.5, 14, 16.5, 19]),
        ("leaky_bucket", [9, 11.5, 14, 16.5, 19, 21.5]),
        ("gcra", [9, 9, 11.5, 14, 16.5, 19]),
    ],
)
def test_who_comes_later_is_given_these(algorithm: str, expected: list[float]) -> None:
    line = Line(Limit(algorithm, 4, 10.0, 2))
    assert [line.book(now) for now in (9, 9, 9, 12, 12, 12)] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("fixed_window", [0, 10, 10, 20]),
        ("sliding_window", [0, 10, 10, 20]),
        ("token_bucket", [0, 7.5, 10, 17.5]),
        ("leaky_bucket", [0, 7.5, 15, 17.5]),
        ("gcra", [0, 7.5, 10, 17.5]),
    ],
)
def test_one_may_weigh_several(algorithm: str, expected: list[float]) -> None:
    line = Line(Limit(algorithm, 4, 10.0, 3))
    assert [line.book(0.0, n) for n in (3, 3, 1, 3)] == pytest.approx(expected)


def test_the_edge_of_a_fixed_window_lets_twice_as_many_go_and_a_sliding_one_does_not() -> None:
    fixed, sliding = (Line(Limit(name, 4, 10.0, 4)) for name in ("fixed_window", "sliding_window"))
    for line in (fixed, sliding):
        line.book(0.0)
    assert [fixed.book(9.9) for _ in range(3)] == [9.9] * 3
    assert [fixed.book(10.0) for _ in range(4)] == [10.0] * 4
    assert [sliding.book(9.9) for _ in range(3)] == [9.9] * 3
    assert [sliding.book(10.0) for _ in range(4)] == [10.0, 19.9, 19.9, 19.9]


@pytest.mark.parametrize(
    ("said", "whole"),
    [((0.5, 1), (1, 2)), ((5, 1), (5, 1)), ((0.1, 60), (1, 600)), ((3.0, 2.5), (3, 2.5))],
)
def test_a_fraction_is_said_in_whole_permits(
    said: tuple[float, float], whole: tuple[int, float]
) -> None:
    assert in_whole(*said) == pytest.approx(whole)


limits = st.builds(
    Limit,
    st.sampled_from(ALGORITHMS),
    st.integers(1, 12),
    st.sampled_from([0.1, 1.0, 7.0, 60.0, 1 / 3, 3600.0]),
    st.integers(1, 12),
)
# (periods since the one before, weight)
arrivals = st.lists(
    st.tuples(st.sampled_from([0, 0, 0, 0.01, 0.1, 1 / 3, 0.5, 1, 2.7]), st.integers(1, 12)),
    min_size=1,
    max_size=60,
)


def booked(limit: Limit, comings: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    line, now, times = Line(limit), 1000.0, []
    for gap, weight in comings:
        now += gap * limit.period
        n = min(weight, limit.most)
        times.append((line.book(now, n), n))
        assert times[-1][0] >= now
    return times


@settings(deadline=None)
@given(limits, arrivals)
def test_who_comes_later_never_goes_earlier(limit: Limit, comings: list[tuple[float, int]]) -> None:
    times = [at for at, _ in booked(limit, comings)]
    assert times == sorted(times)


@settings(deadline=None, max_examples=200)
@given(limits, arrivals, st.sampled_from([0.3, 1.0, 1.5, 4.0]))
def test_no_span_of_time_sees_more_than_allowed(
    limit: Limit, comings: list[tuple[float, int]], periods: float
) -> None:
    """The definition, of permits of one each; the leaky bucket's last may be a heavy one."""
    comings = [(gap, 1) for gap, _ in comings]
    times = [at for at, _ in booked(limit, comings)]
    for i, first in enumerate(times):
        span = periods * limit.period
        within = bisect_left(times, first + span - ROUNDING) - i
        assert within <= capacity(limit, span)


def fits(limit: Limit, times: list[tuple[float, int]], at: float, n: int) -> bool:
    """Whether permits may go by the word of the definition, after those that went."""
    if limit.algorithm == "sliding_window":
        late = sum(m for t, m in times if t > at - limit.period + ROUNDING)
        return late + n <= limit.requests
    if limit.algorithm == "leaky_bucket":
        each = limit.period / limit.requests
        return not times or at >= times[-1][0] + times[-1][1] * each - ROUNDING
    if limit.algorithm == "fixed_window":
        start, count = -EVER, 0
        for t, m in times:
            if t >= start + limit.period:
                start, count = t, 0
            count += m
        return at >= start + limit.period or count + n <= limit.requests
    tokens, since = float(limit.burst), -EVER
    for t, m in [*times, (at, n)]:
        if since > -EVER:
            tokens = min(limit.burst, tokens + (t - since) * limit.requests / limit.period)
        tokens -= m
        since = t
        if tokens < -ROUNDING * limit.requests / limit.period:
            return False
    return True


@settings(deadline=None, max_examples=200)
@given(limits, arrivals)
def test_each_is_booked_for_the_first_moment_that_the_definition_allows(
    limit: Limit, comings: list[tuple[float, int]]
) -> None:
    """So nothing is wasted: not one could have gone any earlier without going before another."""
    line, now = Line(limit), 1000.0
    times: list[tuple[float, int]] = []
    for gap, weight in comings:
        now += gap * limit.period
        n = min(weight, limit.most)
        at = line.book(now, n)
        assert fits(limit, times, at, n)
        floor = max([now, *(t for t, _ in times[-1:])])
        earlier = at - max(10 * ROUNDING, limit.period / 1000)
        if earlier > floor:
            assert not fits(limit, times, earlier, n)
        times.append((at, n))


@settings(deadline=None)
@given(limits, st.floats(0.01, 10))
def test_nearly_all_that_is_allowed_is_used(limit: Limit, periods: float) -> None:
    line = Line(limit)
    line.book(1000.0)
    over, count = 1000.0 + periods * limit.period, 1
    while line.book(1000.0) < over - ROUNDING:
        count += 1
    assert count >= int(limit.requests * periods)


@settings(deadline=None)
@given(limits, limits, arrivals)
def test_of_several_limits_each_is_kept(
    one: Limit, other: Limit, comings: list[tuple[float, int]]
) -> None:
    """All are booked for the latest of their times."""
    lines, now = [Line(one), Line(other)], 1000.0
    times: list[tuple[float, int]] = []
    for gap, weight in comings:
        now += gap * one.period
        n = min(weight, one.most, other.most)
        at = max(line.earliest(now, n) for line in lines)
        for line in lines:
            line.book(now, n, at)
            assert fits(line.limit, times, at, n)
        assert not times or at >= times[-1][0]
        times.append((at, n))


@settings(deadline=None)
@given(limits, arrivals, st.floats(0, 1e9))
def test_a_clock_that_ran_ahead_and_is_set_back_changes_no_wait(
    limit: Limit, comings: list[tuple[float, int]], ahead: float
) -> None:
    right, wrong = Line(limit), Line(limit)
    now = 1000.0
    for i, (gap, weight) in enumerate(comings):
        # A bit more, so that none comes at the very edge of a window, where rounding decides.
        gap *= limit.period * 1.0001
        now += gap
        n = min(weight, limit.most)
        expected = right.book(now, n) - now
        shown = now + (ahead if i < len(comings) // 2 else 0)
        if i == len(comings) // 2:
            # what went between the last booking and the setting back is not known
            assert wrong.book(shown, n) - shown <= expected + gap + 1e-3
            break
        assert wrong.book(shown, n) - shown == pytest.approx(expected, abs=1e-3)


@given(limits, arrivals)
@settings(deadline=None)
def test_what_has_expired_is_as_good_as_nothing(
    limit: Limit, comings: list[tuple[float, int]]
) -> None:
    line, now = Line(limit), 1000.0
    for gap, weight in comings:
        now += gap * limit.period
        line.book(now, min(weight, limit.most))
    later = max(now, line.step.expires(line.state, limit)) + ROUNDING
    for n in range(1, limit.most + 1):
        assert line.earliest(later, n) <= later + 2 * ROUNDING


def test_many_small_steps_do_not_add_up_to_more() -> None:
    """A token bucket's rounding is made up for: on a clock of epoch seconds it is 0.2 µs a step."""
    line = Line(Limit("token_bucket", 10_000, 1.0, 1))
    last = 0.0
    for _ in range(20_000):
        last = line.book(1_763_732_737.0)
    assert last - 1_763_732_737.0 >= 2 * (1 - 1e-3)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_most_that_one_can_get(algorithm: str) -> None:
    limit = Limit(algorithm, 5, 10.0, 3)
    assert limit.most == (3 if algorithm in BURSTS else 5)
    assert Line(limit).book(0.0, limit.most) == 0.0
