"""What a setting may be: each check returns the value in its final form, or says what is wrong.

What is wrong with a credential is said without showing it.
"""

from __future__ import annotations

import math
import os
import re
import ssl
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any

from urllib3.util.retry import Retry

from .exceptions import ConfigurationError
from .redaction import REDACTED

Check = Callable[[str, Any], Any]


def impossible(name: str, value: object, expected: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name}={value!r} is impossible: it must be {expected}.", field=name, value=value
    )


def hidden(name: str, expected: str, value: object = REDACTED) -> ConfigurationError:
    return ConfigurationError(
        f"{name} is impossible: it must be {expected}. (What it is, is not shown.)",
        field=name,
        value=value,
    )


def is_number(value: object) -> bool:
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond every float
        return False


def number(lowest: float, *, above: bool = False, highest: float = math.inf, of: str = "") -> Check:
    words = f"a number{of} {'above' if above else 'of at least'} {lowest:g}"
    if highest < math.inf:
        words += f" and at most {highest:,.0f}"

    def check(name: str, value: Any) -> Any:
        if not is_number(value) or not lowest <= value <= highest or (above and value == lowest):
            raise impossible(name, value, words)
        return plain(value)

    return check


def plain(value: Any) -> int | float:
    """Make an int or a float of whatever kind of number it is."""
    return value if type(value) in (int, float) else float(value)


def count(lowest: int, highest: float = math.inf) -> Check:
    words = f"a whole number of at least {lowest}"
    if highest < math.inf:
        words = f"a whole number from {lowest} to {highest:,.0f}"

    def check(name: str, value: Any) -> int:
        is_whole = isinstance(value, Integral) and not isinstance(value, bool)
        if not is_whole or not lowest <= value <= highest:
            raise impossible(name, value, words)
        return int(value)

    return check


def or_none(inner: Check, meaning: str) -> Check:
    def check(name: str, value: Any) -> Any:
        if value is None:
            return None
        try:
            return inner(name, value)
        except ConfigurationError as error:
            text = str(error).removesuffix(".")
            raise ConfigurationError(
                f"{text}, or None: {meaning}.", field=name, value=value
            ) from None

    return check


def boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise impossible(name, value, "True or False")
    return value


LONGEST = 1e8
"""Seconds, three years: below what the operating system's own waits can take."""


seconds = number(0, above=True, highest=LONGEST, of=" of seconds")
"""A time above 0."""

pause = number(0, highest=LONGEST, of=" of seconds")
"""A time of 0 or more."""


def timeout(name: str, value: Any) -> Any:
    if value is None:
        return None
    is_pair = isinstance(value, (tuple, list)) and len(value) == 2
    halves = tuple(value) if is_pair else (value,)
    if all(half is None or (is_number(half) and 0 < half <= LONGEST) for half in halves):
        read = tuple(None if half is None else plain(half) for half in halves)
        return read if is_pair else read[0]
    raise impossible(
        name,
        value,
        "a number of seconds above 0, a (connect, read) pair of them, or None: no limit",
    )


def max_retries(name: str, value: Any) -> int | Retry:
    if isinstance(value, Retry):
        return value
    if value is False:  # as HTTPAdapter takes it
        return 0
    try:
        return int(count(0)(name, value))
    except ConfigurationError:
        raise impossible(name, value, "a whole number of at least 0, or a urllib3.Retry") from None


def statuses(name: str, value: Any) -> frozenset[int]:
    items = _items(value)
    if items is None or not all(isinstance(item, int) and 100 <= item <= 599 for item in items):
        raise impossible(name, value, "a collection of HTTP statuses, 100 to 599")
    return frozenset(int(item) for item in items)


def methods(name: str, value: Any) -> frozenset[str] | None:
    if value is None:
        return None
    items = _items(value)
    if items is None or not all(isinstance(item, str) and item for item in items):
        raise impossible(name, value, "a collection of method names, or None: any method")
    return frozenset(item.upper() for item in items)


def _items(value: Any) -> list[Any] | None:
    """Return the items of a collection; None: it is none, or text, which is not meant as one."""
    is_collection = isinstance(value, Iterable) and not isinstance(value, (str, bytes))
    return list(value) if is_collection else None


def one_of(*choices: str) -> Check:
    def check(name: str, value: Any) -> Any:
        if value not in choices:
            raise impossible(name, value, " or ".join(map(repr, choices)))
        return value

    return check


def verify(name: str, value: Any) -> Any:
    value = _path_as_text(value)
    if not isinstance(value, bool) and not _is_path(value):
        raise impossible(name, value, "True, False, or the path of a CA bundle")
    return value


def cert(name: str, value: Any) -> Any:
    is_pair = isinstance(value, (tuple, list)) and len(value) == 2
    paths = [_path_as_text(path) for path in (value if is_pair else [value])]
    if value is None or all(map(_is_path, paths)):
        return tuple(paths) if is_pair else value and paths[0]
    # a third item is likely to be the password of the key
    raise hidden(
        name, "the path of a certificate, a (certificate, key) pair of paths, or None", value
    )


def _path_as_text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _is_path(value: object) -> bool:
    return isinstance(value, str) and value != ""


def ssl_context(name: str, value: Any) -> Any:
    if value is not None and not isinstance(value, ssl.SSLContext):
        raise impossible(name, value, "an ssl.SSLContext or None")
    return value


_VISIBLE = re.compile(r"[!-~\x80-\xff](?:[ -~\x80-\xff]*[!-~\x80-\xff])?")
"""What a header can carry (RFC 9110 §5.5): Latin-1, no line breaks, no white space at its ends."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A name of a header (RFC 9110 §5.6.2)."""


def credential(name: str, value: Any) -> Any:
    if value is not None and not (isinstance(value, str) and _VISIBLE.fullmatch(value)):
        raise hidden(
            name,
            "text that a header can carry, or None. A line break at its end, from a file, perhaps: "
            "use .strip()",
        )
    return value


_OF_THE_CONNECTION = frozenset(
    {
        *("connection", "content-length", "content-type", "cookie", "expect", "host", "keep-alive"),
        *("proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)
"""Headers that say how a message is sent, or that requests fills in."""


# The values of the next two are not shown, for whoever mixes them up has given the key itself.
def bearer(name: str, value: Any) -> Any:
    if credential(name, value) is not None and value[:7].lower() == "bearer ":
        raise hidden(name, "the token alone: `Bearer` is put before it")
    return value


def header_name(name: str, value: Any) -> Any:
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise hidden(name, "the name of a header")
    if value.lower() in _OF_THE_CONNECTION:
        raise hidden(name, "the name of a header that is free to hold a key")
    return value


def query_name(name: str, value: Any) -> Any:
    if value is not None and not (isinstance(value, str) and value and value.isprintable()):
        raise hidden(name, "the name of a query parameter, or None")
    return value


def basic_auth(name: str, value: Any) -> Any:
    if value is None:
        return None
    is_pair = isinstance(value, (tuple, list)) and len(value) == 2
    if not is_pair or not all(isinstance(part, (str, bytes)) for part in value):
        raise hidden(name, "a (user, password) pair of texts, or None")
    user, password = (_as_latin_1(name, part) for part in value)
    if b":" in user or any(c < 32 or c == 127 for c in user + password):  # RFC 7617 §2
        raise hidden(name, "a user without a colon and a password, both without control codes")
    return tuple(value)


def _as_latin_1(name: str, part: str | bytes) -> bytes:
    """Encode as requests does."""
    if isinstance(part, bytes):
        return part
    try:
        return part.encode("latin-1")
    except UnicodeEncodeError:
        pass  # the error would show the password
    raise hidden(name, "in Latin-1; what is not: give it as bytes, text.encode('utf-8')")


def auth(name: str, value: Any) -> Any:
    if value is not None and (not callable(value) or isinstance(value, type)):
        raise hidden(
            name, "a requests.auth.AuthBase, an instance (for a user and a password: basic_auth)"
        )
    return value
