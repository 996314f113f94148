"""Managing all that a process sends by requests, whoever made the session.

The law: while a manager is installed, a few methods of ``requests.Session`` lead to it; when the
last one is gone, they are what they were. A session that is managed in this way stays what it is,
with its headers, cookies and adapters: what carries it through a call is a `_Guest`, which shares
all of its attributes, and is forgotten after the call.
"""

from __future__ import annotations

import functools
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import requests
from requests.adapters import BaseAdapter, HTTPAdapter

from . import forking
from .adapter import ManagedAdapter
from .manager import ConnectionManager
from .managing import Managed
from .plain import mark_stand_in, stands_in_for
from .preparation import Memory
from .settings import Pools


def install(**settings: Any) -> ConnectionManager:
    """Manage every call of ``requests`` in this process, by sessions that others made, too.

    The keywords are those of `ConnectionManager`; raises `ConfigurationError`. What a session says
    itself (``verify``, ``auth``, adapters of its own …) goes before them; the sessions of other
    managers keep to theirs. May be called again: the latest counts, until `uninstall`. Returns the
    manager, for hooks, statistics and changes.
    """
    return _switch.install(_Host(ConnectionManager(**settings))).manager


def uninstall() -> None:
    """Undo the latest `install`; without one, do nothing.

    Calls under way go on to their end under the policies that they began with.
    """
    _switch.uninstall()


@contextmanager
def managed(**settings: Any) -> Iterator[ConnectionManager]:
    """Manage every call of ``requests`` in this process for the length of a ``with`` block.

    In all threads; otherwise it is as `install`.
    """
    host = _Host(ConnectionManager(**settings))
    _switch.arrive(host)
    try:
        yield host.manager
    finally:
        _switch.leave(host)


class _Host:
    """A manager that takes in the sessions of others."""

    def __init__(self, manager: ConnectionManager) -> None:
        self.manager = manager
        self.begin_in_child()
        forking.register(self)
        self._kinds: dict[type[requests.Session], type[_Guest]] = {}
        self._adapters: weakref.WeakKeyDictionary[HTTPAdapter, ManagedAdapter] = (
            weakref.WeakKeyDictionary()
        )

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()

    def guest(self, session: requests.Session) -> _Guest:
        """Return what carries a session through one call."""
        kind = self._kinds.get(type(session)) or self._kind_of(type(session))
        guest = object.__new__(kind)
        guest.__dict__ = session.__dict__
        return guest

    def _kind_of(self, session: type[requests.Session]) -> type[_Guest]:
        managed = self.manager.session
        said = {
            "__module__": session.__module__,
            "__qualname__": session.__qualname__,
            "host": self,
            "endpoints": managed.endpoints,
            "_environment": managed._environment,
            "_prepared_before": Memory(),
        }
        with self._lock:
            if session not in self._kinds:
                bases = (_Guest, session)
                kind = types.new_class(session.__name__, bases, {}, lambda its: its.update(said))
                self._kinds[session] = kind
            return self._kinds[session]

    def adapter_for(self, adapter: BaseAdapter) -> BaseAdapter:
        """Return a managed one in the place of requests' own; others act for themselves.

        It is of the same size, and for the same session only: connections can be signed in.
        """
        if type(adapter) is not HTTPAdapter or adapter.max_retries.total:
            return adapter
        with self._lock:
            ours = self._adapters.get(adapter)
            if ours is None:
                said = adapter.__getstate__()
                pools = Pools(*(said[f"_pool_{name}"] for name in Pools._fields))
                ours = ManagedAdapter(self.manager.session.endpoints, *pools)
                self._adapters[adapter] = ours
            return ours

    def close_for(self, session: requests.Session) -> None:
        """Close the idle connections that were made for a session."""
        with self._lock:
            ours = [self._adapters.get(its) for its in session.adapters.values()]  # type: ignore[call-overload]  # any object may be asked for
        for adapter in filter(None, ours):
            adapter.close()

    def close(self) -> None:
        """Close all idle connections; calls under way go on."""
        with self._lock:
            ours = list(self._adapters.values())
        for adapter in ours:
            adapter.close()
        self.manager.session.close()


class _Guest(Managed):
    """A session of others in a call; its class is made for theirs, which stands behind it."""

    host: _Host

    def check_open(self) -> None:
        self.host.manager.session.check_open()

    def aside(self) -> Managed:
        return self.host.manager.session.aside()

    def get_adapter(self, url: str) -> BaseAdapter:
        return self.host.adapter_for(super().get_adapter(url))

    # What the session itself says of certificates counts as said in the call.
    def _call(self, method: str, url: str | bytes, arguments: dict[str, Any]) -> requests.Response:
        return super()._call(method, url, self._with_its_own_trust(arguments))

    def _request(self, arguments: dict[str, Any]) -> requests.Response:
        forward: Callable[..., requests.Response] = _switch.theirs["request"]
        return forward(self, **arguments)  # the session's own class has had its turn

    def _send(
        self,
        forward: Callable[..., requests.Response],
        request: requests.PreparedRequest,
        kwargs: dict[str, Any],
    ) -> requests.Response:
        return super()._send(forward, request, self._with_its_own_trust(kwargs))

    def _given_to_send(self, url: str | None, kwargs: dict[str, Any]) -> dict[str, Any]:
        return self._with_its_own_trust(super()._given_to_send(url, kwargs))

    def _merge(
        self,
        forward: Callable[..., dict[str, Any]],
        url: Any,
        proxies: Any,
        stream: Any,
        verify: Any,
        cert: Any,
    ) -> dict[str, Any]:
        trust = self._with_its_own_trust({"verify": verify, "cert": cert})
        return super()._merge(forward, url, proxies, stream, trust["verify"], trust["cert"])

    def _with_its_own_trust(self, arguments: dict[str, Any]) -> dict[str, Any]:
        own = {"verify": None if self.verify is True else self.verify, "cert": self.cert}
        said = {
            name: it for name, it in own.items() if it is not None and arguments.get(name) is None
        }
        return {**arguments, **said}


class _Switch:
    """Leads the methods of ``requests.Session`` to the latest host, while there is any."""

    def __init__(self) -> None:
        self.hosts: tuple[_Host, ...] = ()
        self.theirs: dict[str, Callable[..., Any]] = {}
        """What ours stand in for."""
        self._installed: list[_Host] = []
        self.begin_in_child()
        forking.register(self)

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()

    def install(self, host: _Host) -> _Host:
        self.arrive(host)
        self._installed.append(host)
        return host

    def uninstall(self) -> None:
        with suppress(IndexError):
            self.leave(self._installed.pop())

    def arrive(self, host: _Host) -> None:
        with self._lock:
            if not self.hosts:
                for name in _ENTRANCES:
                    self.theirs[name] = vars(requests.Session)[name]
                    setattr(requests.Session, name, _stand_in(name, self.theirs[name]))
            self.hosts = (*self.hosts, host)

    def leave(self, host: _Host) -> None:
        with self._lock:
            self.hosts = tuple(each for each in self.hosts if each is not host)
            if not self.hosts:
                for name, theirs in self.theirs.items():
                    # If others have put theirs on top meanwhile, ours lets everything through.
                    if stands_in_for(vars(requests.Session)[name]) is theirs:
                        setattr(requests.Session, name, theirs)
        host.close()


def _stand_in(name: str, theirs: Callable[..., Any]) -> Callable[..., Any]:
    enter = _ENTRANCES[name]

    @functools.wraps(theirs, updated=())
    def method(self: requests.Session, *args: Any, **kwargs: Any) -> Any:
        hosts = _switch.hosts
        if not hosts or isinstance(self, Managed):
            return theirs(self, *args, **kwargs)
        return enter(hosts[-1].guest(self), *args, **kwargs)

    return mark_stand_in(method, theirs)


def _enter_request(guest: _Guest, *args: Any, **kwargs: Any) -> requests.Response:
    return guest.request(*args, **kwargs)


def _enter_send(
    guest: _Guest, request: requests.PreparedRequest, **kwargs: Any
) -> requests.Response:
    return guest._send(partial(_switch.theirs["send"], guest), request, kwargs)


def _enter_prepare_request(guest: _Guest, request: requests.Request) -> requests.PreparedRequest:
    return guest._prepare(partial(_switch.theirs["prepare_request"], guest), request)


def _enter_merge(guest: _Guest, *args: Any, **kwargs: Any) -> dict[str, Any]:
    return guest._merge(
        partial(_switch.theirs["merge_environment_settings"], guest), *args, **kwargs
    )


def _enter_close(guest: _Guest) -> None:
    _switch.theirs["close"](guest)
    for host in _switch.hosts:
        host.close_for(guest)


_ENTRANCES: dict[str, Callable[..., Any]] = {
    "request": _enter_request,
    "send": _enter_send,
    "prepare_request": _enter_prepare_request,
    "merge_environment_settings": _enter_merge,
    "close": _enter_close,
}
_switch = _Switch()
