"""What the environment says of a URL's proxies and CA bundle, looked up again when it changes.

requests goes through all environment variables twice for every request. Its answer is kept here
for as long as the variables that it depends on have the same values.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import requests

from .patterns import split_url

_VARIABLES = (
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    "REQUEST_METHOD",  # a CGI script must not take its client's "Proxy:" header for HTTP_PROXY
    *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)
_MOST = 4096  # origins
KNOWS_ALL_SOURCES = sys.platform not in ("darwin", "win32")
"""There the system's own settings name proxies, too, and change without a trace here."""


class FromEnvironment(NamedTuple):
    """What requests has made of the environment for an origin."""

    proxies: dict[str, str]
    verify: Any


class EnvironmentMemory:
    """Remembers, by origin, what ``requests.Session.merge_environment_settings`` has said."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], FromEnvironment] = {}

    def recall(self, url: str, verify: Any, ask: Callable[[], FromEnvironment]) -> FromEnvironment:
        """Return what is known, or ``ask``; the caller must not change its ``proxies``."""
        get = os.environ.get
        # The number of variables tells of a new one with an odd spelling: Http_Proxy.
        state = (len(os.environ), *[get(name) for name in _VARIABLES])
        key = (split_url(url)[0], verify, state)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _MOST:
                self._known = {}
            found = self._known[key] = ask()
        return found


class RememberingSession(requests.Session):
    """A session that asks the environment again only when it has changed."""

    def __init__(self) -> None:
        super().__init__()
        self._environment = EnvironmentMemory()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._environment = EnvironmentMemory()
        super().__setstate__(state)

    def merge_environment_settings(
        self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any
    ) -> dict[str, Any]:
        """Do what requests does, with the part that the environment says looked up once."""
        ask = super().merge_environment_settings
        if (
            proxies is None  # which requests takes for "no look at the environment's"
            or proxies
            or self.proxies
            or not isinstance(verify, (bool, str))
            or not (self.trust_env and KNOWS_ALL_SOURCES)
        ):
            return ask(url, proxies, stream, verify, cert)

        def ask_for_the_environment() -> FromEnvironment:
            said = ask(url, {}, None, verify, None)
            return FromEnvironment(said["proxies"], said["verify"])

        known = self._environment.recall(url, verify, ask_for_the_environment)
        return {
            "proxies": known.proxies.copy(),
            "stream": self.stream if stream is None else stream,
            "verify": known.verify,
            "cert": self.cert if cert is None else cert,
        }
