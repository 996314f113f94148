"""When something that was out of reach is tried again, and who is told."""

from __future__ import annotations

import logging
import threading

import pytest

from requests_connection_manager.limits.absence import Absence
from tests.conftest import in_threads

ERROR = ConnectionError("refused")


def in_another_thread(work):
    came: list[object] = []
    in_threads(1, lambda _: came.append(work()))
    return came[0]


def test_what_is_there_may_be_asked_by_all(clock) -> None:
    absence = Absence("it", clock)
    assert all(absence.may_try() for _ in range(3))
    absence.returned()
    assert not absence.gone


def test_gone_it_is_asked_once_the_interval_is_over_by_one_at_a_time(clock) -> None:
    absence = Absence("it", clock)
    absence.failed(ERROR)
    assert not absence.may_try()
    clock.now += 1
    assert absence.may_try()
    assert not in_another_thread(absence.may_try)
    absence.returned()
    assert absence.may_try()
    assert in_another_thread(absence.may_try)


def test_of_many_threads_one_tries(clock) -> None:
    absence = Absence("it", clock)
    absence.failed(ERROR)
    clock.now += 1
    start = threading.Barrier(20)
    answers: list[bool] = []

    def ask(_: int) -> None:
        start.wait()
        answers.append(absence.may_try())

    in_threads(20, ask)
    assert answers.count(True) == 1


def test_the_interval_doubles_up_to_thirty_seconds_and_begins_anew_after_a_return(clock) -> None:
    absence = Absence("it", clock)
    absence.failed(ERROR)
    for interval in (1, 2, 4, 8, 16, 30, 30):
        clock.now += interval - 0.001
        assert not absence.may_try()
        clock.now += 0.001
        assert absence.may_try()
        absence.failed(ERROR)
    clock.now += 30
    assert absence.may_try()
    absence.returned()
    absence.failed(ERROR)
    clock.now += 1
    assert absence.may_try()


def test_who_asked_before_it_went_has_no_say(clock) -> None:
    absence = Absence("it", clock)
    absence.failed(ERROR)
    clock.now += 1
    assert absence.may_try()
    in_another_thread(absence.returned)
    in_another_thread(lambda: absence.failed(ERROR))
    assert absence.gone
    assert not in_another_thread(absence.may_try)
    absence.failed(ERROR)
    clock.now += 2  # not 4: others did not double it
    assert absence.may_try()


def test_a_try_without_an_end_does_not_block_the_next_for_ever(clock) -> None:
    absence = Absence("it", clock)
    absence.failed(ERROR)
    clock.now += 1
    assert in_another_thread(absence.may_try)
    clock.now += 29
    assert not absence.may_try()
    clock.now += 1
    assert absence.may_try()


def test_one_line_is_logged_when_it_goes_and_one_when_it_is_back(
    clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "requests_connection_manager")
    absence = Absence("the state at redis://a.test", clock)
    for _ in range(3):
        absence.failed(ERROR)
        clock.now += 100
        absence.may_try()
    absence.returned()
    absence.returned()
    gone, back = caplog.records
    assert gone.levelname == "WARNING"
    assert gone.getMessage() == (
        "the state at redis://a.test is out of reach (ConnectionError: refused); "
        "it is tried again every 1 to 30 s"
    )
    assert (back.levelname, back.getMessage()) == ("INFO", "the state at redis://a.test is back")
