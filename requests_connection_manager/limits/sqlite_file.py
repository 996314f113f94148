"""A file of SQLite: a connection for each thread and process, and its tables.

The law: a connection is used by the process that opened it, and by no other, not even to close it;
and only for as long as its file is the one that bears the name. Nor is one open while a process
forks: what SQLite notes in memory of its locks would be the child's, who has none of them.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
import weakref

from .. import forking
from .sqlite_rows import TABLES, VERSION
from .turn import Turn

_NAP = 0.001
"""Seconds, at most, between two looks whether the file is free. SQLite's own grow to 0.1 s."""

_of_parents: list[sqlite3.Connection] = []
"""Connections that were inherited nevertheless: to let go of one would close it."""

Mark = tuple[int, int]


class _Opened:
    """A connection, and which file it is to; closed with the thread that it belongs to."""

    def __init__(self, path: str, deadline: float) -> None:
        self.pid = os.getpid()
        mark = mark_of(path)
        # Any thread may close it; autocommit, so that transactions begin where we say so.
        self.connection = sqlite3.connect(
            path, timeout=_left(deadline), isolation_level=None, check_same_thread=False
        )
        try:
            _prepare(self.connection, deadline)
        except BaseException:
            self.connection.close()
            raise
        # Taken before, where there was one: if it was replaced in between, the next look shows it.
        self.mark = mark or mark_of(path)

    def close(self) -> None:
        if self.pid == os.getpid():
            self.connection.close()
        else:
            _of_parents.append(self.connection)

    def __del__(self) -> None:
        if hasattr(self, "connection"):
            self.close()


class SQLiteFile:
    """Opens the file where it is needed; threads of one process take turns.

    What waits, waits until one deadline: for its turn, and then for other processes.
    """

    def __init__(self, path: str, timeout: float) -> None:
        self.path = path
        self._timeout = timeout
        self.begin_in_child()
        forking.register(self)
        _files.add(self)

    def begin_in_child(self) -> None:
        self._turn = Turn()
        self._forking = self._to_close = False
        self._own = threading.local()
        self._all: weakref.WeakSet[_Opened] = weakref.WeakSet()

    def begin(self) -> sqlite3.Connection:
        """Begin a transaction that will write; to be ended by ``end``.

        Raises ``TimeoutError``, ``sqlite3.Error`` or ``OSError``, and then it has not begun.
        """
        deadline = time.monotonic() + self._timeout
        if self._turn.give_back():  # an interrupt tore this thread out of its last one
            self._forget_own()
        if not self._turn.take(self._timeout):
            raise TimeoutError("other threads of this process hold it")
        try:
            connection = self._connection(deadline)
            _begin(connection, deadline)
        except BaseException:
            self._turn.give_back()
            raise
        return connection

    def end(self, connection: sqlite3.Connection) -> None:
        """Take back what was not committed, and let the next one have its turn."""
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._own.opened = None  # the next one gets a new one
            connection.close()
        finally:
            if self._to_close:
                self._close_all()
            self._turn.give_back()

    def close(self) -> None:
        """Close all connections, or let who keeps his turn for long do so at its end."""
        self._to_close = True
        if self._turn.take(self._timeout):
            try:
                self._close_all()
            finally:
                self._turn.give_back()

    def before_fork(self) -> None:
        """Close it, and let nobody open it until ``after_fork``; nobody is waited for long."""
        self._forking = self._turn.take(self._timeout)
        if self._forking:
            self._close_all()

    def after_fork(self) -> None:
        if self._forking:
            self._forking = False
            self._turn.give_back()

    def _close_all(self) -> None:
        self._to_close = False
        for opened in list(self._all):
            opened.close()
        self._own = threading.local()

    def _forget_own(self) -> None:
        opened: _Opened | None = getattr(self._own, "opened", None)
        self._own.opened = None
        if opened is not None:
            opened.close()

    def _connection(self, deadline: float) -> sqlite3.Connection:
        opened: _Opened | None = getattr(self._own, "opened", None)
        if opened is None or opened.mark != mark_of(self.path):
            self._forget_own()
            self._own.opened = opened = _Opened(self.path, deadline)
            self._all.add(opened)
        if opened.connection.in_transaction:  # an interrupt came between two steps
            opened.connection.execute("ROLLBACK")
        return opened.connection


_files: weakref.WeakSet[SQLiteFile] = weakref.WeakSet()
_being_forked: list[SQLiteFile] = []


def _before_fork() -> None:
    _being_forked[:] = _files
    for each in _being_forked:
        each.before_fork()


def _after_fork() -> None:
    for each in _being_forked:
        each.after_fork()
    _being_forked.clear()


if hasattr(os, "register_at_fork"):
    # In a child, `begin_in_child` makes the turns anew.
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork,
        after_in_child=_being_forked.clear,
    )


def mark_of(path: str) -> Mark | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _begin(connection: sqlite3.Connection, deadline: float) -> None:
    """Like SQLite's own waiting, but with naps so short that nobody starves beside busy others."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        return
    except sqlite3.OperationalError as error:
        if not _is_busy(error):
            raise
    while True:
        time.sleep(random.uniform(0, _NAP))
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() > deadline:
                raise


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return "locked" in str(error)  # Python 3.10 has no codes


def _prepare(connection: sqlite3.Connection, deadline: float) -> None:
    """Make the tables, where they are missing, and set how much is done for safety."""
    while True:
        try:
            _prepare_once(connection, deadline)
            break
        except sqlite3.OperationalError as error:
            # who changes the journal's mode beside others is told at once, however long he'd wait
            if not _is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0, _NAP))
    # from here on, _begin waits
    connection.execute("PRAGMA busy_timeout = 0")


def _prepare_once(connection: sqlite3.Connection, deadline: float) -> None:
    connection.execute("PRAGMA page_size = 1024")  # a booking writes one page or two
    connection.execute("PRAGMA journal_mode = WAL")
    # A commit does not wait for the disk: a power cut may take the last bookings, which are over
    # by then. Not OFF, with which it may take the file.
    connection.execute("PRAGMA synchronous = NORMAL")
    if _version(connection) == VERSION:
        return
    _begin(connection, deadline)
    try:
        version = _version(connection)
        if version not in (0, VERSION):
            raise sqlite3.DatabaseError(f"its tables are of version {version}, not {VERSION}")
        if not version:
            for statement in (*TABLES, f"PRAGMA user_version = {VERSION}"):
                connection.execute(statement)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version
