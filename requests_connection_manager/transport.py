"""Connections that keep to the bounds of the attempt that uses them.

A socket's timeout bounds one read, so a head or a body that trickles in is never late. Here each
read and each write gets no more time than the attempt has left. Documented points of urllib3 are
used: the pool classes of a manager, ``ConnectionCls``, and http.client's ``response_class``; the
two that are not documented, before the TLS handshake, say why.
"""

from __future__ import annotations

import functools
import http.client
import math
import os
import queue
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import HTTPError

from . import forking
from .carried import QueryKey, with_key
from .headers import spelt
from .policies.deadline import Deadline

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager
    from urllib3._base_connection import BaseHTTPConnection  # the type of _put_conn, private too


Address = tuple[str, int | None]
"""Host and port."""


class OpenConnections:
    """The connections that an adapter has made, for as long as they are open."""

    def __init__(self) -> None:
        self._begin()
        forking.register(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._known: weakref.WeakSet[HTTPConnection] = weakref.WeakSet()

    def begin_in_child(self) -> None:
        known = list(self._known)
        self._begin()
        for connection in known:
            _leave_to_parent(connection.sock)

    def add(self, connection: HTTPConnection) -> None:
        with self._lock:
            self._known.add(connection)

    def open_now(self) -> list[HTTPConnection]:
        with self._lock:
            known = list(self._known)
        return [connection for connection in known if connection.sock is not None]


def _leave_to_parent(sock: Any) -> None:
    """Close the descriptor alone: without a word on the wire, where the parent goes on talking."""
    while sock is not None and not hasattr(sock, "detach"):
        sock = getattr(sock, "socket", None)  # TLS within TLS
    if sock is not None:
        with suppress(OSError):  # it was just being closed
            # its own close() would wait until nobody reads from it, and in the child nobody ends
            os.close(sock.detach())


def address_of(connection: HTTPConnection) -> Address:
    """Return whom a connection leads to, through a tunnel, too."""
    tunnelled: str | None = getattr(connection, "_tunnel_host", None)  # http.client's name for it
    if tunnelled is not None:
        return tunnelled, connection._tunnel_port
    return connection.host, connection.port


class Stopwatch:
    """Since when a request is the service's affair, and no more ours."""

    __slots__ = ("since",)

    def __init__(self) -> None:
        self.since: float | None = None
        """On the monotonic clock; None: nobody has sent it in a way that is known here."""

    def begin(self) -> None:
        """A connection is in hand, perhaps one that is yet to be made."""
        if self.since is None:
            self.since = time.monotonic()

    def begin_again(self) -> None:
        """The caller's code has made its body, and has taken its time for that."""
        self.since = time.monotonic()


class Bounds(NamedTuple):
    """What the connection must know of the attempt that it serves."""

    connections: OpenConnections
    """Where it registers."""
    deadline: Deadline | None = None
    read_timeout: float | None = None
    ssl_context: ssl.SSLContext | None = None
    query_key: QueryKey | None = None
    """What it adds to the target of the request."""
    stopwatch: Stopwatch | None = None


_NEARLY = 0.005
"""Seconds by which a read may be late: less than it takes to notice."""
_END = object()
current_bounds: ContextVar[Bounds | None] = ContextVar("current_bounds", default=None)


def keep_to_bounds(manager: PoolManager) -> None:
    """Let all connections that ``manager`` makes keep to the bounds of their attempts."""
    manager.pool_classes_by_scheme = {
        scheme: _bounded_pool(pool) for scheme, pool in manager.pool_classes_by_scheme.items()
    }


class _BoundedPool(HTTPConnectionPool):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        forking.register(self)

    def begin_in_child(self) -> None:
        """Begin with empty places, in the same queue: urllib3 will still clear it at the exit."""
        places = self.pool
        if places is not None:
            queue.Queue.__init__(places, places.maxsize)
            for _ in range(places.maxsize):
                places.put(None, block=False)

    def urlopen(self, *args: Any, **kwargs: Any) -> BaseHTTPResponse:
        """Wait for a connection of a blocking pool, but not past the deadline.

        And tell what the caller's body raises from what the wire does.
        """
        bounds = current_bounds.get()
        if _runs_code_of_the_callers(kwargs.get("body")):
            kwargs["body"] = _CallersBody(kwargs["body"], bounds and bounds.stopwatch)
        if bounds is not None and bounds.query_key is not None and not self._has_our_connections:
            kwargs["url"] = with_key(kwargs["url"], bounds.query_key)
            current_bounds.set(bounds._replace(query_key=None))  # it is there, and once will do
        headers = kwargs.get("headers")
        # urllib3 would copy it, name by name; beside a proxy's own, case must not tell
        if isinstance(headers, CaseInsensitiveDict) and self.proxy is None:
            kwargs["headers"] = spelt(headers)
        if self.block and bounds is not None and bounds.deadline is not None:
            kwargs.setdefault("pool_timeout", max(0.0, bounds.deadline.left()))
        return super().urlopen(*args, **kwargs)

    # urllib3 warns here of each connection that finds the pool full, and has no public point to
    # say otherwise: a batch with more workers than pooled connections would flood the log.
    # It is told once by the manager instead, with the remedy.
    def _put_conn(self, conn: BaseHTTPConnection | None) -> None:
        if self.block or self.pool is None:
            super()._put_conn(conn)
            return
        try:
            self.pool.put(conn, block=False)
        except (AttributeError, queue.Full):  # the pool was closed meanwhile: it is None; or full
            if conn is not None:
                conn.close()

    @property
    def _has_our_connections(self) -> bool:
        kind = self.ConnectionCls
        if not (isinstance(kind, type) and issubclass(kind, _BoundedConnection)):
            return False
        # One that sends in a way of its own, as a recorder's does, need not ask our putrequest.
        return kind.request is HTTPConnection.request

    @property
    def ConnectionCls(self) -> Any:  # type: ignore[override]  # noqa: N802  # urllib3's name
        # Looked up at each use: recorders of HTTP traffic replace it on urllib3's own classes.
        return _bounded_connection(super().ConnectionCls)


class BodyRaised(Exception):
    """Carries an error of the caller's body past urllib3, to whom an OSError is the wire's."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def _runs_code_of_the_callers(body: Any) -> bool:
    if body is None:
        return False
    if hasattr(body, "read"):
        return True
    if isinstance(body, str) or not hasattr(body, "__iter__"):
        return False
    try:
        memoryview(body)
    except TypeError:
        return True
    return False


class _CallersBody:
    """A body that is iterated, or read, as it was given, with its errors marked."""

    def __init__(self, body: Any, stopwatch: Stopwatch | None) -> None:
        self._body = body
        self._stopwatch = stopwatch

    def __getattr__(self, name: str) -> Any:  # read, tell, seek, mode …: what it has, and no more
        found = getattr(self._body, name)
        return self._marked(found) if name == "read" else found

    def __iter__(self) -> Iterator[Any]:
        blocks = iter(self._body)
        following = self._marked(lambda: next(blocks, _END))
        while (block := following()) is not _END:
            yield block

    def _marked(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            try:
                block = function(*args)
            except (OSError, HTTPError) as error:
                raise BodyRaised(error) from error
            if self._stopwatch is not None and (block is _END or not block):
                self._stopwatch.begin_again()
            return block

        return call


class _BoundedConnection(HTTPConnection):
    def connect(self) -> None:
        bounds = current_bounds.get()
        if bounds is not None:
            bounds.connections.add(self)  # before: a fork may come in the midst of a handshake
            if bounds.stopwatch is not None:
                bounds.stopwatch.begin()
        super().connect()

    def putrequest(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        """Begin a request; a credential in its query is known to nobody above."""
        bounds = current_bounds.get()
        if bounds is not None:
            if bounds.query_key is not None:
                url = with_key(url, bounds.query_key)
            if bounds.stopwatch is not None:
                bounds.stopwatch.begin()
        super().putrequest(method, url, *args, **kwargs)

    def send(self, data: Any) -> None:
        self._keep_to_bounds(self.sock)
        super().send(data)

    # A TLS handshake has the timeout that its socket was left with. There is no public point
    # between connecting, or opening a tunnel, and the handshake.
    def _new_conn(self) -> socket.socket:
        connected = super()._new_conn()
        try:
            self._keep_to_bounds(connected)
        except TimeoutError:
            connected.close()
            raise
        return connected

    def _tunnel(self) -> None:
        super()._tunnel()
        self._keep_to_bounds(self.sock)

    def _keep_to_bounds(self, sock: socket.socket | None) -> None:
        bounds = current_bounds.get()
        if sock is not None and bounds is not None and bounds.deadline is not None:
            _give_time(sock, bounds.deadline, self.timeout)


class _BoundedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        bounds = current_bounds.get()
        if bounds is not None and bounds.deadline is not None:
            _bound_reads(self.fp.raw, sock, bounds.deadline, bounds.read_timeout)


def _bound_reads(raw: Any, sock: socket.socket, deadline: Deadline, timeout: float | None) -> None:
    """Let each read of the stream under a buffer take no more time than the deadline leaves.

    The buffer looks its ``readinto`` up at each read. A stream of our own, over this one, would
    cost as much as all else that a deadline costs.
    """
    read, stream = type(raw).readinto, weakref.proxy(raw)  # else it would hold itself, in a circle

    def readinto(buffer: Any) -> Any:
        _give_time(sock, deadline, timeout)
        return read(stream, buffer)

    raw.readinto = readinto


def _give_time(sock: socket.socket, deadline: Deadline, timeout: Any) -> None:
    left = deadline.left()
    if left <= 0:
        raise TimeoutError("total_timeout has run out")
    usual = timeout if isinstance(timeout, (int, float)) else math.inf
    time, now = min(usual, left), sock.gettimeout()
    if now is None or not time <= now <= time + _NEARLY:  # each change is a system call
        sock.settimeout(None if time == math.inf else time)


@functools.cache
def _bounded_pool(pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
    if issubclass(pool, _BoundedPool):
        return pool
    # Under urllib3's name, for that is what error texts begin with.
    return type(pool.__name__, (_BoundedPool, pool), {})


@functools.cache
def _bounded_connection(connection: Any) -> Any:
    if not (isinstance(connection, type) and issubclass(connection, HTTPConnection)):
        return connection  # a recorder's stand-in, without a socket
    return type(
        connection.__name__,
        (_BoundedConnection, connection),
        {"response_class": _BoundedResponse},
    )
