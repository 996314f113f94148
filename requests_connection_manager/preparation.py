"""Preparing a request as requests does, but for what was already done for an earlier one.

The law: what comes out equals what ``requests.Session.prepare_request`` makes. It is made by the
documented steps of ``PreparedRequest``; remembered are the spelling of URLs, and the session's own
headers, checked. Whatever is out of the ordinary is left to requests.
"""

from __future__ import annotations

from http.cookiejar import CookieJar
from typing import Any

import requests
from requests import sessions, utils
from requests.cookies import RequestsCookieJar, cookiejar_from_dict, merge_cookies
from requests.hooks import default_hooks
from requests.structures import CaseInsensitiveDict

from .cookies import BlankJar
from .environment import RememberingSession
from .patterns import as_text
from .plain import is_plain

_AS_IN_REQUESTS = requests.Session.prepare_request
_MOST = 1024
"""URLs that are remembered, and the length of each."""


class Memory:
    """What is remembered of the requests of a session."""

    def __init__(self) -> None:
        self._spellings: dict[str, str] = {}
        """Of URLs: as they are given, and as they are sent."""
        self._blank: tuple[tuple[Any, ...], requests.PreparedRequest | None] = (), None
        """The session's headers as they are given, and a request that has nothing else."""

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

    def blank(self, headers: CaseInsensitiveDict[Any]) -> requests.PreparedRequest | None:
        """Return a request with a session's headers, and no more; None: requests has to."""
        given = (*headers, *headers.lower_items())  # the names also as they are spelt
        known, blank = self._blank
        if known != given:
            blank = _blank_with(headers)
            self._blank = given, blank
        if blank is None:
            return None
        copied = blank.copy()
        copied.hooks = default_hooks()
        return copied


class PreparingSession(RememberingSession):
    """A session that prepares the usual request in a fraction of the time."""

    def __init__(self) -> None:
        super().__init__()
        self._prepared_before = Memory()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._prepared_before = Memory()
        super().__setstate__(state)

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        """Do what requests does."""
        ask = super().prepare_request
        if not is_plain(ask, _AS_IN_REQUESTS):
            return ask(request)
        blank = self._blank_for(request)
        return ask(request) if blank is None else self._fill_in(blank, request)

    def _blank_for(self, request: requests.Request) -> requests.PreparedRequest | None:
        headers, more = self.headers, request.headers
        if self.params or type(headers) is not CaseInsensitiveDict:
            return None
        if more and not (
            isinstance(more, (dict, CaseInsensitiveDict))
            and all(isinstance(name, str) for name in more)
        ):
            return None
        if not isinstance(request.url, str) or not isinstance(request.method, str):
            return None
        return self._prepared_before.blank(headers)

    def _fill_in(
        self, prepared: requests.PreparedRequest, request: requests.Request
    ) -> requests.PreparedRequest:
        url, auth = as_text(request.url), request.auth
        prepared.prepare_method(request.method)
        if request.params:
            prepared.prepare_url(url, request.params)
        else:
            self._prepared_before.spell(prepared, url)
        if request.headers:
            _merge(prepared.headers, request.headers)
        if request.cookies or any(True for _ in self.cookies):
            prepared.prepare_cookies(self._cookies_for(request))
        prepared.prepare_body(request.data, request.files, request.json)
        if self.trust_env and not auth and not self.auth:
            auth = self._netrc_auth(url)
        auth = self.auth if auth is None else auth
        if auth is not None or "@" in (prepared.url or ""):
            prepared.prepare_auth(auth, url)
        prepared.prepare_hooks(sessions.merge_hooks(request.hooks, self.hooks))
        return prepared

    def _cookies_for(self, request: requests.Request) -> CookieJar:
        own = request.cookies or {}
        jar = own if isinstance(own, CookieJar) else cookiejar_from_dict(own)
        return merge_cookies(merge_cookies(RequestsCookieJar(), self.cookies), jar)

    def _netrc_auth(self, url: str) -> Any:
        ask = vars(sessions)["get_netrc_auth"]
        if ask is not utils.get_netrc_auth:  # a test's
            return ask(url)
        said = self._environment.now()
        return ask(url) if said is None or said.names_a_netrc() else None


def _blank_with(headers: CaseInsensitiveDict[Any]) -> requests.PreparedRequest | None:
    try:
        blank = _request_with(headers)
    except requests.exceptions.InvalidHeader:  # one that is None, too
        return None
    blank.prepare_cookies(BlankJar())
    return blank


def _request_with(headers: Any) -> requests.PreparedRequest:
    request = requests.PreparedRequest()
    request.prepare_headers(headers)
    return request


def _merge(headers: CaseInsensitiveDict[Any], more: Any) -> None:
    """Add the headers of a request; None takes one of the session's away."""
    headers.update(more)
    gone = [name for name, value in headers.items() if value is None]
    for name in gone:
        del headers[name]
    _request_with(headers)  # raises InvalidHeader
