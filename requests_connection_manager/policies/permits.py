"""What an attempt must have before it is sent: the server's leave, and permits of its limit.

The server's leave comes first, and none of the permits is held while it is waited for: so a server
that wants to be left alone holds up no other that shares the limit.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..exceptions import ConfigurationError, ConnectionManagerError
from .server_pause import ServerPause
from .waiting import Check, nap

if TYPE_CHECKING:
    import requests


class Permit(NamedTuple):
    """The right to make one attempt."""

    taken: Any
    """What its limiter needs for taking it back."""
    waited: float
    """Seconds."""
    permits: int = 1
    """How many were taken."""
    key: str = ""
    """Of a limit that is kept for each key: whose it was."""


class Limiter(Protocol):
    """Hands out permits, in the order in which they were asked for."""

    scope: str
    """What it limits, in words."""

    @property
    def numbers(self) -> str:
        """What it allows, in words."""
        ...

    @property
    def most(self) -> int:
        """The most permits that one attempt can have."""
        ...

    def acquire(
        self,
        longest: float = math.inf,
        endpoint: str = "",
        check: Check | None = None,
        permits: int = 1,
        key: str = "",
    ) -> Permit:
        """Take permits, waiting at most ``longest`` seconds, not below 0.

        Raises `RateLimitExceeded`.
        """
        ...

    def give_back(self, permit: Permit) -> None:
        """Take back permits for an attempt that was never made."""
        ...


class Permits:
    """Those of one endpoint."""

    def __init__(
        self,
        limiter: Limiter | None,
        pause: ServerPause | None,
        cost: int | Callable[[requests.PreparedRequest], int] = 1,
        key: Callable[[requests.PreparedRequest], object] | None = None,
    ) -> None:
        self.limiter = limiter
        self.pause = pause
        self._cost = cost
        self._key = key
        self.need_a_request = callable(cost) or key is not None
        """Whether they can be had only for a request that is prepared."""
        if not callable(cost):
            self._check_cost(cost)

    def take(
        self,
        longest: float,
        endpoint: str,
        check: Check | None = None,
        request: requests.PreparedRequest | None = None,
    ) -> Permit | None:
        """Wait until the server may be asked, and for permits; None: nothing is limited.

        Raises `RateLimitExceeded` at once where either wait would be longer than allowed.
        """
        key, cost = "", self._cost
        if self.need_a_request:
            key, cost = self._key_of(request), self._cost_of(request)
        pause = self.pause
        if pause is None or not pause.left(key):
            permit = self._from_limiter(longest, endpoint, check, cost, key)
            if pause is None or permit is None or not permit.waited or not pause.left(key):
                return permit
            self.give_back(permit)
            waited = permit.waited
        else:
            waited = 0.0
        return self._after_pause(pause, longest, endpoint, check, cost, key, waited)

    def _after_pause(
        self,
        pause: ServerPause,
        longest: float,
        endpoint: str,
        check: Check | None,
        cost: Any,
        key: str,
        waited: float,
    ) -> Permit:
        came = time.monotonic() - waited
        while True:
            while (left := pause.left(key)) > 0:
                pause.refuse_if_beyond(left, came + longest - time.monotonic(), endpoint)
                nap(left, check)
            ends = came + longest
            permit = self._from_limiter(ends - time.monotonic(), endpoint, check, cost, key)
            if permit is None:
                return Permit(None, time.monotonic() - came, 0, key)
            if not permit.waited or not pause.left(key):
                return permit._replace(waited=time.monotonic() - came)
            self.give_back(permit)

    def _from_limiter(
        self, longest: float, endpoint: str, check: Check | None, cost: Any, key: str
    ) -> Permit | None:
        limiter = self.limiter
        is_free = not cost and not (self.pause is not None and self.pause.kept_by_limiter)
        if limiter is None or is_free:
            return Permit(None, 0.0, 0, key) if key else None
        # Whose time is up is told so by who keeps it, where there is a permit.
        return limiter.acquire(max(longest, 0.0), endpoint, check, cost, key)

    def give_back(self, permit: Permit) -> None:
        """Give back a permit for an attempt that was never made."""
        if self.limiter is not None and permit.permits:
            self.limiter.give_back(permit)

    def heed(self, response: requests.Response, permit: Permit | None) -> float:
        """Pause as long as an answer says, and return the seconds."""
        if self.pause is None:
            return 0.0
        return self.pause.heed(response, "" if permit is None else permit.key)

    def _cost_of(self, request: Any) -> int:
        cost = self._cost
        return self._check_cost(_ask("rate_limit_cost", cost, request) if callable(cost) else cost)

    def _check_cost(self, cost: Any) -> int:
        return check_cost(cost, None if self.limiter is None else self.limiter.most)

    def _key_of(self, request: Any) -> str:
        key = self._key
        if key is None:
            return ""
        text: str = _ask("rate_limit_scope", lambda request: _as_text(key(request)), request)
        # It may well be a token, and is to be kept where others can look.
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _as_text(key: object) -> str:
    return key.hex() if isinstance(key, bytes) else str(key)


def check_cost(cost: Any, most: int | None) -> int:
    """Return the permits that an attempt takes; raises `ConfigurationError`."""
    is_count = isinstance(cost, int) and not isinstance(cost, bool)
    if is_count and cost >= 0 and (most is None or cost <= most):
        return int(cost)
    bound = "of at least 0" if most is None else f"from 0 to {most}, the most that it can ever get"
    raise ConfigurationError(
        f"rate_limit_cost={cost!r} is impossible: it must be a whole number {bound}.",
        field="rate_limit_cost",
        value=cost,
    )


def _ask(setting: str, function: Callable[[Any], Any], request: Any) -> Any:
    try:
        return function(request)
    except ConnectionManagerError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"{setting} raised {type(error).__name__} for a request, which was not sent: it must "
            "return a value for each.",
            field=setting,
        ) from error
