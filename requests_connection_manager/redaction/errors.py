"""Credentials in the texts of exceptions of requests and urllib3."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from requests.utils import requote_uri

from .names import REDACTED
from .urls import public_url
from .values import redact_sensitive_data, redact_text

_THEIRS = ("requests", "urllib3", "http", "ssl", "socket")
_OURS = __name__.partition(".")[0]
_MOST_ERRORS = 100
_LONGEST = 65_536
_SHOWN_TEXTS = ("_message", "url", "location", "strerror", "filename", "filename2")
_QUERY = re.compile(r"\?[^\s?=]*=\S*")
_BARE_VALUES = re.compile(  # what requests and urllib3 show without its name
    r"(?P<before>in header (?:value|name): |Invalid header value |Header part )"
    r"(?s:.*?)(?= must be of type|\Z)"
    r"|(?P<quote>[\"'])[^\s\"']*[:@][^\"']*(?P=quote)(?= is not a valid| contains invalid)"
)
_HEADER_PART = re.compile(  # the value comes twice, and between the two the name
    r"Header part \((?P<value>.*)\) from \((?P<name>b?'[\w.!#$%&*+^`|~-]*'), (?P=value)\)",
    re.DOTALL,
)


def redact_error(error: BaseException, *urls: str, handled: BaseException | None = None) -> None:
    """Take the credentials out of the texts of an error of requests, and of what it was made from.

    ``urls`` are those that were asked for: as they stand in a text, their query goes. An exception
    of the caller's own class is left alone, with what it was made from, and so is the one that was
    being ``handled`` before.
    """
    found_in_texts = {pair for url in urls for pair in _spellings(url)}
    spellings = sorted(found_in_texts, key=lambda pair: -len(pair[0]))
    met: dict[int, BaseException] = {} if handled is None else {id(handled): handled}
    waiting: list[tuple[BaseException | None, bool]] = [(error, False)]
    while waiting and len(met) < _MOST_ERRORS:
        found, is_part = waiting.pop()
        if found is None or id(found) in met:
            continue
        met[id(found)] = found
        package = type(found).__module__.partition(".")[0]
        if isinstance(found, UnicodeError):
            _hide_object(found)
        elif package in _THEIRS or (is_part and package == "builtins") or _is_of_http_client(found):
            _rewrite(found, spellings)
        elif package != _OURS and (package != "builtins" or found is error):
            continue
        # A context that is no cause may be what the caller was just handling.
        waiting.append((found.__context__, False))
        parts = (*found.args, getattr(found, "reason", None), found.__cause__)
        waiting += [(part, True) for part in parts if isinstance(part, BaseException)]


def _spellings(url: str) -> Iterator[tuple[str, str]]:
    """Yield how a URL and its target may stand in a text, each with what may be shown of it."""
    forms = {url}
    with suppress(ValueError):  # what cannot be encoded stands nowhere encoded
        forms.add(requote_uri(url))
    for form in forms | {form.partition("#")[0] for form in forms}:
        target = re.sub(r"\A[^/?#]*//[^/?#]*", "", form)
        for text in (form, target):
            shown = public_url(text)
            if text.strip("/?#") and shown != text.rstrip("?#"):
                yield text, shown
                yield repr(text)[1:-1], shown


def _rewrite(error: BaseException, spellings: list[tuple[str, str]]) -> None:
    def shown(text: object) -> object:
        if not isinstance(text, str):
            is_short = isinstance(text, bytes) and len(text) <= _LONGEST  # else it is a body
            return redact_sensitive_data(text) if is_short else text
        for spelling, public in spellings:
            text = text.replace(spelling, public)
        text = _BARE_VALUES.sub(_without_value, text)
        return _QUERY.sub(_without_query, redact_text(text))

    with suppress(Exception):  # a class whose attributes cannot be set
        error.args = tuple(map(shown, error.args))
        for name in _SHOWN_TEXTS:
            text = getattr(error, name, None)
            if isinstance(text, str) and shown(text) != text:
                setattr(error, name, shown(text))


def _is_of_http_client(error: BaseException) -> bool:
    return type(error) is ValueError and str(error).startswith("Invalid header value ")


def _hide_object(error: UnicodeError) -> None:
    """Hide what could not be encoded, a header's value, say, but for its length."""
    if isinstance(error, (UnicodeEncodeError, UnicodeDecodeError)):
        hidden: Any = "*" * len(error.object)
        hidden = hidden if isinstance(error.object, str) else hidden.encode()
        error.object = hidden
        error.args = (error.encoding, hidden, error.start, error.end, error.reason)


def _without_value(found: re.Match[str]) -> str:
    part = _HEADER_PART.fullmatch(found[0])
    if part:
        return f"Header part ({REDACTED}) from ({part['name']}, {REDACTED})"
    quote = found["quote"] or ""
    return f"{found['before'] or ''}{quote}{REDACTED}{quote}"


def _without_query(found: re.Match[str]) -> str:
    shown = found[0].rstrip("\"')},;:>.")
    return f"?{REDACTED}{found[0][len(shown) :]}"
