"""Which credentials a request gets, and that they go nowhere else.

The law: what the call brings wins over the endpoint's, the endpoint's over the manager's; a request
gets one scheme; and nothing that says who the caller is crosses an origin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

import requests
from requests.auth import AuthBase
from requests.utils import get_auth_from_url

from .patterns import parse_origin, split_url
from .redaction import is_sensitive_field
from .settings import SCHEMES, Settings

_CARRIED = "_credentials"
"""Where a prepared request keeps what it must not carry to another origin."""
_SET_BY_REQUESTS = frozenset({"content-length", "content-type", "cookie", "transfer-encoding"})
_OF_REQUESTS = frozenset({"authorization", "proxy-authorization", "cookie"})
"""Headers that requests itself takes away, or fills in anew, on a redirect."""


class QueryKey(NamedTuple):
    """A credential that is put into the query on the wire, and nowhere else.

    So it is in no ``response.url``, in no exception, and not in the log of urllib3.
    """

    origin: str
    """The only one that gets it."""
    name: str
    value: str


class Carried(NamedTuple):
    """What a request carries of credentials, beside what their names tell."""

    headers: frozenset[str] = frozenset()
    """Names, in lower case."""
    hooks: tuple[Callable[..., Any], ...] = ()
    """With which an auth answers a challenge."""
    query_key: QueryKey | None = None


class Credential(NamedTuple):
    """One scheme, as requests takes it."""

    auth: Any
    """The argument ``auth``. With it requests does not ask the netrc, which would overwrite."""
    header: tuple[str, str] | None = None
    """What ``auth`` will set. It is in the arguments, too, for what stands in for requests."""

    def fill_in(self, url: str, headers: Any, auth: Any) -> tuple[Any, Any]:
        """Return the arguments ``headers`` and ``auth`` of a call, unless it brings its own."""
        if auth is not None or self.is_brought_by(headers) or _has_user_info(url):
            return headers, auth
        if self.header is None:
            return headers, self.auth
        try:
            return dict(headers or {}) | {self.header[0]: self.header[1]}, self.auth
        except (TypeError, ValueError):  # of a kind that requests is about to complain of
            return headers, self.auth

    def is_brought_by(self, headers: Any) -> bool:
        """Whether headers hold a credential; None, too, which is "none" in requests."""
        if not headers:
            return False
        own = (
            {"authorization"} if self.header is None else {"authorization", self.header[0].lower()}
        )
        return not own.isdisjoint(_names(headers))


def scheme_of(settings: Settings) -> str | None:
    """Return the name of the one setting that settings' credential comes from."""
    return next((name for name in SCHEMES if getattr(settings, name) is not None), None)


def credential_of(settings: Settings) -> Credential | None:
    """Return the one credential that settings come to."""
    scheme = scheme_of(settings)
    if scheme is None:
        return None
    value: Any = getattr(settings, scheme)
    if scheme in ("auth", "basic_auth"):
        return Credential(value)
    if scheme == "api_key" and settings.api_key_query is not None:
        return Credential(_QueryAuth(settings.api_key_query, value))
    header = (settings.api_key_header, value)
    if scheme != "api_key":
        header = ("Authorization", f"Bearer {value}")
    return Credential(_HeaderAuth(*header), header)


class _HeaderAuth(AuthBase):
    def __init__(self, name: str, value: str) -> None:
        self._name = name
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers[self._name] = self._value
        _carry(request, Carried(headers=frozenset({self._name.lower()})))
        return request


class _QueryAuth(AuthBase):
    def __init__(self, name: str, value: str) -> None:
        self._name = name
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        url = request.url or ""
        if self._name not in dict(parse_qsl(urlsplit(url).query, keep_blank_values=True)):
            key = QueryKey(split_url(url)[0], self._name, self._value)
            _carry(request, Carried(query_key=key))
        return request


def carried_by(request: requests.PreparedRequest) -> Carried | None:
    """Return what `note_credentials`, or an auth of ours, has noted."""
    carried: Carried | None = request.__dict__.get(_CARRIED)
    return carried


def query_key_of(request: requests.PreparedRequest) -> QueryKey | None:
    """Return the key for the query of a request, if it still goes to where the key is for."""
    carried: Carried | None = request.__dict__.get(_CARRIED)
    key = carried.query_key if carried is not None else None
    return key if key is not None and split_url(request.url or "")[0] == key.origin else None


def with_query_key(target: str, key: QueryKey) -> str:
    """Return a URL, or the target of a request line, with the key in its query."""
    return f"{target}{'&' if '?' in target else '?'}{urlencode({key.name: key.value})}"


def with_its_query_key(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Spell out the key for an adapter that puts none into the query; ours does it on the wire."""
    key = query_key_of(request)
    if key is None:
        return request
    spelt_out = request.copy()
    spelt_out.url = with_query_key(request.url or "", key)
    return spelt_out


def note_credentials(
    prepared: requests.PreparedRequest, request: requests.Request, session: requests.Session
) -> None:
    """Note what an auth has added to a request: what it signed with, how it would answer a 401."""
    if not (request.auth or session.auth):
        return
    given = {*_names(request.headers), *_names(session.headers), *_SET_BY_REQUESTS}
    headers = frozenset(name.lower() for name in prepared.headers) - given
    callers = [*_response_hooks(request.hooks), *_response_hooks(session.hooks)]
    hooks = tuple(hook for hook in _response_hooks(prepared.hooks) if hook not in callers)
    if headers or hooks:
        _carry(prepared, Carried(headers, hooks))


def hand_on(carried: Carried | None, redirected: requests.PreparedRequest) -> Carried | None:
    """Let credentials follow a redirect within the origin."""
    if carried is None:
        return None
    key = carried.query_key
    if key is not None:  # the origin may have gone from http to https
        key = key._replace(origin=split_url(redirected.url or "")[0])
    carried = redirected.__dict__[_CARRIED] = carried._replace(query_key=key)
    return carried


def leave_behind(
    carried: Carried | None, redirected: requests.PreparedRequest, session: requests.Session
) -> None:
    """Take from a request that crosses an origin what tells who the caller is.

    ``Authorization`` and the proxy's are requests' own affair.
    """
    carried = carried or Carried()
    for name in [*redirected.headers]:
        plain = name.lower()
        if plain not in _OF_REQUESTS and (plain in carried.headers or is_sensitive_field(name)):
            del redirected.headers[name]
    if carried.hooks:
        kept = [each for each in _response_hooks(redirected.hooks) if each not in carried.hooks]
        redirected.hooks = {**redirected.hooks, "response": kept}  # others share what it was
    _leave_cookies_behind(redirected, session)


def _leave_cookies_behind(redirected: requests.PreparedRequest, session: requests.Session) -> None:
    """Drop the cookies that the call was given for no host in particular."""
    jar = redirected._cookies  # requests keeps it for its redirects, under this name only
    for_all = {(cookie.name, cookie.value) for cookie in session.cookies if not cookie.domain}
    known = [each for each in jar or () if each.domain or (each.name, each.value) in for_all]
    if jar is None or len(known) == len(jar):
        return
    kept = requests.cookies.RequestsCookieJar()
    for cookie in known:
        kept.set_cookie(cookie)
    redirected.headers.pop("Cookie", None)
    redirected.prepare_cookies(kept)


def is_other_host(old: str, new: str) -> bool:
    """Whether two URLs name different hosts, in the eyes of what will connect to them."""
    try:
        return parse_origin(split_url(old)[0]).host != parse_origin(split_url(new)[0]).host
    except (requests.RequestException, ValueError):
        return True


def _carry(request: requests.PreparedRequest, more: Carried) -> None:
    now = carried_by(request) or Carried()
    request.__dict__[_CARRIED] = Carried(
        now.headers | more.headers, now.hooks + more.hooks, more.query_key or now.query_key
    )


def _has_user_info(url: str) -> bool:
    return "@" in url and get_auth_from_url(url) != ("", "")


def _names(headers: Any) -> set[str]:
    """Return the names of headers in lower case; what is no mapping, requests will complain of."""
    return {
        name.decode("latin-1").lower() if isinstance(name, bytes) else str(name).lower()
        for name in (headers if isinstance(headers, Mapping) else ())
    }


def _response_hooks(hooks: Any) -> list[Callable[..., Any]]:
    found = hooks.get("response", ()) if isinstance(hooks, Mapping) else ()
    return [found] if callable(found) else list(found or ())
