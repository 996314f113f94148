"""The requests.Session that the façade owns: the ring of a call.

The façade, and an SDK that is handed the session, take the same way. The ring admits the first
hop and hands its ticket down to the adapter; where something else stands in for requests' own
``Session.request`` or for the adapter, it settles the ticket itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import requests
from requests.exceptions import InvalidSchema

from .adapter import ManagedAdapter
from .attempt import ELAPSED
from .call import Call, current_call
from .endpoints import Endpoints
from .environment import KNOWS_ALL_SOURCES, EnvironmentMemory, FromEnvironment
from .exceptions import ConnectionManagerError, ManagerClosed
from .failures import is_failing_error
from .patterns import as_text
from .policies.deadline import Deadline
from .settings import ManagerSettings
from .stats import Stats

UNSET: Any = type("Unset", (), {"__repr__": lambda self: "UNSET"})()
"""Not given: the endpoint's ``timeout`` holds. None is what it is in requests: no limit."""
_PER_HOP = ("timeout", "verify", "cert")
"""The arguments that each hop has from its own URL, unless the caller gave them."""


class ManagedSession(requests.Session):
    """A ``requests.Session`` whose every request goes through the policies of its URL."""

    def __init__(self, settings: ManagerSettings, endpoints: Endpoints, stats: Stats) -> None:
        super().__init__()
        self._endpoints = endpoints
        self._stats = stats
        self._shut = False
        self._environment = EnvironmentMemory()
        self.verify = settings.verify
        self.cert = settings.cert
        adapter = ManagedAdapter(
            endpoints, settings.pool_connections, settings.pool_maxsize, settings.pool_block
        )
        self.mount("https://", adapter)
        self.mount("http://", adapter)

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
        text = as_text(url)
        call = self._start(text)
        endpoint = call.endpoint
        assert endpoint is not None
        if timeout is not UNSET or verify is not None or cert is not None:
            call.given = _given(timeout, verify, cert)
        own_verify, own_cert = endpoint.tls(self)
        arguments = {
            "params": params,
            "data": data,
            "headers": headers,
            "cookies": cookies,
            "files": files,
            "auth": auth,
            "timeout": endpoint.merged.timeout if timeout is UNSET else timeout,
            "allow_redirects": allow_redirects,
            "proxies": proxies,
            "hooks": hooks,
            "stream": stream,
            "verify": own_verify if verify is None else verify,
            "cert": own_cert if cert is None else cert,
            "json": json,
        }
        call.follows = allow_redirects
        forward = super().request

        def admit_and_forward() -> requests.Response:
            self.check_open()
            call.ticket = call.admit(endpoint)
            call.take_first_permit(call.ticket)
            self.check_open()  # after a wait it need not be
            return forward(method=method, url=url, **arguments)

        try:
            return self._in_ring(call, text, admit_and_forward)
        except ConnectionManagerError as error:
            if error.request is None:
                error.request = requests.Request(
                    method, url, headers=headers, params=params, data=data, json=json
                )
            raise

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a prepared request; by itself it is a call, too, and meets its hop's policies."""
        under_way = self._under_way()
        if under_way is not None and under_way.takes(request):
            if under_way.hops > 1:
                self._admit_if_foreign(under_way, request)
            return _with_its_own_time(super().send(request, **kwargs))
        if not isinstance(request, requests.PreparedRequest):
            return super().send(request, **kwargs)  # which says what is wrong
        if kwargs.get("timeout", UNSET) is None:
            del kwargs["timeout"]  # what requests itself passes for "not said"
        call = self._start(request.url or "")
        call.endpoint = None  # nothing is filled in yet
        call.given = self._given_to_send(request.url, kwargs)
        call.follows = kwargs.get("allow_redirects", True)
        call.hops = 1
        forward = super().send

        def forward_if_open() -> requests.Response:
            self.check_open()
            self._admit_if_foreign(call, request)
            return _with_its_own_time(forward(request, **kwargs))

        try:
            return self._in_ring(call, request.url or "", forward_if_open)
        except ConnectionManagerError as error:
            error.request = error.request or request
            raise

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        """Prepare a request as requests does; the call under way remembers its own."""
        call = self._under_way()
        if call is None:
            return super().prepare_request(request)
        call.preparing += 1
        try:
            prepared = super().prepare_request(request)
        except Exception:
            call.unprepared = call.preparing == 1
            raise
        finally:
            call.preparing -= 1
        if not call.preparing and not call.hops:
            call.prepared = prepared
        return prepared

    def resolve_redirects(
        self, resp: requests.Response, *args: Any, **kwargs: Any
    ) -> Generator[requests.Response]:
        """Follow redirects as requests does; each is a hop of the call under way."""
        redirects = super().resolve_redirects(resp, *args, **kwargs)
        call = self._under_way()
        if call is None:
            yield from redirects
            return
        response = resp
        while True:
            call.settle_by_answer(response)
            call.redirecting = True
            try:
                response = next(redirects)
            except StopIteration:
                return
            finally:
                call.redirecting = False
            yield response

    def merge_environment_settings(
        self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any
    ) -> dict[str, Any]:
        """Do what requests does, with the part that the environment says looked up once."""
        ask = super().merge_environment_settings
        if verify is None:  # asked by code that prepares and sends by itself
            endpoint = self._endpoints.table.resolve(url)
            verify, own_cert = endpoint.tls(self)
            cert = own_cert if cert is None else cert
            if endpoint.settings.ssl_context is not None:  # the bundle is not for this context
                return ask(url, proxies, stream, verify, cert) | {"verify": verify, "cert": cert}
        if (
            proxies is None  # which requests takes for "no look at the environment's"
            or proxies
            or self.proxies
            or not isinstance(verify, (bool, str))
            or not (self.trust_env and KNOWS_ALL_SOURCES)
        ):
            return ask(url, proxies, stream, verify, cert)

        def ask_for_the_environment() -> FromEnvironment:
            said = ask(url, {}, None, verify, None)
            return FromEnvironment(said["proxies"], said["verify"])

        known = self._environment.recall(url, verify, ask_for_the_environment)
        return {
            "proxies": known.proxies.copy(),
            "stream": self.stream if stream is None else stream,
            "verify": known.verify,
            "cert": self.cert if cert is None else cert,
        }

    def shut(self) -> None:
        """Close the pools, and refuse whatever comes after."""
        self._shut = True
        self.close()

    def check_open(self) -> None:
        if self._shut:
            raise ManagerClosed(
                "the ConnectionManager is closed: make a new one, or send inside its `with` block."
            )

    def _under_way(self) -> Call | None:
        call = current_call.get()
        return call if call is not None and call.session is self and not call.over else None

    def _admit_if_foreign(self, call: Call, request: requests.PreparedRequest) -> None:
        """Admit a hop through an adapter of the user's own, or a mock's; ours does it itself."""
        try:
            adapter = self.get_adapter(request.url or "")
        except InvalidSchema:
            return  # as requests is about to say
        if not isinstance(adapter, ManagedAdapter):
            call.ticket = call.admit(call.table.resolve(request.url or ""))
            call.take_first_permit(call.ticket)

    def _given_to_send(self, url: str | None, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return what the caller gave, less what `merge_environment_settings` has said here.

        That belongs to this URL. Only ``verify=True``, which cannot be told from the caller's
        own, holds on all hops.
        """
        given = {name: kwargs[name] for name in _PER_HOP if name in kwargs}
        if "verify" in given or "cert" in given:
            own = self.merge_environment_settings(url, {}, None, None, None)
            for name in ("verify", "cert"):
                if name in given and given[name] == own[name] and given[name] is not True:
                    del given[name]
        return given

    def _start(self, url: str) -> Call:
        table = self._endpoints.table
        endpoint = table.resolve(url)
        seconds = endpoint.settings.total_timeout
        deadline = None if seconds is None else Deadline(seconds)
        parent = current_call.get()
        return Call(table, session=self, endpoint=endpoint, deadline=deadline, parent=parent)

    def _in_ring(
        self, call: Call, url: str, forward: Callable[[], requests.Response]
    ) -> requests.Response:
        """Let ``forward`` run as the call, and settle what the adapter has not."""
        outer = current_call.get()
        try:
            current_call.set(call)
            response = forward()
            call.settle_by_answer(response)
            return response
        except Exception as error:
            call.settle_by_error(error)
            if is_failing_error(error) and call.deadline is not None and call.deadline.expired:
                raise call.too_late(url, "the time ran out in a redirect") from error
            raise
        finally:
            current_call.set(outer)
            call.over = True
            call.settle_interrupted()
            if call.let_go:
                self._stats.count_call()
            if call.deadline is not None:
                call.deadline.release()


def _with_its_own_time(response: requests.Response) -> requests.Response:
    """Let ``elapsed`` be what it is in requests: no back-off, no wait for a permit, no body."""
    if isinstance(response, requests.Response):
        for each in (response, *response.history):
            each.elapsed = each.__dict__.get(ELAPSED, each.elapsed)
    return response


def _given(timeout: Any, verify: Any, cert: Any) -> dict[str, Any]:
    given = {} if timeout is UNSET else {"timeout": timeout}
    named = (("verify", verify), ("cert", cert))
    return given | {name: value for name, value in named if value is not None}
