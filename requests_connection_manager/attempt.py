"""One attempt on the wire: the pool of its connection, and the bounds that it keeps."""

from __future__ import annotations

import functools
import ssl
import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError, ContentDecodingError
from requests.models import REDIRECT_STATI
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers, rewind_body
from urllib3 import HTTPHeaderDict
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import ProtocolError
from urllib3.poolmanager import PoolKey, PoolManager
from urllib3.util import Timeout
from urllib3.util.connection import is_connection_dropped

from . import forking
from .carried import query_key_of, with_its_query_key
from .failures import BodyFailed
from .headers import headers_of
from .patterns import exact_origin
from .policies.deadline import Deadline, shorten
from .settings import Timeouts
from .transport import (
    Address,
    BodyRaised,
    Bounds,
    OpenConnections,
    Stopwatch,
    address_of,
    current_bounds,
    keep_to_bounds,
)

_PLAIN_SEND = HTTPAdapter.send
_PIECE = 1 << 20
_ELAPSED = "_elapsed_on_the_wire"
"""Where a response keeps the time from its own sending to its head: ``elapsed`` in requests."""
_TOOK = "_seconds_of_the_service"


class BoundedAdapter(HTTPAdapter):
    """Sends once: within a deadline, and with an ``ssl_context``, if there are any."""

    def send_once(
        self,
        request: requests.PreparedRequest,
        arguments: dict[str, Any],
        deadline: Deadline | None,
        ssl_context: ssl.SSLContext | None,
        follows: bool = True,
        reads_redirects: bool = False,
        timed: bool = False,
    ) -> requests.Response:
        """Send, and read the body unless it is streamed, or left to a redirect that is followed.

        ``arguments`` are those of ``HTTPAdapter.send``. ``timed``: see `seconds_of_the_service`.
        """
        bounds = self._no_bounds
        key = query_key_of(request)
        if key is not None and HTTPAdapter.send is not _PLAIN_SEND:  # a mock's, say
            request, key = with_its_query_key(request), None
        if deadline is not None or ssl_context is not None or key is not None or timed:
            pair = _as_pair(arguments["timeout"])
            read_timeout = pair[1] if pair else None
            stopwatch = Stopwatch() if timed else None
            bounds = Bounds(self._connections, deadline, read_timeout, ssl_context, key, stopwatch)
            if deadline is not None and pair is not None:
                arguments = {**arguments, "timeout": shorten(pair, deadline.left())}
        outer = current_bounds.get()
        try:
            current_bounds.set(bounds)
            start = time.perf_counter()
            response = super().send(request, **arguments)
            response.__dict__[_ELAPSED] = timedelta(seconds=time.perf_counter() - start)
            may_lead_on = follows and response.status_code in REDIRECT_STATI
            if not arguments["stream"]:
                if not (may_lead_on and response.is_redirect):
                    _read(response)  # a cut or trickling body is this attempt's failure
                elif reads_redirects:
                    # requests goes on to the redirect's target all the same
                    with suppress(ChunkedEncodingError, ContentDecodingError):
                        _read(response)
            if bounds.stopwatch is not None and bounds.stopwatch.since is not None:
                response.__dict__[_TOOK] = time.monotonic() - bounds.stopwatch.since
            return response
        except BodyRaised as raised:
            aborted = ProtocolError("Connection aborted.", raised.error)
            raise BodyFailed(aborted, request=request) from raised.error
        finally:
            current_bounds.set(outer)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        self._connections = OpenConnections()
        self._no_bounds = Bounds(self._connections)
        super().init_poolmanager(*args, **kwargs)
        keep_to_bounds(self.poolmanager)
        self._pool_keys: dict[tuple[Any, ...], PoolKey] = {}
        self._pool_kw: dict[str, Any] = {}
        forking.register(self)

    def begin_in_child(self) -> None:
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            manager.pools.lock = threading.RLock()

    def connections_by_address(self) -> tuple[Counter[Address], Counter[Address]]:
        """Count the open connections by host and port: all, and those that are idle."""
        pooled: set[Any] = set()
        for pool in self._pools():
            pooled.update(filter(None, [*pool.pool.queue] if pool.pool is not None else ()))
        dropped = set(filter(is_connection_dropped, pooled))  # by the server
        opened = [each for each in self._connections.open_now() if each not in dropped]
        idle = [each for each in opened if each in pooled]
        return Counter(map(address_of, opened)), Counter(map(address_of, idle))

    def close(self) -> None:
        """Close all connections that are idle; those in use close with their answers."""
        pools = self._pools()
        super().close()
        for pool in pools:
            pool.close()  # else urllib3 does when nobody holds the pool, such as a response

    def _pools(self) -> list[HTTPConnectionPool]:
        managers = (self.poolmanager, *self.proxy_manager.values())
        known = [each.pools for each in managers if isinstance(each, PoolManager)]  # or a mock
        found = [pools.get(key) for pools in known for key in pools.keys()]  # noqa: SIM118
        return [pool for pool in found if pool is not None]

    def drop_pools(self) -> None:
        """Let no pooled connection be used again."""
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            manager.clear()

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        keep_to_bounds(manager)
        return manager

    def request_url(self, request: requests.PreparedRequest, proxies: dict[str, str] | None) -> str:
        """Return the target of the request; without a proxy it is the path."""
        return super().request_url(request, proxies) if proxies else request.path_url

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Make the response as requests does; one that sets no cookie has none to look for."""
        headers = getattr(resp, "headers", None)
        if (
            not isinstance(headers, HTTPHeaderDict)
            or "Set-Cookie" in headers
            or "Set-Cookie2" in headers
        ):
            return super().build_response(req, resp)
        response = requests.Response()
        response.status_code, response.reason = resp.status, resp.reason
        response.headers = headers_of(headers.itermerged())
        response.encoding = _encoding_of(headers.get("Content-Type"))
        response.raw, response.url = resp, req.url or ""
        response.request, response.connection = req, self
        return response

    def get_connection_with_tls_context(
        self,
        request: requests.PreparedRequest,
        verify: Any,
        proxies: dict[str, str] | None = None,
        cert: Any = None,
    ) -> HTTPConnectionPool:
        """Find the pool by the key that it had before; which pools are kept is urllib3's affair."""
        ask = super().get_connection_with_tls_context
        if proxies or isinstance(cert, list):
            return ask(request, verify, proxies, cert)
        if self.poolmanager.connection_pool_kw != self._pool_kw:  # the user may set more
            self._pool_kw, self._pool_keys = dict(self.poolmanager.connection_pool_kw), {}
        mine = (exact_origin(request.url or ""), verify, cert, _current_ssl_context())
        key = self._pool_keys.get(mine)
        pool = None if key is None else self.poolmanager.pools.get(key)
        if pool is None:
            pool = ask(request, verify, proxies, cert)
            self._remember_key(mine, pool)
        return pool

    def _remember_key(self, mine: tuple[Any, ...], pool: HTTPConnectionPool) -> None:
        pools = self.poolmanager.pools
        if len(self._pool_keys) > 4 * self._pool_connections:
            self._pool_keys = {}  # most are of pools that are gone
        for key in pools.keys():  # noqa: SIM118  # its own kind of container cannot be iterated
            if pools.get(key) is pool:
                self._pool_keys[mine] = key

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Give an ``ssl_context`` of the settings a pool of its own."""
        host, tls = super().build_connection_pool_key_attributes(request, verify, cert)
        context = _current_ssl_context()
        if context is not None and host["scheme"] == "https":
            tls["ssl_context"] = context
            tls["cert_reqs"] = None  # the context's own mode
        return host, tls

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leave an ``ssl_context`` alone: the trust is its own affair."""
        if _current_ssl_context() is None:
            super().cert_verify(conn, url, verify, cert)


@functools.lru_cache(maxsize=256)
def _encoding_of(content_type: str | None) -> str | None:
    return get_encoding_from_headers(CaseInsensitiveDict({"Content-Type": content_type or ""}))


def with_its_own_time(response: requests.Response) -> requests.Response:
    """Let ``elapsed`` be what it is in requests: no back-off, no wait for a permit, no body."""
    if isinstance(response, requests.Response):
        response.elapsed = vars(response).get(_ELAPSED, response.elapsed)
        for each in response.history:
            each.elapsed = vars(each).get(_ELAPSED, each.elapsed)
    return response


def seconds_of_the_service(answer: requests.Response | Exception, otherwise: float) -> float:
    """Return how long an answer took, less what was spent on our side.

    That is the wait for a pooled connection, and the time until a body that the caller's code
    makes was at its end.
    """
    seconds: float = vars(answer).get(_TOOK, otherwise)
    return seconds


def is_ready_again(request: requests.PreparedRequest) -> bool:
    """Put the body back to where it began; only a file, text or bytes surely can be."""
    if request.body is None or isinstance(request.body, (bytes, str)):
        return True
    # Where a file-like body began; requests keeps it for its redirects, under this name only.
    if not isinstance(request._body_position, int):
        return False
    try:
        rewind_body(request)
    except (requests.RequestException, OSError, ValueError, AttributeError):
        return False
    return True


def _read(response: requests.Response) -> None:
    in_pieces = response.iter_content
    # Larger pieces cost less; "all" would have http.client put a body that is cut into its error.
    left = getattr(response.raw, "length_remaining", None)
    size = min(left, _PIECE) if isinstance(left, int) and left > 0 else _PIECE
    vars(response)["iter_content"] = lambda _: in_pieces(size)
    try:
        response.content  # noqa: B018
    except BaseException:
        response.close()  # else an undecodable body keeps its connection
        raise
    finally:
        del vars(response)["iter_content"]


def _current_ssl_context() -> ssl.SSLContext | None:
    bounds = current_bounds.get()
    return bounds.ssl_context if bounds is not None else None


def _as_pair(timeout: Any) -> Timeouts | None:
    """Read what requests takes as ``timeout``; None: it is for urllib3 to complain of."""
    if isinstance(timeout, Timeout):
        started = timeout.clone()  # its total counts from here
        started.start_connect()
        connect = Timeout.resolve_default_timeout(started.connect_timeout)
        return connect, started.read_timeout
    connect, read = (
        timeout if isinstance(timeout, tuple) and len(timeout) == 2 else (timeout, timeout)
    )
    return (connect, read) if _is_time(connect) and _is_time(read) else None


def _is_time(half: object) -> bool:
    return half is None or isinstance(half, (int, float))
