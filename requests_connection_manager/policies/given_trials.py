"""The trials that Redis has given a process: the one that is under way, and those to be freed.

The law: a trial keeps its place in Redis, however long it takes, as long as each question there
shows it. Of which nobody has it any more, or perhaps never had, the next question says that it is
lost. Whose trials they are guards them with a lock.
"""

from __future__ import annotations

import itertools
import uuid
import weakref
from collections import deque
from collections.abc import Iterable
from contextlib import suppress

from .circuit_breaker import Admission


class SharedAdmission(Admission):
    """An admission that Redis gave, and in which of its generations."""

    __slots__ = ("name", "there")

    def __init__(self, here: int, there: int, name: str, is_trial: bool) -> None:
        super().__init__(here, is_trial)
        self.there = there
        self.name = name
        """Of the trial; empty where it is none."""


class GivenTrials:
    def __init__(self) -> None:
        self._me = uuid.uuid4().hex
        self._count = itertools.count(1)
        self._lost: deque[str] = deque(maxlen=32)
        self._held: weakref.ref[Admission] | None = None

    def name(self) -> str:
        """Return a name for the next one, which nobody else gives."""
        return f"{self._me}:{next(self._count)}"

    def hold(self, admission: SharedAdmission) -> weakref.ref[Admission]:
        """Note the one that is under way; weak, for it may be lost by an interrupt."""
        lost, name = self._lost, admission.name

        def note_loss(_: object) -> None:
            lost.append(name)

        self._held = weakref.ref[Admission](admission, note_loss)
        return self._held

    def under_way(self, generation: int) -> str:
        """Return the name of the one to be shown in a generation there; empty: there is none."""
        held = self._held() if self._held is not None else None
        if isinstance(held, SharedAdmission) and held.there == generation:
            return held.name
        return ""

    def end(self, admission: SharedAdmission) -> None:
        """Show it no more."""
        if self._held is not None and self._held() is admission:
            self._held = None

    @property
    def lost(self) -> tuple[str, ...]:
        """The names of those that are to be freed."""
        return tuple(self._lost)

    def lose(self, name: str) -> None:
        """Let it be freed with the next question."""
        self._lost.append(name)

    def freed(self, names: Iterable[str]) -> None:
        """These are no longer to be told of."""
        for name in names:
            with suppress(ValueError):  # another thread was told the same
                self._lost.remove(name)
