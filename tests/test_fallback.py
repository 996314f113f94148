"""A store that is gone, on a fake clock: who tries it, who goes on without it, and what is kept."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

from requests_connection_manager import StateUnavailable
from requests_connection_manager.limits.algorithms import Limit
from requests_connection_manager.limits.fallback import FallbackStore
from requests_connection_manager.limits.store import Booked, Paused, Refused, Wanted
from tests.conftest import FakeClock, in_threads

WANTED = Wanted("scope", (Limit("sliding_window", 10, 1, 1),), 1, 5.0, "host")
SOON = 60  # seconds; by then somebody tries again


class FakeStore:
    """Answers what it is told to, and notes what it was asked."""

    def __init__(self) -> None:
        self.gone = False
        self.asked: list[tuple[object, ...]] = []
        self.answer: Booked | Refused | Paused = Booked(0.0, "receipt")
        self.left = 0.0
        self.closed = 0
        self.on_ask: Callable[[], object] = lambda: None

    def book(self, wanted: Wanted) -> Booked | Refused | Paused:
        self._note("book", wanted)
        return self.answer

    def give_back(self, wanted: Wanted, booked: Booked) -> None:
        self._note("give_back", wanted, booked)

    def pause(self, scope: str, whose: str, seconds: float) -> None:
        self._note("pause", scope, whose, seconds)

    def paused(self, scope: str, whose: str) -> float:
        self._note("paused", scope, whose)
        return self.left

    def close(self) -> None:
        self.closed += 1

    def _note(self, *what: object) -> None:
        self.asked.append(what)
        self.on_ask()
        if self.gone:
            raise StateUnavailable("Redis at 127.0.0.1 does not answer")

    def count(self, what: str) -> int:
        return sum(asked[0] == what for asked in self.asked)


class Both:
    """A store with a fallback, and the two that it is made of."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.shared, self.local = FakeStore(), FakeStore()
        self.local.answer = Booked(0.0, "local receipt")
        self.store = FallbackStore(self.shared, self.local, "Redis", clock)

    def lose(self) -> None:
        self.shared.gone = True
        self.store.book(WANTED)

    def find(self) -> None:
        self.shared.gone = False
        self.clock.now += SOON
        self.store.book(WANTED)


@pytest.fixture
def both(clock: FakeClock) -> Both:
    return Both(clock)


@pytest.mark.parametrize("answer", [Booked(0.5, "receipt"), Refused(3.0), Paused(4.0)])
def test_what_the_shared_store_answers_comes_through_as_it_is(both: Both, answer) -> None:
    both.shared.answer = answer
    assert both.store.book(WANTED) is answer
    assert both.local.count("book") == 0


def test_one_that_is_gone_is_stood_in_for_at_once(both: Both) -> None:
    both.shared.gone = True
    both.local.answer = Booked(0.25, "local receipt")
    booked = both.store.book(WANTED)
    assert isinstance(booked, Booked)
    assert booked.wait == 0.25
    assert both.local.asked[-1] == ("book", WANTED)


@pytest.mark.parametrize("answer", [Refused(3.0), Paused(4.0)])
def test_the_local_store_refuses_like_the_shared_one(both: Both, answer) -> None:
    both.shared.gone = True
    both.local.answer = answer
    assert both.store.book(WANTED) == answer


def test_one_that_is_gone_is_not_asked_again_before_its_time(both: Both) -> None:
    both.lose()
    for _ in range(100):
        both.store.book(WANTED)
        both.store.pause("scope", "host", 0.0)
        both.store.paused("scope", "host")
    assert len(both.shared.asked) == 1


def test_it_is_tried_again_for_as_long_as_it_is_gone(both: Both) -> None:
    both.lose()
    for _ in range(10):
        both.clock.now += SOON
        both.store.book(WANTED)
    assert both.shared.count("book") == 11


def test_what_is_back_counts_again(both: Both) -> None:
    both.lose()
    both.find()
    local = both.local.count("book")
    both.store.book(WANTED)
    assert both.local.count("book") == local


def test_one_caller_at_a_time_tries_the_others_go_on(both: Both) -> None:
    both.lose()
    both.clock.now += SOON
    trying, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        trying.set()
        assert may_end.wait(10)

    both.shared.on_ask = hold
    one = threading.Thread(target=both.store.book, args=(WANTED,))
    one.start()
    assert trying.wait(10)
    both.clock.now += 10  # far longer than a try takes
    in_threads(8, lambda _: both.store.book(WANTED))
    assert both.shared.count("book") == 2
    assert both.local.count("book") == 1 + 8
    may_end.set()
    one.join(10)
    assert not one.is_alive()


def test_an_absence_is_told_of_once_and_the_next_one_again(
    both: Both, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "requests_connection_manager")
    for absences in (1, 2):
        both.shared.gone = True
        for _ in range(5):
            both.store.book(WANTED)
            both.clock.now += SOON
        told = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
        assert len(told) == absences
        assert "Redis" in told[-1]
        both.find()


def test_threads_that_lose_it_at_once_tell_of_it_once(
    both: Both, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "requests_connection_manager")
    together = threading.Barrier(8, timeout=10)
    both.shared.gone = True
    both.shared.on_ask = together.wait
    in_threads(8, lambda _: both.store.book(WANTED))
    assert both.local.count("book") == 8
    assert len([each for each in caplog.records if each.levelno >= logging.WARNING]) == 1
    both.shared.on_ask = lambda: None
    both.find()  # as soon as after a single failure
    assert both.shared.count("book") == 9


def test_permits_go_back_to_where_they_came_from(both: Both) -> None:
    here = both.shared.answer
    assert isinstance(here, Booked)
    both.store.give_back(WANTED, here)
    assert both.shared.asked[-1] == ("give_back", WANTED, here)
    assert both.local.count("give_back") == 0

    both.shared.gone = True
    booked = both.store.book(WANTED)
    assert isinstance(booked, Booked)
    both.find()  # the other is there again: that changes nothing
    both.store.give_back(WANTED, booked)
    assert both.local.asked[-1] == ("give_back", WANTED, Booked(0.0, "local receipt"))
    assert both.shared.count("give_back") == 1


def test_giving_back_to_one_that_is_gone_is_let_be(both: Both) -> None:
    booked = both.store.book(WANTED)
    assert isinstance(booked, Booked)
    both.shared.gone = True
    both.store.give_back(WANTED, booked)
    both.store.give_back(WANTED, booked)
    assert both.shared.count("give_back") == 1
    assert both.local.count("give_back") == 0


def test_a_pause_is_kept_in_both(both: Both) -> None:
    both.store.pause("scope", "host", 7.0)
    assert both.shared.asked[-1] == ("pause", "scope", "host", 7.0)
    assert both.local.asked[-1] == ("pause", "scope", "host", 7.0)
    both.shared.gone = True
    both.store.pause("scope", "host", 8.0)
    assert both.local.asked[-1] == ("pause", "scope", "host", 8.0)


@pytest.mark.parametrize(
    ("shared", "local", "is_gone", "left"),
    [(3.0, 0.0, False, 3.0), (3.0, 5.0, False, 5.0), (0.0, 0.0, False, 0.0), (3.0, 2.0, True, 2.0)],
)
def test_the_longer_pause_holds(
    both: Both, shared: float, local: float, is_gone: bool, left: float
) -> None:
    both.shared.left, both.local.left, both.shared.gone = shared, local, is_gone
    assert both.store.paused("scope", "host") == left


def test_a_pause_known_here_only_holds_when_the_shared_store_is_back(both: Both) -> None:
    both.lose()
    both.find()
    both.local.left = 2.5
    asked = len(both.shared.asked)
    assert both.store.book(WANTED) == Paused(2.5)
    assert both.local.asked[-1] == ("paused", "scope", "host")
    assert len(both.shared.asked) == asked  # nothing is booked there for who may not go


def test_another_error_is_not_an_absence(both: Both, caplog: pytest.LogCaptureFixture) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    both.shared.on_ask = interrupt
    with pytest.raises(KeyboardInterrupt):
        both.store.book(WANTED)
    both.shared.on_ask = lambda: None
    assert both.store.book(WANTED) is both.shared.answer
    assert not caplog.records


def test_a_try_that_is_interrupted_leaves_the_turn_to_another(both: Both) -> None:
    both.lose()
    both.clock.now += SOON

    def interrupt() -> None:
        raise KeyboardInterrupt

    both.shared.on_ask = interrupt
    with pytest.raises(KeyboardInterrupt):
        both.store.book(WANTED)
    both.shared.on_ask = lambda: None
    both.find()
    assert both.store.book(WANTED) is both.shared.answer


def test_closing_lets_go_of_both(both: Both) -> None:
    both.lose()
    both.store.close()
    assert (both.shared.closed, both.local.closed) == (1, 1)


def told(caplog: pytest.LogCaptureFixture) -> int:
    return sum(each.levelno >= logging.WARNING for each in caplog.records)


def test_that_it_can_be_read_does_not_say_that_it_is_back(
    both: Both, caplog: pytest.LogCaptureFixture
) -> None:
    """A read-only replica, or one that is full, is gone once, and not each second anew."""
    both.lose()
    asked = both.shared.count("paused"), both.shared.count("give_back")
    for _ in range(20):
        both.clock.now += SOON
        both.shared.gone = False
        assert both.store.paused("scope", "host") == 0
        both.store.give_back(WANTED, Booked(0.0, "receipt"))
        both.shared.gone = True
        both.store.book(WANTED)
    assert (both.shared.count("paused"), both.shared.count("give_back")) == asked
    assert told(caplog) == 1


@pytest.mark.parametrize("answer", [Refused(3.0), Paused(4.0), Booked(0.0)])
def test_a_booking_that_wrote_nothing_is_followed_by_one_step_that_does(
    both: Both, caplog: pytest.LogCaptureFixture, answer: Booked | Refused | Paused
) -> None:
    both.lose()
    both.shared.answer, both.shared.gone = answer, False
    asked = WANTED._replace(permits=0) if isinstance(answer, Booked) else WANTED

    def refuse_to_write() -> None:
        both.shared.gone = both.shared.asked[-1][0] == "pause"

    both.shared.on_ask = refuse_to_write
    for _ in range(5):
        both.clock.now += SOON
        assert both.store.book(asked) is not answer
    assert told(caplog) == 1
    both.shared.on_ask, both.shared.gone = lambda: None, False
    both.clock.now += SOON
    assert both.store.book(asked) is answer
    pauses = both.shared.count("pause")
    assert both.store.book(asked) is answer
    assert both.shared.count("pause") == pauses  # it is back
