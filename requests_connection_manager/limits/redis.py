"""The state of limits in Redis, for all machines that share one.

Each booking is one script and one round trip, on the clock of Redis. A call ends in time, whatever
Redis does: a client of the caller's is asked where to, and then connections of our own are made,
with our time limit and no second tries.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import forking
from ..exceptions import ConfigurationError, StateUnavailable
from . import keys
from .algorithms import Limit
from .store import Booked, Paused, Refused, Wanted

if TYPE_CHECKING:
    from redis import Redis

_EVER = "1e300"
"""Longer than any wait; Lua 5.1 has no way to write down infinity."""
_POOLS_OWN = (
    "maint_notifications_pool_handler",
    "oss_cluster_maint_notifications_handler",
    "maint_notifications_config",
    "event_dispatcher",
    "himport_registry",
)
"""What redis-py 8 adds to the settings of a pool's connections, and is that pool's."""


class _Script(NamedTuple):
    text: str
    sha: str


@lru_cache
def _script(name: str) -> _Script:
    from importlib.resources import files  # late: most programs never need it

    text = files(__package__).joinpath(name).read_text("utf-8")
    return _Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


class _Names(NamedTuple):
    """What a command says of the limits, as it is sent."""

    keys: tuple[bytes, ...]
    limits: tuple[bytes, ...]


@lru_cache(maxsize=4096)
def _names(prefix: str, scope: str, whose: str, limits: tuple[Limit, ...]) -> _Names:
    pause, *states = keys.of_limits(prefix, scope, whose, limits)
    all_keys, words = [pause], [str(len(limits))]
    for limit, state in zip(limits, states, strict=True):
        all_keys.append(state)
        if limit.algorithm == "sliding_window":
            all_keys.append(state + keys.LOG)
        words += [limit.algorithm, str(limit.requests), repr(limit.period), str(limit.burst)]
    return _Names(_encoded(all_keys), _encoded(words))


def _encoded(words: list[str]) -> tuple[bytes, ...]:
    return tuple(each.encode("utf-8", "surrogatepass") for each in words)


class RedisStore:
    """Keeps the state in the Redis of a URL or of a client.

    ``clock`` is for tests; without it, the clock of Redis counts.
    """

    def __init__(
        self,
        source: str | Redis,
        prefix: str = "rcm",
        timeout: float = 0.25,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._prefix = prefix
        self._clock = clock
        self._make = _maker(source, timeout)
        self._client: Any = source if self._make is None else self._make()
        self._inherited: Any = None
        """The parent's client: to let go of it would close its connections."""
        forking.register(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"  # a client's own shows what it is connected with

    def begin_in_child(self) -> None:
        if self._make is not None:
            self._inherited, self._client = self._client, self._make()

    def book(self, wanted: Wanted) -> Booked | Refused | Paused:
        scope, limits, n, longest, whose = wanted
        names = _names(self._prefix, scope, whose, limits)
        most = _EVER if longest == math.inf else repr(longest)
        reply = self._run("booking.lua", names.keys, str(n), most, *names.limits)
        seconds, _, receipt = reply[1:].partition("\n")
        if reply[0] == "B":
            return Booked(float(seconds), receipt)
        return (Refused if reply[0] == "R" else Paused)(float(seconds))

    def give_back(self, wanted: Wanted, booked: Booked) -> None:
        if not isinstance(booked.receipt, str) or not booked.receipt:
            return
        names = _names(self._prefix, wanted.scope, wanted.pause, wanted.limits)
        lines = booked.receipt.split("\n")
        told = [
            word
            for i, limit in enumerate(wanted.limits)
            for word in (limit.algorithm, *lines[3 * i : 3 * i + 3])
        ]
        self._run("giving_back.lua", names.keys, str(wanted.permits), *told, clock=False)

    def pause(self, scope: str, whose: str, seconds: float) -> None:
        names = _names(self._prefix, scope, whose, ())
        self._run("pausing.lua", names.keys, repr(seconds))

    def paused(self, scope: str, whose: str) -> float:
        answer = self.book(Wanted(scope, (), 0, 0.0, whose))
        return answer.left if isinstance(answer, Paused) else 0.0

    def close(self) -> None:
        if self._make is not None:
            self._client.connection_pool.disconnect()

    def _run(
        self, name: str, at_keys: tuple[bytes, ...], *words: str | bytes, clock: bool = True
    ) -> str:
        from redis import RedisError
        from redis.exceptions import NoScriptError

        script = _script(name)
        if clock and self._clock is not None:
            words = (*words, repr(self._clock()))
        run = self._client.execute_command
        try:
            try:
                reply = run("EVALSHA", script.sha, len(at_keys), *at_keys, *words)
            except NoScriptError:  # it is new there, or was flushed
                reply = run("EVAL", script.text, len(at_keys), *at_keys, *words)
        except (RedisError, OSError) as error:
            # Not in its words: a proxy that knows no AUTH says what it was told with it.
            raise StateUnavailable(
                f"the state of limits in Redis is out of reach: {type(error).__name__}"
            ) from error
        return reply.decode() if isinstance(reply, bytes) else str(reply)


def _maker(source: Any, timeout: float) -> Callable[[], Redis] | None:
    """Return what makes a client of our own; None: it is used as it is.

    Raises `ConfigurationError`.
    """
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError:
        raise ConfigurationError(
            "state: Redis needs the package redis; "
            "pip install 'requests_connection_manager[redis]'",
            field="state",
        ) from None
    ours: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "retry_on_error": [],
        "health_check_interval": 0,  # it would be a round trip more
        "decode_responses": False,
        "protocol": 2,  # as fast, and without notices that would make time limits longer
    }
    if isinstance(source, str):
        url = source

        def from_url() -> Redis:
            made: Redis = redis.Redis.from_url(url, **ours)
            return made

        try:
            from_url()
        except (ValueError, TypeError, redis.RedisError):
            raise ConfigurationError(
                "state: redis-py cannot read this URL; it must be such as redis://host:port/db. "
                "(What it is, is not shown.)",
                field="state",
            ) from None
        return from_url
    pool = getattr(source, "connection_pool", None)
    if type(source) is not redis.Redis or type(pool) is not redis.ConnectionPool:
        return None

    def like_theirs() -> Redis:
        theirs = {k: v for k, v in pool.connection_kwargs.items() if k not in _POOLS_OWN}
        return redis.Redis(
            connection_pool=redis.ConnectionPool(
                connection_class=pool.connection_class,
                max_connections=pool.max_connections,
                **(theirs | ours),
            )
        )

    return like_theirs
