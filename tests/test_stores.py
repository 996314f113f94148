"""Five algorithms on three stores: the same claims of all fifteen."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from requests_connection_manager.exceptions import StateUnavailable
from requests_connection_manager.limits.algorithms import ALGORITHMS, Limit
from requests_connection_manager.limits.memory import MemoryStore
from requests_connection_manager.limits.redis import RedisStore
from requests_connection_manager.limits.sqlite import SQLiteStore
from requests_connection_manager.limits.store import Booked, Paused, Refused, Store, Wanted
from tests.conftest import FakeClock, in_threads

EVER = math.inf
HOUR = 3600.0  # periods so long that nothing expires on the clock of Redis, which is another


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(request: pytest.FixtureRequest, clock: FakeClock, tmp_path: Path) -> Iterator[Store]:
    made: Any
    if request.param == "memory":
        made = MemoryStore(clock)
    elif request.param == "sqlite":
        made = SQLiteStore(str(tmp_path / "limits.db"), timeout=10, clock=clock)
    else:
        server = request.getfixturevalue("redis_server")
        made = RedisStore(server.url, timeout=10, clock=clock)
    yield made
    made.close()


@pytest.fixture(params=ALGORITHMS)
def limit(request: pytest.FixtureRequest) -> Limit:
    """Four an hour, four at once where there is a burst."""
    return Limit(request.param, 4, HOUR, 4)


def wanted(*limits: Limit, n: int = 1, longest: float = EVER, scope: str = "api") -> Wanted:
    return Wanted(scope, limits, n, longest, "server")


def waits(store: Store, asked: Wanted, count: int) -> list[float]:
    return [store.book(asked)[0] for _ in range(count)]


def in_a_row(limit: Limit) -> list[float]:
    """The waits of eight who come at once."""
    if limit.algorithm == "leaky_bucket":
        return [n * HOUR / 4 for n in range(8)]
    if limit.algorithm in ("token_bucket", "gcra"):
        return [0, 0, 0, 0, *(n * HOUR / 4 for n in range(1, 5))]
    return [0, 0, 0, 0, HOUR, HOUR, HOUR, HOUR]


def test_waiters_are_given_later_and_later_times(store: Store, limit: Limit) -> None:
    assert waits(store, wanted(limit), 8) == pytest.approx(in_a_row(limit))


def test_who_may_not_wait_so_long_is_refused_and_burns_nothing(
    store: Store, limit: Limit, clock: FakeClock
) -> None:
    at_once = [wait for wait in in_a_row(limit) if not wait]
    assert waits(store, wanted(limit, longest=0), len(at_once)) == at_once
    for _ in range(20):
        refused = store.book(wanted(limit, longest=0))
        assert isinstance(refused, Refused)
        assert refused.wait == pytest.approx(in_a_row(limit)[len(at_once)])
    clock.now += refused.wait + 1e-6
    assert store.book(wanted(limit, longest=0)).__class__ is Booked


def test_a_wait_that_is_just_as_long_as_allowed_is_taken(store: Store, limit: Limit) -> None:
    waits(store, wanted(limit), 4)
    foreseen = store.book(wanted(limit, longest=0))
    assert isinstance(foreseen, Refused)
    assert isinstance(store.book(wanted(limit, longest=foreseen.wait)), Booked)


def test_one_may_weigh_all_permits(store: Store, limit: Limit) -> None:
    assert waits(store, wanted(limit, n=4), 3) == pytest.approx([0, HOUR, 2 * HOUR])


def test_no_permits_are_had_at_once_and_book_nothing(store: Store, limit: Limit) -> None:
    waits(store, wanted(limit), 7)
    before = store.book(wanted(limit, longest=0))
    assert waits(store, wanted(limit, n=0, longest=0), 5) == [0] * 5
    assert store.book(wanted(limit, longest=0)) == before


def test_scopes_know_nothing_of_each_other(store: Store, limit: Limit) -> None:
    for scope in ("a", "b", "", "a:b", "{a}", "ä €", "a\nb", "x" * 300):
        assert waits(store, wanted(limit, scope=scope), 8) == pytest.approx(in_a_row(limit))


def test_other_numbers_are_another_limit(store: Store, limit: Limit) -> None:
    waits(store, wanted(limit), 8)
    assert waits(store, wanted(limit._replace(requests=5)), 1) == [0]


def test_of_several_limits_all_are_booked_or_none(store: Store, limit: Limit) -> None:
    """The narrow one refuses; the wide one has all its permits still."""
    narrow = Limit("sliding_window", 1, HOUR, 1)
    assert isinstance(store.book(wanted(limit, narrow, longest=0)), Booked)
    for _ in range(10):
        assert isinstance(store.book(wanted(limit, narrow, longest=0)), Refused)
        assert isinstance(store.book(wanted(narrow, limit, longest=0)), Refused)
    assert waits(store, wanted(limit), 3) == pytest.approx(in_a_row(limit)[1:4])


def test_of_several_limits_the_latest_time_holds_for_all(store: Store, limit: Limit) -> None:
    slow = Limit("leaky_bucket", 1, HOUR, 1)
    assert waits(store, wanted(limit, slow), 3) == pytest.approx([0, HOUR, 2 * HOUR])


def test_no_limits_are_no_limit(store: Store) -> None:
    assert waits(store, wanted(longest=0), 3) == [0, 0, 0]


def test_permits_may_be_given_back(store: Store, limit: Limit) -> None:
    asked = wanted(limit)
    waits(store, asked, 5)
    later = [store.book(asked) for _ in range(3)]
    for each in reversed(later):
        assert isinstance(each, Booked)
        store.give_back(asked, each)
    assert waits(store, asked, 3) == [each[0] for each in later]


def test_all_of_them_may_be_given_back(store: Store, limit: Limit) -> None:
    """Down to the state of the beginning, weights included."""
    taken = [(asked, store.book(asked)) for asked in (wanted(limit, n=n) for n in (1, 4, 2, 3, 4))]
    for asked, each in reversed(taken):
        assert isinstance(each, Booked)
        store.give_back(asked, each)
    assert waits(store, wanted(limit), 8) == pytest.approx(in_a_row(limit))


def test_what_somebody_has_booked_after_is_not_given_back(store: Store, limit: Limit) -> None:
    """Else two would go at the time of the later one."""
    asked = wanted(limit)
    first, second = store.book(asked), store.book(asked)
    assert isinstance(first, Booked)
    assert isinstance(second, Booked)
    store.give_back(asked, first)
    assert waits(store, asked, 6) == pytest.approx(in_a_row(limit)[2:])


def test_permits_are_given_back_once(store: Store, limit: Limit) -> None:
    asked = wanted(limit)
    waits(store, asked, 4)
    fifth = store.book(asked)
    assert isinstance(fifth, Booked)
    for _ in range(3):
        store.give_back(asked, fifth)
    assert waits(store, asked, 4) == pytest.approx(in_a_row(limit)[4:])


def test_of_several_limits_all_are_given_back_or_none(store: Store, limit: Limit) -> None:
    other = Limit("gcra", 4, HOUR, 4)
    both = wanted(limit._replace(requests=5), other)
    booked = store.book(both)
    assert isinstance(booked, Booked)
    waits(store, wanted(other), 1)
    store.give_back(both, booked)
    assert isinstance(store.book(wanted(both.limits[0], n=4, longest=EVER)), Booked)
    assert isinstance(store.book(wanted(other, n=3, longest=0)), Refused)


def test_a_receipt_of_nothing_gives_nothing_back(store: Store, limit: Limit) -> None:
    waits(store, wanted(limit), 4)
    store.give_back(wanted(limit, n=0), Booked(0.0))
    store.give_back(wanted(), store.book(wanted()))  # type: ignore[arg-type]
    assert waits(store, wanted(limit), 1) == pytest.approx(in_a_row(limit)[4:5])


def test_a_pause_lets_nothing_go_and_books_nothing(
    store: Store, limit: Limit, clock: FakeClock
) -> None:
    store.pause("api", "server", 30)
    assert store.paused("api", "server") == pytest.approx(30)
    for asked in (wanted(limit), wanted(limit, n=0), wanted(), wanted(limit, longest=0)):
        assert store.book(asked) == Paused(pytest.approx(30))
    clock.now += 30.001
    assert store.paused("api", "server") == 0
    assert waits(store, wanted(limit), 8) == pytest.approx(in_a_row(limit))


def test_a_longer_pause_stands(store: Store, clock: FakeClock) -> None:
    store.pause("api", "server", 30)
    store.pause("api", "server", 10)
    assert store.paused("api", "server") == pytest.approx(30)
    store.pause("api", "server", 40)
    assert store.paused("api", "server") == pytest.approx(40)


def test_a_pause_is_for_its_own_only(store: Store, limit: Limit) -> None:
    store.pause("api", "server", 30)
    assert isinstance(store.book(wanted(limit)._replace(pause="another")), Booked)
    assert isinstance(store.book(wanted(limit, scope="another")), Booked)


def test_a_clock_that_ran_ahead_blocks_nobody_for_long(
    store: Store, limit: Limit, clock: FakeClock
) -> None:
    """Though nobody may wait, and so nothing is booked that would move the state."""
    clock.now += 1e9
    waits(store, wanted(limit, n=4), 2)
    store.pause("api", "other", HOUR)
    clock.now -= 1e9
    at_once = wanted(limit, longest=0)
    assert isinstance(store.book(at_once), Refused)
    assert store.paused("api", "other") == pytest.approx(HOUR, abs=1e-3)
    clock.now += 2 * HOUR + 1e-3
    assert store.paused("api", "other") == 0
    assert isinstance(store.book(at_once), Booked)


def test_threads_are_given_different_places(store: Store, limit: Limit) -> None:
    found: list[float] = []
    in_threads(8, lambda _: found.extend(waits(store, wanted(limit), 10)))
    expected = sorted((n // 4) * HOUR for n in range(80))
    if limit.algorithm == "leaky_bucket":
        expected = [n * HOUR / 4 for n in range(80)]
    elif limit.algorithm in ("token_bucket", "gcra"):
        expected = [0.0] * 4 + [n * HOUR / 4 for n in range(1, 77)]
    assert sorted(found) == pytest.approx(expected)


def test_it_may_be_used_again_after_closing(store: Store, limit: Limit) -> None:
    waits(store, wanted(limit), 4)
    store.close()
    store.close()
    assert waits(store, wanted(limit), 1)[0] == pytest.approx(in_a_row(limit)[4])


def test_half_a_permit_a_second_is_one_in_two(store: Store) -> None:
    for algorithm in ALGORITHMS:
        asked = wanted(Limit(algorithm, 1, 2000.0, 1))
        assert waits(store, asked, 4) == pytest.approx([0, 2000, 4000, 6000])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_limit_of_very_many(store: Store, algorithm: str) -> None:
    """And one who takes more of them than a script of Redis can have on its stack."""
    asked = wanted(Limit(algorithm, 100_000, HOUR, 100_000), n=20_000)
    expected = [0, 720, 1440] if algorithm == "leaky_bucket" else [0, 0, 0]
    assert waits(store, asked, 3) == pytest.approx(expected)
    last = [store.book(asked) for _ in range(3)]
    for each in reversed(last):
        assert isinstance(each, Booked)
        store.give_back(asked, each)
    assert waits(store, asked, 3) == pytest.approx([each[0] for each in last])


def test_threads_may_come_and_go(
    store: Store,
) -> None:
    failed: list[StateUnavailable] = []

    def use() -> None:
        try:
            waits(store, wanted(Limit("gcra", 10, HOUR, 10)), 3)
        except StateUnavailable as error:
            failed.append(error)

    for _ in range(20):
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    assert not failed


def test_one_limit_of_several_is_not_forgotten_for_the_sake_of_another(
    store: Store, clock: FakeClock
) -> None:
    limits = Limit("sliding_window", 10, HOUR, 10), Limit("sliding_window", 1, 10 * HOUR, 1)
    for clock.now, scope in ((1e9, "s"), (1e9 + 2 * HOUR, "x"), (1e9 + 13 * HOUR, "s")):
        assert isinstance(store.book(wanted(*limits, longest=0, scope=scope)), Booked)
    assert isinstance(store.book(wanted(*limits, longest=0, scope="s")), Refused)
