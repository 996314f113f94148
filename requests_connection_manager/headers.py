"""requests' headers, read and made at once instead of name by name.

A `CaseInsensitiveDict` asks three functions or more for each name, and a call would have it do so
five times over. It keeps its names under ``_store``: by each in lower case, as it is spelt and its
value. That is private; were it no longer so, the public way is taken.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from requests.structures import CaseInsensitiveDict

Headers = CaseInsensitiveDict[Any]
Stored = tuple[tuple[Any, tuple[Any, Any]], ...]
"""Each name as it is compared, and as it is spelt, with its value."""
_KEPT_AS_SAID = vars(CaseInsensitiveDict({"A": 1})) == {"_store": OrderedDict(a=("A", 1))}


class BlankHeaders(Headers):
    """Headers that stay as they are: what is wanted of them are their copies."""

    def copy(self) -> Headers:
        return headers_of(self.items()) if not _KEPT_AS_SAID else _keeping(self._store.copy())


def headers_of(pairs: Iterable[tuple[str, Any]]) -> Headers:
    """Make headers of names and values; of two names that are the same, the last counts."""
    if not _KEPT_AS_SAID:
        return CaseInsensitiveDict(pairs)
    return _keeping(OrderedDict([(pair[0].lower(), pair) for pair in pairs]))


def spelt(headers: Headers) -> dict[str, Any]:
    """Return them as a plain dictionary."""
    if not _KEPT_AS_SAID or type(headers) is not CaseInsensitiveDict:
        return dict(headers.items())
    return dict(headers._store.values())


def names(headers: Iterable[str]) -> Iterable[str]:
    """Return the names, spelt or in lower case, whichever is quicker; of any headers."""
    return getattr(headers, "_store", headers)


def stored(headers: Headers) -> Stored:
    """Return all that there is to know of them, in the order of the names."""
    if _KEPT_AS_SAID:
        return tuple(headers._store.items())
    pairs = zip(headers.items(), headers.lower_items(), strict=True)
    return tuple((lower, pair) for pair, (lower, _) in pairs)


def _keeping(store: OrderedDict[str, tuple[str, Any]]) -> Headers:
    headers = CaseInsensitiveDict.__new__(CaseInsensitiveDict)
    headers._store = store
    return headers
