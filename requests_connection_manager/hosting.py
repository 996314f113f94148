"""A manager that takes in the sessions of others: what they say themselves goes first."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import requests
from requests.adapters import BaseAdapter, HTTPAdapter

from . import forking
from .adapter import ManagedAdapter
from .arguments import ARGUMENTS, UNSET
from .assembly import Endpoint
from .auth import Credential
from .call import Call, current_call
from .hooks import running_hooks
from .manager import ConnectionManager
from .managing import PER_HOP, REQUEST, Answering, Managing
from .patterns import as_text
from .plain import is_plain
from .settings import Pools

_PRISTINE = set(vars(HTTPAdapter()))


class Host(Managing):
    """Takes the requests of others' sessions through the policies of a manager."""

    signs_when_prepared = True
    """After a class had its turn, which may sign in its own ``prepare_request``."""

    def __init__(self, manager: ConnectionManager) -> None:
        super().__init__(manager.session.endpoints)
        self.manager = manager
        self._is_gone = False
        self._adapters: weakref.WeakKeyDictionary[HTTPAdapter, ManagedAdapter] = (
            weakref.WeakKeyDictionary()
        )
        self.begin_in_child()
        forking.register(self)

    def begin_in_child(self) -> None:
        # reentrant: a session that is collected while it is held may close itself
        self._lock = threading.RLock()

    def check_open(self) -> None:
        self.manager.session.check_open()

    def aside(self, session: Any) -> requests.Session:
        return self.manager.session.aside()

    def enter(
        self,
        session: requests.Session,
        forward: Answering,
        method: str,
        url: str | bytes,
        *args: Any,
        **kwargs: Any,
    ) -> requests.Response:
        """Make a call of a session's ``request``."""
        names = [*ARGUMENTS]
        given = dict(zip(names, args, strict=False)) | kwargs
        if len(args) > len(names) or not given.keys() <= ARGUMENTS.keys():
            return forward(method, url, *args, **kwargs)  # which says what is wrong
        arguments = {**ARGUMENTS, **given}
        try:
            self.endpoints.table.resolve(as_text(url))
        except Exception:  # what is prepared may be completed, and is managed when it is sent
            arguments["timeout"] = given.get("timeout")
            return forward(method=method, url=url, **arguments)
        try:
            if running_hooks.get() is self.endpoints.hooks:  # a hook does not call itself
                return self._call(session, forward, method, url, arguments)
            return self.request(session, forward, method, url, arguments)
        finally:
            self._close_if_gone()

    def _admits(self, forward: Answering) -> bool:
        """A session may answer by itself, from a cache: then nothing is asked for a permit.

        A mock has no hops.
        """
        return not is_plain(forward, REQUEST)

    def _fill_in(
        self,
        session: requests.Session,
        call: Call,
        endpoint: Endpoint,
        url: str,
        arguments: dict[str, Any],
    ) -> None:
        """Leave the rest to the adapter: one of the session's own may have its own defaults."""
        call.filled_in = False
        arguments |= _own_trust(session, arguments)
        call.given = {
            name: arguments[name]
            for name, unsaid in PER_HOP.items()
            if arguments[name] is not unsaid
        }
        if arguments["timeout"] is UNSET:
            arguments["timeout"] = None

    def send(
        self,
        session: requests.Session,
        forward: Answering,
        request: requests.PreparedRequest,
        kwargs: dict[str, Any],
    ) -> requests.Response:
        try:
            kwargs = {**kwargs, **_own_trust(session, kwargs)}
            call = self.under_way(session)
            if call is not None and kwargs.get("timeout") is not None:
                call.given.setdefault("timeout", kwargs["timeout"])  # a class's own default
            return super().send(session, forward, request, kwargs)
        finally:
            self._close_if_gone()

    def _given_to_send(
        self, session: requests.Session, url: str | None, kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        given = super()._given_to_send(session, url, kwargs)
        return {**given, **_own_trust(session, given)}

    def _credential(self, session: requests.Session, endpoint: Endpoint) -> Credential | None:
        credential = endpoint.merged.credential
        parent = current_call.get()
        while parent is not None:  # what fetches a credential is not signed with it
            if parent.preparing and parent.session is not session:
                return None
            parent = parent.parent
        if credential is None or session.auth is not None:
            return None
        return None if credential.is_brought_by(session.headers) else credential

    def merge_environment_settings(
        self,
        session: requests.Session,
        forward: Callable[..., dict[str, Any]],
        url: Any,
        proxies: Any,
        stream: Any,
        verify: Any,
        cert: Any,
    ) -> dict[str, Any]:
        own = _own_trust(session, {"verify": verify, "cert": cert})
        verify, cert = own.get("verify", verify), own.get("cert", cert)
        merge = super().merge_environment_settings
        return merge(session, forward, url, proxies, stream, verify, cert)

    def get_adapter(
        self, session: requests.Session, forward: Callable[..., BaseAdapter], url: str
    ) -> BaseAdapter:
        """Return a managed adapter in the place of requests' own, in a call; others are theirs.

        It is of the same size, and for the same session only: connections can be signed in.
        """
        adapter = forward(url)
        if self.under_way(session) is None or not _is_pristine(adapter):
            return adapter
        assert isinstance(adapter, HTTPAdapter)
        with self._lock:
            ours = self._adapters.get(adapter)
            if ours is None:
                said = adapter.__getstate__()
                pools = Pools(*(said[f"_pool_{name}"] for name in Pools._fields))
                ours = self._adapters[adapter] = ManagedAdapter(self.endpoints, *pools)
            return ours

    def close_for(self, session: requests.Session) -> None:
        """Close the idle connections that were made for a session."""
        adapters = [it for it in session.adapters.values() if type(it) is HTTPAdapter]
        with self._lock:
            ours = [self._adapters.get(adapter) for adapter in adapters]
        for each in filter(None, ours):
            each.close()

    def leave(self) -> None:
        """Close all idle connections; calls under way go on."""
        self._is_gone = True
        with self._lock:
            ours = list(self._adapters.values())
        for adapter in ours:
            adapter.close()
        self.manager.session.close()

    def _close_if_gone(self) -> None:
        if self._is_gone:
            self.leave()


def _own_trust(session: requests.Session, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return what a session says of certificates, where the call does not: it counts as given."""
    own = {"verify": None if session.verify is True else session.verify, "cert": session.cert}
    return {name: it for name, it in own.items() if it is not None and arguments.get(name) is None}


def _is_pristine(adapter: BaseAdapter) -> bool:
    """Whether an adapter is requests' own, and nothing was set on it but the size of its pools."""
    if type(adapter) is not HTTPAdapter or set(vars(adapter)) != _PRISTINE:
        return False
    retries = adapter.max_retries
    counts = ("total", "connect", "read", "redirect", "status", "other")
    if any(getattr(retries, name, True) for name in counts):
        return False
    kwargs = getattr(adapter.poolmanager, "connection_pool_kw", {"unknown": True})
    return kwargs.keys() <= {"maxsize", "block"}
