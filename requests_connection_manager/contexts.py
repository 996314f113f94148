"""What a hook is given, and may change."""

from __future__ import annotations

from collections.abc import Mapping
from http.cookiejar import CookieJar
from typing import Any

import requests

from .arguments import UNSET, lower_case


class RequestContext:
    """A call before it is sent; what a hook changes here is what will be sent.

    ``kwargs`` are the arguments that were given beside method and URL, as `requests.request`
    takes them. The containers among them are copies.
    """

    def __init__(self, method: str, url: str | bytes, kwargs: Mapping[str, Any]) -> None:
        self.method = method
        self.url = url
        self.kwargs: dict[str, Any] = {name: _copied(value) for name, value in kwargs.items()}

    def update_url(self, url: str) -> None:
        """Send to another URL; settings, limits and credentials are then that URL's."""
        self.url = url

    def update_headers(self, headers: Mapping[str, Any]) -> None:
        """Add headers, or replace those of the same name, whatever their case."""
        given = requests.utils.to_key_val_list(self.kwargs.get("headers") or {})
        gone = {lower_case(name) for name in headers}
        kept = {name: value for name, value in given if lower_case(name) not in gone}
        self.kwargs["headers"] = {**kept, **headers}

    def update_payload(self, data: Any = UNSET, json: Any = UNSET) -> None:
        """Replace the body: a new ``data`` or ``json`` takes the place of either, and of files."""
        if data is not UNSET or json is not UNSET:
            for name in ("data", "json", "files"):
                self.kwargs.pop(name, None)
        if data is not UNSET:
            self.kwargs["data"] = data
        if json is not UNSET:
            self.kwargs["json"] = json


class ResponseContext:
    """A call that was answered; ``response`` may be replaced.

    Who replaces a streamed response closes the one before, or its connection is lost to others.
    """

    def __init__(self, request: RequestContext, response: requests.Response) -> None:
        self.request = request
        self.response = response


class ErrorContext:
    """A call that failed; a fallback is returned in place of raising ``exception``."""

    def __init__(self, request: RequestContext, exception: Exception) -> None:
        self.request = request
        self.exception = exception
        self.fallback_response: Any = None

    def set_fallback_response(self, response: Any) -> None:
        """Return ``response`` from the call; one that is falsy, such as a 404, counts."""
        self.fallback_response = response


def _copied(value: Any) -> Any:
    """Copy containers, at any depth; a file or a generator is what it is."""
    kind = type(value)
    if kind is dict:
        return {key: _copied(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return kind(map(_copied, value))
    copy = getattr(value, "copy", None)
    return copy() if isinstance(value, (Mapping, CookieJar)) and callable(copy) else value
