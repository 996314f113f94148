"""Whose turn it is, among the threads of one process.

The law: a turn spares waiters their napping, and what it leads to bears two at once. So one that is
not given back, since an interrupt tore its holder away, is nobody's for long: that thread has it
already, a dead one's is taken at once, and after a wait in which it never changed hands the next
ones do without it.
"""

from __future__ import annotations

import threading
from contextlib import suppress


class Turn:
    """Like a lock, but it does not stay locked for ever."""

    def __init__(self) -> None:
        # Whose it is, it notes in the same step in which it is taken; no interrupt comes between.
        self._lock = threading.RLock()
        self._holder: threading.Thread | None = None
        self._taken = 0

    def take(self, timeout: float) -> bool:
        """Wait for it at most so many seconds; False: another one keeps it."""
        lock = self._lock
        if not lock.acquire(blocking=False):
            if self._holder is not None and not self._holder.is_alive():
                self._lock = lock = threading.RLock()
            taken = self._taken
            if not lock.acquire(timeout=timeout):
                if self._taken == taken and self._lock is lock:
                    self._lock = threading.RLock()
                return False
        self._holder = threading.current_thread()
        self._taken += 1
        return True

    def give_back(self) -> bool:
        """Let the next one have it; return whether it was this thread's."""
        was_mine = False
        with suppress(RuntimeError):  # which says that it is not, or no longer
            while True:
                self._lock.release()
                was_mine = True
        return was_mine
