"""Which credential a request gets.

The law: what the call brings wins over the endpoint's, the endpoint's over the manager's, and a
request gets one scheme. That it goes nowhere else is the affair of `carried`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests
from requests.auth import AuthBase
from requests.utils import get_auth_from_url

from .arguments import lower_case
from .carried import Carried, QueryKey, carry, names_of
from .patterns import split_url
from .settings import SCHEMES, Settings


@dataclass(frozen=True)
class Credential:
    """One scheme, as requests takes it."""

    scheme: str
    """The setting that it comes from."""
    names: frozenset[str]
    """The headers that hold a credential, in lower case: a call that has one brings its own."""
    auth: Any = field(repr=False)
    """The argument ``auth``. With it requests does not ask the netrc, which would overwrite."""
    header: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What ``auth`` will set. It is in the arguments, too, for what stands in for requests."""

    def fill_in(
        self, url: str, headers: Any, auth: Any, session: requests.Session
    ) -> tuple[Any, Any]:
        """Return the arguments ``headers`` and ``auth`` of a call, unless it brings its own."""
        if auth is not None or self.is_brought_by(headers) or _has_user_info(url):
            return headers, auth
        own = session.headers if hasattr(session.headers, "keys") else ()  # requests takes any
        beside = {name: None for name in own if lower_case(name) in self.names}
        added = {**beside, **self.header} if beside else self.header
        if not added:
            return headers, self.auth
        try:
            return {**dict(headers or {}), **added}, self.auth
        except (TypeError, ValueError):  # of a kind that requests is about to complain of
            return headers, self.auth

    def is_brought_by(self, headers: Any) -> bool:
        """Whether headers hold a credential; None, too, which is "none" in requests."""
        return bool(headers) and not self.names.isdisjoint(names_of(headers))


def credential_of(settings: Settings) -> Credential | None:
    """Return the one credential that settings come to."""
    scheme = next((name for name in SCHEMES if getattr(settings, name) is not None), None)
    if scheme is None:
        return None
    names = frozenset({"authorization", settings.api_key_header.lower()})
    value: Any = getattr(settings, scheme)
    if scheme in ("auth", "basic_auth"):
        return Credential(scheme, names, value)
    if scheme == "api_key" and settings.api_key_query is not None:
        return Credential(scheme, names, _QueryAuth(settings.api_key_query, value))
    if scheme == "api_key":
        header = {settings.api_key_header: value}
    else:
        header = {"Authorization": f"Bearer {value}"}
    return Credential(scheme, names, _HeaderAuth(header), header)


class _HeaderAuth(AuthBase):
    def __init__(self, header: Mapping[str, str]) -> None:
        self._header = header

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(self._header)
        carry(request, Carried(headers=frozenset(names_of(self._header))))
        return request


class _QueryAuth(AuthBase):
    def __init__(self, name: str, value: str) -> None:
        self._name = name
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        url = request.url or ""
        if self._name not in dict(parse_qsl(urlsplit(url).query, keep_blank_values=True)):
            key = QueryKey(split_url(url)[0], self._name, self._value)
            carry(request, Carried(query_key=key))
        return request


def _has_user_info(url: str) -> bool:
    return "@" in url and get_auth_from_url(url) != ("", "")
