"""Which URLs an endpoint's settings are for.

A pattern is compared with the parsed URL as it will be sent, never with its text. What a pattern
leaves out (scheme, port, path) matches any.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

import requests
from requests.exceptions import InvalidURL
from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from .exceptions import ConfigurationError
from .redaction import public_url, redact_text

_DEFAULT_PORTS = {"http": 80, "https": 443}

_PLAIN_URL = re.compile(
    r"(https?://[a-z0-9][a-z0-9.-]*(?<!\.)(?::[1-9][0-9]{0,4})?)"  # lower case, ASCII, no user-info
    r"((?:/(?![./])[A-Za-z0-9._~!$&'()*+,;=:@-]*)*)"  # no escapes, dot segments, empty segments
    r"(?:[?#]|\Z)"
)
_PATTERN = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+.-]*)://)?"
    r"(?P<any_below>\*\.)?"
    r"(?P<host>\[[0-9a-f:.%]+\]|[^\s/?#@:*\[\]\\]+)"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[^?#*\s\\]*)?",
    re.IGNORECASE,
)


class Origin(NamedTuple):
    """Scheme, host and port of a URL, as it will be sent."""

    scheme: str
    host: str
    port: int | None

    def __str__(self) -> str:
        port = "" if self.port in (None, _DEFAULT_PORTS.get(self.scheme)) else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"


def as_text(url: object) -> str:
    """Return a URL in whatever form requests takes it."""
    return url.decode() if isinstance(url, bytes) else str(url)


_MOST = 1024
_parts: dict[str, tuple[str, str]] = {}
"""The parts of URLs, as many as that: a request's is looked at several times on its way."""


def split_url(url: str) -> tuple[str, str]:
    """Return a URL's origin, as text, and its path, both as requests will send them.

    Raises what requests raises for a URL that it cannot send.
    """
    parts = _parts.get(url)
    if parts is not None:
        return parts
    plain = _PLAIN_URL.match(url)
    if plain is not None:  # nothing in it that requests would change
        parts = plain[1], plain[2] or "/"
        if "?" not in url and len(url) <= _MOST:  # what a query holds is not ours to keep
            if len(_parts) >= _MOST:
                _parts.clear()
            _parts[url] = parts
        return parts
    parsed = _as_sent(url)
    return _origin_of(parsed, _name(parsed)), "/" + (parsed.path or "").lstrip("/")


def exact_origin(url: str) -> str:
    """Return a URL's origin as the network will be asked for it, with a dot at its end, too."""
    parts = _parts.get(url)
    if parts is None and _PLAIN_URL.match(url) is None:
        parsed = _as_sent(url)
        return _origin_of(parsed, parsed.host or "")
    return parts[0] if parts is not None else split_url(url)[0]


def _origin_of(parsed: Url, host: str) -> str:
    return f"{parsed.scheme}://{host}{'' if parsed.port is None else f':{parsed.port}'}"


def parse_origin(origin: str) -> Origin:
    """Parse what `split_url` returned first, filling in the scheme's own port."""
    try:
        parsed = parse_url(origin)
    except LocationParseError as error:  # a port beyond 65535
        raise InvalidURL(f"Invalid URL {origin!r}: cannot be parsed") from error
    scheme = parsed.scheme or ""
    port = parsed.port if parsed.port is not None else _DEFAULT_PORTS.get(scheme)
    return Origin(scheme, parsed.host or "", port)


def _name(parsed: Url) -> str:
    """Return the host; a dot at its end says only that the name is complete."""
    return (parsed.host or "").removesuffix(".")


def _as_sent(url: str) -> Url:
    prepared = requests.PreparedRequest()
    prepared.prepare_url(url, None)
    try:
        # requests decodes %2E only after it has removed dot segments; a server removes the rest.
        return parse_url(prepared.url or "")
    except LocationParseError:  # not HTTP, so requests has not looked into it: "data:…"
        return Url(scheme=(prepared.url or "").partition(":")[0])


@dataclass(frozen=True)
class Pattern:
    """A set of URLs; two spellings of one set are equal."""

    host: str
    any_below: bool
    scheme: str | None
    port: int | None
    path: str
    """Without a slash at its end: "" for any path."""

    def __str__(self) -> str:
        scheme = "" if self.scheme is None else f"{self.scheme}://"
        port = "" if self.port is None else f":{self.port}"
        return f"{scheme}{'*.' if self.any_below else ''}{self.host}{port}{self.path}"

    @classmethod
    def parse(cls, text: object) -> Pattern:
        """Parse ``api.example.com``, ``*.example.com:8443``, ``https://api.example.com/v1`` …"""
        match = _PATTERN.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise _unreadable(text)
        # The same road that a URL takes, so that both come out in the same spelling.
        try:
            sent = _as_sent(f"http://{match['host']}{match['path'] or ''}")
        except (requests.RequestException, LocationParseError, ValueError) as error:
            raise _unreadable(text) from error
        host = _name(sent)
        port = int(match["port"]) if match["port"] else None
        if ".." in host or host.startswith(".") or (port is not None and not 0 < port < 65536):
            raise _unreadable(text)
        return cls(
            host=host,
            any_below=match["any_below"] is not None,
            scheme=match["scheme"].lower() if match["scheme"] else None,
            port=port,
            path=(sent.path or "").strip("/") and "/" + (sent.path or "").strip("/"),
        )

    def serves(self, origin: Origin) -> bool:
        """Whether it matches some URL of this origin."""
        return (
            (origin.host.endswith("." + self.host) if self.any_below else origin.host == self.host)
            and self.scheme in (None, origin.scheme)
            and self.port in (None, origin.port)
        )

    @property
    def specificity(self) -> tuple[bool, int, int, bool, bool]:
        """Sorts the general before the specific: host first, then path, port and scheme."""
        return (
            not self.any_below,
            self.host.count("."),
            self.path.count("/"),
            self.port is not None,
            self.scheme is not None,
        )


def _unreadable(text: object) -> ConfigurationError:
    shown = repr(public_url(text)) if isinstance(text, str) else f"of type {type(text).__name__}"
    return ConfigurationError(
        f"endpoint pattern {shown} cannot be parsed: it must be a host with, at most, a scheme, "
        "a port and a path, such as 'api.example.com', '*.example.com', 'api.example.com:8443' "
        "or 'https://api.example.com/v1'.",
        field="endpoint_configs",
        value=redact_text(text) if isinstance(text, str) else text,
    )
