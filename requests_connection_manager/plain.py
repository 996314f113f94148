"""Whether a method of requests is what requests made it, or something stands in for it.

A mock, an instrumentation, or a subclass of the user's is asked where requests' own need not be.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import FunctionType
from typing import Any

# Not marks on the functions themselves: functools.wraps copies these.
_originals: weakref.WeakKeyDictionary[Any, Callable[..., Any]] = weakref.WeakKeyDictionary()


def is_plain(method: Callable[..., Any], own: Callable[..., Any]) -> bool:
    """Whether a bound method is ``own``, or nothing but our own stands in for that."""
    function = getattr(method, "__func__", None)
    return function is own or stands_in_for(function) is own


def leads_to(method: Callable[..., Any], own: Callable[..., Any]) -> bool:
    """Whether a bound method is ``own``, or wraps it and says so, as an instrumentation does."""
    function = getattr(method, "__func__", method)
    while function is not own:
        inner = stands_in_for(function)
        inner = getattr(function, "__wrapped__", None) if inner is function else inner
        if inner is None:
            return False
        function = inner
    return True


def stands_in_for(function: Any) -> Any:
    """Return what a stand-in of ours stands in for; what is none, as it is."""
    is_function = isinstance(function, FunctionType)  # others need not be hashable
    return _originals.get(function, function) if is_function else function


def mark_stand_in(function: Callable[..., Any], own: Callable[..., Any]) -> Callable[..., Any]:
    """Say of a function that it does as ``own`` does, for sessions that are managed anyway."""
    _originals[function] = own
    return function
