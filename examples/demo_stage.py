"""Where the demo's calls are made, shown as they happen, and counted.

The law: nothing is shown that was not measured. Attempts are overheard where each one passes,
arrivals are in the servers' records, hints in the exceptions, changes of state with pybreaker.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any, NamedTuple, TypeVar

import pybreaker
import requests
from requests.adapters import HTTPAdapter
from requests.models import REDIRECT_STATI

from requests_connection_manager import (
    CircuitBreakerOpen,
    ConnectionManager,
    MaxRetriesExceeded,
    RateLimitExceeded,
)
from tests.server import ScriptedServer

BOLD, DIM, RED, GREEN, YELLOW = 1, 2, 31, 32, 33
CALL_ID = "X-Demo-Call"
T = TypeVar("T")


class Seconds(float):
    def __str__(self) -> str:
        return f"{self:.2f} s"


class Attempt(NamedTuple):
    """One send of a request, from ``begin`` to the head of the answer or to the error."""

    begin: float
    end: float
    status: int | None
    """None: no answer."""


class Change(NamedTuple):
    """A breaker has a new state."""

    at: float
    scope: str
    state: str


@dataclass
class Call:
    """One call, and what came of it. Times are those of ``time.monotonic()``."""

    number: int
    endpoint: str
    servers: Sequence[ScriptedServer]
    started: float = field(default_factory=time.monotonic)
    took: float = 0.0
    attempts: list[Attempt] = field(default_factory=list)
    status: int | None = None
    error: requests.RequestException | None = None

    @property
    def arrivals(self) -> list[float]:
        """When its requests reached the servers, by their records."""
        records = [record for server in self.servers for record in server.received]
        mine = (record.headers.get(CALL_ID) == str(self.number) for record in records)
        return sorted(record.at for record in compress(records, mine))

    @property
    def retries(self) -> int:
        """Attempts after the first of each hop."""
        hops = 1 + sum(attempt.status in REDIRECT_STATI for attempt in self.attempts[:-1])
        return max(0, len(self.attempts) - hops)

    @property
    def waited(self) -> float:
        """Seconds in line and backing off: before each attempt since the last, or the call."""
        ends = [self.started, *(attempt.end for attempt in self.attempts)]
        return sum(attempt.begin - end for attempt, end in zip(self.attempts, ends, strict=False))

    @property
    def rejected(self) -> bool:
        return isinstance(self.error, (CircuitBreakerOpen, RateLimitExceeded))

    @property
    def failure(self) -> str:
        """What it failed with; "" if it did not, or was rejected."""
        if self.rejected:
            return ""
        if isinstance(self.error, MaxRetriesExceeded) and self.error.response is None:
            return type(self.error.last_error).__name__
        if self.error is not None and not isinstance(self.error, MaxRetriesExceeded):
            return type(self.error).__name__
        status = self.attempts[-1].status or 0
        return f"status {status}" if status >= 400 else ""

    def __str__(self) -> str:
        name = type(self.error).__name__
        if isinstance(self.error, (CircuitBreakerOpen, RateLimitExceeded)):
            return f"⊘ {name}: rejected, try again in {self.error.retry_after:.2f} s"
        what = f"✗ {self.failure}" if self.failure else f"✓ {self.status}"
        if isinstance(self.error, MaxRetriesExceeded):
            what = f"✗ {name} ({self.failure})"
        number = len(self.attempts)
        waited = f", waited {self.waited:.2f} s" if self.waited >= 0.05 else ""
        return f"{what} after {number} attempt{'s'[number == 1 :]} in {self.took:.2f} s{waited}"


class Stage:
    """The terminal, and the score."""

    def __init__(self, seconds: float) -> None:
        self.calls: list[Call] = []
        self.changes: list[Change] = []
        self.servers: Sequence[ScriptedServer] = ()
        self._start = time.monotonic()
        self._ends = self._start + seconds
        self._turn = threading.Lock()  # guards the terminal and the list of calls
        self._silent = False
        self._here = threading.local()
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._overhear()

    def get(self, manager: ConnectionManager, endpoint: str, caller: int, url: str) -> Call:
        """Make a call, and show what comes of it."""
        with self._turn:
            call = Call(len(self.calls), endpoint, self.servers)
            self.calls.append(call)
        self._here.call, self._here.who = call, f"caller {caller}"
        try:
            headers = {CALL_ID: str(call.number)} if self.servers else None
            call.status = manager.get(url, headers=headers).status_code
        except requests.RequestException as error:
            call.error = error
        call.took = time.monotonic() - call.started
        colour = YELLOW if call.rejected else RED if call.failure else GREEN
        self.say(self._here.who, str(call), colour)
        return call

    def each(self, callers: int, ask: Callable[[int], T]) -> list[T]:
        """Let so many callers, counted from 1, ask at once; return what they got, in order."""
        got: dict[int, T] = {}
        raised: list[BaseException] = []

        def run(caller: int) -> None:
            try:
                got[caller] = ask(caller)
            except BaseException as error:
                raised.append(error)

        numbers = range(1, callers + 1)
        threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in numbers]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(max(0.0, self._ends - time.monotonic()))
                if thread.is_alive():
                    raise TimeoutError("the demo takes longer than it ever should")
        except BaseException:
            self._silent = True  # whoever is still under way has lost his audience
            raise
        if raised:
            raise raised[0]
        return [got[caller] for caller in numbers]

    def watch(self, manager: ConnectionManager, *urls: str) -> None:
        """Show every change of state of the breakers of these URLs."""
        for url in urls:
            manager.explain(url)  # makes its breaker
        for scope, circuit in manager.circuit_breakers.items():
            circuit.add_listener(_Watch(self, scope))

    def act(self, title: str, why: str = "") -> None:
        self._print("", self._paint(title, BOLD), *([self._paint(why, DIM)] if why else []))

    def say(self, who: str, what: str, colour: int = DIM) -> None:
        self._print(f"{who:<9} {self._paint(what, colour)}", stamped=True)

    def tables(self, manager: ConnectionManager) -> None:
        """Show the score by endpoint, and the state of the breakers."""
        self.act("The score")
        self._print(*_aligned([self._row(name) for name in {c.endpoint: 0 for c in self.calls}]))
        opened = Counter(change.scope for change in self.changes if change.state == "open")
        rows = [
            {
                "breaker": scope,
                "state": circuit.current_state,
                "failures in a row": circuit.fail_counter,
                "times opened": opened[scope],
            }
            for scope, circuit in manager.circuit_breakers.items()
        ]
        self._print("", *_aligned(rows))

    def verdict(self, *claims: tuple[str, bool]) -> int:
        """Show which claims are true; return the exit status."""
        self.act("Is it so? Checked against what was recorded")
        for claim, is_true in claims:
            mark, colour = ("✓", GREEN) if is_true else ("✗ NOT SO:", RED)
            self._print(self._paint(f"{mark} {claim}", colour))
        return 0 if all(is_true for _, is_true in claims) else 1

    def _row(self, endpoint: str) -> dict[str, object]:
        calls = [call for call in self.calls if call.endpoint == endpoint]
        rejected = sum(call.rejected for call in calls)
        failures = Counter(call.failure for call in calls if call.failure)
        return {
            "endpoint": endpoint if len(endpoint) <= 36 else endpoint[:35] + "…",
            "calls": len(calls),
            "ok": len(calls) - rejected - failures.total(),
            "rejected": rejected,
            "attempts": sum(len(call.attempts) for call in calls),
            **({"reached": sum(len(call.arrivals) for call in calls)} if self.servers else {}),
            "retries": sum(call.retries for call in calls),
            "waited": Seconds(sum(call.waited for call in calls)),
            "failed": ", ".join(f"{kind} ×{n}" if n > 1 else kind for kind, n in failures.items()),
        }

    def _overhear(self) -> None:
        """Listen where each attempt passes by: at plain requests, right below the manager."""
        send = HTTPAdapter.send

        def overheard(*args: Any, **kwargs: Any) -> requests.Response:
            begin, status, outcome = time.monotonic(), None, "is broken off"
            try:
                response = send(*args, **kwargs)
                status, outcome = response.status_code, f"is answered {response.status_code}"
            except requests.RequestException as error:
                outcome = f"ends in {type(error).__name__}"
                raise
            finally:
                attempts = self._here.call.attempts
                attempts.append(Attempt(begin, time.monotonic(), status))
                if status is None or status >= 400:
                    self.say(self._here.who, f"· attempt {len(attempts)} {outcome}")
            return response

        HTTPAdapter.send = overheard  # type: ignore[method-assign]

    def _paint(self, text: str, colour: int) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._colour else text

    def _print(self, *lines: str, stamped: bool = False) -> None:
        with self._turn:
            stamp = f"{time.monotonic() - self._start:6.2f} s  " if stamped else ""
            if not self._silent:
                print(stamp + "\n".join(lines), flush=True)


class _Watch(pybreaker.CircuitBreakerListener):
    def __init__(self, stage: Stage, scope: str) -> None:
        self._stage, self._scope = stage, scope

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        self._stage.changes.append(Change(time.monotonic(), self._scope, new_state.name))
        colour = GREEN if new_state.name == "closed" else YELLOW
        text = f"◆ {self._scope}: {old_state.name} → {new_state.name}"
        self._stage.say("breaker", text, colour)


def never_above(limit: int, moments: Iterable[float], start: float) -> bool:
    """Whether a limit of so many a second, in force since ``start``, allows these moments."""
    return all(at >= start + n // limit for n, at in enumerate(sorted(moments)))


def _aligned(rows: Sequence[dict[str, object]]) -> list[str]:
    """Align rows in columns, texts to the left and numbers to the right."""
    table = [list(rows[0]), *([str(cell) for cell in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    table.insert(1, ["-" * width for width in widths])
    signs = ["<" if isinstance(cell, str) else ">" for cell in rows[0].values()]
    layout = "  ".join(f"{{:{sign}{width}}}" for sign, width in zip(signs, widths, strict=True))
    return [layout.format(*line).rstrip() for line in table]
