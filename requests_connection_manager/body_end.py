"""To be told when a body has been read to its end, or nobody wants it any more."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import requests
from urllib3 import HTTPResponse


def when_read(response: requests.Response, then: Callable[[], object]) -> None:
    """Call ``then`` when there is nothing left to read: perhaps now, perhaps more than once.

    What is dropped unread drops ``then``, too, and does not call it.
    """
    raw: Any = getattr(response, "raw", None)
    # The flag is private in requests; ``content`` would read what is asked about.
    if getattr(response, "_content_consumed", True) or not _is_open(raw):
        then()
        return
    try:
        # A class below its own rather than attributes: these would hold the object in a circle.
        kind: type[HTTPResponse] = type(raw)
        raw.__class__ = _watched(kind)
    except TypeError:  # a stand-in's, with slots
        then()
    else:
        raw._then = then


def _is_open(raw: Any) -> bool:
    """Whether there is a body to come; what is not of urllib3, a mock's, tells nobody."""
    if not isinstance(raw, HTTPResponse) or isinstance(raw, _Watched):
        return False
    # Without a response of http.client below it, as of a mock, urllib3 tells of no end.
    has_source = getattr(raw, "_original_response", None) is not None
    return has_source and not raw.closed and raw.length_remaining != 0


class _Watched(HTTPResponse):
    """urllib3 gives the connection back at the end of a body; requests and the caller close."""

    _then: Callable[[], object]

    def release_conn(self) -> None:
        try:
            super().release_conn()
        finally:
            self._then()

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._then()


@functools.cache
def _watched(kind: type[HTTPResponse]) -> type[_Watched]:
    return type(kind.__name__, (_Watched, kind), {"__module__": kind.__module__})
