"""Not calling a service that is down: a ``pybreaker.CircuitBreaker``, entered in two short steps.

The law: the breaker is never held while a request runs. Admission is one short step under its
lock, and the outcome is replayed through ``call`` in another. An outcome from before the last
change of state is dropped; half-open, exactly one trial is out at a time.

pybreaker's own ``call`` holds its lock during the request, and its ``calling`` lets every waiting
thread through when half-open.
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from .. import forking
from ..events import BreakerChanged
from ..exceptions import CircuitBreakerOpen
from ..failures import SlowAnswer, in_seconds, without_traceback
from .circuit import CLOSED, HALF_OPEN, OPEN, Circuit
from .open_time import OpenTime
from .outcome_window import OutcomeWindow


class BreakerNumbers(NamedTuple):
    """What the settings ``circuit_breaker_...`` say; see there."""

    failure_threshold: int | None
    recovery_timeout: float
    success_threshold: int = 1
    recovery_max: float = 600
    recovery_jitter: float = 0.1
    failure_rate: float | None = None
    window: float = 30
    minimum_calls: int = 20
    slow_call: float | None = None


class Admission:
    """That the breaker let a hop go, and in which of its generations."""

    __slots__ = ("__weakref__", "generation", "is_trial")

    def __init__(self, generation: int, is_trial: bool) -> None:
        self.generation = generation
        self.is_trial = is_trial


class Breaker:
    """The breaker of one scope.

    ``circuit`` is the real pybreaker object, which can be moved by hand.
    """

    def __init__(
        self,
        scope: str,
        numbers: BreakerNumbers,
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[[BreakerChanged], object] | None = None,
    ) -> None:
        self.scope = scope
        self._numbers = numbers
        self._tell = tell
        self._untold: deque[BreakerChanged] = deque()
        self._clock = clock
        self._opened_at = self._failed_at = self._changed_at = clock()
        self._open_time = OpenTime(
            numbers.recovery_timeout, numbers.recovery_max, numbers.recovery_jitter
        )
        self._slow_call = math.inf if numbers.slow_call is None else numbers.slow_call
        self._window = (
            None if numbers.failure_rate is None else OutcomeWindow(numbers.window, clock)
        )
        self._last_error: Exception | None = None
        self._told_forced: str | None = None
        self._admission = Admission(generation=0, is_trial=False)
        self.circuit = self._make_circuit()
        self.begin_in_child()
        forking.register(self)

    def _make_circuit(self) -> Circuit:
        return Circuit(self.scope, *self._numbers[:3], keeper=self)

    def begin_in_child(self) -> None:
        # pybreaker has no public way to look and decide in one step. Its RLock has kept this
        # name through 1.x; the dependency is held below 1.5 for it.
        self._lock = self.circuit._lock = threading.RLock()
        self.circuit.begin_in_child()
        # Weak: a trial that is lost on the way, by an interrupt, say, does not block the next.
        self._trial: weakref.ref[Admission] | None = None
        self._telling = False

    def admit(self, endpoint: str = "") -> Admission:
        """Let a hop go, or raise `CircuitBreakerOpen`; end it with `settle`, whatever comes."""
        try:
            return self._admit(endpoint)
        finally:
            self._tell_of_changes()

    def _admit(self, endpoint: str) -> Admission:
        with self._lock:
            state = self.circuit.known_state
            if state == CLOSED:
                return self._admission
            if state == OPEN:
                left = self._left()
                if left > 0:
                    raise self._refusal(left, endpoint)
                with self.circuit.moving_itself():
                    self.circuit.half_open()
            if self._trial is not None and self._trial() is not None:
                # When the trial ends is not known; a second is soon enough to ask again.
                raise self._refusal(min(1.0, self.circuit.reset_timeout), endpoint)
            trial = Admission(self._admission.generation, is_trial=True)
            self._trial = weakref.ref(trial)
            return trial

    def renew(self, admission: Admission, endpoint: str = "") -> Admission:
        """Ask again, if the state has changed while the hop waited to be sent."""
        if admission.generation == self._admission.generation:
            return admission
        return self.admit(endpoint)

    def succeeded(self, admission: Admission, elapsed: float = 0.0) -> None:
        """The service answered, in ``elapsed`` seconds."""
        if elapsed > self._slow_call:
            self.failed(admission, SlowAnswer.after(elapsed, self._slow_call))
            return
        circuit = self.circuit
        try:
            with self._lock:
                # the common case: pybreaker would set 0 to 0, and tell nobody but us
                is_plain = (
                    not admission.is_trial
                    and not circuit.fail_counter
                    and len(circuit.listeners) == 1
                )
                if is_plain and self._window is None:
                    return
                if self._ends(admission):
                    try:
                        if not is_plain:
                            with circuit.moving_itself():
                                circuit.call(replay_success)
                    finally:  # whatever a listener raises
                        self._weigh(admission, failed=False)
        finally:
            self._tell_of_changes()

    def failed(self, admission: Admission, error: Exception) -> None:
        """The service failed; to pybreaker, what somebody has excluded is a success."""
        kept = without_traceback(error)
        if not self.circuit.is_system_error(kept):
            self.succeeded(admission)
            return
        try:
            self._fail(admission, kept)
        finally:
            self._tell_of_changes()

    def _fail(self, admission: Admission, kept: Exception) -> None:
        with self.circuit.moving_itself():
            if not self._ends(admission):
                return
            self._last_error = kept
            self._failed_at = self._clock()
            try:
                self.circuit.call(replay_failure, kept)
            except Exception as replayed:
                if replayed is not kept:  # a listener's own
                    raise
            finally:
                kept.__traceback__ = kept.__context__ = None
                self._weigh(admission, failed=True)

    def _weigh(self, admission: Admission, failed: bool) -> None:
        """Count an outcome of a closed circuit, and open it if the rate is reached."""
        window, numbers = self._window, self._numbers
        if window is None or numbers.failure_rate is None or admission.is_trial:
            return
        if self.circuit.known_state == CLOSED:
            window.add(failed)
            if window.exceeds(numbers.failure_rate, numbers.minimum_calls):
                with self.circuit.moving_itself():
                    self.circuit.open()

    def withdraw(self, admission: Admission) -> None:
        """Nothing was learned of the service: rejected elsewhere, interrupted, caller's mistake."""
        if admission.is_trial:
            with self._lock:
                self._ends(admission)

    @property
    def since_change(self) -> float:
        """Seconds since the state last changed, or since the breaker was made."""
        return self._clock() - self._changed_at

    @property
    def idle(self) -> bool:
        """Whether it may be forgotten, should there be too many: it counts no recent failure."""
        circuit, now = self.circuit, self._clock()
        if circuit.forced is not None or circuit.known_state == HALF_OPEN:
            return False
        with self._lock:
            if self._window is not None and self._window.failures:
                return False
            if circuit.known_state == CLOSED:
                if self._open_time.has_grown(now):
                    return False
                if circuit.fail_counter == 0:
                    return True
        latest = max(self._failed_at, self._opened_at)
        return now - latest > max(circuit.reset_timeout, self._open_time.seconds)

    def _left(self) -> float:
        """Return the seconds until a trial, of an open circuit."""
        if self.circuit.forced is not None:
            return self.circuit.reset_timeout or 1.0
        return self._opened_at + self._open_time.seconds - self._clock()

    def _ends(self, admission: Admission) -> bool:
        """Free the trial's place; return whether the outcome still says something."""
        if admission.generation != self._admission.generation:
            return False
        if admission.is_trial:
            self._trial = None
        return self.circuit.forced is None

    def changed(self, old: str, new: str) -> None:
        """Note a change; called under the lock, by whoever changed the state."""
        self._begin_generation()
        self._changed_at = now = self._clock()
        if new == OPEN:
            self._opened_at = now
            shortest = self.circuit.reset_timeout
            if self.circuit.is_moving_itself:
                self._open_time.tripped(shortest, now, on_trial=old == HALF_OPEN)
            else:
                self._open_time.by_hand(shortest)
        forced = self.circuit.forced
        if old != new or forced != self._told_forced:
            self._untold.append(BreakerChanged(self.scope, old, new, self._last_error, forced))
            self._told_forced = forced
        if new == CLOSED:
            self._open_time.closed(now)
            self._last_error = None

    def _begin_generation(self) -> None:
        self._admission = Admission(self._admission.generation + 1, is_trial=False)
        self._trial = None
        if self._window is not None:
            self._window.clear()

    def inherit(self, forced: str) -> None:
        """Be forced as the one was in whose place this is; everybody was told of that."""
        with self._lock:
            self.circuit.obey(f"force_{'open' if forced == OPEN else 'closed'}")
            self._untold.clear()

    def forget(self) -> None:
        """Forget the trips, for a circuit that is reset; called under the lock."""
        self._open_time.forget()

    def moved_by_hand(self) -> None:
        """Tell what somebody did to the circuit."""
        self._tell_of_changes()

    def _tell_of_changes(self) -> None:
        """Tell what has changed, with the lock released."""
        while self._untold:
            with self._lock:
                if self._telling or not self._untold:
                    return  # who is telling will tell this, too, and in its turn
                self._telling = True
                change = self._untold.popleft()
            try:
                if self._tell is not None:
                    self._tell(change)
            finally:
                self._telling = False

    def _refusal(self, left: float, endpoint: str) -> CircuitBreakerOpen:
        last = self._last_error
        because = f" after {last}" if last is not None else ""
        advice = f"Try again in {in_seconds(left)} (`retry_after`)."
        if self.circuit.forced is not None:
            because = " because somebody forced it"
            advice = "It stays so until its `close()` or `reset()`."
        return CircuitBreakerOpen(
            f"circuit of {self.scope} is open{because}: nothing was sent. {advice}",
            retry_after=left,
            endpoint=endpoint or self.scope,
            last_error=last,
        )


def replay_success() -> None:
    return None


def replay_failure(error: Exception) -> NoReturn:
    raise error
