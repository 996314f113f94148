"""The ring of a call: whatever comes of it, it is settled, counted and told of, once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

import requests

from .call import Call, current_call
from .exceptions import ConnectionManagerError
from .failures import is_failing_error, kind_of_failure
from .log import call_ended, logger
from .patterns import as_text
from .redaction import redact_error

A = TypeVar("A")
R = TypeVar("R")


def in_ring(
    call: Call, method: object, url: str, forward: Callable[[], requests.Response]
) -> requests.Response:
    """Let ``forward`` run as the call, and settle what the adapter has not."""
    outer = current_call.get()
    started = time.monotonic()
    outcome: requests.Response | BaseException | None = None
    try:
        current_call.set(call)
        outcome = response = forward()
        if call.ticket is not None:
            call.settle_by_answer(response)
        return response
    except Exception as error:
        outcome = error
        if not isinstance(error, ConnectionManagerError):  # those know what to say
            redact_error(error, url, handled=call.handled)
        call.settle_by_error(error)
        if is_failing_error(error) and call.deadline is not None and call.deadline.expired:
            outcome = call.too_late(url, "the time ran out in a redirect")
            raise outcome from error
        raise
    except BaseException as interrupt:
        outcome = interrupt
        raise
    finally:
        current_call.set(outer)
        call.over = True
        if call.ticket is not None:
            call.settle_interrupted()
        if call.deadline is not None:
            call.deadline.release()
        call.tally.call(call.let_go, kind_of_failure(outcome))
        if logger.isEnabledFor(logging.DEBUG):
            attempts = len(call.log) or call.hops
            call_ended(str(method), url, outcome, attempts, time.monotonic() - started)
        call.log, call.handled = [], None
        outcome = None  # an error would hold this frame, and all that it holds, in a circle


def without_credentials(function: Callable[[A], R], argument: A) -> R:
    """Call a function; an error of requests that comes of it shows no credential of a URL."""
    try:
        return function(argument)
    except Exception as error:
        url = argument.url if isinstance(argument, requests.Request) else argument
        redact_error(error, as_text(url))
        raise
