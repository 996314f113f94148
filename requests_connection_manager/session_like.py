"""What a ``requests.Session`` has beside the verbs, for who owns one: its attributes and methods.

They are the session's own: what is read and assigned here is read and assigned there.
"""

from __future__ import annotations

from collections.abc import Generator, MutableMapping
from typing import Any, Generic, TypeVar, overload

import requests
from requests.adapters import BaseAdapter

from .overrides import AskingSession, kind_of_session, without_overrides
from .session import ManagedSession
from .verbs import Verbs

T = TypeVar("T")


class _OfSession(Generic[T]):
    """Reads and assigns an attribute of the session."""

    def __init__(self, doc: str) -> None:
        self.__doc__ = doc

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, owner: None, kind: type) -> _OfSession[T]: ...

    @overload
    def __get__(self, owner: SessionLike, kind: type) -> T: ...

    def __get__(self, owner: SessionLike | None, kind: type | None = None) -> Any:
        return self if owner is None else getattr(owner.session, self._name)

    def __set__(self, owner: SessionLike, value: Any) -> None:
        setattr(owner.session, self._name, value)


class SessionLike(Verbs):
    """The attributes and methods of ``requests.Session``; see there for what they mean.

    What a subclass overrides of these methods acts in its calls, and in those of its session.
    """

    session: ManagedSession

    headers = _OfSession[MutableMapping[str, Any]]("Headers that go with every request.")
    cookies = _OfSession[Any]("The cookie jar.")
    params = _OfSession[Any]("Query parameters that go with every request.")
    proxies = _OfSession[MutableMapping[str, str]]("Proxies by scheme, or by scheme and host.")
    hooks = _OfSession[dict[str, Any]]("Hooks of requests: ``{'response': [...]}``.")
    verify = _OfSession[Any]("The default ``verify``; assigning to it is `set_ssl_verification`.")
    cert = _OfSession[Any]("The default ``cert``; assigning to it is `set_client_certificate`.")
    stream = _OfSession[bool]("Whether bodies are left unread by default.")
    trust_env = _OfSession[bool]("Whether the environment and the netrc are asked.")
    max_redirects = _OfSession[int]("Redirects that are followed in one call.")
    adapters = _OfSession[MutableMapping[str, BaseAdapter]]("Transport adapters by prefix.")

    def _adopt(self, session: ManagedSession) -> None:
        self.session = session
        if isinstance(session, AskingSession):
            session.owner = self

    def _kind_of_session(self) -> type[ManagedSession]:
        return kind_of_session(type(self), SessionLike)

    @property
    def _plainly(self) -> ManagedSession:
        return without_overrides(self.session)

    def mount(self, prefix: str, adapter: BaseAdapter) -> None:
        """Send URLs that begin with ``prefix`` by an adapter of your own.

        It is limited and guarded by the circuit breaker; only our own adapter retries.
        """
        self.session.mount(prefix, adapter)

    def get_adapter(self, url: str) -> BaseAdapter:
        """Return the transport adapter of a URL; raises ``InvalidSchema``."""
        return self._plainly.get_adapter(url)

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        """Prepare a request as it will be sent, with its credentials."""
        return self._plainly.prepare_request(request)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a prepared request, under the policies of its URL; it meets no hooks of calls."""
        return self._plainly.send(request, **kwargs)

    def merge_environment_settings(
        self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any
    ) -> dict[str, Any]:
        """Return the arguments of `send` that come from the environment and the settings."""
        return self._plainly.merge_environment_settings(url, proxies, stream, verify, cert)

    def resolve_redirects(
        self, resp: requests.Response, req: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> Generator[requests.Response]:
        """Follow redirects; yield the responses."""
        return self._plainly.resolve_redirects(resp, req, *args, **kwargs)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where a response redirects to; None: nowhere."""
        return self._plainly.get_redirect_target(resp)

    def should_strip_auth(self, old_url: str, new_url: str) -> bool:
        """Whether a redirect leaves credentials behind."""
        return self._plainly.should_strip_auth(old_url, new_url)

    def rebuild_auth(
        self, prepared_request: requests.PreparedRequest, response: requests.Response
    ) -> None:
        """Take from a redirected request what must not cross an origin."""
        self._plainly.rebuild_auth(prepared_request, response)

    def rebuild_proxies(
        self, prepared_request: requests.PreparedRequest, proxies: Any
    ) -> dict[str, str]:
        """Return the proxies of a redirected request."""
        return self._plainly.rebuild_proxies(prepared_request, proxies)

    def rebuild_method(
        self, prepared_request: requests.PreparedRequest, response: requests.Response
    ) -> None:
        """Change the method of a redirected request where browsers do."""
        self._plainly.rebuild_method(prepared_request, response)
