"""What a file of SQLite holds under one key: a state, and the log of a sliding window.

The log has a row for each booking, which says how many permits there were with it: so one that
wants many permits reads one row and writes one, too, however many the limit has.
"""

from __future__ import annotations

import random
import sqlite3
from functools import cache

from .algorithms import State

TABLES = (
    """CREATE TABLE kept (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        expires REAL NOT NULL,
        head INTEGER NOT NULL,  -- permits that its log has ever seen
        seen REAL NOT NULL, b REAL, c REAL, d REAL  -- its state
    )""",
    """CREATE TABLE log (
        id INTEGER,
        upto INTEGER,  -- permits that the log has seen, with this booking
        time REAL NOT NULL,
        PRIMARY KEY (id, upto)
    ) WITHOUT ROWID""",
)
VERSION = 2
"""Of the tables. Those of 1 had a log with a row for each permit."""

_SELECT = "SELECT key, id, expires, head, seen, b, c, d FROM kept WHERE key = ?"
_INSERT = "INSERT INTO kept (expires, head, seen, b, c, d, key) VALUES (?, ?, ?, ?, ?, ?, ?)"
_UPDATE = "UPDATE kept SET expires = ?, head = ?, seen = ?, b = ?, c = ?, d = ? WHERE id = ?"
_PURGED = 500
"""Rows that one purge looks at. More than fifty bookings can make, of eight limits each."""
_FREED = 2000
"""Rows of logs that one purge deletes, at most: nobody is to wait for a million."""


class Row:
    """One key; what has expired is as good as nothing."""

    __slots__ = ("_connection", "head", "id", "key", "state")

    def __init__(self, connection: sqlite3.Connection, key: str) -> None:
        self._connection = connection
        self.key = key
        self.id: int | None = None
        self.head = 0
        self.state: State = ()

    def write(self, state: State, expires: float) -> None:
        values = (expires, self.head, *state, None, None, None)[:6]
        if self.id is None:
            self.id = self._connection.execute(_INSERT, (*values, self.key)).lastrowid
        else:
            self._connection.execute(_UPDATE, (*values, self.id))

    def forget(self) -> None:
        self._connection.execute("UPDATE kept SET expires = 0 WHERE id = ?", (self.id,))


class Bookings:
    """The log of a row: what is booked for later, and before that twice what its limit has."""

    def __init__(self, connection: sqlite3.Connection, row: Row, size: int) -> None:
        self._connection = connection
        self._row = row
        self._size = size
        self._time = 0.0

    def back(self, n: int) -> float:
        found = self._connection.execute(
            "SELECT time FROM log WHERE id = ? AND upto > ? ORDER BY upto LIMIT 1",
            (self._row.id, self._row.head - n),
        )
        time: float = found.fetchone()[0]
        return time

    def add(self, time: float, n: int) -> None:
        self._row.head += n
        self._time = time

    def write(self) -> None:
        """Write what was added, after its row."""
        self._connection.execute(
            "INSERT INTO log VALUES (?, ?, ?)", (self._row.id, self._row.head, self._time)
        )

    def take_back(self, n: int) -> None:
        """Undo the adding of ``n``, before its row is written."""
        self._row.head -= n
        self._connection.execute(
            "DELETE FROM log WHERE id = ? AND upto > ?", (self._row.id, self._row.head)
        )

    def purge(self, wait: float) -> None:
        """Delete what the limit has no need of, whatever is taken back.

        That may be all whose time is yet to come, and what had its time within one period: no more
        than the limit has. ``wait`` is the time until that of what was added.
        """
        self._connection.execute(
            "DELETE FROM log WHERE (id, upto) IN (SELECT id, upto FROM log WHERE id = ? AND upto <="
            " (SELECT upto FROM log WHERE id = ? AND time <= ? ORDER BY upto DESC LIMIT 1) - ?"
            f" LIMIT {_FREED})",
            (self._row.id, self._row.id, self._time - wait, 2 * self._size),
        )


@cache
def _selection(count: int) -> str:
    return " UNION ALL ".join([_SELECT] * count)  # twice as fast as IN


def read(connection: sqlite3.Connection, names: tuple[str, ...], now: float) -> list[Row]:
    """Return the rows of some keys."""
    rows = {key: Row(connection, key) for key in names}
    for key, number, expires, head, *state in connection.execute(_selection(len(names)), names):
        row = rows[key]
        row.id = number
        row.head = head
        if expires > now:
            row.state = tuple(state)  # a short one has None at its end, where no step looks
    return list(rows.values())


def purge(connection: sqlite3.Connection, now: float) -> None:
    """Delete what has expired, among some rows that are taken at random."""
    lowest, highest = connection.execute("SELECT min(id), max(id) FROM kept").fetchone()
    if lowest is None:
        return
    looked_at = connection.execute(
        "SELECT id, expires FROM kept WHERE id >= ? ORDER BY id LIMIT ?",
        (random.randint(lowest, highest), _PURGED),
    )
    expired = [number for number, expires in looked_at if expires <= now]
    if not expired:
        return
    some = "(" + "?, " * (len(expired) - 1) + "?)"
    connection.execute(
        "DELETE FROM log WHERE (id, upto) IN"
        f" (SELECT id, upto FROM log WHERE id IN {some} LIMIT {_FREED})",
        expired,
    )
    # What still has a log goes later; its state must not come back with a clock that is set back.
    connection.execute(f"UPDATE kept SET expires = 0 WHERE id IN {some}", expired)
    connection.execute(
        f"DELETE FROM kept WHERE id IN {some}"
        " AND NOT EXISTS (SELECT 1 FROM log WHERE log.id = kept.id)",
        expired,
    )
