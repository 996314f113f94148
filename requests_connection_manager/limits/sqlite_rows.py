"""What a file of SQLite holds under one key: a state, and the log of a sliding window.

The log is a ring of slots: a booking reads one and writes as many as it has permits, however
many the limit has.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterable
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
        id INTEGER, slot INTEGER, time REAL NOT NULL, PRIMARY KEY (id, slot)
    ) WITHOUT ROWID""",
)
VERSION = 1
"""Of the tables."""

_SELECT = "SELECT key, id, expires, head, seen, b, c, d FROM kept WHERE key = ?"
_INSERT = "INSERT INTO kept (expires, head, seen, b, c, d, key) VALUES (?, ?, ?, ?, ?, ?, ?)"
_UPDATE = "UPDATE kept SET expires = ?, head = ?, seen = ?, b = ?, c = ?, d = ? WHERE id = ?"
_PURGED = 500
"""Rows that one purge looks at. More than fifty bookings can make, of eight limits each."""
_FREED = 2000
"""Slots of logs that one purge deletes, at most: nobody is to wait for a million."""


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


class Ring:
    """The log of a row: a slot for each permit of its limit."""

    def __init__(self, connection: sqlite3.Connection, row: Row, size: int) -> None:
        self._connection = connection
        self._row = row
        self._size = size
        self._read: dict[int, float] = {}
        self._added: tuple[float, int] | None = None

    def back(self, n: int) -> float:
        slot = (self._row.head - n) % self._size
        if slot not in self._read:
            found = self._connection.execute(
                "SELECT time FROM log WHERE id = ? AND slot = ?", (self._row.id, slot)
            )
            self._read[slot] = found.fetchone()[0]
        return self._read[slot]

    def add(self, time: float, n: int) -> None:
        self._added = time, n
        self._row.head += n

    def falling_out(self, n: int) -> tuple[float, ...]:
        """Return what is lost when ``n`` are added, the oldest first."""
        count = int(self._row.state[1]) if self._row.state else 0
        return tuple(self.back(count - i) for i in range(max(0, count + n - self._size)))

    def write(self) -> None:
        """Write what was added, after its row."""
        assert self._added is not None
        time, n = self._added
        self._put((self._row.head - n + i, time) for i in range(n))

    def take_back(self, n: int, fallen_out: tuple[float, ...]) -> None:
        """Undo the adding of ``n``, before its row is written."""
        self._row.head -= n
        first = self._row.head - self._size
        self._put((first + i, time) for i, time in enumerate(fallen_out, n - len(fallen_out)))

    def _put(self, times: Iterable[tuple[int, float]]) -> None:
        rows = [(self._row.id, place % self._size, time) for place, time in times]
        self._connection.executemany("INSERT OR REPLACE INTO log VALUES (?, ?, ?)", rows)


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
        "DELETE FROM log WHERE (id, slot) IN"
        f" (SELECT id, slot FROM log WHERE id IN {some} LIMIT {_FREED})",
        expired,
    )
    # What still has slots goes later; its state must not come back with a clock that is set back.
    connection.execute(f"UPDATE kept SET expires = 0 WHERE id IN {some}", expired)
    connection.execute(
        f"DELETE FROM kept WHERE id IN {some}"
        " AND NOT EXISTS (SELECT 1 FROM log WHERE log.id = kept.id)",
        expired,
    )
