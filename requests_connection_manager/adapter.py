"""A hop: one request to one URL, in as many attempts as its policies allow.

Outermost first: the breaker and the throttle let the hop go, or reject it; the loop sends until an
answer stands or the retries end; an attempt takes its slot, then its permit, and is sent. No lock
is held while any of this waits.
"""

from __future__ import annotations

import ssl
import time
from typing import Any

import requests
from requests.exceptions import RetryError
from urllib3.exceptions import EmptyPoolError

from .assembly import Endpoint
from .attempt import BoundedAdapter
from .body_end import when_read
from .call import Call, current_call
from .endpoints import Endpoints
from .exceptions import ConnectionManagerError, ManagerClosed
from .failures import in_seconds
from .hop import Answer, Hop
from .layers import refuse_two_kinds_of_trust
from .policies.concurrency import Slot
from .policies.deadline import Deadline
from .policies.retry import Again, Stop
from .policies.waiting import nap
from .redaction import redact_error
from .work_group import BatchStopped

_SMALL_BODY = 65_536
"""Bytes that are worth reading to keep a connection."""


class ManagedAdapter(BoundedAdapter):
    """The transport adapter of a managed session. Its own ``max_retries`` is always 0."""

    def __init__(
        self, endpoints: Endpoints, pool_connections: int, pool_maxsize: int, pool_block: bool
    ) -> None:
        self._endpoints = endpoints
        super().__init__(pool_connections, pool_maxsize, pool_block=pool_block)

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
        if call is None or call.over:
            # used without its session: what it was handed, the caller gave
            given = {"timeout": timeout, "verify": verify, "cert": cert}
            table = self._endpoints.table
            call = Call(table, table.resolve(request.url or "").tally, given)
        endpoint = call.table.resolve(request.url or "")
        arguments = {
            "stream": stream,
            "timeout": timeout,
            "verify": verify,
            "cert": cert,
            "proxies": proxies,
        }
        context = _own_context(call, endpoint)
        arguments.update(_own_arguments(call, endpoint, request, context))
        try:
            return self._send_guarded(call, endpoint, request, arguments, context)
        except ConnectionManagerError as error:
            error.request = error.request or request
            error.endpoint = error.endpoint or endpoint.name
            raise

    def _send_guarded(
        self,
        call: Call,
        endpoint: Endpoint,
        request: requests.PreparedRequest,
        arguments: dict[str, Any],
        context: ssl.SSLContext | None,
    ) -> requests.Response:
        """The breaker's ring: it admits the hop, and learns what came of it once."""
        ticket = call.claim(endpoint) or call.admit(endpoint)
        hop = Hop(call, endpoint, request, arguments, ticket, context)
        try:
            return self._send_retrying(hop)
        except BaseException as error:
            if isinstance(error, (BatchStopped, ManagerClosed)) or not isinstance(error, Exception):
                hop.forget()
            raise
        finally:
            hop.ticket.settle(hop.answered, hop.failure, hop.took)
            if endpoint.throttle is not None:
                endpoint.throttle.learn(hop.accepted)
            hop.let_go_of_errors()

    def _send_retrying(self, hop: Hop) -> requests.Response:
        """The attempt loop: a policy decides, this acts."""
        policy = hop.endpoint.merged.retry
        retry = policy.begin(hop.method, hop.request.headers)
        delay = 0.0
        answer: Answer | None = None
        try:
            while True:
                answer = self._attempt(hop, delay)
                if isinstance(answer, Exception):
                    decision = policy.after_error(retry, hop.method, hop.url, answer)
                else:
                    decision = policy.after_response(retry, hop.method, hop.url, answer)
                if isinstance(decision, Again):
                    decision = hop.objection(answer) or decision
                if not isinstance(decision, Again):
                    return _end(hop, answer, decision)
                delay, retry = decision.delay, decision.retry
                if isinstance(answer, Exception):
                    answer.__traceback__ = None  # it would hold this frame, and the body
                else:
                    answer.close()
                _pause(hop, delay, answer)
        finally:
            del answer  # if it is raised, it holds this frame

    def _attempt(self, hop: Hop, delay: float) -> Answer:
        """Send once; return the answer, or the error that it ended with."""
        deadline = hop.call.deadline
        limiter = hop.endpoint.concurrency
        slot = None if limiter is None else hop.take_slot(limiter)
        permit = hop.take_permit(slot)
        budget = hop.endpoint.retry_budget
        if budget is not None and not hop.log:
            budget.call()
        started_at, start = time.time(), time.monotonic()
        answer: Answer | None = None
        earlier = hop.failure
        try:
            if slot is None:
                answer = self._answer(hop, deadline)
            else:
                answer = self._answer_in(slot, hop, deadline)
            hop.learn(answer, permit)
            waited = permit.waited if permit is not None else 0.0
            hop.record(answer, started_at, time.monotonic() - start, delay, waited)
            failure = hop.failure
            if failure is not None and deadline is not None and deadline.expired:
                if not hop.had_its_time(deadline.seconds):
                    hop.failure = earlier
                raise hop.call.too_late(hop.url, "the time ran out in an attempt") from failure
            return answer
        finally:
            answer = failure = None  # if it is raised, it holds this frame

    def _answer_in(self, slot: Slot, hop: Hop, deadline: Deadline | None) -> Answer:
        """Hold the slot as long as there is something to read."""
        answer: Answer | None = None
        try:
            answer = self._answer(hop, deadline)
            return answer
        finally:
            if answer is None or isinstance(answer, Exception):
                slot.release()
            else:
                when_read(answer, slot.release)
            del answer  # if it is raised, it holds this frame

    def _answer(self, hop: Hop, deadline: Deadline | None) -> Answer:
        try:
            return self.send_once(
                hop.request,
                hop.arguments,
                deadline,
                hop.ssl_context,
                hop.call.follows,
                reads_redirects=hop.endpoint.concurrency is not None,  # its slot is to be free
                timed=hop.endpoint.settings.circuit_breaker_slow_call is not None,
            )
        except EmptyPoolError as error:  # waited for a connection of a blocking pool
            raise hop.call.too_late(hop.url, "no pooled connection came free") from error
        except Exception as error:
            redact_error(error, hop.url, handled=hop.call.handled)
            return error
        except BaseException:
            hop.endpoint.tally.attempt(bool(hop.log), None)
            raise


def _own_arguments(
    call: Call,
    endpoint: Endpoint,
    request: requests.PreparedRequest,
    context: ssl.SSLContext | None,
) -> dict[str, Any]:
    """Return what this hop's own URL says of the arguments that the caller did not give."""
    own: dict[str, Any] = {}
    given, theirs = call.given, endpoint.merged.arguments
    if endpoint is not call.endpoint or not call.filled_in:
        if "timeout" not in given:
            own["timeout"] = theirs["timeout"]
        if call.session is not None and not {"verify", "cert"} <= given.keys():
            tls = call.session.merge_environment_settings(
                request.url or "", {}, None, theirs["verify"], theirs["cert"]
            )
            own.update({name: tls[name] for name in ("verify", "cert") if name not in given})
    if "cert" in endpoint.merged.sources and "cert" not in given:
        own["cert"] = endpoint.settings.cert  # None, too, which requests would replace
    if context is not None:
        own |= {"verify": True, "cert": None}  # the environment's bundle is not for it
    return own


def _own_context(call: Call, endpoint: Endpoint) -> ssl.SSLContext | None:
    """Return the endpoint's ``ssl_context``, unless the caller wants another trust.

    Nothing is loaded into it, or it would be everybody's who uses it.
    """
    context, given = endpoint.settings.ssl_context, call.given
    if context is None or given.get("verify", True) is not True:
        return None
    refuse_two_kinds_of_trust({"ssl_context": context, "cert": given.get("cert")})
    return context


def _pause(hop: Hop, delay: float, answer: Answer) -> None:
    """Back off, holding no connection."""
    response = None if isinstance(answer, Exception) else answer
    deadline = hop.call.deadline
    if deadline is not None and deadline.left() <= delay:
        why = f"no time is left to wait {in_seconds(delay)} for a retry"
        raise hop.call.too_late(hop.url, why, response) from hop.failure
    hop.tell_of_retry(delay)
    if delay > 0:
        nap(delay, hop.call.check_wanted)


def _end(hop: Hop, answer: Answer, decision: Stop | None) -> requests.Response:
    """Let the answer stand, or raise `MaxRetriesExceeded` in its place."""
    try:
        if isinstance(answer, Exception):
            if decision is None:
                raise answer
            raise hop.exhausted(decision, answer) from answer
        if decision is None or not hop.endpoint.merged.retry.raises_on_status:
            return answer
        if hop.arguments["stream"]:
            keep_small_body(answer)
        text = f"too many {answer.status_code} error responses"
        plain = RetryError(text, request=hop.request, response=answer)
        raise hop.exhausted(decision, plain, answer)
    finally:
        del answer  # if it is raised, it holds this frame


def keep_small_body(response: requests.Response) -> None:
    """Read a streamed error's body if it is small, so as to lose neither it nor the connection."""
    try:
        if int(response.headers.get("Content-Length", _SMALL_BODY)) < _SMALL_BODY:
            response.content  # noqa: B018
            return
    except (ValueError, requests.RequestException):
        pass
    response.close()
