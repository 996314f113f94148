"""Managing all that a process sends by requests, whoever made the session.

The law: while a manager is installed, the methods of ``requests.Session`` lead to it, and from
there to what they were; when the last one is gone, they are what they were. A session that is
managed in this way stays the object that it is, and what its class overrides is asked as before.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import requests
from requests.sessions import SessionRedirectMixin

from . import forking
from .call import current_call
from .hosting import Host
from .manager import ConnectionManager
from .managing import Answering
from .plain import mark_stand_in, stands_in_for
from .session import ManagedSession


def install(**settings: Any) -> ConnectionManager:
    """Manage every call of ``requests`` in this process, by sessions that others made, too.

    The keywords are those of `ConnectionManager`; raises `ConfigurationError`. What a session says
    itself (``verify``, ``auth``, adapters of its own …) goes before them; the sessions of other
    managers keep to theirs. May be called again: the latest counts, until `uninstall`. Returns the
    manager, for hooks, statistics and changes.
    """
    return _switch.install(Host(ConnectionManager(**settings))).manager


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
    host = Host(ConnectionManager(**settings))
    _switch.arrive(host)
    try:
        yield host.manager
    finally:
        _switch.leave(host)


class _Switch:
    """Leads the methods of ``requests.Session`` to the latest host, while there is any."""

    def __init__(self) -> None:
        self.hosts: tuple[Host, ...] = ()
        self._theirs: dict[str, Any] = {}
        """What ours stand in for."""
        self._installed: list[Host] = []
        self.begin_in_child()
        forking.register(self)

    def begin_in_child(self) -> None:
        self._lock = threading.RLock()

    def install(self, host: Host) -> Host:
        self.arrive(host)
        self._installed.append(host)
        return host

    def uninstall(self) -> None:
        with suppress(IndexError):
            self.leave(self._installed.pop())

    def arrive(self, host: Host) -> None:
        with self._lock:
            if not self.hosts:
                for name, (owner, enter) in _ENTRANCES.items():
                    self._theirs[name] = vars(owner)[name]
                    setattr(owner, name, _stand_in(self._theirs[name], enter))
            self.hosts = (*self.hosts, host)

    def leave(self, host: Host) -> None:
        with self._lock:
            self.hosts = tuple(each for each in self.hosts if each is not host)
            if not self.hosts:
                for name, (owner, _) in _ENTRANCES.items():
                    # If others have put theirs on top meanwhile, ours lets everything through.
                    if stands_in_for(vars(owner)[name]) is self._theirs[name]:
                        setattr(owner, name, self._theirs[name])
        host.leave()

    def host_of(self, session: requests.Session) -> Host | None:
        """Return who manages a session; None: nobody, or a manager of its own."""
        if not self.hosts or isinstance(session, ManagedSession):
            return None
        call = current_call.get()
        if call is not None and call.session is session and isinstance(call.owner, Host):
            return call.owner  # under which it began
        return next((each for each in self.hosts[::-1] if not each.manager.session.is_shut), None)


def _stand_in(theirs: Any, enter: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(theirs, updated=())
    def method(self: requests.Session, *args: Any, **kwargs: Any) -> Any:
        # a function, or what others have made of it: a partialmethod, a wrapper of another kind
        forward = theirs.__get__(self, type(self)) if hasattr(theirs, "__get__") else theirs
        host = _switch.host_of(self)
        if host is not None:
            forward = partial(enter, host, self, forward)
        return forward(*args, **kwargs)

    return mark_stand_in(method, theirs)


def _enter_send(
    host: Host,
    session: requests.Session,
    forward: Answering,
    request: requests.PreparedRequest,
    **kwargs: Any,
) -> requests.Response:
    return host.send(session, forward, request, kwargs)


def _enter_close(host: Host, session: requests.Session, forward: Callable[[], None]) -> None:
    forward()
    for each in _switch.hosts:
        each.close_for(session)


_ENTRANCES: dict[str, tuple[type, Callable[..., Any]]] = {
    "request": (requests.Session, Host.enter),
    "send": (requests.Session, _enter_send),
    "prepare_request": (requests.Session, Host.prepare_request),
    "merge_environment_settings": (requests.Session, Host.merge_environment_settings),
    "get_adapter": (requests.Session, Host.get_adapter),
    "close": (requests.Session, _enter_close),
    "resolve_redirects": (SessionRedirectMixin, Host.resolve_redirects),
    "should_strip_auth": (SessionRedirectMixin, Host.should_strip_auth),
    "rebuild_auth": (SessionRedirectMixin, Host.rebuild_auth),
}
_switch = _Switch()
