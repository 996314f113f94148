"""Preparing a request with its credential, and noting what it carries.

The call under way remembers the request of its own first hop by it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import requests

from .assembly import Endpoint
from .auth import Credential
from .call import Call, current_call
from .carried import Carried, carry, note_what_auth_added
from .endpoints import Endpoints
from .environment import EnvironmentMemory
from .patterns import as_text
from .preparation import Preparation
from .ring import without_credentials

Preparing = Callable[[requests.Request], requests.PreparedRequest]


class Signing:
    """Prepares the requests of sessions."""

    signs_when_prepared = False
    """Whether a call gets its credential only when its request is prepared."""

    def __init__(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints
        self.environment = EnvironmentMemory()
        self._preparation = Preparation(self.environment)

    def under_way(self, session: requests.Session) -> Call | None:
        """Return the call that a session is making in this thread."""
        call = current_call.get()
        return call if call is not None and call.session is session and not call.over else None

    def prepare_request(
        self, session: requests.Session, forward: Preparing, request: requests.Request
    ) -> requests.PreparedRequest:
        """Prepare a request; the call under way remembers its own.

        What is prepared otherwise, by code that will send it itself, gets its credentials here.
        """
        call = self.under_way(session)
        if call is None or call.preparing or call.hops:
            anew = partial(self._prepare_anew, session, forward)
            return without_credentials(anew, request)
        assert call.endpoint is not None
        call.preparing = True
        try:
            if self.signs_when_prepared:
                request = self._signed(session, request, call.endpoint)
            call.prepared = self._prepare(session, forward, request, call.endpoint)
        except Exception:
            call.unprepared = True
            raise
        finally:
            call.preparing = False
        return call.prepared

    def _prepare_anew(
        self, session: requests.Session, forward: Preparing, request: requests.Request
    ) -> requests.PreparedRequest:
        endpoint = self.endpoints.table.resolve(as_text(request.url))
        request = self._signed(session, request, endpoint)
        return self._prepare(session, forward, request, endpoint)

    def _signed(
        self, session: requests.Session, request: requests.Request, endpoint: Endpoint
    ) -> requests.Request:
        credential = self._credential(session, endpoint)
        if credential is None:
            return request
        url = as_text(request.url)
        headers, auth = credential.fill_in(url, request.headers, request.auth, session)
        request = copy.copy(request)  # what was passed in stays as it is
        request.headers, request.auth = headers, auth
        return request

    def _credential(self, session: requests.Session, endpoint: Endpoint) -> Credential | None:
        return endpoint.credential(session)

    def _prepare(
        self,
        session: requests.Session,
        forward: Preparing,
        request: requests.Request,
        endpoint: Endpoint,
    ) -> requests.PreparedRequest:
        prepared = self._preparation.prepare(session, forward, request)
        note_what_auth_added(prepared, request, session)
        credential, key_header = endpoint.merged.credential, endpoint.merged.key_header
        if credential is not None and request.auth is credential.auth:
            carry(prepared, Carried(is_ours=True))
        if key_header is not None and key_header in prepared.headers:  # whoever brought it
            carry(prepared, Carried(headers=frozenset({key_header.lower()})))
        return prepared
