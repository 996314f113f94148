"""One hop under way: what its attempts have come to, and what may still be done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import requests
from requests.utils import rewind_body

from .call import Call, Ticket
from .endpoints import Endpoint
from .exceptions import Attempt, MaxRetriesExceeded
from .failures import FailingStatus, in_short, is_failing_error, is_failing_status, never_left
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
    attempts: list[Attempt] = field(default_factory=list)
    answered: bool = False
    """Whether the last attempt had an answer that speaks for the service."""
    failure: Exception | None = None
    """What the last attempt says against the service."""

    @property
    def url(self) -> str:
        return self.request.url or ""

    @property
    def method(self) -> str:
        return self.request.method or ""

    def learn(self, answer: Answer) -> None:
        """Note what an attempt says of the service."""
        self.failure = None
        if isinstance(answer, Exception):
            self.answered = False
            if is_failing_error(answer):
                self.failure = answer
        else:
            self.answered = not is_failing_status(answer.status_code)
            if not self.answered:
                self.failure = FailingStatus(answer.status_code)

    def forget(self) -> None:
        """Draw no conclusion on the service."""
        self.answered, self.failure = False, None

    def had_its_time(self, seconds: float) -> bool:
        """Whether the service has had the better part of a deadline for its answers.

        Otherwise the time went into waiting, and that it ran out says nothing of the service.
        """
        return sum(attempt.elapsed for attempt in self.attempts) >= seconds / 2

    def record(self, answer: Answer, *, started_at: float, elapsed: float, **waits: float) -> None:
        """Keep an attempt for the errors that tell of it."""
        attempt = Attempt(
            number=len(self.attempts) + 1,
            started_at=started_at,
            elapsed=elapsed,
            status=answer.status_code if isinstance(answer, requests.Response) else None,
            error=answer if isinstance(answer, Exception) else None,
            **waits,
        )
        self.attempts.append(attempt)
        self.call.attempts.append(attempt)

    def objection(self, answer: Answer) -> Stop | None:
        """Say why a retry that the policy wants cannot be made."""
        if self.ticket.is_trial:
            return Stop("the trial of a half-open circuit is a single attempt")
        untouched = isinstance(answer, Exception) and never_left(answer)
        if not untouched and not self._can_be_replayed():
            return Stop("its body can be read only once, so that it was not sent twice")
        return None

    def rewind(self) -> None:
        """Put a file that is the body back to where it began."""
        if isinstance(self._body_position, int):
            rewind_body(self.request)

    def exhausted(
        self, stop: Stop, plain: Exception, response: requests.Response | None = None
    ) -> MaxRetriesExceeded:
        """Make the error that stands for ``plain``, which plain requests would have raised."""
        made = len(self.attempts)
        what = f"status {response.status_code}" if response is not None else in_short(plain)
        return MaxRetriesExceeded.instead_of(plain)(
            f"{self.method} {public_url(self.url)}: {what} after {made} "
            f"attempt{'' if made == 1 else 's'}{stop.why and f': {stop.why}'}. "
            f"`attempts` tells more; the endpoint is {self.endpoint.name}.",
            attempts=tuple(self.attempts),
            last_error=plain,
            retry_after=stop.retry_after,
            endpoint=self.endpoint.name,
            response=response,
        )

    def _can_be_replayed(self) -> bool:
        body = self.request.body
        if body is None or isinstance(body, (bytes, str)):
            return True
        if hasattr(body, "read"):
            return hasattr(body, "seek") and isinstance(self._body_position, int)
        return not hasattr(body, "__next__")  # a list can be read again, a generator cannot

    @property
    def _body_position(self) -> object:
        # Where a file-like body began; requests keeps it for its redirects, under this name only.
        return self.request._body_position
