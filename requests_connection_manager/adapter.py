"""A hop: one request to one URL, in as many attempts as its policies allow.

Outermost first: the breaker lets the hop go, or rejects it; the loop sends until an answer stands
or the retries end; an attempt takes its permit, and is sent. No lock is held while any of this
waits.
"""

from __future__ import annotations

import ssl
import time
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import RetryError
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import EmptyPoolError
from urllib3.poolmanager import PoolKey
from urllib3.util import Timeout

from .call import Call, current_call
from .endpoints import Endpoint, Endpoints
from .exceptions import ConnectionManagerError
from .hop import Answer, Hop
from .patterns import split_url
from .policies.deadline import shorten
from .policies.rate_limit import Permit
from .policies.retry import Again, Stop
from .settings import Timeouts
from .transport import Bounds, current_bounds, keep_to_bounds

_SMALL_BODY = 65_536
"""Bytes that are worth reading to keep a connection."""
_NO_BOUNDS = Bounds()


class ManagedAdapter(HTTPAdapter):
    """The transport adapter of a managed session. Its own ``max_retries`` is always 0."""

    def __init__(
        self, endpoints: Endpoints, pool_connections: int, pool_maxsize: int, pool_block: bool
    ) -> None:
        self._endpoints = endpoints
        super().__init__(pool_connections, pool_maxsize, max_retries=0, pool_block=pool_block)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: dict[str, str] | None = None,
    ) -> requests.Response:
        """Send a request under the policies of its URL, which need not be those of the call's."""
        call = current_call.get()
        if call is None:  # used without its session: what it was handed, the caller gave
            given = {"timeout": timeout, "verify": verify, "cert": cert}
            call = Call(self._endpoints.table, given=given)
        endpoint = call.table.resolve(request.url or "")
        arguments = {
            "stream": stream,
            "timeout": timeout,
            "verify": verify,
            "cert": cert,
            "proxies": proxies,
        }
        if endpoint is not call.endpoint:
            arguments.update(_own_arguments(call, endpoint, request))
        try:
            return self._send_guarded(call, endpoint, request, arguments)
        except ConnectionManagerError as error:
            error.request = error.request or request
            raise

    def _send_guarded(
        self,
        call: Call,
        endpoint: Endpoint,
        request: requests.PreparedRequest,
        arguments: dict[str, Any],
    ) -> requests.Response:
        """The breaker's ring: it admits the hop, and learns what came of it once."""
        ticket = call.claim(endpoint) or call.admit(endpoint)
        hop = Hop(call, endpoint, request, arguments, ticket)
        try:
            return self._send_retrying(hop)
        except Exception:
            raise
        except BaseException:
            hop.forget()
            raise
        finally:
            ticket.settle(hop.answered, hop.failure)

    def _send_retrying(self, hop: Hop) -> requests.Response:
        """The attempt loop: a policy decides, this acts."""
        policy = hop.endpoint.merged.retry
        retry = policy.begin(hop.request.headers)
        delay = 0.0
        permit = _first_permit(hop)
        while True:
            answer = self._attempt(hop, permit, delay)
            if isinstance(answer, Exception):
                decision = policy.after_error(retry, hop.method, hop.url, answer)
            else:
                decision = policy.after_response(retry, hop.method, hop.url, answer)
            if isinstance(decision, Again):
                decision = hop.objection(answer) or decision
            if not isinstance(decision, Again):
                return _end(hop, answer, decision)
            delay, retry = decision.delay, decision.retry
            _pause(hop, delay, answer)
            permit = _next_permit(hop)

    def _attempt(self, hop: Hop, permit: Permit | None, delay: float) -> Answer:
        """Send once; return the answer, or the error that it ended with."""
        deadline = hop.call.deadline
        if deadline is not None and deadline.expired:
            raise hop.call.too_late(hop.url, "no time was left for another attempt")
        started_at, start = time.time(), time.monotonic()
        answer: Answer
        try:
            answer = self._transmit(hop)
        except EmptyPoolError as error:  # waited for a connection of a blocking pool
            raise hop.call.too_late(hop.url, "no pooled connection came free") from error
        except Exception as error:
            answer = error
        hop.learn(answer)
        if _may_be_told_of(hop, answer):
            hop.record(
                answer,
                started_at=started_at,
                elapsed=time.monotonic() - start,
                delay=delay,
                throttled=permit.waited if permit else 0.0,
            )
        failure = hop.failure
        if failure is not None and deadline is not None and deadline.expired:
            if not hop.had_its_time(deadline.seconds):
                hop.forget()
            raise hop.call.too_late(hop.url, "the time ran out in an attempt") from failure
        return answer

    def _transmit(self, hop: Hop) -> requests.Response:
        """Send, and read the body unless it is streamed or left to the redirect."""
        arguments, bounds = hop.arguments, _NO_BOUNDS
        deadline, context = hop.call.deadline, hop.endpoint.settings.ssl_context
        if context is not None:
            verify = hop.call.given.get("verify", hop.endpoint.settings.verify)
            if verify is True:  # the environment's bundle is not for this context either
                arguments = {**arguments, "verify": True}
            if arguments["verify"] is False:
                context = None  # the caller wants no checks; a context would bring its own
        if deadline is not None or context is not None:
            pair = _as_pair(arguments["timeout"])
            bounds = Bounds(deadline, pair[1] if pair else None, context)
            if deadline is not None and pair is not None:
                arguments = {**arguments, "timeout": shorten(pair, deadline.left())}
        token = current_bounds.set(bounds)
        try:
            response = super().send(hop.request, **arguments)
            if not arguments["stream"] and not response.is_redirect:
                response.content  # noqa: B018  # a cut or trickling body is this attempt's failure
            return response
        finally:
            current_bounds.reset(token)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        keep_to_bounds(self.poolmanager)
        self._pool_keys: dict[tuple[Any, ...], PoolKey] = {}

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        keep_to_bounds(manager)
        return manager

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
        mine = (split_url(request.url or "")[0], verify, cert, _current_ssl_context())
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
            if verify is True:
                tls.pop("ca_certs", None)
                tls["cert_reqs"] = None  # the context's own mode
        return host, tls

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leave the trust of an ``ssl_context`` alone, unless a CA bundle was asked for."""
        if _current_ssl_context() is None or verify is not True:
            super().cert_verify(conn, url, verify, cert)
            return
        super().cert_verify(conn, url, False, cert)
        conn.cert_reqs = None


def _own_arguments(
    call: Call, endpoint: Endpoint, request: requests.PreparedRequest
) -> dict[str, Any]:
    """Return what this hop's own URL says of the arguments that the caller did not give."""
    own: dict[str, Any] = {}
    if "timeout" not in call.given:
        own["timeout"] = endpoint.merged.timeout
    if call.session is not None and not {"verify", "cert"} <= call.given.keys():
        verify, cert = endpoint.tls(call.session)
        tls = call.session.merge_environment_settings(request.url or "", {}, None, verify, cert)
        own.update({name: tls[name] for name in ("verify", "cert") if name not in call.given})
    return own


def _may_be_told_of(hop: Hop, answer: Answer) -> bool:
    """Whether an error might come that has to list this attempt."""
    if isinstance(answer, Exception) or answer.status_code != 200:
        return True
    return 200 in hop.endpoint.merged.retry.statuses


def _first_permit(hop: Hop) -> Permit | None:
    if hop.ticket.permit is None:
        hop.call.take_first_permit(hop.ticket)
    return hop.ticket.permit


def _next_permit(hop: Hop) -> Permit | None:
    try:
        return hop.call.take_permit(hop.endpoint)
    except ConnectionManagerError as rejection:
        raise rejection from hop.failure  # what the retry was for


def _pause(hop: Hop, delay: float, answer: Answer) -> None:
    """Back off, holding no connection."""
    response = None if isinstance(answer, Exception) else answer
    if response is not None:
        response.close()
    deadline = hop.call.deadline
    if deadline is not None and deadline.left() <= delay:
        why = f"no time is left to wait {delay:.3g} s for a retry"
        raise hop.call.too_late(hop.url, why, response) from hop.failure
    hop.rewind()
    if delay > 0:
        time.sleep(delay)


def _end(hop: Hop, answer: Answer, decision: Stop | None) -> requests.Response:
    """Let the answer stand, or raise `MaxRetriesExceeded` in its place."""
    if isinstance(answer, Exception):
        if decision is None:
            raise answer
        raise hop.exhausted(decision, answer) from answer
    if decision is None or not hop.endpoint.merged.retry.raises_on_status:
        return answer
    if hop.arguments["stream"]:
        _keep_small_body(answer)
    text = f"too many {answer.status_code} error responses"
    plain = RetryError(text, request=hop.request, response=answer)
    raise hop.exhausted(decision, plain, answer)


def _keep_small_body(response: requests.Response) -> None:
    """Read a streamed error's body if it is small, so as to lose neither it nor the connection."""
    try:
        if int(response.headers.get("Content-Length", _SMALL_BODY)) < _SMALL_BODY:
            response.content  # noqa: B018
            return
    except (ValueError, requests.RequestException):
        pass
    response.close()


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
    halves = timeout if isinstance(timeout, tuple) and len(timeout) == 2 else (timeout, timeout)
    if all(half is None or isinstance(half, (int, float)) for half in halves):
        return halves
    return None
