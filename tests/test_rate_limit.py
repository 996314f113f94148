"""The queue around ratelimit's window: in order, one at a time, and never past a deadline."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from requests_connection_manager import RateLimitExceeded
from requests_connection_manager.policies import rate_limit
from requests_connection_manager.policies.permits import Permits
from requests_connection_manager.policies.rate_limit import RateLimiter, expected_wait
from tests.conftest import in_threads
from tests.server import wait_until


def limiter(clock, calls: int = 3, period: float = 10.0) -> RateLimiter:
    return RateLimiter("scope", calls, period, clock=clock, sleep=clock.sleep)


def test_permits_within_the_limit_are_had_at_once(clock) -> None:
    limit = limiter(clock)
    assert [limit.acquire().waited for _ in range(3)] == [0, 0, 0]
    assert clock.slept == []


def test_the_next_waits_for_the_window_and_sleeps_once(clock) -> None:
    limit = limiter(clock)
    for _ in range(3):
        limit.acquire()
    clock.now += 4
    assert limit.acquire().waited == pytest.approx(6)
    assert clock.slept == [pytest.approx(6)]


def test_it_gives_up_at_once_where_the_wait_would_be_too_long(clock) -> None:
    limit = limiter(clock)
    for _ in range(3):
        limit.acquire()
    with pytest.raises(RateLimitExceeded, match="rate limit of scope") as caught:
        limit.acquire(longest=9.5, endpoint="api.example.com")
    assert clock.slept == []
    assert caught.value.retry_after == pytest.approx(10)
    assert caught.value.endpoint == "api.example.com"
    limit.acquire(longest=10)


def test_no_wait_at_all(clock) -> None:
    limit = limiter(clock, calls=1)
    limit.acquire(longest=0)
    with pytest.raises(RateLimitExceeded):
        limit.acquire(longest=0)
    clock.now += 10
    limit.acquire(longest=0)


def test_a_long_wait_is_said_in_whole_seconds(clock) -> None:
    limit = RateLimiter("scope", 1, 2_592_000, clock=clock, sleep=clock.sleep)
    limit.acquire()
    with pytest.raises(RateLimitExceeded, match=r"1 per 2592000 s.* in 2592000 s, .* take 3600 s"):
        limit.acquire(longest=3600)


def test_the_first_window_starts_with_the_first_permit(clock) -> None:
    limit = limiter(clock)
    clock.now += 9
    for _ in range(3):
        limit.acquire()
    clock.now += 2  # the limiter is older than a period, its window is not
    with pytest.raises(RateLimitExceeded):
        limit.acquire(longest=0)


def test_refused_tries_cost_nothing(clock) -> None:
    limit = limiter(clock)
    limit.acquire()
    for _ in range(2):
        limit.acquire()
    for _ in range(50):
        with pytest.raises(RateLimitExceeded):
            limit.acquire(longest=0)
    clock.now += 10
    assert [limit.acquire(longest=0).waited for _ in range(3)] == [0, 0, 0]


def test_a_permit_that_was_not_used_can_be_given_back(clock) -> None:
    limit = limiter(clock, calls=1)
    permit = limit.acquire()
    with pytest.raises(RateLimitExceeded):
        limit.acquire(longest=0)
    limit.give_back(permit)
    limit.acquire(longest=0)
    with pytest.raises(RateLimitExceeded):
        limit.acquire(longest=0)


def test_one_of_an_earlier_window_cannot(clock) -> None:
    limit = limiter(clock, calls=1)
    permit = limit.acquire()
    clock.now += 10
    limit.acquire()
    limit.give_back(permit)
    with pytest.raises(RateLimitExceeded):
        limit.acquire(longest=0)


@pytest.mark.parametrize(
    ("place", "used", "remaining", "wait"),
    [
        (0, 0, 4.0, 0),
        (2, 0, 4.0, 0),
        (0, 3, 4.0, 4.0),
        (2, 3, 4.0, 4.0),
        (3, 3, 4.0, 14.0),
        (8, 3, 4.0, 24.0),
        (0, 2, 4.0, 0),
        (1, 2, 4.0, 4.0),
        (4, 2, 4.0, 14.0),
        (0, 57, 4.0, 4.0),  # ratelimit counts refused tries, too
        (0, 57, 0.0, 0),  # the window is over
        (3, 57, -9.0, 10.0),
    ],
)
def test_the_expected_wait(place: int, used: int, remaining: float, wait: float) -> None:
    wanted = [1] * (place + 1)
    assert expected_wait(wanted, used=used, calls=3, period=10.0, remaining=remaining) == wait


@pytest.mark.parametrize(
    ("wanted", "used", "wait"),
    [
        ([2], 0, 0),
        ([2], 2, 4.0),
        ([2, 2], 0, 4.0),  # what is left of a window is too little for the second
        ([2, 2, 2], 0, 14.0),
        ([2, 1, 3], 0, 4.0),
        ([3, 1, 3], 0, 14.0),
        ([1, 3, 1], 1, 14.0),
    ],
)
def test_the_expected_wait_of_who_weighs_more(wanted: list[int], used: int, wait: float) -> None:
    assert expected_wait(wanted, used=used, calls=3, period=10.0, remaining=4.0) == wait


def test_waiters_are_served_in_the_order_in_which_they_came() -> None:
    limit = RateLimiter("scope", 4, 0.2)
    served: list[int] = []
    for _ in range(4):
        limit.acquire()
    threads = []
    for n in range(20):
        thread = threading.Thread(target=lambda n=n: (limit.acquire(), served.append(n)))
        thread.start()
        threads.append(thread)
        wait_until(lambda n=n: len(limit._line) + len(served) > n)
    for thread in threads:
        thread.join(30)
    assert len(served) == 20
    # in windows of four; within one, the list may be written in another order
    assert [sorted(served[i : i + 4]) for i in range(0, 20, 4)] == [
        list(range(i, i + 4)) for i in range(0, 20, 4)
    ]


def test_thirty_threads_never_take_more_than_the_window_allows() -> None:
    limit = RateLimiter("scope", 10, 0.2)
    start = threading.Barrier(30)
    windows: list[float] = []

    def work(_: int) -> None:
        start.wait()
        for _ in range(3):
            windows.append(limit.acquire().taken)

    in_threads(30, work)
    assert len(windows) == 90
    assert max(windows.count(window) for window in set(windows)) <= 10
    begins = sorted(set(windows))
    assert all(later - earlier >= 0.2 for earlier, later in pairwise(begins))


def test_nobody_who_gives_up_holds_up_the_others() -> None:
    limit = RateLimiter("scope", 1, 0.3)
    limit.acquire()
    gave_up: list[float] = []
    served: list[float] = []

    def patient(_: int) -> None:
        limit.acquire()
        served.append(time.monotonic())

    first = threading.Thread(target=patient, args=(0,))
    first.start()
    wait_until(lambda: len(limit._line) == 1)
    with pytest.raises(RateLimitExceeded) as caught:
        limit.acquire(longest=0.35)  # second in line: two windows away
    gave_up.append(caught.value.retry_after)
    first.join(10)
    limit.acquire()
    assert len(served) == 1
    assert 0.3 < gave_up[0] <= 0.6
    assert not limit._line


def test_a_wait_that_turns_out_too_long_ends_at_its_limit() -> None:
    """The one ahead sleeps longer than was foreseen; the one behind does not wait for him."""
    overslept = threading.Event()
    limit = RateLimiter("scope", 1, 0.05, sleep=lambda _seconds: overslept.wait(20))
    limit.acquire()
    ahead = threading.Thread(target=limit.acquire)
    ahead.start()
    wait_until(lambda: len(limit._line) == 1)
    with pytest.raises(RateLimitExceeded):
        limit.acquire(longest=0.4)
    assert len(limit._line) == 1
    overslept.set()
    ahead.join(10)
    assert not limit._line


@contextmanager
def one_oversleeping() -> Iterator[tuple[RateLimiter, threading.Thread, threading.Event]]:
    """A limiter with room for five, whose only waiter sleeps on until it may wake."""
    may_wake = threading.Event()
    limit = RateLimiter("scope", 5, 0.05, sleep=lambda _seconds: may_wake.wait(20))
    for _ in range(5):
        limit.acquire()
    ahead = threading.Thread(target=limit.acquire)
    ahead.start()
    wait_until(lambda: len(limit._line) == 1)
    wait_until(lambda: limit._remaining() <= 0)
    yield limit, ahead, may_wake
    may_wake.set()
    ahead.join(10)


@pytest.mark.parametrize("longest", [0, -1])
def test_who_may_not_wait_is_not_refused_what_is_there(longest: float) -> None:
    """Others stand before it, who are just waking up; there is enough for all."""
    with one_oversleeping() as (limit, _, may_wake):
        threading.Timer(0.001, may_wake.set).start()
        permit = Permits(limit, None).take(longest, "")
        assert permit is not None
        assert permit.permits == 1


def test_who_may_not_wait_does_not_wait_for_one_who_oversleeps() -> None:
    with one_oversleeping() as (limit, ahead, _):
        with pytest.raises(RateLimitExceeded):
            limit.acquire(longest=0)
        assert ahead.is_alive()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_waiter_leaves_the_line_in_order(kind, clock) -> None:
    def interrupted(_seconds: float) -> None:
        raise kind

    limit = RateLimiter("scope", 1, 10, clock=clock, sleep=interrupted)
    limit.acquire()
    with pytest.raises(kind):
        limit.acquire()
    assert not limit._line
    clock.now += 10
    assert limit.acquire(longest=0).waited == 0


def test_idle_after_its_window(clock) -> None:
    limit = limiter(clock)
    limit.acquire()
    assert not limit.idle
    clock.now += 10
    assert limit.idle


def test_infinity_is_any_wait(clock) -> None:
    limit = limiter(clock, calls=1, period=3600)
    limit.acquire()
    assert limit.acquire(longest=math.inf).waited == 3600


def test_a_waiter_that_was_torn_away_does_not_block_the_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An interrupt at the very moment at which it would have left."""
    monkeypatch.setattr(rate_limit, "_SLACK", 0.05)
    limit = RateLimiter("scope", 2, 0.2)
    limit.acquire()
    limit.acquire()

    def torn_away(_place: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(limit._line, "leave", torn_away)
        with pytest.raises(KeyboardInterrupt):
            limit.acquire()
    assert len(limit._line) == 1
    assert limit.acquire(longest=0.21).waited > 0  # the dead one takes no place
    served: list[float] = []
    in_threads(3, lambda _: served.append(limit.acquire().waited))
    assert len(served) == 3
    assert not limit._line


def test_a_permit_that_is_given_back_goes_to_who_waits() -> None:
    limit = RateLimiter("scope", 1, 3600)
    permit = limit.acquire()
    waiting = threading.Thread(target=limit.acquire, daemon=True)
    waiting.start()
    wait_until(lambda: len(limit._line) == 1)
    limit.give_back(permit)
    waiting.join(30)
    assert not waiting.is_alive()
