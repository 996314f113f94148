"""The requests.Session that the façade owns: its settings, its pools, and its copies."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Generator
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import requests
from requests.cookies import RequestsCookieJar

from . import forking
from .adapter import ManagedAdapter
from .arguments import UNSET
from .cookies import SharedCookieJar
from .endpoints import Endpoints
from .managing import Managing
from .settings import Pools


class ManagedSession(requests.Session):
    """A ``requests.Session`` whose every request goes through the policies of its URL."""

    def __init__(self, pools: Pools, endpoints: Endpoints) -> None:
        self._begin(pools, endpoints)
        super().__init__()
        self.cookies = SharedCookieJar()
        adapter = self._make_adapter()
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def _begin(self, pools: Pools, endpoints: Endpoints) -> None:
        self.pools = pools
        self._managing = Managing(endpoints)
        forking.register(self)

    def _make_adapter(self) -> ManagedAdapter:
        return ManagedAdapter(self.endpoints, *self.pools)

    def begin_in_child(self) -> None:
        if isinstance(self.cookies, CookieJar):
            # http.cookiejar's name for it, in all kinds of jars that may have been put here
            self.cookies._cookies_lock = threading.RLock()

    @property
    def is_shut(self) -> bool:
        return self._managing.is_shut

    @property
    def endpoints(self) -> Endpoints:
        """What its URLs get."""
        return self._managing.endpoints

    def request(
        self,
        method: str,
        url: str | bytes,
        params: Any = None,
        data: Any = None,
        headers: Any = None,
        cookies: Any = None,
        files: Any = None,
        auth: Any = None,
        timeout: Any = UNSET,
        allow_redirects: bool = True,
        proxies: Any = None,
        hooks: Any = None,
        stream: bool | None = None,
        verify: Any = None,
        cert: Any = None,
        json: Any = None,
    ) -> requests.Response:
        """Send a request as ``requests.Session.request`` does, under the policies of its URL."""
        arguments = {
            "params": params,
            "data": data,
            "headers": headers,
            "cookies": cookies,
            "files": files,
            "auth": auth,
            "timeout": timeout,
            "allow_redirects": allow_redirects,
            "proxies": proxies,
            "hooks": hooks,
            "stream": stream,
            "verify": verify,
            "cert": cert,
            "json": json,
        }
        return self._managing.request(self, super().request, method, url, arguments)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a prepared request; by itself it is a call, too, and meets its hop's policies."""
        return self._managing.send(self, super().send, request, kwargs)

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        """Prepare a request as requests does, with its credentials."""
        return self._managing.prepare_request(self, super().prepare_request, request)

    def merge_environment_settings(
        self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any
    ) -> dict[str, Any]:
        """Do what requests does; where nothing is said of ``verify``, the endpoint says it."""
        merge, ask = self._managing.merge_environment_settings, super().merge_environment_settings
        return merge(self, ask, url, proxies, stream, verify, cert)

    def resolve_redirects(
        self, resp: requests.Response, *args: Any, **kwargs: Any
    ) -> Generator[requests.Response]:
        """Follow redirects as requests does; each is a hop of the call under way."""
        follow: Any = super().resolve_redirects
        return self._managing.resolve_redirects(self, follow, resp, *args, **kwargs)

    def should_strip_auth(self, old_url: str, new_url: str) -> bool:
        """Say whether a redirect crosses an origin, as requests does, or is to another host."""
        return self._managing.should_strip_auth(self, super().should_strip_auth, old_url, new_url)

    def rebuild_auth(
        self, prepared_request: requests.PreparedRequest, response: requests.Response
    ) -> None:
        """Leave credentials behind where a redirect crosses an origin: all, not one header."""
        self._managing.rebuild_auth(self, super().rebuild_auth, prepared_request, response)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy, or a pickle, begins with: what was set, credentials included.

        As in requests. Locks and connections, limiters, breakers and counts are not among it.
        """
        state: dict[str, Any] = super().__getstate__()
        ours = {
            prefix: None if isinstance(adapter, ManagedAdapter) else adapter
            for prefix, adapter in self.adapters.items()
        }
        state |= {"adapters": ours, "pools": self.pools, "endpoints": self.endpoints.said()}
        del state["verify"], state["cert"]  # which are the endpoints'
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        self._begin(state.pop("pools"), Endpoints(*state.pop("endpoints")))
        adapter = self._make_adapter()
        state["adapters"] = OrderedDict(
            (prefix, adapter if other is None else other)
            for prefix, other in state["adapters"].items()
        )
        super().__setstate__(state)
        if type(self.cookies) is RequestsCookieJar:  # ours, as it was pickled
            jar = SharedCookieJar(self.cookies.get_policy())
            jar.update(self.cookies)
            self.cookies = jar

    # What a session has of these are the manager's settings, and they are kept once.
    @property
    def verify(self) -> Any:  # a plain attribute in requests
        """The default ``verify``; assigning to it is `set_ssl_verification`."""
        return self.endpoints.defaults.verify

    @verify.setter
    def verify(self, verify: Any) -> None:
        self._set_tls({"verify": verify})

    @property
    def cert(self) -> Any:  # a plain attribute in requests
        """The default ``cert``; assigning to it is `set_client_certificate`."""
        return self.endpoints.defaults.cert

    @cert.setter
    def cert(self, cert: Any) -> None:
        self._set_tls({"cert": cert})

    def _set_tls(self, changes: dict[str, Any]) -> None:
        if "adapters" in vars(self):  # else it is requests' own constructor, that clears the table
            self.endpoints.change_defaults(changes)
            self.drop_pools()

    def drop_pools(self) -> None:
        """Make new connections from now on; those in use serve their requests to the end."""
        for adapter in self.adapters.values():
            if isinstance(adapter, ManagedAdapter):
                adapter.drop_pools()

    def aside(self) -> ManagedSession:
        """Return one that shares all but the cookies: what it is sent is told to nobody else."""
        other = ManagedSession.__new__(ManagedSession)
        vars(other).update(vars(self))
        other.cookies = RequestsCookieJar(DefaultCookiePolicy(allowed_domains=()))
        return other

    def close(self) -> None:
        """Close the adapters: each once, though ours stands for two prefixes."""
        for adapter in {id(each): each for each in self.adapters.values()}.values():
            adapter.close()

    def shut(self) -> None:
        """Close the pools, and where limits are kept; refuse whatever comes after."""
        self._managing.is_shut = True
        self.close()
        self.endpoints.close()

    def check_open(self) -> None:
        """Raise `ManagerClosed` after `shut`."""
        self._managing.check_open()
