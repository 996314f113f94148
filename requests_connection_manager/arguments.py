"""The arguments of a request beside method and URL, as ``requests.Session.request`` takes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

UNSET: Any = type("Unset", (), {"__repr__": lambda self: "UNSET"})()
"""Not given, where None means something: no limit, as ``timeout``."""

ARGUMENTS: Mapping[str, Any] = {
    **dict.fromkeys(("params", "data", "headers", "cookies", "files", "auth"), None),
    "timeout": UNSET,
    "allow_redirects": True,
    **dict.fromkeys(("proxies", "hooks", "stream", "verify", "cert", "json"), None),
}
"""Each, and what it is where nobody gives it."""


def given_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return those that somebody has given."""
    return {name: value for name, value in arguments.items() if value is not ARGUMENTS[name]}


def lower_case(header: object) -> str:
    """Return the name of a header, text or bytes, as names are compared."""
    return header.decode("latin-1").lower() if isinstance(header, bytes) else str(header).lower()


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return what a misspelt name was meant to be; None: nothing is near."""
    from difflib import get_close_matches  # late: most programs never need it

    return next(iter(get_close_matches(name, known, n=1)), None)


def why_unknown(name: object) -> str | None:
    """Say what is wrong with the name of an argument; None: nothing."""
    if not isinstance(name, str):
        return f"an argument must have a text for a name, not {type(name).__name__}"
    if name in ARGUMENTS:
        return None
    near = nearest(name, ARGUMENTS)
    hint = f"did you mean {near!r}?" if near else f"choose from {', '.join(ARGUMENTS)}"
    return f"{name!r} is not an argument of a request; {hint}"
