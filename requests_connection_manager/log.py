"""What is said to the log of the package: silent by default, and never a credential.

A body is never read for it, nor is a header or a query shown.
"""

from __future__ import annotations

import logging
import re
import traceback

from .failures import count_of
from .redaction import public_url, redact_text

logger = logging.getLogger("requests_connection_manager")
logger.addHandler(logging.NullHandler())


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def on_one_line(text: str) -> str:
    """Return ``text`` without what could pass for a line of its own."""
    return _CONTROL.sub(" ", text)


def in_words(error: BaseException) -> str:
    """Say what an error is, in one line and without credentials."""
    name = type(error).__name__
    try:
        text = on_one_line(redact_text(str(error))).strip()
    except Exception:  # its own __str__
        return name
    return f"{name}: {text}" if text else name


def call_ended(method: str, url: str, outcome: object, attempts: int, seconds: float) -> None:
    """Tell of a call at level DEBUG; ask ``logger.isEnabledFor`` first."""
    if isinstance(outcome, BaseException):
        result = in_words(outcome)
    else:
        result = str(getattr(outcome, "status_code", outcome))
    what = on_one_line(f"{method} {public_url(url)}")
    logger.debug("%s: %s, %s, %.3f s", what, result, count_of(attempts), seconds)


def callback_failed(name: str, error: BaseException) -> None:
    """Tell of an error in code of the user's, with its place; its text may hold credentials."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    logger.error("%s raised %s%s", name, in_words(error), place)
