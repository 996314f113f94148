"""What the manager has done, counted."""

from __future__ import annotations

import threading


class Stats:
    """Exact under any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls = 0

    @property
    def calls(self) -> int:
        """Calls that the policies let go."""
        return self._calls

    def count_call(self) -> None:
        with self._lock:
            self._calls += 1
