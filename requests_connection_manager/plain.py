"""Whether a method of requests is what requests made it, or something stands in for it.

A mock, an instrumentation, or a subclass of the user's is asked where requests' own need not be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_NAME = "stands_in_for"


def is_plain(method: Callable[..., Any], own: Callable[..., Any]) -> bool:
    """Whether a bound method is ``own``, or nothing but our own stands in for that."""
    return stands_in_for(getattr(method, "__func__", None)) is own


def stands_in_for(function: Any) -> Any:
    """Return what a stand-in of ours stands in for; what is none, as it is."""
    return getattr(function, "__dict__", {}).get(_NAME, function)


def mark_stand_in(function: Callable[..., Any], own: Callable[..., Any]) -> Callable[..., Any]:
    """Say of a function that it does as ``own`` does, for sessions that are managed anyway."""
    vars(function)[_NAME] = own
    return function
