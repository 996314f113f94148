"""Credentials at any depth: in containers, in texts, and in the texts and containers in those.

Nothing here raises, reads a stream or changes a value given.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Mapping, MappingView, Set
from contextlib import suppress
from http.cookiejar import Cookie, CookieJar
from http.cookies import BaseCookie, Morsel
from typing import Any
from urllib.parse import quote, unquote

from .names import REDACTED, is_sensitive_field
from .text import redact_plain_text

_DEEPEST = 100  # levels of containers, and of texts within texts, that are looked into
_MOST_PASSES = 5  # what is hidden may have stood between two parts of what is to be hidden, too
_TELLING = re.compile(
    r"[=:@%<]|[\"'][ \t]*,|(?i:bearer|basic|digest|token|negotiate|ntlm|apikey)[ \t]"
)
_RUN = re.compile(r"[^\s&=\"'<>?#;,]+")


def redact_sensitive_data(value: Any) -> Any:
    """Return a copy of ``value`` in which every value of a sensitive field is ``[REDACTED]``.

    Mappings become dicts, cookie jars dicts without a value, exceptions their text. What is no
    text and no container in memory is left as it is. None, True, False and "" hide nothing.
    """
    try:
        return _Copy().of(value, 0)
    except Exception:  # whatever a foreign container raises, what is in it stays hidden
        return REDACTED


def _hidden(value: Any) -> Any:
    nothing = value is None or isinstance(value, bool)
    return value if nothing or (isinstance(value, (str, bytes)) and not value) else REDACTED


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a surrogate pair, that JSON had escaped
        return text.encode("utf-8", "surrogatepass")


def _is_sensitive_pair(value: Any) -> bool:
    return len(value) == 2 and is_sensitive_field(value[0])


class _Copy:
    """One walk through a value, in which each container is looked into once."""

    def __init__(self) -> None:
        self._met: dict[int, tuple[Any, Any]] = {}  # keeps what it has met, so that ids stay true

    def of(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return _redact_text(value, depth)
        if isinstance(value, (bytes, bytearray)):
            text = value.decode("utf-8", "surrogateescape")
            shown = _redact_text(text, depth)
            return value if shown == text else type(value)(_encoded(shown))
        if isinstance(value, BaseException):
            return _redact_text(str(value), depth)
        if isinstance(value, (Cookie, Morsel)):
            return REDACTED
        if not isinstance(value, (Mapping, CookieJar, list, tuple, Set, MappingView, deque)):
            return value
        if depth > _DEEPEST:
            return REDACTED
        if id(value) not in self._met:
            self._met[id(value)] = value, REDACTED  # is what it finds of itself inside itself
            self._met[id(value)] = value, self._container(value, depth + 1)
        return self._met[id(value)][1]

    def _container(self, value: Any, depth: int) -> Any:
        if isinstance(value, CookieJar):
            return {cookie.name: REDACTED for cookie in value}
        if isinstance(value, BaseCookie):
            return dict.fromkeys(value, REDACTED)
        if isinstance(value, Mapping):
            return self._mapping(list(value.items()), depth)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            fields = list(zip(value._fields, value, strict=True))
            make: Any = type(value)
            return make._make(self._mapping(fields, depth).values())
        if isinstance(value, tuple) and _is_sensitive_pair(value):
            return self.of(value[0], depth), _hidden(value[1])
        items = [
            [self.of(item[0], depth), _hidden(item[1])]
            if isinstance(item, list) and _is_sensitive_pair(item)
            else self.of(item, depth)
            for item in value
        ]
        if isinstance(value, tuple):
            return tuple(items)
        if isinstance(value, Set) and not isinstance(value, MappingView):
            with suppress(TypeError):  # a frozen mapping in it has become a dict
                return frozenset(items) if isinstance(value, frozenset) else set(items)
        return items

    def _mapping(self, items: list[tuple[Any, Any]], depth: int) -> dict[Any, Any]:
        # {"name": "token", "value": "..."}, as an HAR file has its headers
        parts = {key.lower(): value for key, value in items if isinstance(key, str)}
        label = "name" if "name" in parts else "key"
        is_labelled = "value" in parts and isinstance(parts.get(label), (str, bytes))
        redacted = {}
        for key, value in items:
            part = key.lower() if is_labelled and isinstance(key, str) else None
            if part == "value":
                hide = is_sensitive_field(parts[label])
            else:
                hide = part != label and is_sensitive_field(key)
            shown_key = self.of(key, depth) if isinstance(key, (str, bytes, tuple)) else key
            redacted[shown_key] = _hidden(value) if hide else self.of(value, depth)
        return redacted


def redact_text(text: str) -> str:
    """Return ``text`` without the credentials of the URLs, headers, forms and JSON in it."""
    return _redact_text(text, 0)


def _redact_text(text: str, depth: int) -> str:
    if not _TELLING.search(text):
        return text
    if depth > _DEEPEST:
        return REDACTED
    if text.lstrip("\ufeff \t\r\n")[:1] in ("{", "[", '"'):
        try:
            return _redact_json(text, depth)
        except RecursionError:
            return REDACTED
        except ValueError:
            pass  # it only begins like JSON
    for _ in range(_MOST_PASSES):
        shown = _redact_encoded(redact_plain_text(text), depth)
        if shown == text:
            break
        text = shown
    return text


def _redact_encoded(text: str, depth: int) -> str:
    if "%" not in text:
        return text

    def decoded(run: re.Match[str]) -> str:
        plain = unquote(run[0]) if "%" in run[0] else run[0]
        shown = plain if plain == run[0] else _redact_text(plain, depth + _DEEPEST // 4)
        return run[0] if shown == plain else quote(shown, safe="/:@[]", errors="surrogatepass")

    return _RUN.sub(decoded, text)


def _redact_json(text: str, depth: int) -> str:
    repeated = False

    def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated
        found = dict(pairs)
        repeated = repeated or len(found) != len(pairs)  # what was under the same name is not seen
        return found

    parsed = json.loads(text.lstrip("\ufeff"), object_pairs_hook=without_repeats)
    shown = _Copy().of(parsed, depth + 1)
    if shown == parsed and not repeated:
        return text
    return json.dumps(shown, ensure_ascii=text.isascii())
