"""Preparing a request as requests does, but for what was already done for an earlier one.

The law: what comes out equals what ``requests.Session.prepare_request`` makes. It is made by the
documented steps of ``PreparedRequest``; remembered are the spelling of URLs, and the session's own
headers, checked. Whatever is out of the ordinary is left to requests.
"""

from __future__ import annotations

import os
from typing import Any

import requests
from requests import sessions, utils
from requests.cookies import RequestsCookieJar, merge_cookies
from requests.structures import CaseInsensitiveDict

from .environment import KNOWS_ALL_SOURCES

_AS_IN_REQUESTS = requests.Session.prepare_request
_MOST = 1024
"""URLs that are remembered, and the length of each."""


class Memory:
    """What is remembered of the requests of a session."""

    def __init__(self) -> None:
        self._spellings: dict[str, str] = {}
        """Of URLs: as they are given, and as they are sent."""
        self._headers: tuple[tuple[Any, ...], CaseInsensitiveDict[Any]] = (), CaseInsensitiveDict()
        """As they are given, and as they are prepared."""
        self._netrcs: tuple[tuple[str | None, ...], list[str]] = (), []
        """What the environment says, and where therefore a netrc would be."""

    def spell(self, prepared: requests.PreparedRequest, url: str) -> None:
        """Set the URL of a request; raises what requests raises for one that it cannot send."""
        spelt = self._spellings.get(url)
        if spelt is not None:
            prepared.url = spelt
            return
        prepared.prepare_url(url, None)
        if len(url) <= _MOST and "@" not in url:  # a password is not ours to keep
            if len(self._spellings) >= _MOST:
                self._spellings = {}
            self._spellings[url] = prepared.url or ""

    def checked(self, headers: CaseInsensitiveDict[Any]) -> CaseInsensitiveDict[Any]:
        """Return a copy of a session's headers, as prepared; raises ``InvalidHeader``."""
        given = (*headers, *headers.lower_items())  # the names also as they are spelt
        known, checked = self._headers
        if known != given:
            checked = _checked(headers)
            self._headers = given, checked
        return checked.copy()

    def finds_netrc(self) -> bool:
        """Whether there is a file for requests to read."""
        said = (os.environ.get("NETRC"), os.environ.get("HOME"))
        known, paths = self._netrcs
        if known != said:
            names = [f"~/{name}" for name in utils.NETRC_FILES] if said[0] is None else [said[0]]
            paths = [os.path.expanduser(name) for name in names]
            self._netrcs = said, paths
        return any(map(os.path.exists, paths))


class PreparingSession(requests.Session):
    """A session that prepares the usual request in a fraction of the time."""

    def __init__(self) -> None:
        super().__init__()
        self._prepared_before = Memory()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._prepared_before = Memory()
        super().__setstate__(state)

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        """Do what requests does."""
        ask, headers, auth = super().prepare_request, self.headers, request.auth
        if (
            getattr(ask, "__func__", None) is not _AS_IN_REQUESTS  # a mock's, or a subclass's
            or self.params
            or not isinstance(request.url, str)
            or not isinstance(request.method, str)
            or type(headers) is not CaseInsensitiveDict
            or not isinstance(request.headers, (dict, CaseInsensitiveDict))
            or not all(isinstance(name, str) for name in request.headers)
            or None in headers.values()
        ):
            return ask(request)
        memory = self._prepared_before
        prepared = requests.PreparedRequest()
        prepared.prepare_method(request.method)
        if request.params:
            prepared.prepare_url(request.url, request.params)
        else:
            memory.spell(prepared, request.url)
        prepared.headers = memory.checked(headers)
        if request.headers:
            _merge(prepared.headers, request.headers)
        cookies = merge_cookies(RequestsCookieJar(), self.cookies)
        if request.cookies:
            cookies = merge_cookies(cookies, request.cookies)
        prepared.prepare_cookies(cookies)
        prepared.prepare_body(request.data, request.files, request.json)
        if self.trust_env and not auth and not self.auth:
            auth = self._netrc_auth(request.url)
        auth = self.auth if auth is None else auth
        if auth is not None or "@" in (prepared.url or ""):
            prepared.prepare_auth(auth, request.url)
        prepared.prepare_hooks(sessions.merge_hooks(request.hooks, self.hooks))
        return prepared

    def _netrc_auth(self, url: str) -> Any:
        ask = vars(sessions)["get_netrc_auth"]
        is_replaced = ask is not utils.get_netrc_auth  # tests do
        if is_replaced or not KNOWS_ALL_SOURCES or self._prepared_before.finds_netrc():
            return ask(url)
        return None


def _checked(headers: Any) -> CaseInsensitiveDict[Any]:
    bare = requests.PreparedRequest()
    bare.prepare_headers(headers)
    return bare.headers


def _merge(headers: CaseInsensitiveDict[Any], more: Any) -> None:
    """Add the headers of a request; None takes one of the session's away."""
    headers.update(more)
    gone = [name for name, value in headers.items() if value is None]
    for name in gone:
        del headers[name]
    _checked(headers)
