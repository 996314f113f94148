"""What the environment says of a URL's proxies and CA bundle, looked up again when it changes.

requests goes through all environment variables twice for every request. Its answers are kept here
for as long as not a single variable changes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import requests
from requests import sessions, utils

from .patterns import exact_origin
from .plain import is_plain

_AS_IN_REQUESTS = requests.Session.merge_environment_settings
_MOST = 4096  # origins
# As `os.path.exists`, without an exception for each file that is not there.
_exists = partial(os.access, mode=os.F_OK, effective_ids=os.access in os.supports_effective_ids)
_ENVIRON = os.environ


def _bytes_of_the_environment() -> Mapping[bytes, bytes] | None:
    """Return what `os.environ` keeps its variables in, to compare all of them at once.

    It is `posix.environ`. That this follows each change is not promised, so it is made sure of;
    None: it cannot be compared, nor can the settings of a system that names proxies elsewhere.
    """
    if sys.platform in ("darwin", "win32"):
        return None
    import posix

    return posix.environ if vars(_ENVIRON).get("_data") is posix.environ else None


_VARIABLES = _bytes_of_the_environment()


_sessions, _utils = vars(sessions), vars(utils)
_GET, _ASK, _BYPASS = (
    _sessions["get_environ_proxies"],
    _utils["getproxies"],
    _utils["should_bypass_proxies"],
)


def _is_replaced() -> bool:
    """Whether requests looks into the environment by something else: tests have it do so."""
    return (
        _sessions["get_environ_proxies"] is not _GET
        or _utils["getproxies"] is not _ASK
        or _utils["should_bypass_proxies"] is not _BYPASS
    )


class FromEnvironment(NamedTuple):
    """What requests has made of the environment for an origin."""

    proxies: dict[str, str]
    verify: Any


class Said:
    """What one environment has said."""

    def __init__(self, variables: Mapping[bytes, bytes]) -> None:
        self.variables = variables
        self.by_origin: dict[tuple[str, Any], FromEnvironment] = {}
        self._netrcs: list[str] | None = None

    def names_a_netrc(self) -> bool:
        """Whether there is a file where requests looks for a netrc."""
        if self._netrcs is None:
            named = os.environ.get("NETRC")
            names = [f"~/{name}" for name in utils.NETRC_FILES] if named is None else [named]
            self._netrcs = [os.path.expanduser(name) for name in names]
        return any(map(_exists, self._netrcs))


class EnvironmentMemory:
    """Remembers what the environment has said, until it changes."""

    def __init__(self) -> None:
        self._said = Said({})

    def now(self) -> Said | None:
        """Return what is remembered of the environment as it is; None: it has to be asked."""
        if _VARIABLES is None or os.environ is not _ENVIRON:  # a test's
            return None
        said = self._said
        if said.variables != _VARIABLES:
            self._said = said = Said(dict(_VARIABLES))
        return said

    def recall(self, url: str, verify: Any, ask: Callable[[], FromEnvironment]) -> FromEnvironment:
        """Return what is known, or ``ask``; the caller must not change its ``proxies``."""
        said = self.now()
        if said is None:
            return ask()
        key = (exact_origin(url), verify)
        found = said.by_origin.get(key)
        if found is None:
            found = ask()
            if said is self.now() and ask() == found:  # else it may be of another in between
                if len(said.by_origin) >= _MOST:
                    said.by_origin.clear()
                said.by_origin[key] = found
        return found

    def merge(
        self,
        session: requests.Session,
        ask: Callable[..., dict[str, Any]],
        url: Any,
        proxies: Any,
        stream: Any,
        verify: Any,
        cert: Any,
    ) -> dict[str, Any]:
        """Do as ``ask``, a session's ``merge_environment_settings``, with what is remembered."""
        if (
            proxies is None  # which requests takes for "no look at the environment's"
            or proxies
            or session.proxies
            or not isinstance(verify, (bool, str))
            or not session.trust_env
            or not is_plain(ask, _AS_IN_REQUESTS)
            or _is_replaced()
        ):
            return ask(url, proxies, stream, verify, cert)

        def ask_for_the_environment() -> FromEnvironment:
            said = ask(url, {}, None, verify, None)
            return FromEnvironment(said["proxies"], said["verify"])

        known = self.recall(url, verify, ask_for_the_environment)
        return {
            "proxies": known.proxies.copy(),
            "stream": session.stream if stream is None else stream,
            "verify": known.verify,
            "cert": session.cert if cert is None else cert,
        }
