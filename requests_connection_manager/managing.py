"""Where a call begins, and its hops are told apart: what a session does to be managed.

The façade, and an SDK that is handed the session, take the same way. The first hop is admitted
here, and its ticket handed down to the adapter.

Each method that does what requests does, and more, comes in two: the public one goes on with the
next class in line, and the other with whatever it is given.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import requests
from requests.exceptions import InvalidSchema

from .adapter import ManagedAdapter
from .arguments import ARGUMENTS, UNSET
from .attempt import with_its_own_time
from .call import Call, current_call
from .carried import (
    Carried,
    OriginBoundSession,
    carry,
    note_what_auth_added,
    query_key_of,
    with_its_query_key,
)
from .endpoints import Endpoints
from .exceptions import ConnectionManagerError
from .lookup import Endpoint
from .patterns import as_text
from .policies.deadline import Deadline, inherited
from .preparation import PreparingSession
from .redaction import redact_error
from .ring import in_ring, without_credentials

_PER_HOP = {name: ARGUMENTS[name] for name in ("timeout", "verify", "cert")}
"""The arguments that each hop has from its own URL, unless the caller gave them: not these."""


class Managed(PreparingSession, OriginBoundSession):
    """Makes a ``requests.Session`` of which every request goes through the policies of its URL."""

    endpoints: Endpoints

    def check_open(self) -> None:
        """Raise `ManagerClosed` if nothing more is to be sent."""
        raise NotImplementedError

    def aside(self) -> Managed:
        """Return one that shares all but the cookies: what it is sent is told to nobody else."""
        raise NotImplementedError

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
        around = self.endpoints.hooks
        if not around.around_calls:
            return self._call(method, url, arguments)
        response: requests.Response = around.around(self._call, method, url, arguments)
        return response

    def _request(self, arguments: dict[str, Any]) -> requests.Response:
        """Go on with requests; by keywords, for what stands in for it."""
        return super().request(**arguments)

    def _call(self, method: str, url: str | bytes, arguments: dict[str, Any]) -> requests.Response:
        text = as_text(url)
        call = self._start(text)
        endpoint = call.endpoint
        assert endpoint is not None
        call.follows = arguments["allow_redirects"]
        given_headers = arguments["headers"]
        own = endpoint.merged.arguments
        for name, unsaid in _PER_HOP.items():
            if arguments[name] is unsaid:
                arguments[name] = own[name]
            else:
                call.given[name] = arguments[name]
        credential = endpoint.credential(self)
        if credential is not None:
            headers, auth = credential.fill_in(text, given_headers, arguments["auth"], self)
            arguments["headers"], arguments["auth"] = headers, auth

        def admit_and_forward() -> requests.Response:
            self.check_open()
            call.ticket = call.admit(endpoint)
            call.take_first_permit(call.ticket)
            return self._request({"method": method, "url": url, **arguments})

        try:
            return in_ring(call, method, text, admit_and_forward)
        except ConnectionManagerError as error:
            if error.request is None:
                error.request = requests.Request(
                    method,
                    url,
                    headers=given_headers,
                    params=arguments["params"],
                    data=arguments["data"],
                    json=arguments["json"],
                )
            raise

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a prepared request; by itself it is a call, too, and meets its hop's policies."""
        return self._send(super().send, request, kwargs)

    def _send(
        self,
        forward: Callable[..., requests.Response],
        request: requests.PreparedRequest,
        kwargs: dict[str, Any],
    ) -> requests.Response:
        under_way = self._under_way()
        if under_way is not None and under_way.takes(request):
            is_keyed, is_first = query_key_of(request) is not None, under_way.hops == 1
            if (is_keyed or not is_first) and not self._is_managed(request):
                if not is_first:
                    self._admit_here(under_way, request)
                request = with_its_query_key(request)
            try:
                return with_its_own_time(forward(request, **kwargs))
            except InvalidSchema as error:  # a redirect's, to where no adapter goes
                redact_error(error, request.url or "", handled=under_way.handled)
                raise
        if not isinstance(request, requests.PreparedRequest):
            return forward(request, **kwargs)  # which says what is wrong
        if kwargs.get("timeout", UNSET) is None:
            del kwargs["timeout"]  # what requests itself passes for "not said"
        call = self._start(request.url or "")
        call.endpoint = None  # nothing is filled in yet
        call.given = self._given_to_send(request.url, kwargs)
        call.follows = kwargs.get("allow_redirects", True)
        call.hops = 1

        def forward_if_open() -> requests.Response:
            self.check_open()
            if self._is_managed(request):
                return with_its_own_time(forward(request, **kwargs))
            self._admit_here(call, request)
            return with_its_own_time(forward(with_its_query_key(request), **kwargs))

        try:
            return in_ring(call, request.method, request.url or "", forward_if_open)
        except ConnectionManagerError as error:
            error.request = error.request or request
            raise

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        """Prepare a request as requests does; the call under way remembers its own.

        What is prepared otherwise, by code that will send it itself, gets its credentials here.
        """
        return self._prepare(super().prepare_request, request)

    def _prepare(
        self,
        forward: Callable[[requests.Request], requests.PreparedRequest],
        request: requests.Request,
    ) -> requests.PreparedRequest:
        call = self._under_way()
        if call is None or call.preparing or call.hops:
            return without_credentials(partial(self._prepare_anew, forward), request)
        assert call.endpoint is not None
        call.preparing = True
        try:
            call.prepared = self._prepare_signed(forward, request, call.endpoint)
        except Exception:
            call.unprepared = True
            raise
        finally:
            call.preparing = False
        return call.prepared

    def _prepare_anew(
        self,
        forward: Callable[[requests.Request], requests.PreparedRequest],
        request: requests.Request,
    ) -> requests.PreparedRequest:
        url = as_text(request.url)
        endpoint = self.endpoints.table.resolve(url)
        credential = endpoint.credential(self)
        if credential is not None:
            headers, auth = credential.fill_in(url, request.headers, request.auth, self)
            request = copy.copy(request)  # what was passed in stays as it is
            request.headers, request.auth = headers, auth
        return self._prepare_signed(forward, request, endpoint)

    def _prepare_signed(
        self,
        forward: Callable[[requests.Request], requests.PreparedRequest],
        request: requests.Request,
        endpoint: Endpoint,
    ) -> requests.PreparedRequest:
        prepared = forward(request)
        note_what_auth_added(prepared, request, self)
        credential, key_header = endpoint.merged.credential, endpoint.merged.key_header
        if credential is not None and request.auth is credential.auth:
            carry(prepared, Carried(is_ours=True))
        if key_header is not None and key_header in prepared.headers:  # whoever brought it
            carry(prepared, Carried(headers=frozenset({key_header.lower()})))
        return prepared

    def resolve_redirects(
        self, resp: requests.Response, req: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> Generator[requests.Response]:
        """Follow redirects as requests does; each is a hop of the call under way."""
        if not self.get_redirect_target(resp):
            return
        redirects = super().resolve_redirects(resp, req, *args, **kwargs)
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
        """Do what requests does; where nothing is said of ``verify``, the endpoint says it."""
        return self._merge(super().merge_environment_settings, url, proxies, stream, verify, cert)

    def _merge(
        self,
        forward: Callable[..., dict[str, Any]],
        url: Any,
        proxies: Any,
        stream: Any,
        verify: Any,
        cert: Any,
    ) -> dict[str, Any]:
        if verify is None:  # asked by code that prepares and sends by itself
            endpoint = self.endpoints.table.resolve(url)
            own = endpoint.merged.arguments
            verify, cert = own["verify"], own["cert"] if cert is None else cert
            if endpoint.settings.ssl_context is not None:  # the bundle is not for this context
                merged = forward(url, proxies, stream, verify, cert)
                return merged | {"verify": verify, "cert": cert}
        return forward(url, proxies, stream, verify, cert)

    def _under_way(self) -> Call | None:
        call = current_call.get()
        return call if call is not None and call.session is self and not call.over else None

    def _is_managed(self, request: requests.PreparedRequest) -> bool:
        """Whether our own adapter will send; otherwise it is a mock's, or of the user's own."""
        try:
            return isinstance(self.get_adapter(request.url or ""), ManagedAdapter)
        except InvalidSchema:
            return True  # as requests is about to say

    def _admit_here(self, call: Call, request: requests.PreparedRequest) -> None:
        """Admit a hop whose adapter will not do it itself."""
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
        table = self.endpoints.table
        try:
            endpoint = table.resolve(url)
        except Exception as error:
            redact_error(error, url)
            raise
        parent = current_call.get()
        outer = parent.deadline if parent is not None else inherited.get()
        deadline = Deadline.within(endpoint.settings.total_timeout, outer)
        return Call(
            table, endpoint.tally, {}, self, endpoint, deadline, parent, check_open=self.check_open
        )
