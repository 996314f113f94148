"""The façade: what `requests` offers, and the life cycle of what stands behind it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Concatenate, ParamSpec

import requests

from .endpoints import Endpoints
from .explanation import Explanation, explain
from .patterns import as_text
from .policies.circuit_breaker import Circuit, WorstCircuit
from .session import UNSET, ManagedSession
from .settings import DEFAULTS, ManagerSettings, manager_layer
from .stats import Stats

P = ParamSpec("P")


def _takes_keywords_of(
    source: Callable[P, object],
) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, P], None]]:
    """Give a constructor the keywords of ``source``, for type checkers, editors and ``help()``."""

    def decorate(method: Callable[..., None]) -> Callable[Concatenate[Any, P], None]:
        myself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        parameters = inspect.signature(source).parameters.values()
        method.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # inspect reads it
            [myself, *parameters], return_annotation=None
        )
        return method

    return decorate


class ConnectionManager:
    """Makes every call that goes through it resilient; shared by any number of threads.

    Its keywords are those of `ManagerSettings`; an impossible one raises `ConfigurationError`.
    ``session`` is a ``requests.Session``, fully managed, for code that takes one.
    """

    @_takes_keywords_of(ManagerSettings)
    def __init__(self, **keywords: Any) -> None:
        layer = manager_layer(keywords)
        self._settings = ManagerSettings(**layer)
        self._endpoints = Endpoints(
            {name: value for name, value in layer.items() if name in DEFAULTS},
            self._settings.endpoint_configs,
        )
        self._stats = Stats()
        self.session = ManagedSession(self._settings, self._endpoints, self._stats)

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
        """Send a request; the arguments are those of ``requests.request``.

        Without ``timeout`` that of the endpoint holds; ``timeout=None`` waits without limit, as
        in requests. Raises what requests raises, and the family of `ConnectionManagerError`.
        """
        return self.session.request(
            method=method,
            url=url,
            params=params,
            data=data,
            headers=headers,
            cookies=cookies,
            files=files,
            auth=auth,
            timeout=timeout,
            allow_redirects=allow_redirects,
            proxies=proxies,
            hooks=hooks,
            stream=stream,
            verify=verify,
            cert=cert,
            json=json,
        )

    def get(self, url: str | bytes, params: Any = None, **kwargs: Any) -> requests.Response:
        """Send a GET; the arguments are those of ``requests.get``."""
        return self.request("GET", url, params=params, **kwargs)

    def options(self, url: str | bytes, **kwargs: Any) -> requests.Response:
        """Send an OPTIONS; the arguments are those of ``requests.options``."""
        return self.request("OPTIONS", url, **kwargs)

    def head(self, url: str | bytes, **kwargs: Any) -> requests.Response:
        """Send a HEAD; as in ``requests.head``, redirects are not followed by default."""
        kwargs.setdefault("allow_redirects", False)
        return self.request("HEAD", url, **kwargs)

    def post(
        self, url: str | bytes, data: Any = None, json: Any = None, **kwargs: Any
    ) -> requests.Response:
        """Send a POST; the arguments are those of ``requests.post``."""
        return self.request("POST", url, data=data, json=json, **kwargs)

    def put(self, url: str | bytes, data: Any = None, **kwargs: Any) -> requests.Response:
        """Send a PUT; the arguments are those of ``requests.put``."""
        return self.request("PUT", url, data=data, **kwargs)

    def patch(self, url: str | bytes, data: Any = None, **kwargs: Any) -> requests.Response:
        """Send a PATCH; the arguments are those of ``requests.patch``."""
        return self.request("PATCH", url, data=data, **kwargs)

    def delete(self, url: str | bytes, **kwargs: Any) -> requests.Response:
        """Send a DELETE; the arguments are those of ``requests.delete``."""
        return self.request("DELETE", url, **kwargs)

    def close(self) -> None:
        """Close all connections; what is used afterwards raises `ManagerClosed`."""
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
    def timeout(self) -> Any:
        """The default ``timeout``, in seconds."""
        return self._settings.timeout

    @property
    def rate_limit_requests(self) -> int | None:
        """Attempts allowed in ``rate_limit_period`` by default; None: not limited."""
        return self._settings.rate_limit_requests

    @property
    def rate_limit_period(self) -> float:
        """The default period of the limit, in seconds."""
        return self._settings.rate_limit_period

    @property
    def circuit_breakers(self) -> dict[str, Circuit]:
        """The pybreaker objects by scope: an origin, or a pattern's own on an origin."""
        return self._endpoints.circuits()

    @property
    def circuit_breaker(self) -> WorstCircuit:
        """Speaks for the worst of `circuit_breakers`."""
        return WorstCircuit(self._endpoints.circuits)

    def get_stats(self) -> dict[str, Any]:
        """Return the state of the manager as plain values."""
        worst = self.circuit_breaker
        return {
            "circuit_breaker_state": worst.current_state,
            "circuit_breaker_failure_count": worst.fail_counter,
            "rate_limit_requests": self.rate_limit_requests,
            "rate_limit_period": self.rate_limit_period,
            "timeout": self.timeout,
            "requests_made": self._stats.calls,
            "endpoint_configs": self.get_endpoint_configs(),
        }
