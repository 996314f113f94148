"""What the manager has done, counted: exact under any number of threads, and bounded in memory.

An attempt and a call each take one short lock of their scope.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from . import forking

_STEPS = 8
"""Buckets of the latencies for each doubling: a percentile is off by 4.4 % at most."""


@dataclass(frozen=True)
class Counts:
    """The counts of a scope at one moment; ``calls`` is ``successes`` and all ``failures``."""

    calls: int = 0
    """Calls whose first request was for this scope, those that were rejected included."""
    let_go: int = 0
    """Calls of which at least one attempt was let go."""
    attempts: int = 0
    """Sends on the wire."""
    retries: int = 0
    """Attempts after the first of their hop."""
    successes: int = 0
    """Calls that were answered, with a 4xx, too."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """The other calls: by the name of the exception, or the status (``status_503``)."""
    permits_waited_for: int = 0
    time_waited: float = 0.0
    """Seconds, for permits."""
    latency: Mapping[str, float] = field(default_factory=dict)
    """Seconds from the send to the answer: ``p50``, ``p90``, ``p99`` and ``max``; by attempts."""


class Tally:
    """The counts of a scope, as they grow."""

    __slots__ = (
        *("__weakref__", "_attempts", "_buckets", "_calls", "_failures", "_let_go", "_lock"),
        *("_longest", "_retries", "_successes", "_waited", "_waits"),
    )

    def __init__(self) -> None:
        self.begin_in_child()
        forking.register(self)
        self._calls = self._let_go = self._successes = 0
        self._attempts = self._retries = self._waits = 0
        self._waited = self._longest = 0.0
        self._failures: Counter[str] = Counter()
        self._buckets: dict[int, int] = {}

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()

    def call(self, let_go: bool, failure: str | None) -> None:
        """Count a call that has ended."""
        with self._lock:
            self._calls += 1
            self._let_go += let_go
            if failure is None:
                self._successes += 1
            else:
                self._failures[failure] += 1

    def attempt(self, is_retry: bool, answered_in: float | None) -> None:
        """Count an attempt, with the seconds that its answer took, if there was one."""
        with self._lock:
            self._attempts += 1
            self._retries += is_retry
            if answered_in is not None:
                bucket = math.ceil(math.log2(answered_in) * _STEPS) if answered_in > 0 else -999
                self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
                if answered_in > self._longest:
                    self._longest = answered_in

    def wait(self, seconds: float) -> None:
        """Count a permit that was waited for."""
        with self._lock:
            self._waits += 1
            self._waited += seconds

    def counts(self) -> Counts:
        with self._lock:
            return Counts(
                calls=self._calls,
                let_go=self._let_go,
                attempts=self._attempts,
                retries=self._retries,
                successes=self._successes,
                failures=MappingProxyType(dict(self._failures)),
                permits_waited_for=self._waits,
                time_waited=self._waited,
                latency=MappingProxyType(self._percentiles()),
            )

    def _percentiles(self) -> dict[str, float]:
        total = sum(self._buckets.values())
        if not total:
            return {}
        found = {"p50": 0.0, "p90": 0.0, "p99": 0.0}
        seen = 0
        for bucket in sorted(self._buckets):
            before, seen = seen, seen + self._buckets[bucket]
            for name in found:
                if before < total * int(name[1:]) / 100 <= seen:
                    # the middle of the bucket, on the scale on which it is one
                    found[name] = min(2 ** ((bucket - 0.5) / _STEPS), self._longest)
        return {**found, "max": self._longest}
