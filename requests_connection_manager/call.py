"""What one call carries from ring to ring: from the session, through requests, to the adapter."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple, Protocol

import requests
from requests.exceptions import InvalidSchema

from .assembly import Endpoint
from .exceptions import Attempt, ConnectionManagerError, DeadlineExceeded
from .failures import count_of, failure_of_status, in_seconds, is_accepted, is_failing_error
from .lookup import EndpointTable
from .policies.circuit_breaker import Admission, Breaker
from .policies.deadline import Deadline
from .policies.permits import Permit
from .redaction import public_url
from .stats import Tally
from .work_group import WorkGroup, current_group


class Sent(NamedTuple):
    """An attempt, in the form that costs least until an error tells of it."""

    number: int
    answer: requests.Response | Exception
    started_at: float
    elapsed: float
    delay: float
    throttled: float

    def told(self) -> Attempt:
        answer = self.answer
        return Attempt(
            number=self.number,
            started_at=self.started_at,
            elapsed=self.elapsed,
            delay=self.delay,
            throttled=self.throttled,
            status=None if isinstance(answer, Exception) else answer.status_code,
            error=answer if isinstance(answer, Exception) else None,
        )


def told(log: list[Sent]) -> tuple[Attempt, ...]:
    """Return a log as an error tells it."""
    return tuple(sent.told() for sent in log)


@dataclass(slots=True)
class Ticket:
    """That an endpoint's breaker let a hop go, and the first attempt's permit, if taken."""

    endpoint: Endpoint
    admission: Admission | None
    permit: Permit | None = None

    @property
    def is_trial(self) -> bool:
        return self.admission is not None and self.admission.is_trial

    def renew(self) -> None:
        """Ask the breaker again after a wait; raises `CircuitBreakerOpen`."""
        breaker, admission = self.endpoint.breaker, self.admission
        if breaker is not None and admission is not None:
            self.admission = breaker.renew(admission, self.endpoint.name)

    def settle(self, answered: bool, failure: Exception | None, elapsed: float = 0.0) -> None:
        """Tell the breaker what came of the hop, and how long its last attempt took.

        Neither: nothing was learned of the service.
        """
        breaker, admission = self.endpoint.breaker, self.admission
        if breaker is None or admission is None:
            return
        if failure is not None:
            breaker.failed(admission, failure)
        elif answered:
            breaker.succeeded(admission, elapsed)
        else:
            breaker.withdraw(admission)

    def give_back(self) -> None:
        """Give back the permit, for an attempt that was never made."""
        if self.endpoint.permits is not None and self.permit is not None:
            self.endpoint.permits.give_back(self.permit)
            self.permit = None


class Owner(Protocol):
    """Who makes calls."""

    def check_open(self) -> object:
        """Raise `ManagerClosed` if nothing more is to be sent."""
        ...

    def aside(self, session: Any) -> requests.Session:
        """Return a session for what nobody else is to be told of, a token request, say."""
        ...


class Call:
    """One use of the façade or of its session, in the thread that makes it."""

    # What most calls leave as it is, the class has: there is one for each request.
    ticket: Ticket | None = None
    """The first hop's, until the adapter claims it."""
    follows: bool = True
    """Whether redirects are followed."""
    let_go: bool = False
    """Whether the policies let at least one attempt go."""
    preparing: bool = False
    """Whether requests is preparing its request; what is sent meanwhile is another call."""
    unprepared: bool = False
    """Whether that has failed, so that nothing was sent."""
    prepared: requests.PreparedRequest | None = None
    """The request of the first hop, until it is sent."""
    redirecting: bool = False
    """Whether the next request to be sent is a redirect's."""
    hops: int = 0
    """Requests handed to an adapter so far."""
    elsewhere: bool = False
    """Whether the first hop went to another URL than the one that the ticket is for."""
    filled_in: bool = True
    """Whether the arguments of the first hop are filled in from its endpoint."""
    over: bool = False

    def __init__(
        self,
        table: EndpointTable,
        tally: Tally,
        given: dict[str, Any],
        owner: Owner | None = None,
        session: requests.Session | None = None,
        endpoint: Endpoint | None = None,
        deadline: Deadline | None = None,
        parent: Call | None = None,
    ) -> None:
        self.table = table
        self.tally = tally
        """Where the call is counted: that of its first URL."""
        self.given = given
        """What the caller gave of timeout, verify and cert: it holds on every hop."""
        self.owner = owner
        """Under whose policies it is."""
        self.session = session
        self.endpoint = endpoint
        """That of the first hop; None: it was handed over as it is."""
        self.deadline = deadline
        self.parent = parent
        """The call in whose course this one is made: by a hook, say, or to fetch a token."""
        self.log: list[Sent] = []
        """All attempts of the call."""
        self.handled = sys.exc_info()[1]
        """What the caller was just handling, which is not ours to change."""
        self.group: WorkGroup | None = current_group.get()
        """The batch that it belongs to."""

    def takes(self, request: requests.PreparedRequest) -> bool:
        """Whether a request that is sent in the course of the call is one of its own hops."""
        if self.preparing or not (self.redirecting or request is self.prepared):
            return False
        self.redirecting, self.prepared = False, None
        self.hops += 1
        return True

    def admit(self, endpoint: Endpoint) -> Ticket:
        """Ask the breaker, then the throttle; raises `CircuitBreakerOpen`, `RateLimitExceeded`."""
        breaker = endpoint.breaker
        if breaker is None:
            ticket = Ticket(endpoint, None)
        else:
            lent = None if self.parent is None else self._lent_by_parent(breaker)
            ticket = Ticket(endpoint, lent or breaker.admit(endpoint.name))
        # A trial is to be sent; any other admission need not be settled.
        if endpoint.throttle is not None and not ticket.is_trial:
            endpoint.throttle.ask(endpoint.name)
        return ticket

    def _lent_by_parent(self, breaker: Breaker) -> Admission | None:
        """Take over the trial of the call that needs this one before it can be sent.

        To fetch a token from the service itself, say; otherwise the two wait for each other.
        """
        parent = self.parent
        while parent is not None:
            ticket = parent.ticket
            if ticket is not None and ticket.is_trial and ticket.endpoint.breaker is breaker:
                parent.ticket = None  # it asks again when its own turn comes
                ticket.give_back()
                return ticket.admission
            parent = parent.parent
        return None

    def take_first_permit(
        self, ticket: Ticket, request: requests.PreparedRequest | None = None
    ) -> None:
        """Wait for the permit of a hop's first attempt; the circuit may open meanwhile."""
        let_go = self.let_go
        ticket.permit = self.take_permit(ticket.endpoint, request)
        if ticket.permit is None or not ticket.permit.waited:
            return
        try:
            ticket.renew()
            self.tell_of_wait(ticket)
        except BaseException:
            ticket.give_back()
            self.let_go = let_go
            raise

    def take_permit(
        self, endpoint: Endpoint, request: requests.PreparedRequest | None
    ) -> Permit | None:
        """Wait for a permit as long as settings and deadline allow; raises `RateLimitExceeded`.

        And `ManagerClosed` or `BatchStopped`, with the permit given back, if the call is no longer
        wanted.
        """
        self.check_wanted()
        permits, group = endpoint.permits, self.group
        permit = None
        if permits is not None:
            longest = endpoint.merged.longest_wait
            if self.deadline is not None:
                longest = min(longest, self.deadline.left())
            take = permits.take if group is None else partial(group.take, permits)
            permit = take(longest, endpoint.name, self.check_wanted, request)
            if permit is not None and (permit.waited or group is not None):
                try:
                    self.check_wanted()
                except BaseException:
                    permits.give_back(permit)
                    raise
        self.let_go = True
        return permit

    def tell_of_wait(self, ticket: Ticket) -> None:
        """Tell of a wait, once the permit is where a call that a listener makes can take it."""
        endpoint, permit = ticket.endpoint, ticket.permit
        if permit is None or not permit.waited:
            return
        scope = endpoint.name if endpoint.limiter is None else endpoint.limiter.scope
        try:
            self.table.ledger.permit_waited_for(endpoint.name, endpoint.tally, scope, permit.waited)
        except BaseException:
            ticket.give_back()
            raise

    def check_wanted(self) -> None:
        """Raise what says that nothing more is to be sent."""
        if self.owner is not None:
            self.owner.check_open()
        if self.group is not None:
            self.group.check()

    def claim(self, endpoint: Endpoint) -> Ticket | None:
        """Hand out the first hop's ticket, once, and only for its own endpoint."""
        ticket = self.ticket
        if ticket is None:
            return None
        if ticket.endpoint is not endpoint:
            self.elsewhere = self.elsewhere or self.hops == 1
            return None
        self.ticket = None
        return ticket

    def settle_by_answer(self, response: requests.Response) -> None:
        """Settle the ticket if the adapter has not claimed it: something stood in for it.

        Or the request went elsewhere: an auth callable can change its URL.
        """
        ticket, self.ticket = self.ticket, None
        if ticket is None:
            return
        first = response
        if isinstance(response, requests.Response):
            first = response.history[0] if response.history else response
            if self.elsewhere and self.table.resolve(first.url) is not ticket.endpoint:
                ticket.settle(False, None)
                ticket.give_back()
                return
        ticket.endpoint.tally.attempt(False, None)
        # of a mock, it may be anything
        failure = failure_of_status(getattr(first, "status_code", None))
        if ticket.endpoint.permits is not None and isinstance(first, requests.Response):
            ticket.endpoint.permits.heed(first, ticket.permit)
        took = getattr(first, "elapsed", None)
        elapsed = took.total_seconds() if isinstance(took, timedelta) else 0.0
        ticket.settle(failure is None, failure, elapsed)
        if ticket.endpoint.throttle is not None:
            ticket.endpoint.throttle.learn(is_accepted(first, failure))

    def settle_by_error(self, error: Exception) -> None:
        """Settle the ticket if the adapter has not claimed it."""
        ticket, self.ticket = self.ticket, None
        if ticket is None:
            return
        nothing_sent = self.elsewhere or self.unprepared or isinstance(error, InvalidSchema)
        blamed = is_failing_error(error) and not nothing_sent
        ticket.settle(False, error if blamed else None)
        if ticket.endpoint.throttle is not None and blamed:
            ticket.endpoint.throttle.learn(False)
        mistaken = isinstance(error, (ValueError, TypeError)) and not self.hops
        refused = isinstance(error, ConnectionManagerError) and not self.hops
        if nothing_sent or mistaken or refused:
            ticket.give_back()
            self.let_go = bool(self.log)
        elif blamed or self.hops:
            ticket.endpoint.tally.attempt(False, None)

    def settle_interrupted(self) -> None:
        """Settle the ticket if nobody has."""
        if self.ticket is not None:
            self.ticket.settle(False, None)

    def too_late(
        self, url: str, why: str, response: requests.Response | None = None
    ) -> DeadlineExceeded:
        """Make the error for a call whose time is up."""
        deadline = self.deadline
        assert deadline is not None
        return DeadlineExceeded(
            f"{public_url(url)}: {why} after {in_seconds(deadline.elapsed)} and "
            f"{count_of(len(self.log))}; total_timeout={deadline.seconds:g} s.",
            elapsed=deadline.elapsed,
            attempts=told(self.log),
            endpoint=self.endpoint.name if self.endpoint else None,
            response=response,
        )


current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)
