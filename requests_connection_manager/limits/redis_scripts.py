"""Runs scripts in Redis, on connections that answer in time.

Of a client of the caller's we ask only where to: on connections of our own, our time limit holds,
nothing is tried again behind our back, and no other command stands in front of a booking. What is
more than a plain client (a cluster's, a sentinel's, an imitation) is used as it is.
"""

from __future__ import annotations

import hashlib
import inspect
import time
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import forking
from ..exceptions import ConfigurationError, StateUnavailable

if TYPE_CHECKING:
    from redis import ConnectionPool

_POOLS_OWN = (
    "maint_notifications_pool_handler",
    "oss_cluster_maint_notifications_handler",
    "maint_notifications_config",
    "event_dispatcher",
    "himport_registry",
)
"""What redis-py 8 adds to the settings of a pool's connections, and is that pool's."""


_SURELY_OPEN = 1.0
"""Seconds after its last use in which a connection is not looked at before it is used again."""


class Script(NamedTuple):
    """What runs in Redis, and the name that it has there."""

    text: bytes
    sha: bytes


@lru_cache
def script(name: str) -> Script:
    from importlib.resources import files  # late: most programs never need it

    text = files(__package__).joinpath(name).read_bytes()
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


class Words(NamedTuple):
    """Keys and arguments of a script, in the form in which they are sent, too."""

    keys: int
    words: tuple[bytes, ...]
    packed: bytes

    @classmethod
    def of(cls, keys: list[str], arguments: list[str]) -> Words:
        words = tuple(each.encode("utf-8", "surrogatepass") for each in (*keys, *arguments))
        return cls(len(keys), words, _packed(b"%d" % len(keys), *words))


class Scripts:
    """Runs them on the Redis of a URL or a client.

    Raises `ConfigurationError` where there is no package for it, or the URL cannot be read.
    """

    def __init__(self, source: Any, timeout: float) -> None:
        try:
            import redis
        except ImportError:
            raise ConfigurationError(
                "state: Redis needs the package redis; "
                "pip install 'requests_connection_manager[redis]'",
                field="state",
            ) from None
        self._errors = (redis.RedisError, OSError)
        self._answers = redis.ResponseError
        self._closed = redis.ConnectionError
        self._unknown = redis.exceptions.NoScriptError
        self._client = source
        self._make = _maker(source, timeout)
        self._pool = self._make() if self._make else None
        takes_name = inspect.signature(redis.ConnectionPool.get_connection).parameters
        first = takes_name.get("command_name")
        # redis-py 5.0 wants the name of a command, and does nothing with it; later ones warn of it
        self._for = ("EVALSHA",) if first and first.default is first.empty else ()
        self._idle: list[tuple[Any, float]] = []
        """Connections, and when they were last used."""
        self._inherited: object = None
        forking.register(self)

    def begin_in_child(self) -> None:
        if self._make:
            # kept: to let go of the parent's would close its connections
            self._inherited, self._pool = (self._pool, self._idle), self._make()
            self._idle = []

    def run(self, it: Script, words: Words, *more: bytes) -> str:
        """Run a script and return what it answers, in one round trip where Redis knows it."""
        try:
            try:
                answer = self._send(b"EVALSHA", it.sha, words, more)
            except self._unknown:  # it is new there, or was flushed
                answer = self._send(b"EVAL", it.text, words, more)
        except self._errors as error:
            cause = error
        else:
            return answer.decode() if isinstance(answer, bytes) else str(answer)
        # Not in its words: who knows no AUTH repeats what he was told with it.
        raise StateUnavailable(
            f"the state of limits in Redis is out of reach: {type(cause).__name__}"
        ) from (None if self._tells(cause) else cause)

    def close(self) -> None:
        if self._pool:
            self._release_idle()
            self._pool.disconnect()

    def _tells(self, error: Exception) -> bool:
        settings = self._pool.connection_kwargs if self._pool else {}
        secrets = [settings.get(name) for name in ("password", "username")]
        return any(each and str(each) in str(error) for each in secrets)

    def _send(self, command: bytes, what: bytes, words: Words, more: tuple[bytes, ...]) -> Any:
        if self._pool is None:
            return self._client.execute_command(
                command.decode(), what, words.keys, *words.words, *more
            )
        count = 3 + len(words.words) + len(more)
        head = b"*%d\r\n%b%b%b" % (count, _packed(command, what), words.packed, _packed(*more))
        connection, is_checked = self._take()
        try:
            connection.send_packed_command([head])
            answer = connection.read_response()
        except self._answers:
            self._idle.append((connection, time.monotonic()))
            raise
        except BaseException as error:
            connection.disconnect()  # else the next one would read the answer to this
            self._pool.release(connection)
            self._release_idle()  # the server may be another by now
            if is_checked or not isinstance(error, self._closed):
                raise
            return self._send(command, what, words, more)  # it was closed before, as it seems
        self._idle.append((connection, time.monotonic()))
        return answer

    def _take(self) -> tuple[Any, bool]:
        """Return a connection, and whether it is surely open.

        What the pool asks of each, each time, costs a third of a PING.
        """
        assert self._pool is not None
        try:
            connection, since = self._idle.pop()
        except IndexError:
            return self._pool.get_connection(*self._for), True
        if time.monotonic() - since < _SURELY_OPEN:
            return connection, False
        self._pool.release(connection)
        return self._pool.get_connection(*self._for), True

    def _release_idle(self) -> None:
        while self._pool and self._idle:
            self._pool.release(self._idle.pop()[0])


def _packed(*words: bytes) -> bytes:
    return b"".join([b"$%d\r\n%b\r\n" % (len(each), each) for each in words])


def _maker(source: Any, timeout: float) -> Callable[[], ConnectionPool] | None:
    """Return what makes a pool of our own; None: the client is used as it is."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    ours: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "retry_on_error": [],
        "health_check_interval": 0,  # it would be a round trip more
        "decode_responses": False,
        "protocol": 2,  # no notices that would make time limits longer
    }
    if isinstance(source, str):
        try:
            redis.ConnectionPool.from_url(source, **ours)
        except (ValueError, TypeError, redis.RedisError):
            raise ConfigurationError(
                "state: redis-py cannot read this URL; it must be such as redis://host:port/db. "
                "(What it is, is not shown.)",
                field="state",
            ) from None
        return lambda: redis.ConnectionPool.from_url(source, **ours)
    theirs = getattr(source, "connection_pool", None)
    if type(source) is not redis.Redis or type(theirs) is not redis.ConnectionPool:
        return None
    known = {name: it for name, it in theirs.connection_kwargs.items() if name not in _POOLS_OWN}
    return lambda: redis.ConnectionPool(
        theirs.connection_class, max_connections=theirs.max_connections, **(known | ours)
    )
