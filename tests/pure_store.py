"""A store that is nothing but its contract: what the others are compared with, bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from requests_connection_manager.limits.algorithms import (
    ALGORITHMS,
    PAUSE_TIMES,
    STEPS,
    Limit,
    State,
    at_now,
)
from requests_connection_manager.limits.store import Booked, Paused, Refused, Wanted


class PureLog:
    def __init__(self) -> None:
        self.times: list[float] = []

    def back(self, n: int) -> float:
        return self.times[-n]

    def add(self, time: float, n: int) -> None:
        self.times += [time] * n


class PureStore:
    """``forgets``: what has expired is as good as nothing, also when the clock is set back."""

    def __init__(self, clock: Callable[[], float], forgets: bool) -> None:
        self.clock = clock
        self.forgets = forgets
        self.states: dict[tuple[str, Limit], State] = {}
        self.logs: dict[tuple[str, Limit], PureLog] = {}
        self.pauses: dict[tuple[str, str], State] = {}

    def state(self, key: tuple[str, Limit], now: float) -> State:
        found = self.states.get(key, ())
        step = STEPS[key[1].algorithm]
        if found and self.forgets and step.expires(found, key[1]) <= now:
            return ()
        if found:
            self.states[key] = found = at_now(found, now, step.times)
        return found

    def book(self, wanted: Wanted) -> Any:
        now = at = self.clock()
        if (left := self.paused(wanted.scope, wanted.pause)) > 0:
            return Paused(left)
        n = wanted.permits
        if not n:
            return Booked(0.0)
        found = []
        for limit in wanted.limits:
            key = wanted.scope, limit
            state, log = self.state(key, now), self.logs.setdefault(key, PureLog())
            at = max(at, STEPS[limit.algorithm].earliest(state, now, n, limit, log))
            found.append((key, state, log))
        if at - now > wanted.longest:
            return Refused(at - now)
        receipt = []
        for key, state, log in found:
            after = STEPS[key[1].algorithm].book(state, now, at, n, key[1], log)
            receipt.append((key, state, after))
            self.states[key] = after
        return Booked(at - now, receipt)

    def give_back(self, wanted: Wanted, booked: Booked) -> None:
        receipt: Any = booked.receipt or []
        if all(self.states.get(key) == after for key, _, after in receipt):
            for key, before, _ in receipt:
                self.states[key] = before
                if self.logs[key].times:
                    del self.logs[key].times[-wanted.permits :]

    def pause(self, scope: str, whose: str, seconds: float) -> None:
        now = self.clock()
        self.pauses[scope, whose] = (now, max(now + seconds, self.until(scope, whose)))

    def paused(self, scope: str, whose: str) -> float:
        return max(0.0, self.until(scope, whose) - self.clock())

    def until(self, scope: str, whose: str) -> float:
        if (scope, whose) in self.pauses:
            moved = at_now(self.pauses[scope, whose], self.clock(), PAUSE_TIMES)
            self.pauses[scope, whose] = moved
            return moved[1]
        return 0.0


def walk(rnd: Any, clock: Any, stores: list[Any], steps: int, unit: float) -> None:
    """Let several stores do the same things, as chance has it, and compare what they say."""
    held: list[tuple[Wanted, list[Any]]] = []
    numbers = [(1, 7.0, 1), (2, 1.0, 3), (3, 10.0 / 3, 2), (5, 60.0, 5), (7, 0.7, 4)]
    for _ in range(steps):
        jump = rnd.choice([0, 0, 0, 0.001, 0.1, 0.5, 1 / 3, 3, -0.2, -5])
        clock.now += unit * (100 if rnd.random() < 0.02 else jump)
        limits = [
            Limit(rnd.choice(ALGORITHMS), requests, period * unit, burst)
            for requests, period, burst in rnd.sample(numbers, rnd.choice([1, 1, 1, 2, 3]))
        ]
        permits = rnd.choice([0, 1, 1, 1, 2, 3, 7])
        wanted = Wanted(
            rnd.choice(["a", "b"]),
            tuple(limits),
            min([permits, *(limit.most for limit in limits)]),
            rnd.choice([0, unit, 5 * unit, float("inf")]),
            "p",
        )
        answers = [store.book(wanted) for store in stores]
        told = [(type(each), each[0]) for each in answers]
        assert told == told[:1] * len(stores), (wanted, told)
        if isinstance(answers[0], Booked):
            held.append((wanted, answers))
        if held and rnd.random() < 0.3:
            back, booked = held.pop(rnd.choice([-1, -1, -1, rnd.randrange(len(held))]))
            for store, each in zip(stores, booked, strict=True):
                store.give_back(back, each)
        if rnd.random() < 0.01:
            for store in stores:
                store.pause("b", "p", 2 * unit)
        left = [store.paused("b", "p") for store in stores]
        assert left == left[:1] * len(stores)
