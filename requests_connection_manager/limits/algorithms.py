"""Five ways to spread permits over time, each a pure step that books a slot.

The law: a step says when the next ``n`` permits may go, and what is then known; that time lies in
the future where somebody must wait, and who comes next gets a later one. So the caller sleeps once,
and waiters keep their order, whoever they are. Once a time is allowed, all later ones are, too; so
of several limits the latest time holds for all.

Times are seconds on the clock of whoever keeps the state. ``seen`` is the latest reading of it: if
that was set back, the state moves with it; else it would block until the clock is there again.
The arithmetic is that of ``booking.lua``, operation by operation: both come to the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol


class Limit(NamedTuple):
    """The numbers of one limit."""

    algorithm: str
    requests: int
    """Permits in one period."""
    period: float
    """Seconds."""
    burst: int
    """Permits that may go at once; `token_bucket` and `gcra` only."""

    @property
    def most(self) -> int:
        """The most permits that one request can ever get."""
        return self.burst if self.algorithm in BURSTS else self.requests


def in_words(limit: Limit) -> str:
    """Say what a limit allows."""
    burst = f", burst {limit.burst}" if limit.algorithm in BURSTS else ""
    return f"{limit.requests} per {limit.period:.10g} s ({limit.algorithm}{burst})"


def in_whole(requests: float, period: float) -> tuple[int, float]:
    """Say a limit in whole permits: 0.5 in 1 s is 1 in 2 s."""
    return (1, period / requests) if requests < 1 else (int(requests), period)


State = tuple[float, ...]
"""What is known of one limit; empty: nothing yet. The first is ``seen``."""


class Log(Protocol):
    """The times of the latest permits of a sliding window, as many as its limit."""

    def back(self, n: int) -> float:
        """Return the time of the ``n``-th last permit; 1 is the last."""
        ...

    def add(self, time: float, n: int) -> None:
        """Note that ``n`` permits were booked for a time."""
        ...


class NoLog:
    """The log of the algorithms that keep none; never asked."""

    def back(self, n: int) -> float:
        raise AssertionError

    def add(self, time: float, n: int) -> None:
        raise AssertionError


NO_LOG = NoLog()


class Step(NamedTuple):
    """One algorithm: when the next permits may go, and what is known once they are booked."""

    earliest: Callable[[State, float, int, Limit, Log], float]
    """From the state, now, the permits wanted and the limit to a time, which is not before now."""
    book: Callable[[State, float, float, int, Limit, Log], State]
    """The state after booking: seen now, for the time that is given."""
    expires: Callable[[State, Limit], float]
    """The time from which a state says no more than none at all."""
    times: tuple[int, ...]
    """Which fields of the state are times."""


# fixed_window: (seen, start of the window, permits booked in it). It starts with its first permit.


def _fixed_earliest(state: State, now: float, n: int, limit: Limit, _: Log) -> float:
    if not state or now >= state[1] + limit.period:
        return now
    if state[2] + n <= limit.requests:
        return max(now, state[1])
    return state[1] + limit.period


def _fixed_book(state: State, now: float, at: float, n: int, limit: Limit, _: Log) -> State:
    if not state or at >= state[1] + limit.period:
        return (now, at, n)
    return (now, state[1], state[2] + n)


def _fixed_expires(state: State, limit: Limit) -> float:
    return state[1] + limit.period


# sliding_window: (seen, permits noted, the last booked time, offset of the log's times).


def _sliding_earliest(state: State, now: float, n: int, limit: Limit, log: Log) -> float:
    if not state:
        return now
    at = max(now, state[2])
    keeps = limit.requests - n  # so many of the latest may lie in the same window
    if state[1] > keeps:
        at = max(at, log.back(keeps + 1) + state[3] + limit.period)
    return at


def _sliding_book(state: State, now: float, at: float, n: int, limit: Limit, log: Log) -> State:
    count, offset = (state[1], state[3]) if state else (0, 0.0)
    log.add(at - offset, n)
    return (now, min(count + n, limit.requests), at, offset)


def _sliding_expires(state: State, limit: Limit) -> float:
    return state[2] + limit.period


# token_bucket: (seen, when it was last taken from, the tokens left then).


def _tokens_at(state: State, at: float, limit: Limit) -> float:
    tokens = state[2] + (at - state[1]) * limit.requests / limit.period
    return tokens if tokens < limit.burst else limit.burst


def _bucket_earliest(state: State, now: float, n: int, limit: Limit, _: Log) -> float:
    if not state:
        return now
    at = max(now, state[1])
    lacking = n - _tokens_at(state, at, limit)
    return at + lacking * limit.period / limit.requests if lacking > 0 else at


def _bucket_book(state: State, now: float, at: float, n: int, limit: Limit, _: Log) -> State:
    tokens = _tokens_at(state, at, limit) if state else limit.burst
    return (now, at, tokens - n)  # below 0 by rounding only, which the next one makes up for


def _bucket_expires(state: State, limit: Limit) -> float:
    return state[1] + (limit.burst - state[2]) * limit.period / limit.requests


# leaky_bucket: (seen, when the next may leave). It leaks evenly: n permits take n places.


def _leaky_earliest(state: State, now: float, n: int, limit: Limit, _: Log) -> float:
    return max(now, state[1]) if state else now


def _leaky_book(state: State, now: float, at: float, n: int, limit: Limit, _: Log) -> State:
    return (now, at + n * limit.period / limit.requests)


# gcra: (seen, the theoretical arrival time of the next cell), ITU-T I.371.


def _gcra_earliest(state: State, now: float, n: int, limit: Limit, _: Log) -> float:
    if not state:
        return now
    return max(now, state[1] + (n - limit.burst) * limit.period / limit.requests)


def _gcra_book(state: State, now: float, at: float, n: int, limit: Limit, _: Log) -> State:
    expected = max(at, state[1]) if state else at
    return (now, expected + n * limit.period / limit.requests)


def _when_next_is_due(state: State, limit: Limit) -> float:
    return state[1]


STEPS = {
    "fixed_window": Step(_fixed_earliest, _fixed_book, _fixed_expires, (1,)),
    "sliding_window": Step(_sliding_earliest, _sliding_book, _sliding_expires, (2, 3)),
    "token_bucket": Step(_bucket_earliest, _bucket_book, _bucket_expires, (1,)),
    "leaky_bucket": Step(_leaky_earliest, _leaky_book, _when_next_is_due, (1,)),
    "gcra": Step(_gcra_earliest, _gcra_book, _when_next_is_due, (1,)),
}
ALGORITHMS = tuple(STEPS)
BURSTS = ("token_bucket", "gcra")
"""The algorithms that have a burst."""


def at_now(state: State, now: float, times: tuple[int, ...]) -> State:
    """Return the state as it is on a clock that shows ``now``, which may have been set back.

    A changed state must be kept even where nothing is booked: else it would never come nearer.
    """
    if not state or now >= state[0]:
        return state
    behind = state[0] - now
    return (now, *(each - behind if i in times else each for i, each in enumerate(state) if i))


PAUSE_TIMES = (1,)
"""Which fields of a pause are times; it is (seen, until)."""


def capacity(limit: Limit, seconds: float) -> float:
    """Return the most permits of one each that may be booked for a span of time, by definition.

    A fixed window has its edges, a bucket its burst.
    """
    periods = seconds / limit.period
    if limit.algorithm == "fixed_window":
        return limit.requests * (math.ceil(periods) + 1)
    if limit.algorithm == "sliding_window":
        return limit.requests * math.ceil(periods)
    if limit.algorithm == "leaky_bucket":
        return math.ceil(limit.requests * periods)
    return limit.burst + math.floor(limit.requests * periods)
