"""Whether to send again, and when: a ``urllib3.Retry`` decides, the adapter acts.

Pure: from what came of an attempt to `Again` or `Stop`.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from urllib3 import BaseHTTPResponse, HTTPResponse
from urllib3.exceptions import HTTPError, InvalidHeader, MaxRetryError
from urllib3.util.retry import Retry

from ..failures import is_certificate_error, never_left, transport_error
from .server_limits import retry_after

if TYPE_CHECKING:
    import requests

    from ..settings import Settings

IDEMPOTENCY_KEY = "Idempotency-Key"
"""A request that carries it may be sent again, whatever its method (an IETF httpapi draft)."""

_READING = [(name, getattr(Retry, name)) for name in ("get_retry_after", "parse_retry_after")]
"""With what urllib3 reads ``Retry-After``; a subclass may read something else in it."""


@dataclass(frozen=True)
class Again:
    """Send once more, after ``delay`` seconds."""

    delay: float
    retry: Retry


@dataclass(frozen=True)
class Stop:
    """Send no more, though the policy would have liked to."""

    why: str = ""
    retry_after: float | None = None
    """The server's hint in seconds, where it was longer than allowed, or cannot be followed."""


class RetryPolicy:
    """The retry settings of an endpoint, compiled once; shared by all threads."""

    def __init__(self, settings: Settings, chance: Callable[[], float] = random.random) -> None:
        own = settings.max_retries
        base = own if isinstance(own, Retry) else Retry(own)
        self._base = base.new(
            status_forcelist=settings.retry_statuses,
            allowed_methods=_methods_for_urllib3(settings),
            backoff_factor=settings.backoff_factor,
            backoff_max=settings.backoff_max,
            respect_retry_after_header=settings.respect_retry_after,
            raise_on_status=settings.raise_on_status,
        )
        # urllib3 shortens a longer hint without a word; ours is compared with retry_after_max.
        self._base.retry_after_max = math.inf  # type: ignore[assignment]  # an int in urllib3
        self.enabled = base.total is None or base.total > 0
        self._any_method = self._base.new(allowed_methods=None)
        # The list of statuses is the whole truth, unless a Retry was given: that one also retries
        # its RETRY_AFTER_STATUS_CODES wherever the header is there.
        self._hint_is_enough = isinstance(own, Retry)
        self._statuses = frozenset(settings.retry_statuses)
        self._jitter = settings.backoff_jitter
        self._retry_after_max = settings.retry_after_max
        self._chance = chance
        self.raises_on_status = settings.raise_on_status

    def begin(self, method: str, headers: Mapping[str, Any]) -> Retry:
        """Return the state before the first attempt of a hop."""
        if _allows(self._base, method) or IDEMPOTENCY_KEY not in headers:
            return self._base
        return self._any_method

    def after_response(
        self, retry: Retry, method: str, url: str, response: requests.Response
    ) -> Again | Stop | None:
        """Decide on an answer; None: it stands."""
        status = response.status_code
        if status not in self._statuses and not self._hint_is_enough:
            return None
        hint = response.headers.get("Retry-After")
        by_hint = self._hint_is_enough and hint is not None
        if not self.enabled or not retry.is_retry(method, status, by_hint):
            return None
        raw = _raw_of(response)
        try:
            counted = retry.increment(method, url, response=raw)
        except MaxRetryError:
            return Stop()
        seconds = _hint(retry, raw)
        if seconds is not None and seconds > self._retry_after_max:
            return Stop(
                f"status {status} with Retry-After: {seconds:.0f} s, more than "
                f"retry_after_max={self._retry_after_max:g}",
                seconds,
            )
        return Again(seconds or self._backoff(counted), counted)

    def after_error(
        self, retry: Retry, method: str, url: str, error: Exception
    ) -> Again | Stop | None:
        """Decide on an exception of sending, or of reading the body; None: it stands."""
        cause = transport_error(error)
        if not self.enabled or cause is None or is_certificate_error(error):
            return None
        if not never_left(error) and not _allows(retry, method):
            return None
        try:
            counted = retry.increment(method, url, error=cause)
        except MaxRetryError:
            return Stop()
        except HTTPError:  # it has this kind of retry switched off: Retry(connect=False)
            return None
        return Again(self._backoff(counted), counted)

    def hint_of(self, answer: requests.Response | Exception) -> float | None:
        """Return the seconds that the server asks to wait, if it is to be listened to."""
        return None if isinstance(answer, Exception) else _hint(self._base, _raw_of(answer))

    def _backoff(self, retry: Retry) -> float:
        return retry.get_backoff_time() * (1 - self._jitter * self._chance())


def _raw_of(response: requests.Response) -> BaseHTTPResponse:
    raw = response.raw
    if isinstance(raw, BaseHTTPResponse):
        return raw
    # something stands in for urllib3
    said = {name: response.headers.get(name) for name in ("Retry-After", "Date")}
    headers = {name: str(text) for name, text in said.items() if text}
    return HTTPResponse(status=response.status_code, headers=headers)


def _hint(retry: Retry, raw: BaseHTTPResponse) -> float | None:
    return _seconds(retry, raw) if retry.respect_retry_after_header else None


def _methods_for_urllib3(settings: Settings) -> frozenset[str] | None:
    if settings.retry_methods is None:
        return None
    # urllib3 reads an empty collection as "any method"; no method is called "".
    return frozenset(settings.retry_methods) or frozenset({""})


def _allows(retry: Retry, method: str) -> bool:
    return not retry.allowed_methods or method.upper() in retry.allowed_methods


def _seconds(retry: Retry, response: BaseHTTPResponse) -> float | None:
    """Read ``Retry-After``, seconds or a date (RFC 9110 §10.2.3); None: absent or malformed.

    A date is of the server's clock, as in the pause that is made of it: by ours, which may be off,
    a retry would come before its end, or not at all.
    """
    try:
        seconds = retry.get_retry_after(response)
    except (InvalidHeader, ValueError, OverflowError):
        return None
    if seconds is not None and all(getattr(type(retry), name) is its for name, its in _READING):
        by_server = retry_after(response.headers, time.time())
        seconds = seconds if by_server is None else by_server
    try:
        return None if seconds is None else float(seconds)
    except OverflowError:  # hundreds of digits
        return math.inf
