"""The requests.Session that the façade owns: its settings, its pools, and its copies."""

from __future__ import annotations

from collections import OrderedDict
from http.cookiejar import DefaultCookiePolicy
from typing import Any

from requests.cookies import RequestsCookieJar

from .adapter import ManagedAdapter
from .endpoints import Endpoints
from .exceptions import ManagerClosed
from .managing import Managed
from .settings import Pools


class ManagedSession(Managed):
    """A ``requests.Session`` whose every request goes through the policies of its URL."""

    def __init__(self, pools: Pools, endpoints: Endpoints) -> None:
        self._begin(pools, endpoints)
        super().__init__()
        adapter = self._make_adapter()
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def _begin(self, pools: Pools, endpoints: Endpoints) -> None:
        self.pools = pools
        self.endpoints = endpoints
        self._shut = False

    def _make_adapter(self) -> ManagedAdapter:
        return ManagedAdapter(self.endpoints, *self.pools)

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
        other = ManagedSession.__new__(ManagedSession)
        vars(other).update(vars(self))
        other.cookies = RequestsCookieJar(DefaultCookiePolicy(allowed_domains=()))
        return other

    def close(self) -> None:
        """Close the adapters: each once, though ours stands for two prefixes."""
        for adapter in {id(each): each for each in self.adapters.values()}.values():
            adapter.close()

    def shut(self) -> None:
        """Close the pools, and refuse whatever comes after."""
        self._shut = True
        self.close()

    def check_open(self) -> None:
        if self._shut:
            raise ManagerClosed(
                "the ConnectionManager is closed: make a new one, or send inside its `with` block."
            )
