"""What one call carries from ring to ring: from the session, through requests, to the adapter."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import requests

from .endpoints import Endpoint, EndpointTable
from .exceptions import Attempt, CircuitBreakerOpen, DeadlineExceeded
from .policies.circuit_breaker import Admission
from .policies.deadline import Deadline
from .policies.rate_limit import Permit
from .redaction import public_url


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

    def settle(self, answered: bool, failure: Exception | None) -> None:
        """Tell the breaker what came of the hop; neither: nothing was learned of the service."""
        breaker, admission = self.endpoint.breaker, self.admission
        if breaker is None or admission is None:
            return
        if failure is not None:
            breaker.failed(admission, failure)
        elif answered:
            breaker.succeeded(admission)
        else:
            breaker.withdraw(admission)

    def give_back(self) -> None:
        """Give back the permit, for an attempt that was never made."""
        if self.endpoint.limiter is not None and self.permit is not None:
            self.endpoint.limiter.give_back(self.permit)
            self.permit = None


@dataclass(slots=True)
class Call:
    """One use of the façade or of its session, in the thread that makes it."""

    table: EndpointTable
    session: requests.Session | None = None
    endpoint: Endpoint | None = None
    """That of the first hop, if the arguments of the hop were already filled in from it."""
    given: Mapping[str, Any] = field(default_factory=dict)
    """What the caller gave of timeout, verify and cert: it holds on every hop."""
    deadline: Deadline | None = None
    ticket: Ticket | None = None
    """The first hop's, until the adapter claims it."""
    let_go: bool = False
    """Whether the policies let at least one attempt go."""
    attempts: list[Attempt] = field(default_factory=list)

    def admit(self, endpoint: Endpoint) -> Ticket:
        """Ask the breaker; raises `CircuitBreakerOpen`."""
        breaker = endpoint.breaker
        return Ticket(endpoint, breaker.admit(endpoint.name) if breaker else None)

    def take_first_permit(self, ticket: Ticket) -> None:
        """Wait for the permit of a hop's first attempt; the circuit may open meanwhile."""
        ticket.permit = self.take_permit(ticket.endpoint)
        if ticket.permit is not None and ticket.permit.waited:
            try:
                ticket.renew()
            except CircuitBreakerOpen:
                ticket.give_back()
                self.let_go = False
                raise

    def take_permit(self, endpoint: Endpoint) -> Permit | None:
        """Wait for a permit as long as settings and deadline allow; raises `RateLimitExceeded`."""
        permit = None
        if endpoint.limiter is not None:
            longest = endpoint.merged.longest_wait
            if self.deadline is not None:
                longest = min(longest, self.deadline.left())
            permit = endpoint.limiter.acquire(longest, endpoint.name)
        self.let_go = True
        return permit

    def claim(self, endpoint: Endpoint) -> Ticket | None:
        """Hand out the first hop's ticket, once, and only for its own endpoint."""
        ticket = self.ticket
        if ticket is None or ticket.endpoint is not endpoint:
            return None
        self.ticket = None
        return ticket

    def too_late(
        self, url: str, why: str, response: requests.Response | None = None
    ) -> DeadlineExceeded:
        """Make the error for a call whose time is up."""
        deadline = self.deadline
        assert deadline is not None
        made = len(self.attempts)
        return DeadlineExceeded(
            f"{public_url(url)}: {why} after {deadline.elapsed:.3g} s and {made} finished "
            f"attempt{'' if made == 1 else 's'}; total_timeout={deadline.seconds:g} s.",
            elapsed=deadline.elapsed,
            attempts=tuple(self.attempts),
            endpoint=self.endpoint.name if self.endpoint else None,
            response=response,
        )


current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)
