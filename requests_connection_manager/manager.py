"""The façade: what `requests` offers, and the life cycle of what stands behind it."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import fields
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

from requests import Response

from . import batch
from .batch import BatchItem, BatchResult, Callback, ProgressListener
from .contexts import ErrorContext, RequestContext, ResponseContext
from .endpoints import Endpoints
from .events import AttemptMade, BreakerChanged, Event, RetryPlanned, Throttled
from .explanation import Explanation, explain
from .hooks import Hooks, HookType, hook_kind_of
from .layers import manager_layer
from .live_settings import LiveSettings
from .patterns import as_text
from .policies.circuit import Circuit, WorstCircuit
from .report import Statistics, gather
from .session_like import SessionLike
from .settings import DEFAULTS, ManagerSettings

P = ParamSpec("P")
Listener = TypeVar("Listener", bound=Callable[..., object])


def _takes_keywords_of(
    source: Callable[P, object],
) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, P], None]]:
    """Give a constructor the keywords of ``source``, for type checkers, editors and ``help()``."""

    def decorate(method: Callable[..., None]) -> Callable[Concatenate[Any, P], None]:
        myself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        parameters = inspect.signature(source).parameters.values()
        method.__doc__ = _doc_of(source)
        method.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # inspect reads it
            [myself, *parameters], return_annotation=None
        )
        return method

    return decorate


def _doc_of(settings: Any) -> str:
    lines = [f"{each.name}: {each.metadata['doc']}" for each in fields(settings)]
    return "\n".join(["All times are seconds. Raises `ConfigurationError`.", "", *lines])


class ConnectionManager(SessionLike, LiveSettings):
    """Makes every call that goes through it resilient; shared by any number of threads.

    Its keywords are those of `ManagerSettings`; an impossible one raises `ConfigurationError`.
    ``session`` is a ``requests.Session``, fully managed, for code that takes one.
    """

    @_takes_keywords_of(ManagerSettings)
    def __init__(self, **keywords: Any) -> None:
        layer = manager_layer(keywords)
        settings = ManagerSettings(**layer)
        endpoints = Endpoints(
            {name: value for name, value in layer.items() if name in DEFAULTS},
            settings.endpoint_configs,
            Hooks(raises=settings.hook_errors == "raise"),
        )
        self._adopt(self._kind_of_session()(settings.pools, endpoints))
        self._warned_of_small_pool = False

    def batch_request(
        self,
        requests: Iterable[BatchItem],
        max_workers: int = 5,
        return_exceptions: bool = True,
    ) -> list[Response | Exception]:
        """Send ``(method, url, kwargs)`` tuples at once; return what came of each, in their order.

        All are checked before one is sent; raises `ConfigurationError`. With
        ``return_exceptions=False`` the first error that comes is raised, and what has not started
        is not sent.
        """
        self._warn_of_small_pool(max_workers)
        return batch.batch_request(
            self.session.request,
            requests,
            max_workers=max_workers,
            return_exceptions=return_exceptions,
        )

    def iter_batch(
        self,
        requests: Iterable[BatchItem],
        *,
        max_workers: int = 5,
        ordered: bool = False,
        callbacks: Iterable[Callback] = (),
        progress: bool | ProgressListener = False,
    ) -> Generator[BatchResult]:
        """Send URLs, tuples or ``requests.Request`` objects, and yield results as they end.

        ``requests`` may be endless: at most ``2 * max_workers`` of it are taken and not yet
        yielded. Closing the generator stops it, without waiting for what is in flight. Each of
        ``callbacks`` gets the result, in the worker's thread; what it returns or raises is kept.
        ``progress=True`` shows a bar (tqdm); a callable gets a `BatchProgress`. Raises
        `ConfigurationError` at once for what is impossible; a malformed item is its own result's
        error.
        """
        self._warn_of_small_pool(max_workers)
        return batch.iter_batch(
            self.session.request,
            requests,
            max_workers=max_workers,
            ordered=ordered,
            callbacks=callbacks,
            progress=progress,
        )

    def _warn_of_small_pool(self, max_workers: int) -> None:
        """Say once what urllib3 would say for each connection."""
        kept, block = self.session.pools.maxsize, self.session.pools.block
        if self._warned_of_small_pool or not isinstance(max_workers, int) or max_workers <= kept:
            return
        self._warned_of_small_pool = True
        if block:
            effect = "so workers would wait for a connection"
        else:
            effect = "so connections beyond these would be opened and closed for single requests"
        warnings.warn(
            f"max_workers={max_workers}, but only pool_maxsize={kept} connections are kept for a "
            f"host, {effect}. Make the manager with "
            f"ConnectionManager(pool_maxsize={max_workers}), or use fewer workers.",
            stacklevel=3,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy, or a pickle, begins with: what was set, credentials included.

        As those of a ``requests.Session``, it is to be kept where credentials may be. Connections,
        limiters, breakers and counts are not among it: the copy makes its own.
        """
        slots = [name for kind in type(self).__mro__ for name in vars(kind).get("__slots__", ())]
        return vars(self) | {name: getattr(self, name) for name in slots if hasattr(self, name)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)
        self._adopt(self.session)

    def __copy__(self) -> ConnectionManager:
        copied = object.__new__(type(self))
        copied.__setstate__({**self.__getstate__(), "session": copy.copy(self.session)})
        return copied

    @property
    def _hooks(self) -> Hooks:
        return self._endpoints.hooks

    def close(self) -> None:
        """Close all connections; what is used afterwards raises `ManagerClosed`.

        Calls that wait or back off end with it, too. A connection that is in use closes with its
        answer.
        """
        self.session.shut()

    def __enter__(self) -> ConnectionManager:
        self.session.check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def add_endpoint_config(self, pattern: str, config: Mapping[str, Any]) -> None:
        """Add a pattern's settings, or replace them; raises `ConfigurationError`.

        Calls under way keep what they started with. A limiter or a breaker whose numbers stay the
        same keeps its state.
        """
        self._endpoints.add(pattern, config)

    def remove_endpoint_config(self, pattern: str) -> None:
        """Remove a pattern; an unknown one is no error."""
        self._endpoints.remove(pattern)

    def get_endpoint_configs(self) -> dict[str, dict[str, Any]]:
        """Return a copy of the endpoint settings, by pattern."""
        return self._endpoints.configs()

    def explain(self, url: str | bytes) -> Explanation:
        """Say which pattern gives which setting to a URL, and which policies it gets."""
        text = as_text(url)
        return explain(text, self._endpoints.table.resolve(text))

    @property
    def circuit_breakers(self) -> dict[str, Circuit]:
        """The pybreaker objects by scope: an origin, or a pattern's own on an origin."""
        return self._endpoints.circuits()

    @property
    def circuit_breaker(self) -> WorstCircuit:
        """Speaks for the worst of `circuit_breakers`."""
        return WorstCircuit(self._endpoints.circuits)

    def register_pre_request_hook(self, hook: Callable[[RequestContext], object]) -> None:
        """Call ``hook`` before each call; it may change method, URL and arguments.

        A prepared request that is handed to ``session.send`` is past all hooks.

        A hook is any callable. What it raises is logged, and the call goes on; but a
        `ConnectionManagerError` is a veto, and ``hook_errors="raise"`` lets all errors through.
        """
        self._hooks.register(HookType.PRE_REQUEST, hook)

    def register_post_response_hook(self, hook: Callable[[ResponseContext], object]) -> None:
        """Call ``hook`` with each response that a call returns; it may replace it."""
        self._hooks.register(HookType.POST_RESPONSE, hook)

    def register_error_hook(self, hook: Callable[[ErrorContext], object]) -> None:
        """Call ``hook`` when a call fails; it may give a response to return instead."""
        self._hooks.register(HookType.ERROR_HANDLER, hook)

    def unregister_hook(self, kind: HookType | str, hook: Callable[..., object]) -> bool:
        """Remove a hook, or a listener by the name of its event; return whether it was there."""
        return self._hooks.unregister(hook_kind_of(kind), hook)

    def list_hooks(self) -> dict[str, list[str]]:
        """Return the names of the hooks, by type, in the order in which they are called."""
        return self._hooks.names()

    def add_middleware(self, middleware: object) -> None:
        """Register an object's ``process_request``, ``process_response`` and ``process_error``.

        Requests pass the objects in order, responses and errors in reverse. Its ``on_attempt``,
        ``on_retry``, ``on_throttle`` and ``on_breaker_change`` listen to events.
        """
        self._hooks.add_middleware(middleware)

    def remove_middleware(self, middleware: object) -> bool:
        """Remove an object that was added; return whether it was there."""
        return self._hooks.remove_middleware(middleware)

    def on_attempt(self, listener: Listener) -> Listener:
        """Call ``listener`` with an `AttemptMade` after each attempt; usable as a decorator."""
        return self._listen(AttemptMade, listener)

    def on_retry(self, listener: Listener) -> Listener:
        """Call ``listener`` with a `RetryPlanned` before each back-off."""
        return self._listen(RetryPlanned, listener)

    def on_throttle(self, listener: Listener) -> Listener:
        """Call ``listener`` with a `Throttled` after a permit was waited for."""
        return self._listen(Throttled, listener)

    def on_breaker_change(self, listener: Listener) -> Listener:
        """Call ``listener`` with a `BreakerChanged`; what it raises is logged, and is no veto."""
        return self._listen(BreakerChanged, listener)

    def _listen(self, event: type[Event], listener: Listener) -> Listener:
        self._hooks.register(event.name, listener)
        return listener

    def get_stats(self) -> dict[str, Any]:
        """Return the state of the manager, and what it has done, as plain values."""
        return self.stats().as_dict()

    def stats(self) -> Statistics:
        """Return the same as a frozen object, which prints as a table."""
        return gather(self.session, self._endpoints)
