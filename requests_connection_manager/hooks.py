"""Code of the user's around a call, and events of what happens inside of it.

A hook gets a context of its own, which it may change. One that raises is logged and the call goes
on, unless what it raises is a `ConnectionManagerError`: that is a veto, and ends the call.
"""

from __future__ import annotations

import enum
import functools
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import requests

from .events import EVENTS, Event
from .exceptions import ConfigurationError, ConnectionManagerError
from .log import callback_failed

UNSET: Any = type("Unset", (), {"__repr__": lambda self: "UNSET"})()
"""Not given; where None means something."""


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


class RequestContext:
    """A call before it is sent; what a hook changes here is what will be sent.

    ``kwargs`` are the arguments that were given beside method and URL, as `requests.request`
    takes them; a dictionary or a list among them is a copy.
    """

    def __init__(self, method: str, url: str | bytes, kwargs: Mapping[str, Any]) -> None:
        self.method = method
        self.url = url
        self.kwargs = {
            name: value.copy() if isinstance(value, (dict, list)) else value
            for name, value in kwargs.items()
        }

    def update_url(self, url: str) -> None:
        """Send to another URL; settings, limits and credentials are then that URL's."""
        self.url = url

    def update_headers(self, headers: Mapping[str, Any]) -> None:
        """Add headers, or replace those of the same name, whatever their case."""
        given = requests.utils.to_key_val_list(self.kwargs.get("headers") or {})
        gone = {_lower(name) for name in headers}
        kept = {name: value for name, value in given if _lower(name) not in gone}
        self.kwargs["headers"] = {**kept, **headers}

    def update_payload(self, data: Any = UNSET, json: Any = UNSET) -> None:
        """Replace the body: a new ``data`` or ``json`` takes the place of either."""
        if data is not UNSET or json is not UNSET:
            self.kwargs.pop("data", None)
            self.kwargs.pop("json", None)
        if data is not UNSET:
            self.kwargs["data"] = data
        if json is not UNSET:
            self.kwargs["json"] = json


class ResponseContext:
    """A call that was answered; ``response`` may be replaced."""

    def __init__(self, request: RequestContext, response: requests.Response) -> None:
        self.request = request
        self.response = response


class ErrorContext:
    """A call that failed; a fallback is returned in place of raising ``exception``."""

    def __init__(self, request: RequestContext, exception: Exception) -> None:
        self.request = request
        self.exception = exception
        self.fallback_response: Any = None

    def set_fallback_response(self, response: Any) -> None:
        """Return ``response`` from the call; one that is falsy, such as a 404, counts."""
        self.fallback_response = response


class Hook(Protocol):
    """Any callable of one argument; what it returns is ignored."""

    def __call__(self, context: Any, /) -> object: ...


class Hooks:
    """The hooks of a manager, and the listeners to its events.

    A change makes new tuples: a call under way goes on with those that it started with.
    """

    def __init__(self, raises: bool = False) -> None:
        self._raises = raises
        self._lock = threading.Lock()
        self._hooks: dict[str, tuple[Hook, ...]] = {}
        """By type, or by the name of the event."""
        self._middleware: tuple[object, ...] = ()
        self._chains: dict[str, tuple[Hook, ...]] = {}
        """What is called, in this order: those above, and the methods of the middleware."""
        self.around_calls = False
        """Whether a call meets any hook at all."""

    def register(self, kind: str, hook: Hook) -> None:
        """Register a hook by its type, or a listener by the name of its event."""
        if not callable(hook):
            raise ConfigurationError(
                f"a hook ({kind}) is impossible as {type(hook).__name__}: it must be callable with "
                "one argument.",
                field=kind,
                value=hook,
            )
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
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Make a call within its hooks."""
        chains = self._chains
        request = RequestContext(method, url, kwargs)
        try:
            for hook in chains.get(HookType.PRE_REQUEST, ()):
                self._run(hook, request)
            response = send(request.method, request.url, request.kwargs)
        except Exception as error:
            failed = ErrorContext(request, error)
            try:
                for hook in chains.get(HookType.ERROR_HANDLER, ()):
                    self._run(hook, failed)
                if failed.fallback_response is not None:
                    return failed.fallback_response
                if failed.exception is not error:
                    raise failed.exception from error
                raise
            finally:
                del failed  # its error would hold this frame in a circle
        answered = ResponseContext(request, response)
        try:
            for hook in chains.get(HookType.POST_RESPONSE, ()):
                self._run(hook, answered)
        except BaseException:
            if isinstance(response, requests.Response):
                response.close()  # nobody will read it
            raise
        return answered.response

    def _run(self, hook: Hook, context: object, vetoes: bool = True) -> None:
        try:
            hook(context)
        except Exception as error:
            if vetoes and (self._raises or isinstance(error, ConnectionManagerError)):
                raise
            callback_failed(f"hook {_name_of(hook)}", error)

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


def hook_type_of(kind: object) -> HookType:
    """Read a hook's type from itself or from its value; raises `ConfigurationError`."""
    try:
        return HookType(kind)
    except ValueError:
        choices = ", ".join(f"HookType.{each.name}" for each in HookType)
        raise ConfigurationError(
            f"hook type {kind!r} is unknown: choose from {choices}.", field="hook_type", value=kind
        ) from None


def _name_of(hook: object) -> str:
    while isinstance(hook, functools.partial):
        hook = hook.func
    name = str(getattr(hook, "__name__", type(hook).__name__))
    if name in _METHODS.values():
        return f"{type(getattr(hook, '__self__', None)).__name__}.{name}"
    return name


def _lower(name: object) -> str:
    return name.decode("latin-1").lower() if isinstance(name, bytes) else str(name).lower()
