"""What may be changed on a live manager: credentials, TLS and times, for all URLs or for a pattern.

A change is one step: calls under way keep what they started with. New connections are made with
what is set; pooled ones that were made otherwise are not used for it.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any

from .arguments import UNSET
from .endpoints import Endpoints
from .exceptions import ConfigurationError
from .layers import Layer
from .session import ManagedSession
from .settings import SCHEMES, Settings

_CREDENTIALS = (*SCHEMES, "api_key_header", "api_key_query")
_FIELDS: dict[str, dict[str, str]] = {
    "api_key": {
        "api_key": "api_key",
        "header_name": "api_key_header",
        "query_name": "api_key_query",
    },
    "bearer": {"token": "bearer_token"},
    "oauth2": {"token": "oauth2_token"},
    "basic": {"username": "basic_auth", "password": "basic_auth"},
}
"""What `set_endpoint_auth` takes for each type, and the setting that it becomes."""
_NEED_NOT_BE = ("header_name", "query_name")


class _Default:
    """Reads a setting as it is now for URLs that no pattern matches."""

    def __init__(self, doc: str) -> None:
        self.__doc__ = doc

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, owner: LiveSettings | None, kind: type | None = None) -> Any:
        return self if owner is None else getattr(owner._endpoints.defaults, self._name)

    def __set__(self, owner: LiveSettings, value: object) -> None:
        raise AttributeError(
            f"{self._name} cannot be assigned to: there is a set_... for what changes at run time, "
            "such as set_timeouts, set_bearer_token or set_ssl_context."
        )


class LiveSettings:
    """The setters of a manager, and what is set."""

    session: ManagedSession

    @property
    def _endpoints(self) -> Endpoints:
        return self.session.endpoints

    timeout = _Default("The default ``timeout``, in seconds.")
    rate_limit_requests = _Default("Attempts allowed in ``rate_limit_period``; None: no limit.")
    rate_limit_period = _Default("The default period of the limit, in seconds.")
    ssl_context = _Default("The default ``ssl_context``.")
    api_key = _Default("The key for all URLs.")
    api_key_header = _Default("The header that the key is sent in.")
    api_key_query = _Default("The query parameter that the key is sent in, instead.")
    bearer_token = _Default("The bearer token for all URLs.")
    oauth2_token = _Default("The OAuth 2 access token for all URLs.")
    basic_auth = _Default("The user and the password for all URLs, as a tuple.")

    @property
    def auth(self) -> Any:
        """What signs requests to all URLs without credentials of their own, as a Session's does.

        An ``AuthBase``, another callable, or a (user, password) tuple; None: nothing.
        """
        own = self.session.auth
        return self._endpoints.defaults.auth if own is None else own

    @auth.setter
    def auth(self, auth: Any) -> None:
        if self._endpoints.defaults.auth is not None:  # else it would come back with None
            self._endpoints.change_defaults({}, gone=("auth",))
        self.session.auth = auth

    @property
    def connect_timeout(self) -> float | None:
        """The default time to connect, in seconds; None: no limit."""
        return self._endpoints.defaults.timeouts[0]

    @property
    def read_timeout(self) -> float | None:
        """The default time between two reads, in seconds; None: no limit."""
        return self._endpoints.defaults.timeouts[1]

    def set_api_key(
        self, key: str, header_name: str = "X-API-Key", *, query_name: str | None = None
    ) -> None:
        """Send a key to all URLs without credentials of their own: in a header, or in the query.

        It takes the place of any other scheme, as each of these setters does.
        """
        self._set_credentials(
            {"api_key": key, "api_key_header": header_name, "api_key_query": query_name}
        )

    def set_bearer_token(self, token: str) -> None:
        """Send a token (RFC 6750) to all URLs without credentials of their own."""
        self._set_credentials({"bearer_token": token})

    def set_oauth2_token(self, token: str) -> None:
        """Send an access token to all URLs without credentials of their own.

        One that is fetched and renewed by itself: ``auth=OAuth2ClientCredentials(...)``.
        """
        self._set_credentials({"oauth2_token": token})

    def set_basic_auth(self, user: str, password: str) -> None:
        """Send a user and a password (RFC 7617) to all URLs without credentials of their own."""
        self._set_credentials({"basic_auth": (user, password)})

    def _set_credentials(self, changes: Layer) -> None:
        self._endpoints.change_defaults(changes, gone=_CREDENTIALS)
        self.session.auth = None  # else it would displace them

    def set_endpoint_auth(self, pattern: str, auth_type: str, **fields: str) -> None:
        """Give the URLs of a pattern credentials of their own.

        ``api_key`` takes ``api_key`` and, if need be, ``header_name`` or ``query_name``;
        ``bearer`` and ``oauth2`` take ``token``; ``basic`` takes ``username`` and ``password``.
        Raises `ConfigurationError`, a ValueError, for another type, a missing or an unknown field.
        """
        known = _FIELDS.get(auth_type) if isinstance(auth_type, str) else None
        if known is None:  # not shown: it may be the token, in the wrong place
            raise ConfigurationError(
                f"auth_type is unknown: choose from {', '.join(_FIELDS)}.", field="auth_type"
            )
        needed = [name for name in known if name not in _NEED_NOT_BE]
        other = [f"{name}, if need be" for name in known if name in _NEED_NOT_BE]
        takes = f"{auth_type!r} takes {', '.join([*needed, *other])}."
        for name in needed:
            if fields.get(name) is None:
                raise ConfigurationError(f"{name} is missing: {takes}", field=name)
        for name in fields:
            if name not in known:
                raise ConfigurationError(f"{name!r} is unknown: {takes}", field=name)
        changes: Layer = {known[name]: it for name, it in fields.items() if it is not None}
        if auth_type == "basic":
            changes = {"basic_auth": (fields["username"], fields["password"])}
        elif auth_type == "api_key":
            changes.setdefault("api_key_header", Settings.api_key_header)
        self._endpoints.change(pattern, changes, gone=_CREDENTIALS)

    def clear_auth(self, pattern: str | None = None) -> None:
        """Drop the credentials of a pattern, or, without one, those for all URLs.

        A pattern whose own are dropped gets those for all URLs; an unknown one is no error.
        """
        if pattern is None:
            self._set_credentials({})
        else:
            self._endpoints.change(pattern, {}, gone=_CREDENTIALS, add=False)

    def set_ssl_verification(self, verify: bool | str, pattern: str | None = None) -> None:
        """Check the server's certificate: True, False, or the path of a CA bundle.

        Anything but True is refused beside an ``ssl_context``, which has its own trust.
        """
        self._set_tls(pattern, {"verify": verify})

    def set_client_certificate(
        self, cert: str | tuple[str, str] | None, pattern: str | None = None
    ) -> None:
        """Show a client certificate: a path, a (certificate, key) pair of paths, or None.

        It is refused beside an ``ssl_context``, which has its own.
        """
        self._set_tls(pattern, {"cert": cert})

    def set_ssl_context(
        self, ssl_context: ssl.SSLContext | None, pattern: str | None = None
    ) -> None:
        """Use a context, with its own trust and certificate, in the place of verify and cert."""
        gone = () if ssl_context is None else ("verify", "cert")
        self._set_tls(pattern, {"ssl_context": ssl_context}, gone)

    def set_timeouts(
        self, connect_timeout: Any = UNSET, read_timeout: Any = UNSET, pattern: str | None = None
    ) -> None:
        """Change the time to connect, and that between two reads, in seconds.

        What is left out stays; None: as ``timeout`` says.
        """
        both = {"connect_timeout": connect_timeout, "read_timeout": read_timeout}
        self._change(pattern, {name: it for name, it in both.items() if it is not UNSET})

    def _set_tls(self, pattern: str | None, changes: Layer, gone: Iterable[str] = ()) -> None:
        self._change(pattern, changes, gone)
        self.session.drop_pools()  # a file may have new contents under its old name

    def _change(self, pattern: str | None, changes: Layer, gone: Iterable[str] = ()) -> None:
        if pattern is None:
            self._endpoints.change_defaults(changes, gone)
        else:
            self._endpoints.change(pattern, changes, gone)
