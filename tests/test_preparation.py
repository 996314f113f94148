"""A request is prepared as plain requests prepares it, to the last header."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from requests.cookies import cookiejar_from_dict
from requests.structures import CaseInsensitiveDict

from requests_connection_manager import ConnectionManager
from requests_connection_manager.environment import EnvironmentMemory
from requests_connection_manager.preparation import Preparation
from tests.server import ScriptedServer


class PreparingSession(requests.Session):
    def __init__(self) -> None:
        super().__init__()
        self.preparation = Preparation(EnvironmentMemory())

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        return self.preparation.prepare(self, super().prepare_request, request)


URLS = [
    *("http://a.test", "http://A.test/x y?b=1#f", "http://u:p@a.test/", "http://ü.test/ä"),
    *(
        "HTTP://a.test:80/../a/./b",
        "nope",
        "http://",
        "data:x",
        " http://a.test/",
        b"http://b.test",
    ),
]
HEADERS = [
    *(None, {"A": "b"}, {"user-agent": "x", "accept": None}, {b"X": b"y"}, {"X": 1}, {"X": "a\nb"}),
    *({"accept": "1", "Accept": "2"}, {"accept": None, "Accept": "2"}, {"nope": None}),
    CaseInsensitiveDict({"Accept": "q"}),
]
PARAMS = [None, {"a": 1, "b": None}, [("a", "1"), ("a", "2")], "x=1", b"x=1", {"a": [1, 2]}]
BODIES: list[Callable[[], dict[str, Any]]] = [
    *(dict, lambda: {"data": {"a": 1}}, lambda: {"data": "x"}, lambda: {"json": {"a": 1}}),
    lambda: {"data": b"x", "json": {"a": 2}},
    lambda: {"data": io.BytesIO(b"ab")},
    lambda: {"data": iter([b"a"])},
    lambda: {"json": float("nan")},
]
COOKIES = [None, {"c": "1"}, {"sc": "its own"}, cookiejar_from_dict({"d": "2", "sc": "3"})]
AUTHS = [None, ("u", "p"), requests.auth.HTTPBasicAuth("a", "b"), lambda request: request, ()]
METHODS = ["get", "POST", None, "Ü"]


def with_its_own_headers(session: requests.Session) -> None:
    session.headers["X-Own"] = "1"
    session.cookies.set("sc", "v")
    session.auth = ("s", "t")


def with_parameters(session: requests.Session) -> None:
    session.params = {"p": 1}
    session.hooks["response"].append(print)


def without_a_header(session: requests.Session) -> None:
    session.headers["Accept"] = None


def with_a_plain_dictionary(session: requests.Session) -> None:
    session.headers = {"A": "1"}


def without_the_environment(session: requests.Session) -> None:
    session.trust_env = False
    session.cookies.set("sc", "v", domain="a.test")


def with_a_bad_header(session: requests.Session) -> None:
    session.headers["bad"] = "a\nb"


SETUPS: list[Callable[[requests.Session], object]] = [
    *(lambda session: None, with_its_own_headers, with_parameters, without_a_header),
    *(with_a_plain_dictionary, without_the_environment, with_a_bad_header),
]
TWINS = []
for setup in SETUPS:
    for session in (twins := (requests.Session(), PreparingSession())):
        setup(session)
    TWINS.append(twins)


def outcome(session: requests.Session, request: requests.Request) -> Any:
    try:
        made = session.prepare_request(request)
    except Exception as error:
        return type(error), str(error)
    body = made.body if isinstance(made.body, (str, bytes)) else type(made.body)
    cookies = [(each.name, each.value, each.domain) for each in made._cookies]
    headers = [type(made.headers), *made.headers.items()]
    return made.method, made.url, headers, body, cookies, made.hooks, made._body_position


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_the_same_comes_out(data: st.DataObject) -> None:
    plain, ours = data.draw(st.sampled_from(TWINS))
    body = data.draw(st.sampled_from(BODIES))
    fields = {
        "method": data.draw(st.sampled_from(METHODS)),
        "url": data.draw(st.sampled_from(URLS)),
        "headers": data.draw(st.sampled_from(HEADERS)),
        "params": data.draw(st.sampled_from(PARAMS)),
        "cookies": data.draw(st.sampled_from(COOKIES)),
        "auth": data.draw(st.sampled_from(AUTHS)),
    }
    theirs = outcome(plain, requests.Request(**fields, **body()))
    assert outcome(ours, requests.Request(**fields, **body())) == theirs


def test_a_change_of_the_sessions_headers_is_seen() -> None:
    plain, ours = requests.Session(), PreparingSession()
    for change in (
        lambda headers: headers.update({"X-A": "1"}),
        lambda headers: headers.update({"x-a": "1"}),  # spelt otherwise
        lambda headers: headers.pop("Accept"),
        lambda headers: headers.clear(),
    ):
        for session in (plain, ours):
            change(session.headers)
        request = requests.Request("GET", "http://a.test/")
        assert outcome(ours, request) == outcome(plain, request)


def test_what_is_prepared_is_the_callers_to_change() -> None:
    session, request = PreparingSession(), requests.Request("GET", "http://a.test/")
    first = session.prepare_request(request)
    first.headers["X-A"] = "1"
    first.hooks["response"].append(print)
    first.url = "http://b.test/"
    first._cookies.set("a", "1")
    again = session.prepare_request(request)
    assert outcome(session, request) == outcome(requests.Session(), request)
    assert "X-A" not in session.headers
    assert again.url == "http://a.test/"


def test_no_password_of_a_url_is_remembered() -> None:
    session = PreparingSession()
    session.prepare_request(requests.Request("GET", "http://user:s3cret@a.test/"))
    assert "s3cret" not in str(vars(session.preparation._before))


def test_what_is_remembered_is_bounded() -> None:
    session = PreparingSession()
    for number in range(3000):
        session.prepare_request(requests.Request("GET", f"http://a.test/{number}"))
    session.prepare_request(requests.Request("GET", f"http://a.test/{'x' * 5000}"))
    known = session.preparation._before._spellings
    assert 0 < len(known) <= 1024
    assert max(map(len, known)) <= 1024


def test_a_mock_of_requests_own_is_asked() -> None:
    session, request = PreparingSession(), requests.Request("GET", "http://a.test/")
    with mock.patch("requests.Session.prepare_request", return_value="its own"):
        assert session.prepare_request(request) == "its own"
    with mock.patch("requests.sessions.get_netrc_auth", return_value=("u", "p")):
        assert "Authorization" in session.prepare_request(request).headers
    assert "Authorization" not in session.prepare_request(request).headers


def test_a_netrc_is_seen_when_it_comes_changes_and_goes(
    manager: ConnectionManager,
    server: ScriptedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    home, other = tmp_path / ".netrc", tmp_path / "other"

    def sent() -> str | None:
        manager.get(server.url)
        return server.received[-1].headers.get("Authorization")

    def basic(user: str) -> str:
        return requests.auth._basic_auth_str(user, "word")

    assert sent() is None
    home.write_text("machine 127.0.0.1 login one password word")
    assert sent() == basic("one")
    home.write_text("machine 127.0.0.1 login two password word")
    assert sent() == basic("two")
    other.write_text("machine 127.0.0.1 login other password word")
    monkeypatch.setenv("NETRC", str(other))
    assert sent() == basic("other")
    manager.trust_env = False
    assert sent() is None
    manager.trust_env = True
    monkeypatch.delenv("NETRC")
    home.unlink()
    assert sent() is None
