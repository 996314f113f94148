"""What a managed call can fail with, beside the exceptions of requests itself.

ConnectionManagerError (requests.RequestException)
├── ConfigurationError (ValueError)      a setting, a pattern or an argument is impossible
├── AuthenticationError                  credentials could not be had
├── RateLimitExceeded                    no permit within the time allowed
├── CircuitBreakerOpen                   the service is known to be down
├── ConcurrencyLimitExceeded             no slot within the time allowed
├── StateUnavailable                     where limits are kept is out of reach
├── DeadlineExceeded (requests.Timeout)  the call's total_timeout has run out
├── MaxRetriesExceeded                   the last allowed attempt failed, too
└── ManagerClosed (RuntimeError)         used after close()

Every one carries ``request``, names the endpoint in its text, and survives pickling.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import requests


@dataclass(frozen=True)
class Attempt:
    """One send on the wire, as an error tells of it."""

    number: int
    """1 for the first of its hop."""
    started_at: float
    """Seconds since the epoch."""
    elapsed: float
    """Seconds from the send to the answer (its body included, unless streamed) or the error."""
    delay: float
    """Seconds of back-off before it."""
    throttled: float
    """Seconds it waited for a permit."""
    status: int | None = None
    error: Exception | None = None


class ConnectionManagerError(requests.RequestException):
    """The root of the family; also a ``requests.RequestException``."""

    endpoint: str | None

    def __init__(
        self,
        message: str = "",
        *,
        endpoint: str | None = None,
        request: requests.Request | requests.PreparedRequest | None = None,
        response: requests.Response | None = None,
    ) -> None:
        # Not super(): beside this root may stand a foreign class with a constructor of its own.
        requests.RequestException.__init__(self, message, request=request, response=response)
        self.endpoint = endpoint

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args, _portable_state(self)


class ConfigurationError(ConnectionManagerError, ValueError):
    """A setting, a pattern or an argument is impossible; nothing was sent. Correct ``field``."""

    def __init__(
        self, message: str = "", *, field: str | None = None, value: object = None
    ) -> None:
        super().__init__(message)
        self.field = field
        self.value = value


class AuthenticationError(ConnectionManagerError):
    """Credentials could not be had; nothing was sent to the service itself."""


class _Rejection(ConnectionManagerError):
    """A policy refused before anything was sent; waiting ``retry_after`` seconds may help."""

    def __init__(
        self, message: str = "", *, retry_after: float = 0.0, endpoint: str | None = None
    ) -> None:
        super().__init__(message, endpoint=endpoint)
        self.retry_after = retry_after


class RateLimitExceeded(_Rejection):
    """No permit could be had in the time allowed; try again in ``retry_after`` seconds."""


class CircuitBreakerOpen(_Rejection):
    """The service has failed too often; a trial is let through in ``retry_after`` seconds."""

    def __init__(
        self,
        message: str = "",
        *,
        retry_after: float = 0.0,
        endpoint: str | None = None,
        last_error: Exception | None = None,
    ) -> None:
        super().__init__(message, retry_after=retry_after, endpoint=endpoint)
        self.last_error = last_error


class ConcurrencyLimitExceeded(ConnectionManagerError):
    """As many attempts as allowed were under way, and none ended in the time allowed."""


class StateUnavailable(ConnectionManagerError):
    """Where limits are kept (``state``) was out of reach, and ``state_fallback`` is ``raise``.

    The request was not sent; of a call that takes several, earlier ones may have been.
    """


class DeadlineExceeded(ConnectionManagerError, requests.Timeout):
    """``total_timeout`` ran out, or cannot be met any more; ``attempts`` says what came of it."""

    def __init__(
        self,
        message: str = "",
        *,
        elapsed: float = 0.0,
        attempts: tuple[Attempt, ...] = (),
        endpoint: str | None = None,
        response: requests.Response | None = None,
    ) -> None:
        super().__init__(message, endpoint=endpoint, response=response)
        self.elapsed = elapsed
        self.attempts = attempts


class MaxRetriesExceeded(ConnectionManagerError):
    """The last allowed attempt failed; also an instance of what plain requests would have raised.

    ``attempts`` tells what happened, when and how long; ``response`` is the last one, if any;
    ``retry_after`` is the server's own hint in seconds, where it was longer than allowed, or
    where no retry could be made that would have followed it.
    ``args`` are those of ``last_error`` where that wraps an error of urllib3.
    """

    def __init__(
        self,
        message: str = "",
        *,
        attempts: tuple[Attempt, ...] = (),
        last_error: Exception | None = None,
        retry_after: float | None = None,
        endpoint: str | None = None,
        response: requests.Response | None = None,
    ) -> None:
        super().__init__(message, endpoint=endpoint, response=response)
        self.attempts = attempts
        self.last_error = last_error
        self.retry_after = retry_after
        self._message = message
        if last_error is not None and isinstance((*last_error.args, None)[0], Exception):
            self.args = last_error.args  # for who looks into `error.args[0].reason`

    def __str__(self) -> str:
        return self._message

    @classmethod
    def instead_of(cls, plain: Exception, first: object = None) -> type[MaxRetriesExceeded]:
        """Return the kind of this error that ``except type(plain)`` catches, too.

        And ``except type(first)``, where that is the error of the first attempt.
        """
        # ConnectTimeout says that nothing was sent; that must be true of the last attempt
        told = (plain,) if isinstance(first, requests.ConnectTimeout) else (plain, first)
        kinds = [type(each) for each in told if isinstance(each, requests.RequestException)]
        lowest = [each for each in kinds if not any(_is_below(other, each) for other in kinds)]
        return _max_retries_like(tuple(dict.fromkeys(lowest))) if lowest else cls

    def __reduce__(self) -> tuple[Any, ...]:
        # The mixed classes are made on demand and cannot be found by name.
        state = _portable_state(self) | {"args": _portable(self.args)}
        return _rebuild_max_retries, (self._message, *type(self).__bases__[1:]), state


class ManagerClosed(ConnectionManagerError, RuntimeError):
    """The manager was used after ``close()``; make a new one."""


def _is_below(kind: type[Exception], other: type[Exception]) -> bool:
    return kind is not other and issubclass(kind, other)


@cache
def _max_retries_like(
    plain: tuple[type[requests.RequestException], ...],
) -> type[MaxRetriesExceeded]:
    return type(MaxRetriesExceeded.__name__, (MaxRetriesExceeded, *plain), {"__module__": __name__})


def _rebuild_max_retries(
    message: str, *plain: type[requests.RequestException]
) -> MaxRetriesExceeded:
    return (_max_retries_like(plain) if plain else MaxRetriesExceeded)(message)


def _portable_state(error: Exception) -> dict[str, Any]:
    return {name: _portable(value) for name, value in vars(error).items()}


def _portable(value: Any) -> Any:
    """Return ``value`` if it pickles, otherwise the part of it that does."""
    if _pickles(value):
        return value
    if isinstance(value, tuple):
        return tuple(_portable(item) for item in value)
    if isinstance(value, Attempt):
        return replace(value, error=_portable(value.error))
    if isinstance(value, requests.PreparedRequest):
        # What stops it is a body that is a file or a generator, or a hook that is a closure.
        slim = value.copy()
        slim.hooks = {}
        slim.body = slim.body if isinstance(slim.body, (bytes, str)) else None
        return slim if _pickles(slim) else None
    if isinstance(value, requests.Response):
        without_request = copy(value)
        without_request.request = _portable(value.request)
        return without_request if _pickles(without_request) else None
    if isinstance(value, requests.Request):
        slim_request = requests.Request(value.method, value.url)
        return slim_request if _pickles(slim_request) else None
    if isinstance(value, requests.RequestException):
        in_words = type(value)(str(value), request=_portable(value.request))
        return in_words if _pickles(in_words) else requests.RequestException(repr(value))
    return requests.RequestException(repr(value)) if isinstance(value, Exception) else None


def _pickles(value: Any) -> bool:
    import pickle  # late: most programs never need it

    try:
        pickle.dumps(value)
    except Exception:  # whatever a foreign __reduce__ raises, the answer is the same
        return False
    return True
