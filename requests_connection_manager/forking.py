"""What a child process must not inherit: locks that are locked, places in a line, connections.

After ``os.fork`` one thread goes on in the child, the one that forked. A lock that another held
at that moment stays locked there for ever, nobody takes its place in a line, and a socket is still
the parent's: who writes to it, or shuts it down, disturbs the parent.

The law: each owner makes its own anew, and neither asks nor waits for anybody. What it has learned
stays: the count of a window, the state of a circuit, a token.
"""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from typing import Protocol


class Inherited(Protocol):
    """What is found in a child's memory, though it was made for the parent's threads."""

    def begin_in_child(self) -> None:
        """Make anew what the parent's other threads may have held."""
        ...


_owners: weakref.WeakSet[Inherited] = weakref.WeakSet()


def register(owner: Inherited) -> None:
    """Let ``owner`` begin anew in each child process, for as long as it lives."""
    _owners.add(owner)


def _begin_in_child() -> None:
    for owner in list(_owners):
        with suppress(Exception):  # one that was tampered with: the others' locks must still open
            owner.begin_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)
