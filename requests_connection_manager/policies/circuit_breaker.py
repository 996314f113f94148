"""Not calling a service that is down: a ``pybreaker.CircuitBreaker``, entered in two short steps.

The law: the breaker is never held while a request runs. Admission is one short step under its
lock, and the outcome is replayed through ``call`` in another. An outcome from before the last
change of state is dropped; half-open, exactly one trial is out at a time.

pybreaker's own ``call`` holds its lock during the request, and its ``calling`` lets every waiting
thread through when half-open.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import pybreaker

from .. import forking
from ..events import BreakerChanged
from ..exceptions import CircuitBreakerOpen
from ..failures import without_traceback

Circuit = pybreaker.CircuitBreaker


class Admission:
    """That the breaker let a hop go, and in which of its generations."""

    __slots__ = ("__weakref__", "generation", "is_trial")

    def __init__(self, generation: int, is_trial: bool) -> None:
        self.generation = generation
        self.is_trial = is_trial


class Breaker:
    """The breaker of one scope.

    ``circuit`` is the real pybreaker object; forcing it open or closed works as in pybreaker.
    """

    def __init__(
        self,
        scope: str,
        failure_threshold: int,
        recovery_timeout: float,
        success_threshold: int,
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[[BreakerChanged], object] | None = None,
    ) -> None:
        self.scope = scope
        self._tell = tell
        self._untold: deque[BreakerChanged] = deque()
        self.circuit = Circuit(
            fail_max=failure_threshold,
            reset_timeout=recovery_timeout,
            success_threshold=success_threshold,
            name=scope,
            throw_new_error_on_trip=False,  # the call that trips it keeps its own error
            listeners=[_Watch(self._changed)],
        )
        self._clock = clock
        self._opened_at = self._failed_at = self._changed_at = clock()
        self._last_error: Exception | None = None
        self._admission = Admission(generation=0, is_trial=False)
        self.begin_in_child()
        forking.register(self)

    def begin_in_child(self) -> None:
        # pybreaker has no public way to look and decide in one step. Its RLock has kept this
        # name through 1.x; the dependency is held below 1.5 for it.
        self._lock = self.circuit._lock = threading.RLock()
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
            state = self.circuit.current_state
            if state == pybreaker.STATE_CLOSED:
                return self._admission
            if state == pybreaker.STATE_OPEN:
                left = self._opened_at + self.circuit.reset_timeout - self._clock()
                if left > 0:
                    raise self._refusal(left, endpoint)
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

    def succeeded(self, admission: Admission) -> None:
        """The service answered."""
        circuit = self.circuit
        with self._lock:
            if not admission.is_trial and not circuit.fail_counter and len(circuit.listeners) == 1:
                return  # the common case: pybreaker would set 0 to 0, and tell nobody but us
            if self._ends(admission):
                self.circuit.call(_succeed)
        self._tell_of_changes()

    def failed(self, admission: Admission, error: Exception) -> None:
        """The service failed."""
        try:
            self._fail(admission, error)
        finally:
            self._tell_of_changes()

    def _fail(self, admission: Admission, error: Exception) -> None:
        with self._lock:
            if not self._ends(admission):
                return
            self._last_error = replayed_error = without_traceback(error)
            self._failed_at = self._clock()
            try:
                self.circuit.call(_fail, replayed_error)
            except Exception as replayed:
                if replayed is not replayed_error:  # a listener's own
                    raise
            finally:
                replayed_error.__traceback__ = replayed_error.__context__ = None

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
        circuit = self.circuit
        state = circuit.current_state
        if state == pybreaker.STATE_CLOSED and circuit.fail_counter == 0:
            return True
        latest = max(self._failed_at, self._opened_at)
        return state != pybreaker.STATE_HALF_OPEN and self._clock() - latest > circuit.reset_timeout

    def _ends(self, admission: Admission) -> bool:
        """Free the trial's place; return whether the outcome still says something."""
        if admission.generation != self._admission.generation:
            return False
        if admission.is_trial:
            self._trial = None
        return True

    def _changed(self, old: str, new: str) -> None:
        """Begin a new generation; called under the lock, by whoever changed the state."""
        self._admission = Admission(self._admission.generation + 1, is_trial=False)
        self._trial = None
        self._changed_at = self._clock()
        if new == pybreaker.STATE_OPEN:
            self._opened_at = self._changed_at
        self._untold.append(BreakerChanged(self.scope, old, new, self._last_error))
        if new == pybreaker.STATE_CLOSED:
            self._last_error = None

    def _tell_of_changes(self) -> None:
        """Tell what has changed, with the lock released; what was forced from outside, too."""
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
        return CircuitBreakerOpen(
            f"circuit of {self.scope} is open{because}: nothing was sent. "
            f"Try again in {left:.3g} s (`retry_after`).",
            retry_after=left,
            endpoint=endpoint or self.scope,
            last_error=last,
        )


class _Watch(pybreaker.CircuitBreakerListener):
    def __init__(self, changed: Callable[[str, str], None]) -> None:
        self._changed = changed

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        self._changed(old_state.name if old_state is not None else new_state.name, new_state.name)


def _succeed() -> None:
    return None


def _fail(error: Exception) -> NoReturn:
    raise error


class WorstCircuit:
    """The state of the worst of several circuits, at the time of asking."""

    _BADNESS = (pybreaker.STATE_CLOSED, pybreaker.STATE_HALF_OPEN, pybreaker.STATE_OPEN)

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
        states = [(each.current_state, each.fail_counter) for each in self._circuits().values()]
        return max(
            states,
            key=lambda state: (self._BADNESS.index(state[0]), state[1]),
            default=(pybreaker.STATE_CLOSED, 0),
        )
