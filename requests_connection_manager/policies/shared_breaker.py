"""A breaker that a fleet shares, and that goes on alone while Redis is out of reach.

The law: no lock is held while Redis is asked; what it answers decides, and is then taken over here,
so that who goes on alone goes on from what was last seen. No call fails, and none waits, because
Redis is gone, but the one whose turn it is to try; unless ``raise`` was asked for.

A good call costs one command, its admission: successes that only the rate counts go with the next
question.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import requests

from ..events import BreakerChanged
from ..exceptions import StateUnavailable
from ..failures import SlowAnswer
from ..limits.absence import Absence
from .circuit import OPEN, Circuit
from .circuit_breaker import Admission, Breaker, BreakerNumbers, replay_failure, replay_success
from .given_trials import GivenTrials, SharedAdmission
from .shared_circuit import CircuitInRedis, RedisCircuitStorage, Seen, SharedCircuit

_COUNTING = ("admit", "failed", "look", "succeeded")
"""The steps with which successes are counted."""
_OVERTAKEN = -1
"""The generation here of what Redis gave before it moved on, as another answer has told already."""


class SharedBreaker(Breaker):
    """The breaker of one scope, for all who share a Redis."""

    def __init__(
        self,
        scope: str,
        numbers: BreakerNumbers,
        there: CircuitInRedis,
        absence: Absence | None,
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[[BreakerChanged], object] | None = None,
    ) -> None:
        self._there = there
        self._absence = absence
        """None: `StateUnavailable` is raised."""
        self._storage = RedisCircuitStorage("closed")
        self._generation = 0
        """That of the circuit in Redis, as last seen."""
        self._seen_at = 0.0
        self._views = 0
        """How often what was seen was taken over."""
        self._is_alone = False
        """Whether anything was decided here since Redis was last seen."""
        self._uncounted = 0
        self._uncounted_since = 0.0
        self._own_error: Exception | None = None
        super().__init__(scope, numbers, clock, tell)

    def _make_circuit(self) -> Circuit:
        asks = (self._look, self._order, self._there.scripts)
        return SharedCircuit(self.scope, self._numbers, self, self._storage, *asks)

    def begin_in_child(self) -> None:
        super().begin_in_child()
        self._trials = GivenTrials()

    def inherit(self, forced: str) -> None:
        """Let it be: who shares it may have said otherwise, before or after."""

    def _admit(self, endpoint: str) -> Admission:
        return self._admit_there(endpoint, "") or super()._admit(endpoint)

    def renew(self, admission: Admission, endpoint: str = "") -> Admission:
        if not isinstance(admission, SharedAdmission):
            return super().renew(admission, endpoint)
        try:
            renewed = self._admit_there(endpoint, admission.name)
        finally:
            self._tell_of_changes()
        return renewed or super().renew(admission, endpoint)

    def _admit_there(self, endpoint: str, trial: str) -> Admission | None:
        """Ask Redis to let a hop go; None: it is out of reach."""
        trials, generation = self._trials, self._generation
        name, lost, under_way = trial or trials.name(), trials.lost, trials.under_way(generation)
        try:
            seen = self._ask("admit", generation, name, lost, under_way, may_lose=not trial)
            admission = None if seen is None else self._admission_for(seen, name)
        except BaseException:  # an interrupt, or what a listener raises
            if not trial:
                trials.lose(name)  # granted perhaps, and nobody has it
            raise
        if seen is None:
            return None
        trials.freed(lost)
        if admission is None:
            if under_way and trials.under_way(generation) != under_way:
                # It ended while it was shown to Redis, and may so have come back to its place.
                trials.lose(under_way)
                with suppress(StateUnavailable):
                    self._ask("withdraw", generation, under_way)
            left = seen.left if seen.left > 0 else min(1.0, self.circuit.reset_timeout)
            raise self._refusal(self._left() if seen.forced else left, endpoint)
        return admission

    def _admission_for(self, seen: Seen, name: str) -> SharedAdmission | None:
        """Make what Redis has granted; None: nothing."""
        if seen.result == "refused":
            return None
        with self._lock:
            is_latest = seen.generation == self._generation
            here = self._admission.generation if is_latest else _OVERTAKEN
        if seen.result != "trial":
            return SharedAdmission(here, seen.generation, "", is_trial=False)
        admission = SharedAdmission(here, seen.generation, name, is_trial=True)
        with self._lock:
            self._trial = self._trials.hold(admission)
        return admission

    def succeeded(self, admission: Admission, elapsed: float = 0.0) -> None:
        if elapsed > self._slow_call:
            self.failed(admission, SlowAnswer.after(elapsed, self._slow_call))
        elif not isinstance(admission, SharedAdmission):
            super().succeeded(admission)
        elif not admission.is_trial and not self._storage.counter:
            self._count_later(admission)
        else:
            self._succeed(admission)

    def _succeed(self, admission: SharedAdmission) -> None:
        def announce(seen: Seen) -> None:
            if seen.result == "counted":
                self._announce(replay_success)

        try:
            seen = self._settle("succeeded", admission, announce=announce)
            if seen is not None and seen.result == "counted":
                self._tell_listeners_of_success()
        finally:
            self._tell_of_changes()
        if seen is None and self._absence is not None:
            super().succeeded(admission)

    def _count_later(self, admission: SharedAdmission) -> None:
        if self._numbers.failure_rate is not None:
            with self._lock:
                if admission.there == self._generation:
                    self._uncounted += 1
                    if self._uncounted == 1:
                        self._uncounted_since = self._clock()
        if admission.there == self._generation and self.circuit.forced is None:
            self._announce(replay_success)
            self._tell_listeners_of_success()

    def _announce(self, outcome: Callable[..., object], *error: Exception) -> None:
        """Tell listeners of what pybreaker would call now, were the circuit in memory."""
        for listener in self.circuit.listeners:
            listener.before_call(self.circuit, outcome, *error)

    def _tell_listeners_of_success(self) -> None:
        for listener in self.circuit.listeners:
            listener.success(self.circuit)

    def _fail(self, admission: Admission, kept: Exception) -> None:
        if isinstance(admission, SharedAdmission):
            self._own_error = kept

            def announce(seen: Seen) -> None:
                if seen.result == "counted":
                    self._failed_at = self._clock()
                    self._announce(replay_failure, kept)
                    for listener in self.circuit.listeners:
                        listener.failure(self.circuit, kept)

            seen = self._settle("failed", admission, str(kept), announce)
            if seen is not None or self._absence is None:
                return
        super()._fail(admission, kept)

    def withdraw(self, admission: Admission) -> None:
        if isinstance(admission, SharedAdmission) and admission.is_trial:
            self._settle("withdraw", admission)
        super().withdraw(admission)
        self._tell_of_changes()

    def _settle(
        self,
        step: str,
        admission: SharedAdmission,
        error: str = "",
        announce: Callable[[Seen], None] | None = None,
    ) -> Seen | None:
        """Tell Redis what came of a hop; None: it is out of reach, and the call goes on.

        With ``raise``, what Redis has not heard of counts nowhere: nobody here goes on alone.
        """
        seen, name = None, admission.name
        if admission.is_trial:
            with self._lock:  # before Redis is told: nobody is to show it there as under way still
                self._trials.end(admission)
        try:
            with suppress(StateUnavailable):
                seen = self._ask(step, admission.there, name, error=error, announce=announce)
        finally:
            if admission.is_trial:
                with self._lock:
                    if seen is None:
                        self._trials.lose(name)
                    elif admission.generation == self._admission.generation:
                        self._trial = None
        return seen

    def _look(self) -> bool:
        seen = None
        with suppress(StateUnavailable):
            seen = self._ask("look", self._generation)
        self._tell_of_changes()
        return seen is not None

    def _order(self, command: str) -> bool:
        """Let a hand move the circuit of all; False: only that of this process can be."""
        return self._ask(command, self._generation) is not None

    def _ask(
        self,
        step: str,
        generation: int,
        trial: str = "",
        lost: tuple[str, ...] = (),
        held: str = "",
        *,
        error: str = "",
        announce: Callable[[Seen], None] | None = None,
        may_lose: bool = False,
    ) -> Seen | None:
        """Make a step in Redis, and take over what is seen there; None: it is out of reach."""
        absence = self._absence
        if absence is not None and not absence.may_try():
            self._is_alone = True
            return None
        uncounted = self._take_uncounted(step, generation)
        write = absence is not None and absence.gone  # a Redis that can only be read is no help
        views = self._views
        try:
            seen = self._there.step(
                step, generation, trial, " ".join(lost), held, uncounted, error, write
            )
        except StateUnavailable as unavailable:
            if absence is None:
                raise
            if may_lose:
                self._trials.lose(trial)  # granted perhaps, and the answer did not come
            absence.failed(unavailable)
            self._is_alone = True
            return None
        if absence is not None:
            absence.returned()
        try:
            if announce is not None:
                announce(seen)
        finally:  # whatever a listener raises
            self._adopt(seen, views)
        return seen

    def _take_uncounted(self, step: str, generation: int) -> int:
        if self._numbers.failure_rate is None or step not in _COUNTING:
            return 0
        with self._lock:
            taken, self._uncounted = self._uncounted, 0
            stale = self._clock() - self._uncounted_since > self._numbers.window
            if generation != self._generation or stale:
                taken = 0
        return taken + (step == "succeeded")

    def _adopt(self, seen: Seen, views: int) -> None:
        """Take over what was seen, asked for when there had been so many ``views``."""
        with self.circuit.moving_itself():
            # What was asked for after the last answer had come is later than that, whatever the
            # clocks say. Of two questions that were under way together either may be the later.
            earlier = (seen.generation, seen.now) < (self._generation, self._seen_at)
            if views != self._views and earlier and not self._is_alone:
                return
            self._views += 1
            self._seen_at = seen.now
            circuit, generation = self.circuit, self._admission.generation
            is_another = seen.generation != self._generation or self._is_alone
            forced = seen.forced or None
            if seen.error:
                own = self._own_error
                is_own = own is not None and str(own) == seen.error
                self._last_error = own if is_own else requests.RequestException(seen.error)
            was_forced = circuit.forced
            assert isinstance(circuit, SharedCircuit)
            circuit.adopt(seen.state, forced)
            if forced != was_forced and generation == self._admission.generation:
                self.changed(seen.state, seen.state)
            elif is_another and generation == self._admission.generation:
                self._begin_generation()
            if is_another:
                self._generation, self._uncounted, self._is_alone = seen.generation, 0, False
            self._storage.adopt(seen)
            self._open_time.adopt(seen.trips, seen.seconds)
            if seen.state == OPEN:
                self._opened_at = self._clock() + seen.left - seen.seconds
