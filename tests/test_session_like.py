"""The façade has all that a requests.Session has, and it is the session's own."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
import requests
from requests.adapters import HTTPAdapter

from requests_connection_manager import ConfigurationError, ConnectionManager
from tests.server import Reply, ScriptedServer


def test_it_has_every_public_name_of_a_session(manager: ConnectionManager) -> None:
    with requests.Session() as plain:
        missing = {name for name in dir(plain) if not name.startswith("_")} - set(dir(manager))
    assert missing == set()


VALUES = {
    "headers": {"X-A": "1"},
    "cookies": requests.cookies.cookiejar_from_dict({"a": "1"}),
    "auth": ("user", "word"),
    "params": {"a": "1"},
    "proxies": {"http": "http://127.0.0.1:9"},
    "hooks": {"response": [print]},
    "verify": False,
    "cert": None,
    "stream": True,
    "trust_env": False,
    "max_redirects": 2,
    "adapters": {},
}


@pytest.mark.parametrize("name", requests.Session.__attrs__)
def test_what_is_assigned_is_the_sessions(manager: ConnectionManager, name: str) -> None:
    setattr(manager, name, VALUES[name])
    assert getattr(manager.session, name) == getattr(manager, name) == VALUES[name]


def test_what_is_assigned_is_sent(manager: ConnectionManager, server: ScriptedServer) -> None:
    manager.headers["X-A"] = "1"
    manager.cookies.set("a", "1")
    manager.params = {"b": "2"}
    manager.auth = ("user", "word")
    manager.stream = True
    seen: list[int] = []
    manager.hooks["response"].append(lambda answer, **_: seen.append(answer.status_code))
    answer = manager.get(server.url)
    sent = server.received[-1]
    assert (sent.headers["X-A"], sent.headers["Cookie"], sent.query) == ("1", "a=1", "b=2")
    assert sent.headers["Authorization"] == requests.auth._basic_auth_str("user", "word")
    assert not answer.raw.closed
    assert answer.content == b"ok"
    assert seen == [200]


def test_redirects_are_bounded_as_assigned(
    manager: ConnectionManager, server: ScriptedServer
) -> None:
    server.script("/round", Reply.redirect("/round"))
    manager.max_redirects = 2
    with pytest.raises(requests.TooManyRedirects):
        manager.get(server.url + "/round")
    assert len(server.received) == 3


def test_an_adapter_is_mounted_and_found(
    manager: ConnectionManager, server: ScriptedServer
) -> None:
    class Counting(HTTPAdapter):
        sent = 0

        def send(self, *args, **kwargs):
            self.sent += 1
            return super().send(*args, **kwargs)

    own = Counting()
    manager.mount(server.url, own)
    assert manager.get_adapter(server.url + "/x") is own
    assert manager.adapters is manager.session.adapters
    assert manager.get(server.url).ok
    assert own.sent == 1


def test_closing_clears_whatever_stands_for_a_proxys_pools(manager: ConnectionManager) -> None:
    """As in requests, of whose own tests it is one: they put a mock there."""
    stand_in = Mock()
    manager.get_adapter("http://").proxy_manager["http://p:1"] = stand_in  # type: ignore[attr-defined]
    manager.session.close()
    stand_in.clear.assert_called_once_with()


def test_preparing_and_sending_by_hand(manager: ConnectionManager, server: ScriptedServer) -> None:
    manager.set_bearer_token("t")
    server.script("/", Reply(status=503), Reply.redirect("/there"))
    prepared = manager.prepare_request(requests.Request("GET", server.url))
    settings = manager.merge_environment_settings(prepared.url, {}, None, None, None)
    answer = manager.send(prepared, allow_redirects=False, **settings)
    assert manager.get_redirect_target(answer) == "/there"
    (there,) = manager.resolve_redirects(answer, prepared, **settings)
    assert there.url == server.url + "/there"
    assert {each.headers["Authorization"] for each in server.received} == {"Bearer t"}
    assert len(server.received) == 3


class TestAuth:
    """The manager has one credential for all URLs: whichever was said last."""

    def test_assigned_over_the_setting(self, server: ScriptedServer) -> None:
        with ConnectionManager(auth=requests.auth.HTTPBasicAuth("a", "b")) as manager:
            assert manager.auth == requests.auth.HTTPBasicAuth("a", "b")
            manager.auth = ("c", "d")
            manager.get(server.url)
            manager.auth = None
            assert manager.auth is None
            manager.get(server.url)
        first, second = server.received
        assert first.headers["Authorization"] == requests.auth._basic_auth_str("c", "d")
        assert "Authorization" not in second.headers

    def test_a_setter_over_what_was_assigned(
        self, manager: ConnectionManager, server: ScriptedServer
    ) -> None:
        manager.auth = ("c", "d")
        manager.set_bearer_token("t")
        manager.get(server.url)
        manager.auth = ("c", "d")
        manager.get(server.url)
        manager.clear_auth()
        manager.get(server.url)
        assert [each.headers.get("Authorization") for each in server.received] == [
            "Bearer t",
            requests.auth._basic_auth_str("c", "d"),
            None,
        ]


def test_what_is_impossible_is_refused_when_it_is_assigned(manager: ConnectionManager) -> None:
    with pytest.raises(ConfigurationError, match="verify"):
        manager.verify = 3
    assert manager.verify is True
