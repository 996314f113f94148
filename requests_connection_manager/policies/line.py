"""Who waits, in the order in which they came.

The line holds its waiters weakly: one that an interrupt tore away before it could leave does not
block the others. Whose line it is, guards it with a lock of its own.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque


class Line:
    """A place is an event; it is set when all before it have left."""

    def __init__(self) -> None:
        self._places: deque[weakref.ref[threading.Event]] = deque()

    def __len__(self) -> int:
        return len(self._places)

    def join(self, place: threading.Event) -> None:
        """Stand at the end."""
        self._places.append(weakref.ref(place))
        self.wake_first()

    def leave(self, place: threading.Event) -> None:
        """Leave from wherever it stands, if it does; the next one is woken."""
        mine = weakref.ref(place)
        if mine in self._places:
            self._places.remove(mine)
        self.wake_first()

    def wake_first(self) -> None:
        """Tell the first that it is; who is gone is passed over."""
        while self._places:
            first = self._places[0]()
            if first is not None:
                first.set()
                return
            self._places.popleft()
