"""A circuit that a fleet shares: its steps in Redis, and what pybreaker knows of it here.

Each step is one script: nobody sees half of one, and the clock is that of Redis. What was last seen
there is kept here, for pybreaker, for its listeners, and for when Redis is out of reach.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ..exceptions import StateUnavailable
from ..limits.keys import of_circuit
from ..log import on_one_line
from .circuit import Circuit, Keeper, MemoryStorage

if TYPE_CHECKING:
    from ..limits.redis_scripts import Scripts
    from .circuit_breaker import BreakerNumbers

_LONGEST_TEXT = 200


class Seen(NamedTuple):
    """What a step came to, and the circuit after it."""

    result: str
    """``go``, ``trial``, ``refused``, ``counted`` or ``late``."""
    state: str
    generation: int
    """Another after each change of state."""
    failures: int
    successes: int
    trips: int
    seconds: float
    """How long it is open, or was when it last was."""
    left: float
    """Seconds until a trial, of an open one."""
    forced: str
    now: float
    """By the clock of Redis."""
    error: str
    """What failed last."""


class CircuitInRedis:
    """The circuit of one scope, step by step; each raises `StateUnavailable`.

    ``clock`` is for tests; without it, the clock of Redis counts.
    """

    def __init__(
        self,
        scripts: Scripts,
        prefix: str,
        scope: str,
        numbers: BreakerNumbers,
        lease: float,
        clock: Callable[[], float] | None = None,
    ) -> None:
        from ..limits.redis_scripts import Words, script  # late: only who has a Redis needs it

        rated = numbers.failure_rate or 0
        keep = 60 + 2 * max(numbers.recovery_timeout, numbers.recovery_max)
        keep += max(lease, numbers.window if rated else 0)
        self.scripts = scripts
        self._clock = clock
        self._script = script("circuit.lua")
        self._words = Words.of(
            [of_circuit(prefix, scope, numbers)],
            [
                *(str(numbers.failure_threshold or 0), repr(numbers.recovery_timeout)),
                *(str(numbers.success_threshold), repr(numbers.recovery_max)),
                *(repr(numbers.recovery_jitter), repr(rated), repr(numbers.window)),
                *(str(numbers.minimum_calls), repr(lease), repr(keep)),
            ],
        )

    def step(
        self,
        name: str,
        generation: int,
        trial: str = "",
        lost: str = "",
        held: str = "",
        uncounted: int = 0,
        error: str = "",
        write: bool = False,
    ) -> Seen:
        """Make a step; ``write``: only if Redis can be written to."""

        def ask() -> Seen:
            answer = self.scripts.run(
                self._script,
                self._words,
                name.encode(),
                b"%d" % generation,
                trial.encode(),
                lost.encode(),
                b"%d" % uncounted,
                b"%r" % random.random(),
                on_one_line(error)[:_LONGEST_TEXT].encode("utf-8", "replace"),
                b"write" if write else b"",
                b"" if self._clock is None else b"%r" % self._clock(),
                held.encode(),
            )
            result, state, *numbers, forced, now, text = answer.split("\n", 10)
            known, failures, successes, trips = map(int, numbers[:4])
            seconds, left = map(float, numbers[4:])
            return Seen(
                *(result, state, known, failures, successes, trips, seconds, left),
                *(forced, float(now), text),
            )

        return self.scripts.ask(ask)


class RedisCircuitStorage(MemoryStorage):
    """What pybreaker asks its storage for, as it was last seen in Redis."""

    def adopt(self, seen: Seen) -> None:
        # pybreaker counts up from 0 only. These have kept their names through 1.x; see `_lock`.
        self._fail_counter = seen.failures
        self._success_counter = seen.successes


class SharedCircuit(Circuit):
    """A circuit that the whole fleet shares: what a hand does to it holds for all.

    ``current_state`` asks Redis; what else it says is as of the last time that anybody asked. Its
    numbers are part of what makes it the fleet's, and cannot be set by hand.
    """

    def __init__(
        self,
        name: str,
        numbers: BreakerNumbers,
        keeper: Keeper,
        storage: RedisCircuitStorage,
        look: Callable[[], bool],
        order: Callable[[str], bool],
        kept_in: object,
    ) -> None:
        self._kept_in = kept_in
        self._look: Callable[[], bool] | None = None
        self._calls = 0
        """Calls of pybreaker's within each other, made by the thread that holds the lock."""
        self._commanded = ""
        """What came of them, to be told to all when the lock is released."""
        super().__init__(name, *numbers[:3], keeper, storage)
        self._look, self._order = look, order

    @property
    def current_state(self) -> str:
        """``closed``, ``half-open`` or ``open``."""
        self.look()
        return self.known_state

    @property
    def kept_in(self) -> object:
        return self._kept_in

    def look(self) -> bool:
        return self._look is None or self._is_held_here or self._look()

    @property
    def fail_max(self) -> int:
        """Failures in a row that open it."""
        return self._fail_max

    @fail_max.setter
    def fail_max(self, number: int) -> None:
        raise _not_by_hand("failure_threshold")

    @property
    def reset_timeout(self) -> float:
        """Seconds for which the first trip opens it."""
        return self._reset_timeout

    @reset_timeout.setter
    def reset_timeout(self, timeout: float) -> None:
        raise _not_by_hand("recovery_timeout")

    @property
    def success_threshold(self) -> int:
        """Trials that must succeed to close it."""
        return self._success_threshold

    @success_threshold.setter
    def success_threshold(self, threshold: int) -> None:
        raise _not_by_hand("success_threshold")

    def call(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._is_held_here:
            return super().call(func, *args, **kwargs)
        self.look()
        try:
            with self._lock:
                self._calls += 1
                try:
                    return super().call(func, *args, **kwargs)
                finally:
                    self._calls -= 1
                    command, self._commanded = self._commanded, ""
        finally:
            if command:
                with suppress(StateUnavailable):
                    self._move(command)

    def begin_in_child(self) -> None:
        super().begin_in_child()
        self._calls = 0

    @property
    def _is_held_here(self) -> bool:
        """Whether this thread holds it; then Redis is not asked, for all others would wait."""
        with self._lock:
            return self._moves_itself or self._calls > 0

    def adopt(self, state: str, forced: str | None) -> None:
        """Go where the circuit is, of which pybreaker tells its listeners; it is held."""
        self._forced = forced
        self._state_storage.state = state
        self.state  # noqa: B018  # pybreaker looks, and sees that it has changed elsewhere

    def _move(self, command: str) -> None:
        if self._is_held_here:
            self._commanded = command
            self.obey(command)
        elif self._order(command):
            self._keeper.moved_by_hand()
        else:
            super()._move(command)


def _not_by_hand(setting: str) -> AttributeError:
    return AttributeError(
        "the numbers of a circuit that a fleet shares are those of its settings: "
        f"circuit_breaker_{setting}"
    )
