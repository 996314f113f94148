"""What is special to the state of limits in a file of SQLite."""

from __future__ import annotations

import gc
import math
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from requests_connection_manager.exceptions import StateUnavailable
from requests_connection_manager.limits import sqlite as sqlite_store
from requests_connection_manager.limits import sqlite_file, sqlite_rows
from requests_connection_manager.limits.algorithms import Limit
from requests_connection_manager.limits.sqlite import SQLiteStore
from requests_connection_manager.limits.store import Booked, Refused, Wanted
from tests.conftest import FakeClock, in_threads
from tests.each_step import interrupt_each_step
from tests.test_fork import Child, in_child

SLIDING = Limit("sliding_window", 4, 3600.0, 4)
ASKED = Wanted("api", (SLIDING,), 1, 0.0, "api")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "limits.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    made = SQLiteStore(str(path), timeout=10)
    yield made
    made.close()


def granted(store: SQLiteStore, tries: int = 10, asked: Wanted = ASKED) -> int:
    return sum(isinstance(store.book(asked), Booked) for _ in range(tries))


def look(path: Path, question: str) -> object:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(question).fetchone()[0]
    finally:
        connection.close()


def test_the_file_is_one_of_wal(store: SQLiteStore, path: Path) -> None:
    granted(store)
    assert look(path, "PRAGMA journal_mode") == "wal"
    assert look(path, "PRAGMA user_version") == sqlite_rows.VERSION


def test_two_stores_of_one_file_share_it_and_prefixes_do_not(
    store: SQLiteStore, path: Path
) -> None:
    other, apart = SQLiteStore(str(path)), SQLiteStore(str(path), prefix="apart")
    assert (granted(store, 3), granted(other), granted(apart)) == (3, 1, 4)
    other.close()
    apart.close()


def test_what_is_known_outlives_the_store(store: SQLiteStore, path: Path) -> None:
    granted(store)
    store.close()
    later = SQLiteStore(str(path))
    assert granted(later) == 0
    later.close()


def test_threads_have_connections_of_their_own_which_end_with_them(
    store: SQLiteStore, path: Path
) -> None:
    found: list[sqlite3.Connection] = []

    def use(_: int) -> None:
        granted(store, 1)
        found.append(store._file._own.opened.connection)

    in_threads(4, use)
    assert len(set(map(id, found))) == 4
    gc.collect()
    for each in found:
        with pytest.raises(sqlite3.ProgrammingError):
            each.execute("SELECT 1")


def test_a_child_goes_on_with_a_connection_of_its_own(store: SQLiteStore) -> None:
    assert granted(store, 2) == 2
    mine = store._file._own.opened.connection

    def use() -> None:
        assert granted(store, 1) == 1
        store.close()
        gc.collect()

    in_child(use)
    with pytest.raises(sqlite3.ProgrammingError):
        mine.execute("SELECT 1")  # it was closed, and not inherited
    assert granted(store) == 1


def test_a_fork_while_others_book_leaves_all_of_them_working(store: SQLiteStore) -> None:
    plenty = Wanted("plenty", (Limit("gcra", 10**6, 1.0, 10**6),), 1, math.inf, "")
    over = threading.Event()
    failed: list[Exception] = []

    def keep_busy() -> None:
        try:
            while not over.is_set():
                store.book(plenty)
        except Exception as error:
            failed.append(error)

    busy = [threading.Thread(target=keep_busy) for _ in range(3)]
    for each in busy:
        each.start()
    children = [Child(lambda: granted(store, 50, plenty)) for _ in range(4)]
    for child in children:
        child.join()
    over.set()
    for each in busy:
        each.join(20)
    assert not failed
    assert granted(store) == 4


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_file_that_is_no_longer_there_is_opened_anew(
    how: str, store: SQLiteStore, path: Path, tmp_path: Path
) -> None:
    assert granted(store) == 4
    if how == "replaced":
        fresh = SQLiteStore(str(tmp_path / "fresh.db"))
        assert granted(fresh, 1) == 1
        fresh.close()
        Path(f"{path}-wal").unlink()  # SQLite would take it for that of the new one
        os.replace(tmp_path / "fresh.db", path)
    else:
        path.unlink()
    assert granted(store) == (3 if how == "replaced" else 4)
    again = SQLiteStore(str(path))
    assert granted(again) == 0
    again.close()


def test_a_folder_that_is_missing_is_out_of_reach_until_it_is_there(tmp_path: Path) -> None:
    store = SQLiteStore(str(tmp_path / "missing" / "limits.db"), timeout=0.05)
    for _ in range(3):
        with pytest.raises(StateUnavailable, match="out of reach") as caught:
            store.book(ASKED)
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    (tmp_path / "missing").mkdir()
    assert granted(store) == 4
    store.close()


def test_what_is_no_database_is_left_as_it_is(path: Path) -> None:
    path.write_bytes(b"something else " * 1000)
    store = SQLiteStore(str(path))
    with pytest.raises(StateUnavailable):
        store.book(ASKED)
    assert path.read_bytes() == b"something else " * 1000


def test_tables_of_another_version_are_left_as_they_are(store: SQLiteStore, path: Path) -> None:
    granted(store)
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StateUnavailable, match="version 99"):
        store.book(ASKED)


def test_who_holds_the_file_for_too_long_is_not_waited_for(path: Path) -> None:
    store = SQLiteStore(str(path), timeout=0.1)
    assert granted(store, 1) == 1
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for act in (
        lambda: store.book(ASKED),
        lambda: store.pause("api", "api", 1),
        lambda: store.paused("api", "api"),
    ):
        with pytest.raises(StateUnavailable, match="locked"):
            act()
    other.execute("ROLLBACK")
    assert granted(store) == 3
    other.close()
    store.close()


def test_a_thread_that_hangs_in_its_turn_does_not_hang_the_others(path: Path) -> None:
    store = SQLiteStore(str(path), timeout=0.05)
    assert granted(store, 1) == 1
    holding, may_end = threading.Event(), threading.Event()

    def hang() -> None:
        store._file._turn.take(1)
        holding.set()
        assert may_end.wait(20)

    thread = threading.Thread(target=hang)
    thread.start()
    assert holding.wait(10)
    with pytest.raises(StateUnavailable, match="other threads"):
        store.book(ASKED)
    assert granted(store) == 3  # while it still hangs
    store.close()
    may_end.set()
    thread.join(10)


@pytest.mark.parametrize("by_another", [False, True])
def test_a_turn_that_an_interrupt_left_behind_is_taken_over(
    store: SQLiteStore, by_another: bool
) -> None:
    """By the thread that was torn out of it, with its transaction; or when that is dead."""
    if by_another:
        thread = threading.Thread(target=store._file.begin)
        thread.start()
        thread.join(10)
    else:
        store._file.begin().execute("INSERT INTO kept VALUES (1, 'x', 0, 0, 0, 0, 0, 0)")
    gc.collect()
    assert granted(store) == 4
    assert look(Path(store._file.path), "SELECT count(*) FROM kept WHERE key = 'x'") == 0


def test_closing_does_not_wait_for_ever_for_a_turn(path: Path) -> None:
    store = SQLiteStore(str(path), timeout=0.05)
    connection = store._file.begin()
    in_threads(1, lambda _: store.close())
    assert connection.execute("SELECT 1").fetchone()  # who is in the midst of it goes on
    store._file.end(connection)
    with pytest.raises(sqlite3.ProgrammingError):
        connection.execute("SELECT 1")
    assert granted(store) == 4
    store.close()


@pytest.mark.usefixtures("uncollected")
def test_interrupts_at_any_moment_leave_it_working(store: SQLiteStore) -> None:
    """Here: after each of the first steps of a booking, one by one."""
    asked = ASKED._replace(limits=(Limit("gcra", 10**6, 1.0, 10**6),))
    store.book(asked)  # what is remembered of it takes no steps any more

    def look(step: int) -> None:
        assert isinstance(store.book(ASKED._replace(scope=str(step))), Booked)

    assert interrupt_each_step(lambda: store.book(asked), look) > 50


@pytest.mark.parametrize("error", [ValueError("x"), TypeError("x"), UnicodeError("x")])
def test_whatever_goes_wrong_is_an_absence(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(sqlite_rows.Bookings, "write", fail)
    with pytest.raises(StateUnavailable) as caught:
        store.book(ASKED)
    assert caught.value.__cause__ is error


def test_the_waits_for_the_turn_and_for_others_have_one_end(path: Path) -> None:
    store = SQLiteStore(str(path), timeout=1.0)
    granted(store, 1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    took: list[float] = []

    def wait(_: int) -> None:
        began = time.monotonic()
        with pytest.raises(StateUnavailable):
            store.book(ASKED)
        took.append(time.monotonic() - began)

    in_threads(2, wait)
    assert max(took) < 1.9
    other.execute("ROLLBACK")
    other.close()
    store.close()


def test_a_booking_that_fails_midway_leaves_nothing_behind(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Be it a full disk or an interrupt."""
    both = Wanted("api", (Limit("gcra", 4, 3600.0, 4), SLIDING), 1, 0.0, "api")
    for error in (sqlite3.OperationalError("disk full"), KeyboardInterrupt()):
        with monkeypatch.context() as patched:

            def fail(*_: object, error: BaseException = error) -> None:
                raise error

            patched.setattr(sqlite_rows.Bookings, "write", fail)
            with pytest.raises((StateUnavailable, KeyboardInterrupt)):
                store.book(both)
        assert not store._file._own.opened.connection.in_transaction
    assert granted(store, asked=both) == 4


def test_a_transaction_that_an_interrupt_left_open_is_ended(store: SQLiteStore) -> None:
    granted(store, 1)
    store._file._own.opened.connection.execute("BEGIN IMMEDIATE")
    assert granted(store) == 3


def test_what_has_expired_is_purged_with_its_log(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store, "_PURGES", 0.2)
    store = SQLiteStore(str(path), timeout=10, clock=clock)
    minute = (Limit("sliding_window", 4, 60.0, 4), Limit("gcra", 4, 60.0, 4))
    most = 0
    for n in range(1500):
        clock.now += 1
        store.book(Wanted(f"user {n}", minute, 1, 0.0, f"user {n}"))
        store.pause(f"user {n}", "", 30)
        if n % 100 == 99:
            most = max(most, store_rows(path, "kept"))
    assert most < 600
    assert store_rows(path, "log") < 300
    store.close()


def store_rows(path: Path, table: str) -> int:
    count = look(path, f"SELECT count(*) FROM {table}")
    assert isinstance(count, int)
    return count


def test_a_long_log_is_purged_piece_by_piece(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store, "_PURGES", 0)
    store = SQLiteStore(str(path), timeout=10, clock=clock)
    wide = Wanted("wide", (Limit("sliding_window", 5000, 60.0, 1),), 1, 0.0, "")
    for _ in range(5000):
        assert isinstance(store.book(wide), Booked)
    clock.now += 61
    monkeypatch.setattr(sqlite_store, "_PURGES", 1)
    other = Wanted("other", (Limit("gcra", 4, 60.0, 4),), 1, math.inf, "")
    counts, begun = [5000], False
    for _ in range(50):
        store.book(other)
        counts.append(store_rows(path, "log"))
        if counts[-1] < 5000 and not begun:
            begun = True
            # in the midst of it, on a clock that is set back, it is simply nothing
            clock.now -= 30
            assert isinstance(store.book(wide), Booked)
            clock.now += 61
    assert begun
    assert counts[-1] == 0
    assert max(before - after for before, after in pairwise(counts)) <= 2000
    store.close()


def test_a_log_has_no_more_than_may_be_needed(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store, "_PURGES", 1)
    store = SQLiteStore(str(path), timeout=10, clock=clock)
    for permits in (1, 2, 3, 4) * 20:
        booked = store.book(ASKED._replace(permits=permits, longest=math.inf))
        assert isinstance(booked, Booked)
        clock.now += booked.wait
        assert store_rows(path, "log") <= 2 * SLIDING.requests + 1
    store.close()


def test_all_who_wait_may_give_back_what_they_have_booked(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many they are: what counts then is what was booked before them."""
    monkeypatch.setattr(sqlite_store, "_PURGES", 1)
    store = SQLiteStore(str(path), timeout=10, clock=clock)
    asked = ASKED._replace(longest=math.inf)
    assert granted(store) == SLIDING.requests
    clock.now += 600
    later = [store.book(asked) for _ in range(10 * SLIDING.requests)]
    for booked in reversed(later):
        assert isinstance(booked, Booked)
        store.give_back(asked, booked)
    assert store.book(ASKED) == Refused(3000.0)
    store.close()


def test_what_has_had_its_time_may_be_given_back_for_a_period(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One who was late, and did not send: until then, others have sent as much as there is."""
    monkeypatch.setattr(sqlite_store, "_PURGES", 1)
    store = SQLiteStore(str(path), timeout=10, clock=clock)
    booked = []
    for n in range(8):
        clock.now += 1800 * (n > 0 and n % 2 == 0)
        booked.append(store.book(ASKED))
    for each in reversed(booked[5:]):
        assert isinstance(each, Booked)
        store.give_back(ASKED, each)
    assert granted(store) == 3
    store.close()


def test_a_crowd_of_heavy_requests_gets_no_more_than_there_is(path: Path) -> None:
    """They take no longer than light ones: else those who wait would take the file for gone."""
    tokens = (Limit("sliding_window", 200_000, 3600.0, 1),)
    store = SQLiteStore(str(path), timeout=10)
    asked = Wanted("model", tokens, 20_000, 0.0, "model")
    answers: list[object] = []
    in_threads(16, lambda _: answers.append(store.book(asked)))
    assert [type(each) for each in answers].count(Booked) == 10
    assert store_rows(path, "log") == 10
    store.close()


def test_a_booking_in_a_wide_window_reads_and_writes_as_little_as_in_a_narrow_one(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store, "_PURGES", 0)
    counts = []
    for requests in (4, 100_000):
        asked = Wanted("n", (Limit("sliding_window", requests, 3600.0, 1),), 1, math.inf, "")
        store.book(asked._replace(permits=requests))
        store.book(asked)
        statements: list[str] = []
        connection = store._file._own.opened.connection
        connection.set_trace_callback(statements.append)
        store.book(asked)
        connection.set_trace_callback(None)
        counts.append(len(statements))
    assert counts == [6, 6]  # begin, read two, write two, commit


def test_the_clock_is_read_inside_the_transaction(path: Path) -> None:
    """So that who books later has the later time."""
    inside: list[bool] = []

    def clock() -> float:
        inside.append(store._file._own.opened.connection.in_transaction)
        return time.time()

    store = SQLiteStore(str(path), clock=clock)
    store.book(ASKED)
    store.pause("api", "api", 1)
    assert inside == [True, True]
    store.close()


def test_real_time_lets_the_next_one_go(store: SQLiteStore) -> None:
    asked = Wanted("api", (Limit("sliding_window", 2, 0.3, 2),), 1, 0.0, "api")
    assert granted(store, 2, asked) == 2
    refused = store.book(asked)
    if isinstance(refused, Refused):  # else the machine was busy for 0.3 s
        time.sleep(refused.wait)
        assert isinstance(store.book(asked), Booked)


def test_its_name_is_its_file(store: SQLiteStore, path: Path) -> None:
    assert repr(store) == f"SQLiteStore({str(path)!r})"


def test_the_mark_of_a_file_that_is_not_there() -> None:
    assert sqlite_file.mark_of("/nowhere/limits.db") is None
