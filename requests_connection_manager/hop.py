"""One hop under way: what its attempts have come to, and what may still be done."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any

import requests

from .assembly import Endpoint
from .attempt import is_ready_again, seconds_of_the_service
from .call import Call, Sent, Ticket, told
from .exceptions import ConnectionManagerError, MaxRetriesExceeded
from .failures import (
    count_of,
    failure_of_status,
    in_seconds,
    in_short,
    is_accepted,
    is_failing_error,
    never_left,
)
from .policies.concurrency import ConcurrencyLimiter, Slot
from .policies.permits import Permit
from .policies.retry import Stop
from .redaction import public_url

Answer = requests.Response | Exception
"""What came of an attempt."""


@dataclass(slots=True)
class Hop:
    """One request to one URL, in the thread that makes the call."""

    call: Call
    endpoint: Endpoint
    request: requests.PreparedRequest
    arguments: dict[str, Any]
    """Those of ``HTTPAdapter.send``."""
    ticket: Ticket
    ssl_context: ssl.SSLContext | None
    log: list[Sent] = field(default_factory=list)
    answered: bool = False
    """Whether the last attempt had an answer that speaks for the service."""
    failure: Exception | None = None
    """What the last attempt says against the service."""
    pause: float = 0.0
    """Seconds for which the service wants to be left alone, by its last answer."""

    @property
    def url(self) -> str:
        return self.request.url or ""

    @property
    def method(self) -> str:
        return self.request.method or ""

    def take_slot(self, limiter: ConcurrencyLimiter) -> Slot:
        """Wait for a place among the attempts under way.

        Before the permit, which would be stale after the wait: it is for now, or for nobody.
        """
        call, slot = self.call, None
        longest = self.endpoint.settings.max_concurrency_wait
        if call.deadline is not None:
            longest = min(longest, call.deadline.left())
        try:
            slot = limiter.acquire(longest, self.endpoint.name, call.check_wanted)
            if slot.waited:
                self._go_on_after_wait(slot)
            return slot
        except BaseException as error:
            if slot is not None:
                slot.release()
            self._do_without(error)
            raise

    def take_permit(self, slot: Slot | None) -> Permit | None:
        """Wait for a permit; the first may have been taken already, by who prepared the hop."""
        call = self.call
        try:
            if self.log:
                self.ticket.permit = call.take_permit(self.endpoint, self.request)
                call.tell_of_wait(self.ticket)
            elif self.ticket.permit is None:
                self._take_first_permit()
            if call.deadline is not None and call.deadline.expired:
                raise call.too_late(self.url, "no time was left for another attempt")
        except BaseException as error:
            if slot is not None:
                slot.release()
            self._do_without(error)
            raise
        permit = self.ticket.permit
        self.ticket.permit = None  # it is the attempt's now, and not given back
        return permit

    def _take_first_permit(self) -> None:
        call = self.call
        while True:
            call.ticket = self.ticket  # a call that a listener makes meanwhile may take it over
            try:
                call.take_first_permit(self.ticket, self.request)
            finally:
                is_taken_over, call.ticket = call.ticket is None, None
                if is_taken_over:
                    self.ticket = Ticket(self.endpoint, None)
            if not is_taken_over:
                return
            self.ticket = call.admit(self.endpoint)

    def _do_without(self, error: BaseException) -> None:
        """Give back what was had for an attempt that is not made."""
        self.ticket.give_back()
        self.call.let_go = bool(self.call.log)
        if isinstance(error, ConnectionManagerError) and self.log:
            raise error from self.failure  # what the retry was for

    def _go_on_after_wait(self, slot: Slot) -> None:
        """The circuit may have opened meanwhile, or the call may not be wanted any more."""
        self.call.check_wanted()
        if not self.log:
            self.ticket.renew()
        self.call.table.ledger.slot_waited_for(self.endpoint.name, slot.waited)

    def learn(self, answer: Answer, permit: Permit | None) -> None:
        """Note what an attempt says of the service, and of when it wants no more."""
        self.pause = 0.0
        if isinstance(answer, Exception):
            self.answered = False
            self.failure = answer if is_failing_error(answer) else None
        else:
            self.failure = failure_of_status(answer.status_code)
            self.answered = self.failure is None
            if self.endpoint.permits is not None:
                self.pause = self.endpoint.permits.heed(answer, permit)

    def forget(self) -> None:
        """Draw no conclusion on the service."""
        self.answered, self.failure = False, None

    @property
    def accepted(self) -> bool | None:
        """Whether the service took it on; None: nothing was learned of it."""
        if not self.answered and self.failure is None:
            return None
        return is_accepted(self.log[-1].answer, self.failure)

    @property
    def took(self) -> float:
        """Seconds that the service had for the last answer."""
        if not self.log or self.endpoint.merged.settings.circuit_breaker_slow_call is None:
            return 0.0  # nobody asks
        return seconds_of_the_service(self.log[-1].answer, self.log[-1].elapsed)

    def had_its_time(self, seconds: float) -> bool:
        """Whether the service has had the better part of a deadline for its answers.

        Otherwise the time went into waiting, and that it ran out says nothing of the service.
        """
        return sum(sent.elapsed for sent in self.log) >= seconds / 2

    def record(self, answer: Answer, started_at: float, elapsed: float, *waits: float) -> None:
        """Keep an attempt for the errors that may have to tell of it."""
        sent = Sent(len(self.log) + 1, answer, started_at, elapsed, *waits)
        self.log.append(sent)
        self.call.log.append(sent)
        failed = isinstance(answer, Exception)
        self.endpoint.tally.attempt(len(self.log) > 1, None if failed else elapsed)
        ledger = self.call.table.ledger
        if ledger.hears_attempts:
            try:
                ledger.attempt_made(self.endpoint.name, self.request, sent.told())
            except BaseException:
                if isinstance(answer, requests.Response):
                    answer.close()  # nobody will read it
                raise

    def tell_of_retry(self, delay: float) -> None:
        """Tell that after the last attempt there will be another."""
        attempt = self.log[-1].told()
        self.call.table.ledger.retry_planned(self.endpoint.name, self.request, attempt, delay)

    def let_go_of_errors(self) -> None:
        """Forget the attempts: an error that is raised would hold itself, by its frames."""
        self.log = []
        self.failure = None

    def objection(self, answer: Answer) -> Stop | None:
        """Say why a retry that the policy wants cannot be made."""
        longest = self.endpoint.settings.retry_after_max
        if self.pause > longest:  # stated otherwise than by Retry-After, which the policy reads
            asked = f"the server asks for a pause of {in_seconds(self.pause)}"
            return Stop(f"{asked}, more than retry_after_max={longest:g}", self.pause)
        why = self._why_not_again(answer)
        return None if why is None else Stop(why, self.endpoint.merged.retry.hint_of(answer))

    def _why_not_again(self, answer: Answer) -> str | None:
        if self.ticket.is_trial:
            return "the trial of a half-open circuit is a single attempt"
        untouched = isinstance(answer, Exception) and never_left(answer)
        if not untouched and not is_ready_again(self.request):
            return "its body can be read only once, so that it was not sent twice"
        budget = self.endpoint.retry_budget
        if budget is not None and not budget.may_retry():
            return f"the retry budget of {budget.scope} is spent ({budget})"
        return None

    def exhausted(
        self, stop: Stop, plain: Exception, response: requests.Response | None = None
    ) -> MaxRetriesExceeded:
        """Make the error that stands for ``plain``, with which the last attempt ended.

        Plain requests would have raised that of the first: it stands for this one, too.
        """
        what = f"status {response.status_code}" if response is not None else in_short(plain)
        return MaxRetriesExceeded.instead_of(plain, self.log[0].answer)(
            f"{self.method} {public_url(self.url)}: {what} after "
            f"{count_of(len(self.log))}{stop.why and f': {stop.why}'}. "
            f"`attempts` tells more; the endpoint is {self.endpoint.name}.",
            attempts=told(self.log),
            last_error=plain,
            retry_after=stop.retry_after,
            endpoint=self.endpoint.name,
            response=response,
        )
