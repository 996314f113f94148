"""A circuit that a fleet shares: its steps in Redis, and what pybreaker knows of it here.

Each step is one script: nobody sees half of one, and the clock is that of Redis. What was last seen
there is kept here, for pybreaker, for its listeners, and for when Redis is out of reach.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

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
        self._scripts = scripts
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
        uncounted: int = 0,
        error: str = "",
        write: bool = False,
    ) -> Seen:
        """Make a step; ``write``: only if Redis can be written to."""
        answer = self._scripts.run(
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
        )
        result, state, *numbers, forced, now, text = answer.split("\n", 10)
        generation, failures, successes, trips = map(int, numbers[:4])
        seconds, left = map(float, numbers[4:])
        return Seen(
            *(result, state, generation, failures, successes, trips, seconds, left),
            *(forced, float(now), text),
        )


class RedisCircuitStorage(MemoryStorage):
    """What pybreaker asks its storage for, as it was last seen in Redis."""

    def adopt(self, seen: Seen) -> None:
        # pybreaker counts up from 0 only. These have kept their names through 1.x; see `_lock`.
        self._fail_counter = seen.failures
        self._success_counter = seen.successes


class SharedCircuit(Circuit):
    """A circuit that the whole fleet shares: what a hand does to it holds for all.

    ``current_state`` asks Redis; what else it says is as of the last time that anybody asked.
    """

    def __init__(
        self,
        name: str,
        numbers: BreakerNumbers,
        keeper: Keeper,
        storage: RedisCircuitStorage,
        look: Callable[[], None],
        order: Callable[[str], bool],
    ) -> None:
        self._look: Callable[[], None] | None = None
        super().__init__(name, *numbers[:3], keeper, storage)
        self._look, self._order = look, order

    @property
    def current_state(self) -> str:
        """``closed``, ``half-open`` or ``open``."""
        if self._look is not None and not self.is_moving_itself:
            self._look()
        return self.known_state

    def adopt(self, state: str, forced: str | None) -> None:
        """Go where the circuit is, of which pybreaker tells its listeners; it is held."""
        self._forced = forced
        self._state_storage.state = state
        self.state  # noqa: B018  # pybreaker looks, and sees that it has changed elsewhere

    def _move(self, command: str) -> None:
        if self._order(command):
            self._keeper.moved_by_hand()
        else:
            super()._move(command)
