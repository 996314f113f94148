"""Where a call begins, and its hops are told apart: what makes the calls of a session managed.

The façade, and an SDK that is handed the session, take the same way. The first hop is admitted
here, and its ticket handed down to the adapter.

Each method stands around one of ``requests.Session``: it gets the session, and ``forward``, which
goes on with what that session would do by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import requests
from requests.exceptions import InvalidSchema

from .adapter import ManagedAdapter
from .arguments import ARGUMENTS, UNSET
from .assembly import Endpoint
from .attempt import with_its_own_time
from .call import Call, current_call
from .carried import (
    drop_echo,
    is_other_host,
    leave_behind,
    stay,
    with_its_query_key,
)
from .endpoints import Endpoints
from .exceptions import ConnectionManagerError, ManagerClosed
from .patterns import as_text
from .plain import is_plain, leads_to
from .policies.deadline import Deadline, inherited
from .redaction import redact_error
from .ring import in_ring, without_credentials
from .signing import Signing

PER_HOP = {name: ARGUMENTS[name] for name in ("timeout", "verify", "cert")}
"""The arguments that each hop has from its own URL, unless the caller gave them: not these."""

REQUEST = requests.Session.request
SEND = requests.Session.send
"""Both as requests made them, whatever stands in for them later."""
_AS_IN_REQUESTS = requests.Session.resolve_redirects
Answering = Callable[..., requests.Response]


class Managing(Signing):
    """Takes the requests of sessions through the policies of their URLs."""

    def __init__(self, endpoints: Endpoints) -> None:
        super().__init__(endpoints)
        self.is_shut = False

    def check_open(self) -> None:
        """Raise `ManagerClosed` if nothing more is to be sent."""
        if self.is_shut:
            raise ManagerClosed(
                "the ConnectionManager is closed: make a new one, or send inside its `with` block."
            )

    def aside(self, session: Any) -> requests.Session:
        """Return a session that shares all but the cookies: what it is sent is told to nobody."""
        aside: requests.Session = session.aside()
        return aside

    def request(
        self,
        session: requests.Session,
        forward: Answering,
        method: str,
        url: str | bytes,
        arguments: dict[str, Any],
    ) -> requests.Response:
        """Make a call. ``arguments`` are all others that ``requests.Session.request`` takes."""
        around = self.endpoints.hooks
        if not around.around_calls:
            return self._call(session, forward, method, url, arguments)
        call = partial(self._call, session, forward)
        response: requests.Response = around.around(call, method, url, arguments)
        return response

    def _call(
        self,
        session: requests.Session,
        forward: Answering,
        method: str,
        url: str | bytes,
        arguments: dict[str, Any],
    ) -> requests.Response:
        text = as_text(url)
        call = self._start(session, text)
        endpoint = call.endpoint
        assert endpoint is not None
        call.follows = arguments["allow_redirects"]
        given_headers = arguments["headers"]
        self._fill_in(session, call, endpoint, text, arguments)

        def admit_and_forward() -> requests.Response:
            self.check_open()
            if self._admits(forward):
                call.ticket = call.admit(endpoint)
                if not leads_to(forward, REQUEST) or "send" in vars(session):  # a mock's
                    request = _unprepared(method, url, endpoint, arguments)
                    call.take_first_permit(call.ticket, request)
            # by keywords, for what stands in for it
            return forward(method=method, url=url, **arguments)

        try:
            return in_ring(call, method, text, admit_and_forward)
        except ConnectionManagerError as error:
            error.endpoint = error.endpoint or endpoint.name
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

    def _admits(self, forward: Answering) -> bool:
        """Whether a call asks its breaker before it has a hop, as it may never have one."""
        return True

    def _fill_in(
        self,
        session: requests.Session,
        call: Call,
        endpoint: Endpoint,
        url: str,
        arguments: dict[str, Any],
    ) -> None:
        own = endpoint.merged.arguments
        for name, unsaid in PER_HOP.items():
            if arguments[name] is unsaid:
                arguments[name] = own[name]
            else:
                call.given[name] = arguments[name]
        credential = endpoint.credential(session)
        if credential is not None:
            headers, auth = arguments["headers"], arguments["auth"]
            headers, auth = credential.fill_in(url, headers, auth, session)
            arguments["headers"], arguments["auth"] = headers, auth

    def send(
        self,
        session: requests.Session,
        forward: Answering,
        request: requests.PreparedRequest,
        kwargs: dict[str, Any],
    ) -> requests.Response:
        """Send a hop of the call under way; by itself, a prepared request is a call, too."""
        under_way = self.under_way(session)
        if under_way is not None and under_way.takes(request):
            is_managed = self._is_managed(session, request)
            if not is_managed or not leads_to(forward, SEND):
                self._admit_here(under_way, request)
            if not is_managed:
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
        call = self._start(session, request.url or "")
        call.endpoint = None  # nothing is filled in yet
        call.given = self._given_to_send(session, request.url, kwargs)
        call.follows = kwargs.get("allow_redirects", True)
        call.hops = 1

        def forward_if_open() -> requests.Response:
            self.check_open()
            is_managed = self._is_managed(session, request)
            if not is_managed or not leads_to(forward, SEND):
                self._admit_here(call, request)
            sent = request if is_managed else with_its_query_key(request)
            return with_its_own_time(forward(sent, **kwargs))

        try:
            return in_ring(call, request.method, request.url or "", forward_if_open)
        except ConnectionManagerError as error:
            error.request = error.request or request
            raise

    def resolve_redirects(
        self,
        session: requests.Session,
        forward: Callable[..., Generator[requests.Response]],
        resp: requests.Response,
        *args: Any,
        **kwargs: Any,
    ) -> Generator[requests.Response]:
        """Follow redirects; each is a hop of the call under way."""
        if is_plain(forward, _AS_IN_REQUESTS) and not session.get_redirect_target(resp):
            return
        redirects = forward(resp, *args, **kwargs)
        call = self.under_way(session)
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
        self,
        session: requests.Session,
        forward: Callable[..., dict[str, Any]],
        url: Any,
        proxies: Any,
        stream: Any,
        verify: Any,
        cert: Any,
    ) -> dict[str, Any]:
        """Do what requests does; where nothing is said of ``verify``, the endpoint says it."""
        merge = self.environment.merge
        if verify is None:  # asked by code that prepares and sends by itself
            endpoint = self.endpoints.table.resolve(url)
            own = endpoint.merged.arguments
            verify, cert = own["verify"], own["cert"] if cert is None else cert
            if endpoint.settings.ssl_context is not None:  # the bundle is not for this context
                merged = merge(session, forward, url, proxies, stream, verify, cert)
                return merged | {"verify": verify, "cert": cert}
        return merge(session, forward, url, proxies, stream, verify, cert)

    def should_strip_auth(
        self, session: requests.Session, forward: Callable[..., bool], old_url: str, new_url: str
    ) -> bool:
        """Say whether a redirect crosses an origin, as requests does, or is to another host."""
        return forward(old_url, new_url) or is_other_host(old_url, new_url)

    def rebuild_auth(
        self,
        session: requests.Session,
        forward: Callable[..., None],
        prepared_request: requests.PreparedRequest,
        response: requests.Response,
    ) -> None:
        """Leave credentials behind where a redirect crosses an origin: all, not one header."""
        drop_echo(prepared_request)
        before = response.request.url or ""
        if session.should_strip_auth(before, prepared_request.url or ""):
            leave_behind(prepared_request, session)
        elif stay(prepared_request):
            return  # else requests would put the netrc's beside ours, or in its place
        forward(prepared_request, response)

    def _is_managed(self, session: requests.Session, request: requests.PreparedRequest) -> bool:
        """Whether our own adapter will send; otherwise it is a mock's, or of the user's own."""
        try:
            return isinstance(session.get_adapter(request.url or ""), ManagedAdapter)
        except InvalidSchema:
            return True  # as requests is about to say

    def _admit_here(self, call: Call, request: requests.PreparedRequest) -> None:
        """Admit a hop whose adapter may not do it itself: a mock's, or of the user's own."""
        if call.ticket is None:
            call.ticket = call.admit(call.table.resolve(request.url or ""))
        if call.ticket.permit is None:
            try:
                call.take_first_permit(call.ticket, request)
            except BaseException:
                ticket, call.ticket = call.ticket, None  # nothing was sent
                if ticket is not None:
                    ticket.settle(False, None)
                raise

    def _given_to_send(
        self, session: requests.Session, url: str | None, kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """Return what the caller gave, less what `merge_environment_settings` has said here.

        That belongs to this URL. Only ``verify=True``, which cannot be told from the caller's
        own, holds on all hops.
        """
        given = {name: kwargs[name] for name in PER_HOP if name in kwargs}
        if "verify" in given or "cert" in given:
            own = session.merge_environment_settings(url or "", {}, None, None, None)
            for name in ("verify", "cert"):
                if name in given and given[name] == own[name] and given[name] is not True:
                    del given[name]
        return given

    def _start(self, session: requests.Session, url: str) -> Call:
        table = self.endpoints.table
        endpoint = without_credentials(table.resolve, url)
        parent = current_call.get()
        outer = parent.deadline if parent is not None else inherited.get()
        deadline = Deadline.within(endpoint.settings.total_timeout, outer)
        return Call(table, endpoint.tally, {}, self, session, endpoint, deadline, parent)


def _unprepared(
    method: object, url: Any, endpoint: Endpoint, arguments: dict[str, Any]
) -> requests.PreparedRequest | None:
    """Return what a mock's request is known to be, where its permits need one."""
    if endpoint.permits is None or not endpoint.permits.need_a_request:
        return None
    known = {name: arguments[name] for name in ("headers", "params", "data", "json")}
    return requests.Request(str(method), url, **known).prepare()
