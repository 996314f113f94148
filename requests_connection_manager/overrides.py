"""What a subclass of the façade overrides acts inside of a call, as in a subclass of a Session.

requests calls these methods on its session. Where they are overridden on the façade, the session
asks the façade; ``super()`` there comes back to what the session would have done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from .session import ManagedSession

OVERRIDABLE = (
    "prepare_request",
    "merge_environment_settings",
    "get_adapter",
    "send",
    "resolve_redirects",
    "get_redirect_target",
    "should_strip_auth",
    "rebuild_auth",
    "rebuild_proxies",
    "rebuild_method",
)


class AskingSession(ManagedSession):
    """A session that asks its owner first."""

    owner: Any = None
    """None: a copy that was made without its owner."""


def _asking(name: str) -> Callable[..., Any]:
    def ask(self: AskingSession, *args: Any, **kwargs: Any) -> Any:
        asked = super(AskingSession, self) if self.owner is None else self.owner
        return getattr(asked, name)(*args, **kwargs)

    return ask


for _name in OVERRIDABLE:
    setattr(AskingSession, _name, _asking(_name))


def kind_of_session(owner: type, base: type) -> type[ManagedSession]:
    """Return what a façade of the class ``owner`` needs, if ``base`` overrides nothing."""
    overrides = any(getattr(owner, name) is not getattr(base, name) for name in OVERRIDABLE)
    return AskingSession if overrides else ManagedSession


def without_overrides(session: ManagedSession) -> ManagedSession:
    """Return a session as it is when it asks nobody."""
    if isinstance(session, AskingSession):
        return cast(ManagedSession, super(AskingSession, session))
    return session
