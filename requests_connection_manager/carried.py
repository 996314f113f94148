"""What a request carries of credentials, and what it leaves behind where it crosses an origin.

The law: nothing that says who the caller is crosses an origin, and what is left behind does not
come back. The notes are kept where a copy of the request takes them along: with its headers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote_plus, urlencode

import requests
from requests.structures import CaseInsensitiveDict

from .arguments import lower_case
from .patterns import parse_origin, split_url
from .redaction import is_sensitive_field

_SET_BY_REQUESTS = frozenset({"content-length", "content-type", "cookie", "transfer-encoding"})
_OF_REQUESTS = frozenset({"authorization", "proxy-authorization", "cookie"})
"""Headers that requests itself takes away, or fills in anew, on a redirect."""


@dataclass(frozen=True)
class QueryKey:
    """A credential that is put into the query on the wire, and nowhere else.

    So it is in no ``response.url``, in no exception, and not in the log of urllib3.
    """

    origin: str
    """The only one that gets it."""
    name: str
    value: str = field(repr=False)


@dataclass(frozen=True)
class Carried:
    """What a request carries of credentials, beside what the names of its headers tell."""

    headers: frozenset[str] = frozenset()
    """Names, in lower case."""
    hooks: tuple[Callable[..., Any], ...] = ()
    """With which an auth answers a challenge."""
    query_key: QueryKey | None = None
    is_ours: bool = False
    """Whether a credential of the settings is among it: then the netrc's is not added to it."""


class _NotedHeaders(CaseInsensitiveDict[Any]):
    carried = Carried()

    def copy(self) -> _NotedHeaders:
        copied = _NotedHeaders(self.items())
        copied.carried = self.carried
        return copied

    __copy__ = copy

    def __reduce__(self) -> tuple[Any, ...]:
        # without the notes: a pickled error or response is no place for a credential
        return CaseInsensitiveDict, (dict(self.items()),)


def carried_by(request: requests.PreparedRequest) -> Carried | None:
    headers = request.headers
    # its own class: an isinstance would ask an abstract base class, for each request
    return headers.carried if type(headers) is _NotedHeaders else None


def carry(request: requests.PreparedRequest, more: Carried) -> None:
    """Note that a request carries more."""
    now = carried_by(request)
    headers = request.headers if now is not None else _NotedHeaders(request.headers or {})
    assert isinstance(headers, _NotedHeaders)
    now = now or Carried()
    headers.carried = Carried(
        now.headers | more.headers,
        now.hooks + more.hooks,
        more.query_key or now.query_key,
        now.is_ours or more.is_ours,
    )
    request.headers = headers


def note_what_auth_added(
    prepared: requests.PreparedRequest, request: requests.Request, session: requests.Session
) -> None:
    """Note what an auth has signed a request with, and how it would answer a 401."""
    if not (request.auth or session.auth):
        return
    given = {*names_of(request.headers), *names_of(session.headers), *_SET_BY_REQUESTS}
    headers = names_of(prepared.headers) - given
    callers = [*_response_hooks(request.hooks), *_response_hooks(session.hooks)]
    hooks = tuple(hook for hook in _response_hooks(prepared.hooks) if hook not in callers)
    if headers or hooks:
        carry(prepared, Carried(frozenset(headers), hooks))


def query_key_of(request: requests.PreparedRequest) -> QueryKey | None:
    """Return the key for the query of a request, if it goes to where the key is for."""
    carried = carried_by(request)
    key = carried.query_key if carried is not None else None
    return key if key is not None and split_url(request.url or "")[0] == key.origin else None


def with_key(target: str, key: QueryKey) -> str:
    """Return a URL, or the target of a request line, with the key in its query."""
    target, mark, fragment = target.partition("#")
    joint = "&" if "?" in target else "?"
    return f"{target}{joint}{urlencode({key.name: key.value})}{mark}{fragment}"


def with_its_query_key(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Spell out the key for what puts none into the query; our connections do it on the wire."""
    key = query_key_of(request)
    if key is None:
        return request
    spelt_out = request.copy()
    spelt_out.url = with_key(request.url or "", key)
    return spelt_out


def drop_echo(redirected: requests.PreparedRequest) -> None:
    """Take the key out of the URL of a redirect, if the server has said it again there."""
    carried = carried_by(redirected)
    key = carried.query_key if carried is not None else None
    url = redirected.url or ""
    bare, mark, rest = url.partition("?")
    if key is None or not mark:
        return
    query, hash_, fragment = rest.partition("#")
    pairs = query.split("&")
    kept = [pair for pair in pairs if unquote_plus(pair) != f"{key.name}={key.value}"]
    if kept != pairs:
        query = "&".join(kept)
        redirected.url = f"{bare}{'?' if query else ''}{query}{hash_}{fragment}"


def stay(redirected: requests.PreparedRequest) -> bool:
    """Let credentials follow within the origin; return whether one is of the settings."""
    carried = carried_by(redirected)
    if carried is None:
        return False
    if carried.query_key is not None:  # the origin may have gone from http to https
        key = replace(carried.query_key, origin=split_url(redirected.url or "")[0])
        carry(redirected, Carried(query_key=key))
    return carried.is_ours


def leave_behind(redirected: requests.PreparedRequest, session: requests.Session) -> None:
    """Take from a request that crosses an origin what tells who the caller is.

    ``Authorization`` and the proxy's are requests' own affair.
    """
    carried = carried_by(redirected) or Carried()
    kept: CaseInsensitiveDict[Any] = CaseInsensitiveDict()
    for name, value in redirected.headers.items():
        plain = name.lower()
        if plain in _OF_REQUESTS or not (plain in carried.headers or is_sensitive_field(name)):
            kept[name] = value
    redirected.headers = kept
    if carried.hooks:
        hooks = [each for each in _response_hooks(redirected.hooks) if each not in carried.hooks]
        redirected.hooks = {**redirected.hooks, "response": hooks}  # others share what it was
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


def names_of(headers: Any) -> set[str]:
    """Return the names of headers in lower case; what is none, requests will complain of."""
    return set(map(lower_case, headers.keys())) if hasattr(headers, "keys") else set()


def _response_hooks(hooks: Any) -> list[Callable[..., Any]]:
    found = hooks.get("response", ()) if isinstance(hooks, Mapping) else ()
    return [found] if callable(found) else list(found or ())
