"""Code of the user's around a call, and events of what happens inside of it.

A hook gets a context of its own, which it may change. One that raises is logged and the call goes
on, unless what it raises is a `ConnectionManagerError`: that is a veto, and ends the call.
"""

from __future__ import annotations

import enum
import functools
import inspect
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Protocol

import requests

from . import forking
from .arguments import ARGUMENTS, given_of, why_unknown
from .contexts import ErrorContext, RequestContext, ResponseContext
from .events import EVENTS, Event
from .exceptions import ConfigurationError, ConnectionManagerError
from .log import callback_failed
from .patterns import as_text
from .redaction import redact_error

running_hooks: ContextVar[Hooks | None] = ContextVar("running_hooks", default=None)
"""Whose hook runs."""


class HookType(str, enum.Enum):
    """When a hook is called."""

    PRE_REQUEST = "pre_request"
    POST_RESPONSE = "post_response"
    ERROR_HANDLER = "error_handler"


_METHODS = {
    HookType.PRE_REQUEST: "process_request",
    HookType.POST_RESPONSE: "process_response",
    HookType.ERROR_HANDLER: "process_error",
}
"""What a middleware object may have."""


class Hook(Protocol):
    """Any callable of one argument; what it returns is ignored."""

    def __call__(self, context: Any, /) -> object: ...


class Hooks:
    """The hooks of a manager, and the listeners to its events.

    A change makes new tuples: a call under way goes on with those that it started with.
    """

    def __init__(self, raises: bool = False) -> None:
        self._raises = raises
        self.begin_in_child()
        forking.register(self)
        self._hooks: dict[str, tuple[Hook, ...]] = {}
        """By type, or by the name of the event."""
        self._middleware: tuple[object, ...] = ()
        self._chains: dict[str, tuple[Hook, ...]] = {}
        """What is called, in this order: those above, and the methods of the middleware."""
        self.around_calls = False
        """Whether a call meets any hook at all."""

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: vars(self)[name] for name in ("_raises", "_hooks", "_middleware")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]  # on this very object, which is new
        vars(self).update(state)
        self._link()

    def register(self, kind: str, hook: Hook) -> None:
        """Register a hook by its type, or a listener by the name of its event."""
        _refuse_what_cannot_be_called(kind, hook)
        with self._lock:
            self._hooks = {**self._hooks, kind: (*self._hooks.get(kind, ()), hook)}
            self._link()

    def unregister(self, kind: str, hook: Hook) -> bool:
        """Remove the first registration of a hook; return whether there was one."""
        with self._lock:
            hooks = list(self._hooks.get(kind, ()))
            if hook not in hooks:
                return False
            hooks.remove(hook)
            self._hooks = {**self._hooks, kind: tuple(hooks)}
            self._link()
            return True

    def add_middleware(self, middleware: object) -> None:
        """Register the methods that an object has."""
        methods = (*_METHODS.values(), *EVENTS)
        if not any(callable(getattr(middleware, name, None)) for name in methods):
            raise ConfigurationError(
                f"middleware is impossible as {type(middleware).__name__}: it must have one of the "
                f"methods {', '.join(methods)}.",
                field="middleware",
                value=middleware,
            )
        with self._lock:
            self._middleware = (*self._middleware, middleware)
            self._link()

    def remove_middleware(self, middleware: object) -> bool:
        """Remove an object; return whether it was registered."""
        with self._lock:
            kept = list(self._middleware)
            if middleware not in kept:
                return False
            kept.remove(middleware)
            self._middleware = tuple(kept)
            self._link()
            return True

    def names(self) -> dict[str, list[str]]:
        """Return the names of the hooks by type, in the order in which they are called."""
        chains = self._chains
        return {kind.value: [_name_of(hook) for hook in chains.get(kind, ())] for kind in HookType}

    def hears(self, event: str) -> bool:
        """Whether anybody wants to be told of an event."""
        return event in self._chains

    def tell(self, event: Event, vetoes: bool = True) -> None:
        """Tell the listeners; one that raises is treated as a hook that raises, if it may veto."""
        for listener in self._chains.get(event.name, ()):
            self._run(listener, event, vetoes)

    def around(
        self,
        send: Callable[[str, Any, dict[str, Any]], requests.Response],
        method: str,
        url: str | bytes,
        arguments: Mapping[str, Any],
    ) -> Any:
        """Make a call within its hooks."""
        request = RequestContext(method, url, given_of(arguments))
        try:
            return self._around(send, request)
        except Exception as error:  # a hook's own may hold a URL, as raise_for_status says it
            redact_error(error, as_text(url), as_text(request.url))
            raise

    def _around(
        self,
        send: Callable[[str, Any, dict[str, Any]], requests.Response],
        request: RequestContext,
    ) -> Any:
        chains = self._chains
        try:
            for hook in chains.get(HookType.PRE_REQUEST, ()):
                self._run(hook, request)
            response = send(request.method, request.url, _arguments_of(request))
        except Exception as error:
            return self._fall_back(chains.get(HookType.ERROR_HANDLER, ()), request, error)
        answered = ResponseContext(request, response)
        try:
            for hook in chains.get(HookType.POST_RESPONSE, ()):
                self._run(hook, answered)
        except BaseException:
            _close(response)
            _close(answered.response)
            raise
        return answered.response

    def _fall_back(self, hooks: tuple[Hook, ...], request: RequestContext, error: Exception) -> Any:
        failed = ErrorContext(request, error)
        try:
            for hook in hooks:
                self._run(hook, failed)
            if failed.fallback_response is not None:
                return failed.fallback_response
            if failed.exception is error or not isinstance(failed.exception, BaseException):
                raise error
            if failed.exception.__cause__ is None:
                raise failed.exception from error
            raise failed.exception
        except BaseException:
            _close(failed.fallback_response)
            raise
        finally:
            del failed, error  # they would hold this frame in a circle

    def _run(self, hook: Hook, context: object, vetoes: bool = True) -> None:
        outer = running_hooks.get()
        running_hooks.set(self)
        try:
            hook(context)
        except Exception as error:
            if vetoes and (self._raises or isinstance(error, ConnectionManagerError)):
                raise
            callback_failed(f"hook {_name_of(hook)}", error)
        finally:
            running_hooks.set(outer)

    def _link(self) -> None:
        """Put the chains together; under the lock."""
        chains = dict(self._hooks)
        for kind, method in (*_METHODS.items(), *zip(EVENTS, EVENTS, strict=True)):
            inward = kind == HookType.PRE_REQUEST or kind in EVENTS
            for middleware in self._middleware if inward else self._middleware[::-1]:
                found = getattr(middleware, method, None)
                if callable(found):
                    chains[kind] = (*chains.get(kind, ()), found)
        self._chains = {kind: chain for kind, chain in chains.items() if chain}
        self.around_calls = not self._chains.keys().isdisjoint(HookType)


def hook_kind_of(kind: object) -> str:
    """Read what a hook is registered for; raises `ConfigurationError`."""
    if kind in EVENTS:
        return str(kind)
    try:
        return HookType(kind)
    except ValueError:
        choices = ", ".join([f"HookType.{each.name}" for each in HookType] + list(EVENTS))
        raise ConfigurationError(
            f"hook type {kind!r} is unknown: choose from {choices}.", field="hook_type", value=kind
        ) from None


def _refuse_what_cannot_be_called(kind: str, hook: object) -> None:
    what = type(hook).__name__
    if callable(hook):
        call = hook if inspect.isroutine(hook) else type(hook).__call__
        while isinstance(hook, functools.partial):
            call = hook = hook.func
        if not inspect.iscoroutinefunction(call):
            return
        what = "a coroutine function, which nobody would await"
    raise ConfigurationError(
        f"a hook ({HookType(kind).value if kind in set(HookType) else kind}) is impossible as "
        f"{what}: it must be callable with one argument.",
        field=str(kind),
        value=hook,
    )


def _arguments_of(request: RequestContext) -> dict[str, Any]:
    """Return all arguments of the request that the hooks have left."""
    for name in request.kwargs:
        if (why := why_unknown(name)) is not None:
            raise ConfigurationError(f"kwargs that a hook has left: {why}.", field=str(name))
    return {**ARGUMENTS, **request.kwargs}


def _close(response: object) -> None:
    if isinstance(response, requests.Response):  # nobody will read it
        response.close()


def _name_of(hook: object) -> str:
    while isinstance(hook, functools.partial):
        hook = hook.func
    try:
        name = str(getattr(hook, "__name__", type(hook).__name__))
        if name in _METHODS.values():
            return f"{type(getattr(hook, '__self__', None)).__name__}.{name}"
    except Exception:  # a hook's own __getattr__
        return type(hook).__name__
    return name
