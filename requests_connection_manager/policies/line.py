"""Who waits, in the order in which they came.

The line holds its waiters weakly, and lets one stand that says it is gone: whom an interrupt tore
away before it could leave does not block the others. Whose line it is, guards it with a lock.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque


class Place(threading.Event):
    """Where somebody stands; it is set when all before it have left."""

    gone = False
    """Said first of all when its owner leaves, in one step that nothing can interrupt.

    Otherwise, with the traceback of the interrupt kept somewhere, it would stand there for ever.
    """

    def __init__(self, permits: int = 1) -> None:
        super().__init__()
        self.permits = permits
        """How many it waits for, where that counts."""


class Line:
    def __init__(self) -> None:
        self._places: deque[weakref.ref[Place]] = deque()

    def __len__(self) -> int:
        return len(self._places)

    def ahead_of(self, place: Place) -> list[Place]:
        """Return those who come before it; all, if it does not stand in the line yet."""
        ahead = []
        for each in self._places:
            other = each()
            if other is place:
                break
            if other is not None and not other.gone:
                ahead.append(other)
        return ahead

    def join(self, place: Place) -> None:
        """Stand at the end."""
        self._places.append(weakref.ref(place))
        self.wake_first()

    def leave(self, place: Place) -> None:
        """Leave from wherever it stands, if it does; the next one is woken."""
        mine = weakref.ref(place)
        if mine in self._places:
            self._places.remove(mine)
        self.wake_first()

    def wake_first(self) -> None:
        """Tell the first that it is; who is gone is passed over."""
        while self._places:
            first = self._places[0]()
            if first is not None and not first.gone:
                first.set()
                return
            self._places.popleft()
