"""Preparing a request as requests does, but for what was already done for an earlier one.

The law: what comes out equals what ``requests.Session.prepare_request`` makes. It is made by the
documented steps of ``PreparedRequest``; remembered are the spelling of URLs, and the session's own
headers, checked. Whatever is out of the ordinary is left to requests.
"""

from __future__ import annotations

from collections.abc import Callable
from http.cookiejar import CookieJar
from typing import Any

import requests
from requests import sessions, utils
from requests.cookies import RequestsCookieJar, cookiejar_from_dict, merge_cookies
from requests.hooks import default_hooks
from requests.structures import CaseInsensitiveDict

from .cookies import BlankJar
from .environment import EnvironmentMemory
from .headers import BlankHeaders, Stored, stored
from .patterns import as_text
from .plain import is_plain

_AS_IN_REQUESTS = requests.Session.prepare_request
_NO_HOOKS = default_hooks()
_MOST = 1024
"""URLs that are remembered, and the length of each."""


class Memory:
    """What is remembered of the requests of a session."""

    def __init__(self) -> None:
        self._spellings: dict[str, str] = {}
        """Of URLs without a query: as they are given, and as they are sent."""
        self._blank: tuple[Stored, requests.PreparedRequest | None] = (), None
        """The session's headers as they are given, and a request that has nothing else."""

    def spell(self, prepared: requests.PreparedRequest, url: str) -> None:
        """Set the URL of a request; raises what requests raises for one that it cannot send."""
        spelt = self._spellings.get(url)
        if spelt is not None:
            prepared.url = spelt
            return
        prepared.prepare_url(url, None)
        if len(url) <= _MOST and "@" not in url and "?" not in url:  # secrets are not ours to keep
            if len(self._spellings) >= _MOST:
                self._spellings = {}
            self._spellings[url] = prepared.url or ""

    def blank(self, headers: CaseInsensitiveDict[Any]) -> requests.PreparedRequest | None:
        """Return a request with a session's headers, and no more; None: requests has to."""
        said = stored(headers)
        known, blank = self._blank
        if known != said:
            # Of what was read just now, not of what another thread has made of it meanwhile.
            blank = _blank_with(said)
            self._blank = said, blank
        if blank is None:
            return None
        copied = blank.copy()
        copied.hooks = default_hooks()
        return copied


class Preparation:
    """Prepares the usual request in a fraction of the time."""

    def __init__(self, environment: EnvironmentMemory) -> None:
        self._environment = environment
        self._before = Memory()

    def prepare(
        self,
        session: requests.Session,
        ask: Callable[[requests.Request], requests.PreparedRequest],
        request: requests.Request,
    ) -> requests.PreparedRequest:
        """Do as ``ask``, a session's ``prepare_request``."""
        if not is_plain(ask, _AS_IN_REQUESTS):
            return ask(request)
        blank = self._blank_for(session, request)
        return ask(request) if blank is None else self._fill_in(blank, session, request)

    def _blank_for(
        self, session: requests.Session, request: requests.Request
    ) -> requests.PreparedRequest | None:
        headers, more = session.headers, request.headers
        if session.params or type(headers) is not CaseInsensitiveDict:
            return None
        if more and not (
            isinstance(more, (dict, CaseInsensitiveDict))
            and all(isinstance(name, str) for name in more)
        ):
            return None
        if not isinstance(request.url, str) or not isinstance(request.method, str):
            return None
        return self._before.blank(headers)

    def _fill_in(
        self,
        prepared: requests.PreparedRequest,
        session: requests.Session,
        request: requests.Request,
    ) -> requests.PreparedRequest:
        url, auth = as_text(request.url), request.auth
        prepared.prepare_method(request.method)
        if request.params:
            prepared.prepare_url(url, request.params)
        else:
            self._before.spell(prepared, url)
        if request.headers:
            _merge(prepared.headers, request.headers)
        if request.cookies or next(iter(session.cookies), None) is not None:
            prepared.prepare_cookies(_cookies_for(session, request))
        if not _has_no_body(request):
            prepared.prepare_body(request.data, request.files, request.json)
        if session.trust_env and not auth and not session.auth:
            auth = self._netrc_auth(url)
        auth = session.auth if auth is None else auth
        if auth is not None or "@" in (prepared.url or ""):
            prepared.prepare_auth(auth, url)
        hooks = sessions.merge_hooks(request.hooks, session.hooks)
        if hooks != _NO_HOOKS:
            prepared.prepare_hooks(hooks)
        return prepared

    def _netrc_auth(self, url: str) -> Any:
        ask = vars(sessions)["get_netrc_auth"]
        if ask is not utils.get_netrc_auth:  # a test's
            return ask(url)
        said = self._environment.now()
        return ask(url) if said is None or said.names_a_netrc() else None


def _has_no_body(request: requests.Request) -> bool:
    """Whether it is one of those of which requests would set neither body nor length."""
    return (
        request.method in ("GET", "HEAD")
        and request.json is None
        and not request.files
        and type(request.data) in (dict, list)  # of what is empty, some would still be streamed
        and not request.data
    )


def _cookies_for(session: requests.Session, request: requests.Request) -> CookieJar:
    own = request.cookies or {}
    jar = own if isinstance(own, CookieJar) else cookiejar_from_dict(own)
    return merge_cookies(merge_cookies(RequestsCookieJar(), session.cookies), jar)


def _blank_with(said: Stored) -> requests.PreparedRequest | None:
    if not all(isinstance(name, str) and name.lower() == lower for lower, (name, _) in said):
        return None
    try:
        blank = _request_with(dict(header for _, header in said))
    except requests.exceptions.InvalidHeader:  # one that is None, too
        return None
    blank.headers = BlankHeaders(blank.headers)
    blank.prepare_cookies(BlankJar())
    return blank


def _request_with(headers: Any) -> requests.PreparedRequest:
    request = requests.PreparedRequest()
    request.prepare_headers(headers)
    return request


def _merge(headers: CaseInsensitiveDict[Any], more: Any) -> None:
    """Add the headers of a request; None takes one of the session's away."""
    headers.update(more.items())
    gone = [name for name, value in headers.items() if value is None]
    for name in gone:
        del headers[name]
    _request_with(headers)  # raises InvalidHeader
