"""What a batch takes, and what it yields.

The law: the text of an error tells the place of an item and the kinds of its parts, never a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import requests

from ..arguments import why_unknown
from ..exceptions import ConfigurationError

BatchItem = (
    str
    | bytes
    | requests.Request
    | tuple[str, str | bytes]
    | tuple[str, str | bytes, Mapping[str, Any]]
    | list[Any]
)
"""A URL to GET, a ``requests.Request``, or ``(method, url)`` with or without keywords."""

_OF_A_REQUEST = ("headers", "files", "data", "json", "params", "auth", "cookies", "hooks")
"""What ``requests.Request`` keeps beside method and URL."""
_TEXT = (str, bytes)
_SHAPE = "must be a tuple/list (method, url) or (method, url, kwargs)"


@dataclass(frozen=True, repr=False, eq=False)
class BatchResult:
    """What came of one item: a response or an error, never both."""

    index: int
    """The item's place in the iterable, from 0."""
    request: Any
    """The item, as it was given."""
    response: requests.Response | None
    error: Exception | None
    callbacks: tuple[Any, ...]
    """What each callback returned, or the exception that it raised."""
    elapsed: float
    """Seconds from the item's start, waits included, to its end; callbacks excluded."""

    def __repr__(self) -> str:
        # neither the item nor the response: a URL, a header or a body may hold credentials
        if self.error is not None:
            outcome = f"error={type(self.error).__name__}"
        else:
            outcome = f"status={getattr(self.response, 'status_code', None)}"
        return f"BatchResult(index={self.index}, {outcome}, elapsed={self.elapsed:.3f})"


def check_requests(requests_: object) -> None:
    """Refuse what is no collection of requests; raises `ConfigurationError`."""
    if isinstance(requests_, _TEXT) or not (
        isinstance(requests_, Iterable) or hasattr(requests_, "__getitem__")
    ):
        raise _refused(f"requests must be an iterable of requests, not {_a(requests_)}")


def keywords_of(index: int, item: object) -> dict[str, Any]:
    """Return the keywords that send an item; raises `ConfigurationError`."""
    if isinstance(item, _TEXT):
        return {"method": "GET", "url": item}
    if isinstance(item, requests.Request):
        _check_method_and_url(index, item.method, item.url)
        said = {name: getattr(item, name) for name in _OF_A_REQUEST}
        return {"method": item.method, "url": item.url, **said}
    if isinstance(item, (tuple, list)):
        return keywords_of_tuple(index, item)
    raise _refused(f"request {index} {_SHAPE}, a URL or a requests.Request, not {_a(item)}")


def keywords_of_tuple(index: int, item: object) -> dict[str, Any]:
    """Return the keywords that send ``(method, url, kwargs)``; raises `ConfigurationError`."""
    if not isinstance(item, (tuple, list)):
        raise _refused(f"request {index} {_SHAPE}, not {_a(item)}")
    if len(item) not in (2, 3):
        raise _refused(f"request {index} {_SHAPE}, not {_a(item)} of length {len(item)}")
    method, url = item[:2]
    _check_method_and_url(index, method, url)
    kwargs = item[2] if len(item) == 3 else {}
    if not isinstance(kwargs, Mapping):
        raise _refused(f"request {index}: kwargs must be a dictionary, not {_a(kwargs)}")
    for name in kwargs:
        if (why := why_unknown(name)) is not None:
            raise _refused(f"request {index}: {why}")
    return {"method": method, "url": url, **kwargs}


def _check_method_and_url(index: int, method: object, url: object) -> None:
    if not isinstance(method, str) or not isinstance(url, _TEXT):
        kinds = f"{_a(method)} and {_a(url)}"
        raise _refused(f"request {index}: method and url must be strings, not {kinds}")


def _refused(text: str) -> ConfigurationError:
    return ConfigurationError(text, field="requests")


def _a(value: object) -> str:
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
