"""The state machine of a breaker: pybreaker's, which people can also move by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import pybreaker

CLOSED: str = pybreaker.STATE_CLOSED
OPEN: str = pybreaker.STATE_OPEN
HALF_OPEN: str = pybreaker.STATE_HALF_OPEN
MemoryStorage = pybreaker.CircuitMemoryStorage
_NEVER = 2**62
"""pybreaker knows no circuit that failures in a row do not open."""


class Keeper(Protocol):
    """Who keeps a circuit, and is told what becomes of it."""

    def changed(self, old: str, new: str) -> None:
        """It went from one state to another; told under its lock."""
        ...

    def forget(self) -> None:
        """What was learned of it so far is to count no more; told under its lock."""
        ...

    def moved_by_hand(self) -> None:
        """Somebody has moved it, and its lock is released."""
        ...


class Circuit(pybreaker.CircuitBreaker):
    """The real pybreaker object of one scope, from ``manager.circuit_breakers``.

    ``open()``, ``close()`` and ``half_open()`` are pybreaker's: calls go on to move it from there.
    """

    def __init__(
        self,
        name: str,
        failure_threshold: int | None,
        recovery_timeout: float,
        success_threshold: int,
        keeper: Keeper,
        storage: MemoryStorage | None = None,
    ) -> None:
        self._forced: str | None = None
        self._moves_itself = False
        self._keeper = keeper
        super().__init__(
            state_storage=storage,
            fail_max=_NEVER if failure_threshold is None else failure_threshold,
            reset_timeout=recovery_timeout,
            success_threshold=success_threshold,
            name=name,
            throw_new_error_on_trip=False,  # the call that trips it keeps its own error
            listeners=[_Watch(keeper.changed)],
        )

    @property
    def known_state(self) -> str:
        """``current_state``, as far as it is known here."""
        return self._state_storage.state

    @property
    def kept_in(self) -> object:
        """Where all look who share it; None: only this process has it."""
        return None

    def look(self) -> bool:
        """See what others have made of it; False: nobody can be asked."""
        return True

    @property
    def forced(self) -> str | None:
        """``open`` or ``closed``, if it stays so whatever the calls come to; None: it is free."""
        return self._forced

    def force_open(self) -> None:
        """Reject all calls, without a trial, until `close` or `reset`.

        A change of the breaker's settings leaves that so, but not where Redis has the circuit:
        other numbers make another one there.
        """
        self._move("force_open")

    def force_closed(self) -> None:
        """Let all calls through, whatever fails, until `reset`."""
        self._move("force_closed")

    def reset(self) -> None:
        """Close it, with nothing counted, and no memory of earlier trips."""
        self._move("reset")

    def open(self) -> bool:
        """Reject calls for ``reset_timeout`` seconds; then comes a trial."""
        if self.is_moving_itself:
            return super().open()
        self._move("open")
        return False  # as pybreaker does: no other error is to be raised

    def half_open(self) -> None:
        """Let the next call through, as a trial."""
        if self.is_moving_itself:
            super().half_open()
        else:
            self._move("half_open")

    def close(self) -> None:
        """Let calls through; one that is forced closed stays it."""
        if self.is_moving_itself:
            super().close()
        else:
            self._move("close")

    def call(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call ``func`` as pybreaker does; what comes of it does not move a circuit that is forced.

        Forced open it raises ``pybreaker.CircuitBreakerError``.
        """
        if self._forced is None or self.is_moving_itself:
            return super().call(func, *args, **kwargs)
        if self._forced == OPEN:
            raise pybreaker.CircuitBreakerError(f"circuit of {self.name} is forced open")
        return func(*args, **kwargs)

    def begin_in_child(self) -> None:
        # Another thread may have been moving it; its lock is the keeper's affair.
        self._moves_itself = False

    @contextmanager
    def moving_itself(self) -> Iterator[None]:
        """Hold it; its moves within are consequences of calls, and not of somebody's hand."""
        with self._lock:
            before, self._moves_itself = self._moves_itself, True
            try:
                yield
            finally:
                self._moves_itself = before

    @property
    def is_moving_itself(self) -> bool:
        """Whether it is this thread that moves it so."""
        with self._lock:  # held by another thread, it is that one which moves it
            return self._moves_itself

    def _move(self, command: str) -> None:
        with self._lock:
            self.obey(command)
        self._keeper.moved_by_hand()

    def obey(self, command: str) -> None:
        """Do what a hand wants; it is held, and nobody is told yet."""
        if command == "reset":
            self._keeper.forget()
        if command == "force_closed" or (command == "close" and self._forced == CLOSED):
            self._forced = CLOSED
        else:
            self._forced = OPEN if command == "force_open" else None
        if command in ("open", "force_open"):
            super().open()
        elif command == "half_open":
            super().half_open()
        else:
            super().close()


class _Watch(pybreaker.CircuitBreakerListener):
    def __init__(self, changed: Callable[[str, str], None]) -> None:
        self._changed = changed

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        self._changed(old_state.name if old_state is not None else new_state.name, new_state.name)


class WorstCircuit:
    """The state of the worst of several circuits, at the time of asking."""

    def __init__(self, circuits: Callable[[], Mapping[str, Circuit]]) -> None:
        self._circuits = circuits

    @property
    def current_state(self) -> str:
        """``closed``, ``half-open`` or ``open``."""
        return self._worst()[0]

    @property
    def fail_counter(self) -> int:
        """Its failures in a row."""
        return self._worst()[1]

    def _worst(self) -> tuple[str, int]:
        circuits = list(self._circuits().values())
        look_at(circuits)
        return worst_of(circuits)


_BADNESS = (CLOSED, HALF_OPEN, OPEN)


def look_at(circuits: Iterable[Circuit]) -> None:
    """Look at each once; where one cannot be looked at, what is known of its like must do."""
    gone = set()
    for each in circuits:
        if each.kept_in not in gone and not each.look():
            gone.add(each.kept_in)


def worst_of(circuits: Iterable[Circuit]) -> tuple[str, int]:
    """Return the state of the worst, as far as is known here, and its failures in a row."""
    return max(
        ((each.known_state, each.fail_counter) for each in circuits),
        key=lambda state: (_BADNESS.index(state[0]), state[1]),
        default=(CLOSED, 0),
    )
