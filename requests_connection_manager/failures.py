"""What an answer or an exception of requests says of the service, and of the request's fate.

requests wraps what urllib3 raised, more than once; here, and only here, it is unwrapped.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import requests
from requests.exceptions import ChunkedEncodingError, RetryError, SSLError
from urllib3.exceptions import (
    ClosedPoolError,
    ConnectTimeoutError,
    HTTPError,
    MaxRetryError,
    ProtocolError,
    ProxyError,
)

from .exceptions import ConnectionManagerError, MaxRetriesExceeded

_NOT_THE_SERVICES_FAULT = frozenset({501, 505})  # it works, and says that it cannot do this
_NETWORK_ERRORS = (requests.ConnectionError, requests.Timeout, ChunkedEncodingError)


def failure_of_status(status: object) -> FailingStatus | None:
    """Return what an answer says against the service; what is no number (a mock) says nothing."""
    if isinstance(status, int) and 500 <= status <= 599 and status not in _NOT_THE_SERVICES_FAULT:
        return FailingStatus(status)
    return None


def is_accepted(response: object, failure: Exception | None) -> bool:
    """Whether the service took the request on: it neither failed nor said "too many" (429)."""
    return failure is None and getattr(response, "status_code", None) != 429


def is_failing_error(error: BaseException) -> bool:
    """Whether an exception counts against the service, rather than against the caller or us."""
    return _is_of_the_network(error) and not is_certificate_error(error)


def is_certificate_error(error: BaseException) -> bool:
    """Whether either side refused the other's certificate: trying again changes nothing."""
    return isinstance(error, SSLError) and any(map(_blames_a_certificate, _inside(error)))


def never_left(error: BaseException) -> bool:
    """Whether the server cannot have seen the request, so that any method may be sent again."""
    inner: BaseException | None = transport_error(error)
    if isinstance(inner, ProxyError):  # a forward proxy has seen it, unless it was out of reach
        inner = inner.original_error
    return isinstance(inner, (ConnectTimeoutError, ClosedPoolError))


def transport_error(error: BaseException) -> HTTPError | None:
    """Return the urllib3 error behind an exception of requests; None: not one of the network."""
    if not _is_of_the_network(error):
        return None
    for inner in _inside(error):
        if isinstance(inner, HTTPError) and not isinstance(inner, MaxRetryError):
            return inner
    # raised by something that stands in for urllib3
    if isinstance(error, requests.ConnectTimeout):
        return ConnectTimeoutError()
    return ProtocolError("Connection aborted.", error)


def count_of(attempts: int, kind: str = "") -> str:
    """Say how many attempts there were."""
    return f"{attempts} {kind}attempt{'' if attempts == 1 else 's'}"


def in_seconds(time: float) -> str:
    """Say a time to three digits, or to the second: 3600 s, not 3.6e+03 s."""
    return f"{time:.0f} s" if time >= 100 else f"{time:.3g} s"


def kind_of_failure(outcome: object) -> str | None:
    """Say in one word what went wrong in a call; None: nothing."""
    if isinstance(outcome, MaxRetriesExceeded):
        answered = outcome.response if isinstance(outcome, RetryError) else None
        outcome = answered if answered is not None else outcome.last_error or outcome
    if isinstance(outcome, BaseException):
        return type(outcome).__name__
    status = getattr(outcome, "status_code", None)
    return f"status_{status}" if failure_of_status(status) is not None else None


class BodyFailed(requests.ConnectionError):
    """The body that the caller gave failed while it was sent; requests has no kind for that."""


class FailingStatus(requests.HTTPError):
    """An answer that counts against the service, as the error that it stands for."""

    def __init__(self, status: object) -> None:
        super().__init__(status)

    def __str__(self) -> str:
        return f"status {self.args[0]}"


class SlowAnswer(requests.Timeout):
    """An answer that took too long to count for the service, as the error that it stands for."""

    @classmethod
    def after(cls, elapsed: float, longest: float) -> SlowAnswer:
        """Make the one for an answer that took ``elapsed`` seconds."""
        took = in_seconds(elapsed)
        return cls(f"an answer that took {took}, circuit_breaker_slow_call={longest:g}")


def without_traceback(error: Exception) -> Exception:
    """Make an error of the same kind; the original would keep the frames of its call alive."""
    if isinstance(error, FailingStatus):
        return FailingStatus(*error.args)
    try:
        return type(error)(in_short(error))
    except Exception:  # a foreign class with a constructor of its own
        return requests.ConnectionError(in_short(error))


def in_short(error: BaseException) -> str:
    """Say what happened without the URL, which may hold credentials."""
    if isinstance(error, (FailingStatus, SlowAnswer)):
        return str(error)
    name = type(error).__name__
    for inner in _inside(error):
        if isinstance(inner, OSError) and inner.strerror:
            return f"{name}: {inner.strerror}"
    return name


def _inside(error: BaseException, depth: int = 6) -> Iterator[BaseException]:
    """Yield the exceptions that an exception was made from, outermost first.

    Not its ``__context__``: that may be whatever the caller was just handling.
    """
    for part in (*error.args, getattr(error, "reason", None), error.__cause__):
        if isinstance(part, BaseException):
            yield part
            if depth:
                yield from _inside(part, depth - 1)


def _is_of_the_network(error: BaseException) -> bool:
    """Whether it came from the wire; not from us, nor from the caller's body."""
    if isinstance(error, (ConnectionManagerError, BodyFailed)):
        return False
    return isinstance(error, _NETWORK_ERRORS)


def _blames_a_certificate(error: BaseException) -> bool:
    if isinstance(error, ssl.SSLCertVerificationError):
        return True
    alert = str(getattr(error, "reason", None) or "") if isinstance(error, ssl.SSLError) else ""
    return "CERTIFICATE" in alert or "UNKNOWN_CA" in alert
