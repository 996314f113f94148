"""The state of limits in a file of SQLite, for all processes of one machine.

Each booking is one transaction, and the clock is read inside it: times are in the order of
bookings, whoever makes them.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar

from ..exceptions import StateUnavailable
from ..log import in_words
from . import keys
from .algorithms import NO_LOG, PAUSE_TIMES, STEPS, Limit, State, at_now
from .sqlite_file import SQLiteFile
from .sqlite_rows import Bookings, Row, purge, read
from .store import Booked, Paused, Refused, Wanted

T = TypeVar("T")
_PURGES = 1 / 50
"""How many of the bookings purge; at random, since a process may make but one."""


Receipt = list[tuple[State, State]]
"""Of each limit: its state before and after."""


def _log(connection: sqlite3.Connection, row: Row, limit: Limit) -> Bookings | None:
    if limit.algorithm == "sliding_window":
        return Bookings(connection, row, limit.requests)
    return None


def _until(pause: Row, now: float) -> float:
    if not pause.state:
        return now
    if now < pause.state[0]:
        pause.state = at_now(pause.state, now, PAUSE_TIMES)
        pause.write(pause.state, pause.state[1])
    return pause.state[1]


class SQLiteStore:
    """Keeps the state in a file, which is made where there is none."""

    def __init__(
        self,
        path: str,
        prefix: str = "rcm",
        timeout: float = 0.25,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._file = SQLiteFile(os.path.abspath(path), timeout)
        self._prefix = prefix
        self._clock = clock

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._file.path!r})"

    def book(self, wanted: Wanted) -> Booked | Refused | Paused:
        return self._in_transaction(lambda connection: self._book(connection, wanted))

    def give_back(self, wanted: Wanted, booked: Booked) -> None:
        if isinstance(booked.receipt, list):
            self._in_transaction(lambda connection: self._give_back(connection, wanted, booked))

    def pause(self, scope: str, whose: str, seconds: float) -> None:
        def prolong(connection: sqlite3.Connection) -> None:
            now = self._clock()
            (row,) = read(connection, self._keys(Wanted(scope, (), 0, 0.0, whose)), now)
            until = max(now + seconds, _until(row, now))
            row.write((now, until), until)

        self._in_transaction(prolong)

    def paused(self, scope: str, whose: str) -> float:
        answer = self.book(Wanted(scope, (), 0, 0.0, whose))
        return answer.left if isinstance(answer, Paused) else 0.0

    def close(self) -> None:
        self._file.close()

    def _book(self, connection: sqlite3.Connection, wanted: Wanted) -> Booked | Refused | Paused:
        _, limits, n, longest, _ = wanted
        now = at = self._clock()
        pause, *rows = read(connection, self._keys(wanted), now)
        until = _until(pause, now)
        if until > now:
            return Paused(until - now)
        if not n:
            return Booked(0.0)
        for row, limit in zip(rows, limits, strict=True):
            if row.state and now < row.state[0]:
                step = STEPS[limit.algorithm]
                row.state = at_now(row.state, now, step.times)
                row.write(row.state, step.expires(row.state, limit))
        logs = [_log(connection, row, limit) for row, limit in zip(rows, limits, strict=True)]
        for limit, row, log in zip(limits, rows, logs, strict=True):
            earliest = STEPS[limit.algorithm].earliest(row.state, now, n, limit, log or NO_LOG)
            if earliest > at:
                at = earliest
        wait = at - now
        if wait > longest:
            return Refused(wait)
        receipt = []
        for limit, row, log in zip(limits, rows, logs, strict=True):
            step = STEPS[limit.algorithm]
            after = step.book(row.state, now, at, n, limit, log or NO_LOG)
            row.write(after, step.expires(after, limit))
            if log:
                log.write()
            receipt.append((row.state, after))
        if random.random() < _PURGES:
            purge(connection, now)
            for log in filter(None, logs):
                log.purge(wait)
        return Booked(wait, receipt)

    def _give_back(self, connection: sqlite3.Connection, wanted: Wanted, booked: Booked) -> None:
        receipt: Receipt = booked.receipt  # type: ignore[assignment]  # give_back has looked
        _, *rows = read(connection, self._keys(wanted), 0.0)
        for row, (_, after) in zip(rows, receipt, strict=True):
            if row.state[: len(after)] != after:
                return
        for limit, row, (before, _) in zip(wanted.limits, rows, receipt, strict=True):
            if not before:
                row.forget()
                continue
            log = _log(connection, row, limit)
            if log:
                log.take_back(wanted.permits)
            row.write(before, STEPS[limit.algorithm].expires(before, limit))

    def _keys(self, wanted: Wanted) -> tuple[str, ...]:
        return keys.of_limits(self._prefix, wanted.scope, wanted.pause, wanted.limits)

    def _in_transaction(self, act: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = self._file.begin()
            try:
                done = act(connection)
                connection.execute("COMMIT")
            finally:
                self._file.end(connection)
        except Exception as error:  # a file that others have written to can hold anything
            known = isinstance(error, (sqlite3.Error, OSError))
            why = str(error) if known else in_words(error)
            raise StateUnavailable(
                f"the state of limits in {self._file.path} is out of reach: {why}"
            ) from error
        return done
