"""Runs scripts in Redis, on connections that answer in time.

Of a client of the caller's we ask only where to: on connections of our own, our time limit holds,
nothing is tried again behind our back, and no other command stands in front of a booking. What is
no ``redis.Redis``, and what asks a sentinel where to, is used as it is.

The law: a connection is kept only once the whole answer was read; whatever comes between, an
interrupt too, ends it. And no words of others are told: who knows no AUTH repeats the password.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from .. import forking
from ..exceptions import ConfigurationError, StateUnavailable

T = TypeVar("T")
_POOLS_OWN = (
    "maint_notifications_pool_handler",
    "oss_cluster_maint_notifications_handler",
    "maint_notifications_config",
    "event_dispatcher",
    "himport_registry",
    "orig_host_address",
    "orig_socket_timeout",
    "orig_socket_connect_timeout",
)
"""What redis-py 8 adds to the settings of a pool's connections, and is that pool's."""

_OF_THE_SOCKET = re.compile(
    r"Error (-?\d+ )?(connecting to|while (reading|writing)) |Timeout |Connection closed by server"
)
"""What errors begin with in which redis-py says nothing but where to, and what the system said."""

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
        self._told = (redis.ConnectionError, redis.TimeoutError)
        self._some_error = redis.RedisError
        self._closed = redis.ConnectionError
        self._unknown = redis.exceptions.NoScriptError
        self._client = source
        self._own = _own_connections(source, timeout)
        self._idle: list[tuple[Any, float]] = []
        """Connections, and when they were last used."""
        self._inherited: object = None
        forking.register(self)

    def begin_in_child(self) -> None:
        # kept: to let go of the parent's would close its connections
        self._inherited, self._idle = (self._inherited, self._idle), []

    def ask(self, act: Callable[[], T]) -> T:
        """Do what runs scripts; what goes wrong, also with an answer that is none, is an absence.

        Not raised where the error is handled, whose words would else be its context.
        """
        try:
            return act()
        except Exception as error:
            unavailable, cause = self._unavailable(error)
        raise unavailable from cause

    def run(self, it: Script, words: Words, *more: bytes) -> str:
        """Run a script and return what it answers, in one round trip where Redis knows it.

        Only within ``ask``: what it raises is redis-py's.
        """
        try:
            answer = self._send(b"EVALSHA", it.sha, words, more)
        except self._unknown:  # it is new there, or was flushed
            answer = self._send(b"EVAL", it.text, words, more)
        return answer.decode() if isinstance(answer, bytes) else str(answer)

    def _unavailable(self, error: Exception) -> tuple[StateUnavailable, Exception]:
        """Return what to raise for an error, and from what: in no words that may be a secret."""
        name = type(error).__name__
        text = str(error) if self._own and type(error) in self._told else ""
        if not _OF_THE_SOCKET.match(text) or self._tells(text):
            cause: Exception = self._some_error(f"{name} (its words are not shown)")
        else:
            cause = type(error)(text)  # made anew: it had others as its context
        return StateUnavailable(f"the state of limits in Redis is out of reach: {name}"), cause

    def close(self) -> None:
        # Who is using one gives it back to the list that he took it from.
        idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.disconnect()

    def _tells(self, text: str) -> bool:
        settings = self._own.settings if self._own else {}
        if settings.get("credential_provider") or settings.get("redis_connect_func"):
            return True  # what those raise could begin like that, too
        secrets = [settings.get(name) for name in ("password", "username")]
        return any(each and str(each) in text for each in secrets)

    def _send(self, command: bytes, what: bytes, words: Words, more: tuple[bytes, ...]) -> Any:
        if self._own is None:
            return self._client.execute_command(
                command.decode(), what, words.keys, *words.words, *more
            )
        count = 3 + len(words.words) + len(more)
        head = b"*%d\r\n%b%b%b" % (count, _packed(command, what), words.packed, _packed(*more))
        idle = self._idle
        connection, is_checked = self._take(idle)
        try:
            connection.send_packed_command([head])
            answer = connection.read_response()
        except self._unknown:
            idle.append((connection, time.monotonic()))
            raise
        except BaseException as error:
            connection.disconnect()  # else the next one would read the answer to this
            self.close()  # the server may be another by now, or a replica
            if is_checked or not isinstance(error, self._closed):
                raise
        else:
            idle.append((connection, time.monotonic()))
            return answer
        return self._send(command, what, words, more)  # it was closed before, as it seems

    def _take(self, idle: list[tuple[Any, float]]) -> tuple[Any, bool]:
        """Return a connection, and whether it is surely open.

        To look at each, each time, costs a third of a PING.
        """
        assert self._own is not None
        while idle:
            try:
                connection, since = idle.pop()
            except IndexError:  # another thread was faster
                break
            if time.monotonic() - since < _SURELY_OPEN:
                return connection, False
            if _is_open(connection):
                return connection, True
            connection.disconnect()
        connection = self._own.make()
        try:
            connection.connect()
        except BaseException:
            connection.disconnect()
            raise
        return connection, True


def _is_open(connection: Any) -> bool:
    try:
        return not connection.can_read()  # there would be its end, or what nobody has asked for
    except Exception:
        return False


def _packed(*words: bytes) -> bytes:
    return b"".join([b"$%d\r\n%b\r\n" % (len(each), each) for each in words])


class _Own(NamedTuple):
    """How connections of our own are made; there is no bound on them but that of the threads."""

    kind: Callable[..., Any]
    settings: dict[str, Any]

    def make(self) -> Any:
        return self.kind(**self.settings)


def _own_connections(source: Any, timeout: float) -> _Own | None:
    """Return how to connect with what a source names; None: the client is used as it is."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry
    from redis.sentinel import SentinelConnectionPool

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
            pool = redis.ConnectionPool.from_url(source)
            own = _Own(pool.connection_class, _ours_first(pool, ours))
            own.make()  # opens nothing; but it knows which settings there are
        except (ValueError, TypeError, redis.RedisError):
            raise ConfigurationError(
                "state: redis-py cannot read this URL; it must be such as redis://host:port/db, "
                "with no option after a ? but those that it has. (What it is, is not shown.)",
                field="state",
            ) from None
        return own
    theirs = getattr(source, "connection_pool", None)
    if not isinstance(source, redis.Redis) or not isinstance(theirs, redis.ConnectionPool):
        return None
    if isinstance(theirs, SentinelConnectionPool):
        return None
    return _Own(theirs.connection_class, _ours_first(theirs, ours))


def _ours_first(pool: Any, ours: dict[str, Any]) -> dict[str, Any]:
    known = {name: it for name, it in pool.connection_kwargs.items() if name not in _POOLS_OWN}
    return known | ours
