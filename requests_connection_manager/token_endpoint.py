"""What is sent to an OAuth 2.0 token endpoint, and what comes of it (RFC 6749 §4.4, §5).

The law: what is told of a failure is nothing that was sent, and nothing that came back but the
status and a plain error code: servers echo what they were sent.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote_plus, urlsplit

import requests

from .exceptions import Attempt, ConfigurationError, ConnectionManagerError, MaxRetriesExceeded
from .failures import count_of, in_short, without_traceback
from .policies.retry import IDEMPOTENCY_KEY
from .redaction import public_url

_USUAL_SKEW = 30.0
_LARGEST = 1_048_576
"""Bytes of an answer that are parsed."""
_OWN_FIELDS = {"grant_type", "scope", "client_id", "client_secret"}
_SENDABLE = re.compile(r"[\x21-\x7e\xa1-\xff]+")  # in a header, as one word
_PLAIN_CODE = re.compile(r"[a-z_]{1,60}")
_WRONG_CLIENT = "check client_id, client_secret and client_auth"
_REDIRECT = "let token_url be the final address: the secret is not sent on to another"
_NO_ANSWER = "check that token_url is reachable, or try again later"
_NOT_A_TOKEN = "check that token_url is a token endpoint for bearer tokens"
_ADVICE: dict[object, str] = {  # by error code (RFC 6749 §5.2), or else by status
    "invalid_client": _WRONG_CLIENT,
    "invalid_scope": "check scope",
    "unauthorized_client": "have the server allow this client the client_credentials grant",
    "unsupported_grant_type": "have the server allow the client_credentials grant",
    **dict.fromkeys((301, 302, 303, 307, 308), _REDIRECT),
    **dict.fromkeys((400, 401, 403), f"{_WRONG_CLIENT}, scope and extra"),
    **dict.fromkeys((429, 500, 502, 503, 504), "try again later"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Token:
    """A bearer token; its times are those of the clock of who asked for it."""

    value: str = field(repr=False)
    renew_at: float
    """Infinite, as is ``expires_at``, where the server did not say how long it lives."""
    expires_at: float


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no token, in words that can be shown."""

    text: str
    cause: Exception | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """The request of one client; raises `ConfigurationError`, which never holds a value."""

    token_url: str = field(repr=False)
    client_id: str
    client_secret: str = field(repr=False)
    scope: str | Iterable[str] | None = None
    client_auth: str = "basic"
    extra: Mapping[str, str] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _check_url(self.token_url)
        _check_text("client_id", self.client_id)
        _check_text("client_secret", self.client_secret)
        if self.client_auth not in ("basic", "body"):
            raise _impossible("client_auth", "'basic' or 'body'")
        object.__setattr__(self, "scope", _joined(self.scope))
        object.__setattr__(self, "extra", _checked_extra(self.extra))

    @property
    def endpoint(self) -> str:
        return public_url(self.token_url)

    def prepare(self) -> requests.PreparedRequest:
        """Make the request; not by a session, so that nothing meant for others gets in."""
        form = {"grant_type": "client_credentials", **(self.extra or {})}
        # To ask twice for a token is harmless, and only so is a POST asked twice.
        headers = {"Accept": "application/json", IDEMPOTENCY_KEY: os.urandom(16).hex()}
        if self.scope:
            form["scope"] = str(self.scope)
        if self.client_auth == "body":
            form |= {"client_id": self.client_id, "client_secret": self.client_secret}
        else:  # each is form-encoded first (RFC 6749 §2.3.1)
            pair = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret)}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        return requests.Request("POST", self.token_url, headers=headers, data=form).prepare()

    def read(
        self, answer: requests.Response, asked_at: float, skew: float | None
    ) -> Token | Failure:
        """Take the token out of an answer (RFC 6749 §5.1)."""
        if answer.status_code != 200:
            return self._refused(answer)
        body = answer.content
        if len(body) > _LARGEST:
            return self._failure("an answer of more than 1 MB", _NOT_A_TOKEN)
        fields = _json_object(body)
        if fields is None:
            return self._failure("status 200, but no JSON object", _NOT_A_TOKEN)
        if "error" in fields and "access_token" not in fields:
            return self._refused(answer)
        value, kind = fields.get("access_token"), fields.get("token_type", "Bearer")
        if not isinstance(value, str) or not _SENDABLE.fullmatch(value):
            return self._failure("status 200, but no access_token that can be sent", _NOT_A_TOKEN)
        if not isinstance(kind, str) or kind.lower() != "bearer":
            return self._failure("status 200, but the token_type is not Bearer", _NOT_A_TOKEN)
        life = _seconds(fields.get("expires_in"))
        early = min(_USUAL_SKEW, life / 2) if skew is None else skew
        return Token(value, renew_at=asked_at + life - early, expires_at=asked_at + life)

    def failed(self, error: Exception) -> Failure:
        """Say what an exception means that was raised instead of an answer."""
        cause = _bare(error)
        if isinstance(error, MaxRetriesExceeded) and error.response is not None:
            return replace(self._refused(error.response), cause=cause)
        if isinstance(error, MaxRetriesExceeded) and error.last_error is not None:
            what = f"{in_short(error.last_error)} in {count_of(len(error.attempts))}"
            return self._failure(what, _NO_ANSWER, cause)
        if isinstance(error, ConnectionManagerError):
            said = str(error).removeprefix(f"{self.endpoint}: ")
            return Failure(f"no token from {self.endpoint}: {said}", cause)
        return self._failure(in_short(error), _NO_ANSWER, cause)

    def _refused(self, answer: requests.Response) -> Failure:
        status = answer.status_code
        code = (_json_object(answer.content) or {}).get("error")
        if not isinstance(code, str) or not _PLAIN_CODE.fullmatch(code):
            code = ""
        if code in self.client_secret or self.client_secret in code:  # a secret of plain letters
            code = ""
        advice = _ADVICE.get(code) or _ADVICE.get(status) or "check token_url"
        return self._failure(f"status {status}{code and f', {code}'}", advice)

    def _failure(self, what: str, advice: str, cause: Exception | None = None) -> Failure:
        return Failure(f"no token from {self.endpoint}: {what}; {advice}.", cause)


def _bare(value: Any) -> Any:
    """Copy an error without requests, answers and frames, for the secret is in all three."""
    if isinstance(value, tuple):
        return tuple(map(_bare, value))
    if isinstance(value, Attempt):
        return replace(value, error=_bare(value.error))
    if isinstance(value, (requests.Request, requests.PreparedRequest, requests.Response)):
        return None
    if isinstance(value, ConnectionManagerError):
        copy = type(value)(str(value))
        vars(copy).update({name: _bare(each) for name, each in vars(value).items()})
        return copy
    return without_traceback(value) if isinstance(value, Exception) else value


def _json_object(body: bytes) -> dict[str, Any] | None:
    if len(body) > _LARGEST:
        return None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _seconds(expires_in: object) -> float:
    """Read ``expires_in``; infinite where it is absent or senseless."""
    try:
        seconds = float(expires_in) if isinstance(expires_in, (int, float, str)) else math.inf
    except (ValueError, OverflowError):
        return math.inf
    return seconds if seconds > 0 and expires_in is not True else math.inf


def _impossible(name: str, expected: str) -> ConfigurationError:
    """Make the error, without the value: arguments get mixed up, and this may be the secret."""
    return ConfigurationError(f"{name} is impossible: it must be {expected}.", field=name)


def _check_url(url: object) -> None:
    parts = None
    with suppress(ValueError):  # which requests' own InvalidURL is, too
        if isinstance(url, str):
            parts = urlsplit(requests.Request("POST", url).prepare().url or "")
    # User-info would displace the client's credentials; of the fragment see RFC 6749 §3.2.
    if not parts or parts.scheme not in ("http", "https") or "@" in parts.netloc or parts.fragment:
        raise _impossible("token_url", "an http(s) URL without user-info and fragment")


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or not value or not _is_utf8(value):
        raise _impossible(name, "text, and not empty")


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _joined(scope: object) -> str:
    if scope is None or isinstance(scope, str):
        words: list[Any] = [scope or ""]
    else:
        words = list(scope) if isinstance(scope, Iterable) else [None]
    if not all(isinstance(word, str) and _is_utf8(word) for word in words):
        raise _impossible("scope", "text, or several of them, or None")
    return " ".join(words)


def _checked_extra(extra: object) -> dict[str, str]:
    if extra is not None and not isinstance(extra, Mapping):
        raise _impossible("extra", "a mapping of text to text, or None")
    fields = dict(extra or {})
    for name, value in fields.items():
        if not isinstance(name, str) or not isinstance(value, str) or not _is_utf8(name + value):
            raise _impossible("extra", "a mapping of text to text, or None")
    if not _OWN_FIELDS.isdisjoint(fields):
        raise _impossible("extra", f"without {', '.join(sorted(_OWN_FIELDS))}")
    return fields
