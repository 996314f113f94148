"""Who takes permits in ``fleet`` and ``limiters``, each in a process of its own.

``python -m benchmarks.limit_contenders NAME STATE REQUESTS`` opens a limiter, and then does what
comes in by lines: ``block`` takes permits for some milliseconds, ``crowd THREADS START SECONDS``
for some seconds in several threads. A state is ``memory``, a path, or the URL of a Redis.

Each library waits as its own documentation says; where it has no way to wait, the caller sleeps for
as long as it says, and asks again.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from .harness import block_of

PERIOD = 1.0
Grant = tuple[float, float, float]
"""When a permit may go, at the earliest and at the latest, and when its thread was awake to go."""
Take = Callable[[], Grant | None]
"""Takes a permit and waits for its time; None: there is none until the end."""
Make = Callable[[str, int], Take]

ENDS = float("inf")
"""When nobody wants any more permits."""


@dataclass(frozen=True)
class Contender:
    """A limiter of a library."""

    package: str
    algorithm: str
    """As the library calls it."""
    states: tuple[str, ...]
    make: Make
    is_exact: bool = False
    """Never more than the limit in any one period, by the definition of the algorithm."""


def ours(algorithm: str) -> Make:
    def make(state: str, requests: int) -> Take:
        from requests_connection_manager.limits.algorithms import Limit
        from requests_connection_manager.limits.opening import open_store
        from requests_connection_manager.limits.store import Booked, Wanted

        url = f"sqlite://{state}" if state.startswith("/") else state
        store = open_store(url, "bench", 0.25, "raise")
        limits = (Limit(algorithm, requests, PERIOD, requests),)

        def take() -> Grant | None:
            asked = time.monotonic()
            answer = store.book(Wanted("scope", limits, 1, ENDS - asked, ""))
            if not isinstance(answer, Booked):
                return None
            answered = time.monotonic()
            if answer.wait > 0:
                time.sleep(answer.wait)
            return asked + answer.wait, answered + answer.wait, time.monotonic()

        return take

    return make


def throttled(algorithm: str) -> Make:
    def make(state: str, requests: int) -> Take:
        import throttled as library

        store: Any = (
            library.MemoryStore() if state == "memory" else library.RedisStore(server=state)
        )
        quota = library.per_sec(requests, burst=requests)
        limiter = library.Throttled("scope", 1.0, algorithm, quota, store)

        def take() -> Grant | None:
            while limiter.limit(timeout=_wait()).limited:
                if time.monotonic() > ENDS:
                    return None
            return _now()

        return take

    return make


def limits(strategy: str) -> Make:
    def make(state: str, requests: int) -> Take:
        from limits import RateLimitItemPerSecond, storage, strategies

        limiter = getattr(strategies, strategy)(
            storage.storage_from_string("memory://" if state == "memory" else state)
        )
        item = RateLimitItemPerSecond(requests)

        def take() -> Grant | None:
            while not limiter.hit(item, "scope"):
                if time.monotonic() > ENDS:
                    return None
                left = limiter.get_window_stats(item, "scope").reset_time - time.time()
                time.sleep(min(PERIOD, max(0.001, left)))
            return _now()

        return take

    return make


def pyrate(algorithm: str) -> Make:
    def make(state: str, requests: int) -> Take:
        import pyrate_limiter as library

        limiter = library.Limiter(bucket(library, state, requests))

        def take() -> Grant | None:
            while not limiter.try_acquire("scope", timeout=_wait()):
                if time.monotonic() > ENDS:
                    return None
            return _now()

        return take

    def bucket(library: Any, state: str, requests: int) -> Any:
        rates = [library.Rate(requests, int(PERIOD * 1000))]
        if state.startswith("/"):
            return library.SQLiteBucket.init_from_file(rates, db_path=state, use_file_lock=True)
        is_log = algorithm == "SlidingWindowLog"
        if state == "memory":
            if is_log:
                return library.InMemoryBucket(rates)
            return library.StateBucket(rates, getattr(library, algorithm)())
        from redis import Redis

        client = Redis.from_url(state)
        if is_log:
            return library.RedisBucket.init(rates, client, "scope")
        kept = library.RedisStateStore(client, "scope")
        return library.StateBucket(rates, getattr(library, algorithm)(), kept)

    return make


def _wait() -> float:
    """Return how long to wait at most, which those libraries want to be told, above 0."""
    return max(0.001, min(2.0, ENDS - time.monotonic()))


def _now() -> Grant:
    now = time.monotonic()
    return now, now, now


US = "requests_connection_manager"
MEMORY, SQLITE, REDIS = "memory", "SQLite", "Redis"
ALL = (MEMORY, SQLITE, REDIS)
CONTENDERS = {
    **{
        name: Contender(US, name, ALL, ours(name), name in ("sliding_window", "leaky_bucket"))
        for name in ("sliding_window", "leaky_bucket", "gcra", "token_bucket", "fixed_window")
    },
    **{
        f"throttled.{name}": Contender("throttled-py", name, (MEMORY, REDIS), throttled(name))
        for name in ("sliding_window", "leaking_bucket", "gcra", "token_bucket", "fixed_window")
    },
    "limits.moving": Contender(
        "limits", "moving window", (MEMORY, REDIS), limits("MovingWindowRateLimiter"), True
    ),
    "limits.sliding": Contender(
        "limits",
        "sliding window counter",
        (MEMORY, REDIS),
        limits("SlidingWindowCounterRateLimiter"),
    ),
    "limits.fixed": Contender(
        "limits", "fixed window", (MEMORY, REDIS), limits("FixedWindowRateLimiter")
    ),
    "pyrate.log": Contender(
        "pyrate-limiter", "sliding window log", ALL, pyrate("SlidingWindowLog"), True
    ),
    "pyrate.gcra": Contender("pyrate-limiter", "GCRA", (MEMORY, REDIS), pyrate("GCRA")),
}


def main() -> None:
    global ENDS
    name, state, requests = sys.argv[1:]
    contender = CONTENDERS[name]
    try:
        take = contender.make(state, int(requests))
        found = version(contender.package)
    except (ImportError, LookupError):
        print(json.dumps({"missing": name}), flush=True)
        return
    print(json.dumps({"ready": found}), flush=True)
    block = None
    for line in sys.stdin:
        if line == "block\n":
            block = block or block_of(take)
            print(json.dumps(block()), flush=True)
        else:
            threads, start, seconds = map(float, line.split()[1:])
            ENDS = start + seconds
            print(json.dumps(_crowd(take, int(threads), start)), flush=True)


def _crowd(take: Take, threads: int, start: float) -> dict[str, Any]:
    """Take permits in several threads, from ``start`` until the end."""
    grants: list[Grant] = []
    errors: list[str] = []

    def run() -> None:
        time.sleep(max(0.0, start - time.monotonic()))
        try:
            while time.monotonic() < ENDS and (grant := take()) is not None:
                grants.append(grant)
        except Exception as error:
            errors.append(repr(error))

    used = time.process_time()
    at_work = [threading.Thread(target=run) for _ in range(threads)]
    for each in at_work:
        each.start()
    for each in at_work:
        each.join()
    return {"grants": grants, "errors": errors, "cpu": time.process_time() - used}


if __name__ == "__main__":
    main()
