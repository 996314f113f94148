"""Signing with a token of one's own: the client credentials grant of OAuth 2.0 (RFC 6749 §4.4).

The law: one fetch at a time, whoever asks, and no lock is held while the network is waited for.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from threading import Lock
from typing import Any, Literal

import requests
from requests.auth import AuthBase
from requests.cookies import extract_cookies_to_jar

from . import checks as check
from . import forking
from .adapter import keep_small_body
from .attempt import is_ready_again
from .call import Call, current_call
from .exceptions import (
    AuthenticationError,
    ConnectionManagerError,
    DeadlineExceeded,
    ManagerClosed,
)
from .manager import ConnectionManager
from .patterns import parse_origin, split_url
from .policies.deadline import Deadline
from .token_endpoint import Failure, Token, TokenRequest
from .work_group import BatchStopped

_PAUSE = 5.0
"""Seconds from an early renewal that failed to the next."""
_LOOK = 1.0
"""Seconds after which one who waits for a fetch looks whether somebody still makes it."""


class _Flight:
    """One fetch under way; held by the thread that makes it, and by nobody else."""

    __slots__ = ("__weakref__", "landing")

    def __init__(self, session: object) -> None:
        self.landing = _Landing(self, session)


class _Landing:
    """What a fetch comes to, for those who wait for it."""

    __slots__ = ("_gate", "flight", "landed", "outcome", "session")

    def __init__(self, flight: _Flight, session: object) -> None:
        self.flight = weakref.ref(flight)  # dead, but not landed: an interrupt tore its thread away
        self.session = session
        """Whose policies the fetch is under: they do not speak for another's."""
        self.outcome: Token | Failure | None = None  # None, but landed: for its own thread's reason
        self.landed = False
        self._gate = Lock()  # an Event is Python within; interrupted there, it stays locked for all
        self._gate.acquire()

    @property
    def is_dead(self) -> bool:
        """Whether nobody makes the fetch any more: its thread was torn away."""
        return self.flight() is None

    def land(self) -> None:
        self.landed = True
        self._gate.release()

    def wait(self, seconds: float) -> bool:
        """Wait at most so long; return whether it has landed."""
        if not self.landed and self._gate.acquire(timeout=max(0.0, seconds)):
            self._gate.release()
        return self.landed


_in_the_air: ContextVar[tuple[_Landing, ...]] = ContextVar("_in_the_air", default=())
"""The fetches in whose course this code runs, in a batch's thread, too: it cannot wait for them."""


class OAuth2ClientCredentials(AuthBase):
    """Signs requests with a bearer token that it fetches, keeps, and renews.

    A token is renewed ``skew`` seconds before it expires; None: 30, or half of its life where that
    is shorter. A ``skew`` that is not shorter than the life means a new token for each request.
    After a 401 a fresh one is tried, once. ``client_auth`` says where id and secret go: into the
    Authorization header, or into the form (RFC 6749 §2.3.1); ``extra`` are more fields of the form,
    such as ``audience``.

    The token request is sent by the manager whose call needs the token, under the policies of
    ``token_url``; in a plain call of requests, by a manager of its own. Its failure is an
    `AuthenticationError`. RFC 6749 §3.2 requires TLS for it, but plain http is not refused.

    Shared by any number of threads. A pickle or a copy holds the secret, but no token. Raises
    `ConfigurationError`.
    """

    def __init__(
        self,
        token_url: str,
        client_id: str,
        client_secret: str,
        scope: str | Iterable[str] | None = None,
        *,
        client_auth: Literal["basic", "body"] = "basic",
        extra: Mapping[str, str] | None = None,
        skew: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._request = TokenRequest(
            token_url=token_url,
            client_id=client_id,
            client_secret=client_secret,
            scope=scope,
            client_auth=client_auth,
            extra=extra,
        )
        self._skew = check.or_none(check.pause, "30, or half of the token's life")("skew", skew)
        self._clock = clock
        self._begin()

    def _begin(self) -> None:
        self._token: Token | None = None
        self._not_before = -math.inf  # for an early renewal
        self.begin_in_child()
        forking.register(self)

    def begin_in_child(self) -> None:
        self._lock = Lock()
        self._landing: _Landing | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: vars(self)[name] for name in ("_request", "_skew", "_clock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._begin()

    def __repr__(self) -> str:
        request = self._request
        name = type(self).__name__
        return f"{name}(token_url={request.endpoint!r}, client_id={request.client_id!r})"

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        url = r.url or ""
        token = self._valid_token(url)
        r.headers["Authorization"] = f"Bearer {token.value}"
        r.register_hook("response", _OnceMore(self, token, url))
        return r

    def _valid_token(self, url: str) -> Token:
        """Return a token, fetched if need be; ``url``: of the request that it is for."""
        token = self._token
        if token is not None and self._clock() < token.renew_at:
            return token
        call = _call_under_way()
        while True:
            flight = _Flight(call and call.session)
            try:  # whatever interrupts this thread from here on, it lets others fetch
                token, landing = self._board(flight)
                if landing is flight.landing:
                    return self._fly(landing, token, call, url)
            finally:
                self._land(flight)
            if landing is None:
                assert token is not None
                return token
            outcome = self._wait(landing, call, url)
            if outcome is not None:
                return self._token_of(outcome)

    def _forget(self, token: Token) -> None:
        """Drop a token that was refused; if another has taken its place, that one stays."""
        with self._lock:
            if self._token is token:
                self._token = None

    def _board(self, flight: _Flight) -> tuple[Token | None, _Landing | None]:
        """Return the token if it is valid, and the fetch that is to be made or waited for."""
        with self._lock:
            token, theirs, now = self._token, self._landing, self._clock()
            if token is not None and now >= token.expires_at:
                token = None
            flying = theirs is not None and not theirs.is_dead
            if token is not None and (flying or now < max(token.renew_at, self._not_before)):
                return token, None
            if not flying:
                self._landing = theirs = flight.landing
            return token, theirs

    def _fly(self, landing: _Landing, kept: Token | None, call: Call | None, url: str) -> Token:
        outer = _in_the_air.set((*_in_the_air.get(), landing))
        try:
            landing.outcome = outcome = self._fetch(call, url, early=kept is not None)
        except ConnectionManagerError:
            if kept is not None and self._clock() < kept.expires_at:
                return kept  # this was an early renewal, which was not worth the call
            raise
        finally:
            _in_the_air.reset(outer)
        with self._lock:
            if isinstance(outcome, Token):
                self._token = outcome
            elif kept is not None and self._token is kept and self._clock() < kept.expires_at:
                return kept
        return self._token_of(outcome)

    def _land(self, flight: _Flight) -> None:
        landing = flight.landing
        with self._lock:
            if self._landing is landing:
                self._landing = None
                if not isinstance(landing.outcome, Token):
                    self._not_before = self._clock() + _PAUSE
        landing.land()

    def _wait(self, landing: _Landing, call: Call | None, url: str) -> Token | Failure | None:
        """Wait for another thread's fetch; None: it came to nothing that concerns this one."""
        if landing in _in_the_air.get():
            where = self._request.endpoint
            return Failure(f"no token from {where}: the request for it must not be signed with it.")
        mine = call and call.session
        while True:
            left = math.inf if call is None or call.deadline is None else call.deadline.left()
            if landing.wait(min(left, _LOOK)):
                theirs = isinstance(landing.outcome, Failure) and landing.session is not mine
                return None if theirs else landing.outcome
            if call is not None and left <= 0:
                raise call.too_late(url, "another thread was still fetching a token")
            if landing.is_dead:
                return None

    def _token_of(self, outcome: Token | Failure) -> Token:
        if isinstance(outcome, Token):
            return outcome
        # To each thread its own: in one that several raise, their tracebacks would mix.
        raise AuthenticationError(outcome.text, endpoint=self._request.endpoint) from outcome.cause

    def _fetch(self, call: Call | None, url: str, early: bool) -> Token | Failure:
        """Ask for a token; raises what concerns this thread's call, and no other's."""
        whole = call.deadline if call is not None else None
        try:
            if call is not None and whole is not None and early:
                call.deadline = Deadline(whole.left() / 2)  # there is a token, for all that
            answer = self._ask(call)
            asked_at = self._clock() - answer.elapsed.total_seconds()  # of its last attempt
            return self._request.read(answer, asked_at, self._skew)
        except Exception as error:
            failure = self._request.failed(error)
        finally:
            if call is not None:
                call.deadline = whole
        # Raised out here, they have no __context__; it would hold the secret.
        if isinstance(failure.cause, (ManagerClosed, BatchStopped)):
            raise failure.cause
        if call is not None and self._was_cut_short(call, failure.cause):
            raise call.too_late(url, "no time was left to fetch a token") from failure.cause
        return failure

    def _was_cut_short(self, call: Call, cause: Exception | None) -> bool:
        """Whether a fetch failed by the time of the call that made it: another may have more."""
        deadline = call.deadline
        if deadline is None or deadline.expired:
            return deadline is not None
        usual = call.table.resolve(self._request.token_url).settings.total_timeout
        return isinstance(cause, DeadlineExceeded) and (usual or math.inf) >= deadline.seconds

    def _ask(self, call: Call | None) -> requests.Response:
        request = self._request.prepare()
        if call is not None and call.owner is not None:
            return _sent(call.owner.aside(call.session), request)
        with ConnectionManager() as manager:  # it is rarely needed, and keeps nothing open
            return _sent(manager.session, request)


@dataclass(frozen=True, slots=True)
class _OnceMore:
    """A hook: after a 401, sends the request again with a fresh token."""

    auth: OAuth2ClientCredentials | None
    token: Token | None
    url: str

    def __call__(self, response: requests.Response, **kwargs: Any) -> requests.Response:
        auth, token, request = self.auth, self.token, response.request
        if response.status_code != 401 or auth is None or token is None:
            return response
        # Requests takes the token away on its way to another origin, and hooks come along.
        if request.headers.get("Authorization") != f"Bearer {token.value}":
            return response
        url = request.url or ""
        if _origin(url) != _origin(self.url):
            return response
        auth._forget(token)
        again = request.copy()
        if not is_ready_again(again):
            return response
        keep_small_body(response)
        response.close()
        fresh = f"Bearer {auth._valid_token(url).value}"
        again.headers["Authorization"] = fresh
        request.headers["Authorization"] = fresh  # of which requests makes those of its redirects
        if again._cookies is not None:  # as requests does between its own two rounds
            extract_cookies_to_jar(again._cookies, request, response.raw)
            again.headers.pop("Cookie", None)
            again.prepare_cookies(again._cookies)
        answer = response.connection.send(again, **kwargs)
        answer.history.append(response)
        answer.request = again
        return answer

    def __reduce__(self) -> tuple[Any, ...]:
        # Responses and errors are pickled with their request, and that with its hooks.
        return _OnceMore, (None, None, "")


def _sent(session: requests.Session, request: requests.PreparedRequest) -> requests.Response:
    settings = session.merge_environment_settings(request.url or "", {}, None, None, None)
    settings["stream"] = False  # so that the body, too, is under the policies
    return session.send(request, allow_redirects=False, **settings)


def _call_under_way() -> Call | None:
    call = current_call.get()
    return None if call is None or call.over or call.session is None else call


def _origin(url: str) -> object:
    return parse_origin(split_url(url)[0])
