"""Which credentials reach the server, and that they reach no other."""

from __future__ import annotations

import base64
import logging
import pickle
from collections.abc import Callable
from http.client import HTTPMessage
from typing import Any
from unittest import mock

import pytest
import requests
import responses
from requests.auth import AuthBase, HTTPBasicAuth, HTTPDigestAuth

from requests_connection_manager import ConfigurationError, ConnectionManager, MaxRetriesExceeded
from tests.conftest import MakeManager, in_threads
from tests.server import Reply, ScriptedServer

SECRET = "s3cret-of-mine"
BASIC = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()


class Signature(AuthBase):
    """Sets a header whose name tells nothing, and answers a 401 of whoever asks."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["X-Sig"] = SECRET
        request.headers["X-Made-By"] = SECRET
        request.register_hook("response", self.answer)
        return request

    def answer(self, response: requests.Response, **kwargs: Any) -> requests.Response:
        if response.status_code != 401 or "X-Second" in response.request.headers:
            return response
        again = response.request.copy()
        again.headers["X-Second"] = SECRET
        response.content  # noqa: B018
        return response.connection.send(again, **kwargs)  # type: ignore[attr-defined]


SCHEMES: list[tuple[dict[str, Any], str, str]] = [
    ({"api_key": SECRET}, "X-API-Key", SECRET),
    ({"api_key": SECRET, "api_key_header": "X-Mine"}, "X-Mine", SECRET),
    ({"bearer_token": SECRET}, "Authorization", f"Bearer {SECRET}"),
    ({"oauth2_token": SECRET}, "Authorization", f"Bearer {SECRET}"),
    ({"basic_auth": ("me", SECRET)}, "Authorization", BASIC),
    ({"auth": HTTPBasicAuth("me", SECRET)}, "Authorization", BASIC),
    ({"auth": Signature()}, "X-Made-By", SECRET),
]
IDS = [" ".join(settings) for settings, _, _ in SCHEMES]


@pytest.mark.parametrize(("settings", "header", "value"), SCHEMES, ids=IDS)
def test_a_scheme_reaches_the_server(
    settings: dict[str, Any],
    header: str,
    value: str,
    server: ScriptedServer,
    make_manager: MakeManager,
) -> None:
    manager = make_manager(**settings)
    manager.get(server.url)
    make_manager(endpoint_configs={server.host: settings}).get(server.url)
    manager.session.get(server.url)
    manager.session.send(manager.session.prepare_request(requests.Request("GET", server.url)))
    assert [request.headers[header] for request in server.received] == [value] * 4
    for name, given in settings.items():
        assert getattr(manager, name) == given


def test_a_key_in_the_query_is_on_the_wire_and_nowhere_else(
    server: ScriptedServer, make_manager: MakeManager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    manager = make_manager(api_key=SECRET + "&=", api_key_query="k")
    response = manager.get(server.url + "/a", params={"q": 1})
    manager.session.send(manager.session.prepare_request(requests.Request("GET", server.url)))
    assert [request.query for request in server.received] == [
        f"q=1&k={SECRET}%26%3D",
        f"k={SECRET}%26%3D",
    ]
    assert response.url == response.request.url == server.url + "/a?q=1"
    assert all("X-API-Key" not in request.headers for request in server.received)
    assert "urllib3" in {record.name.split(".")[0] for record in caplog.records}
    assert SECRET not in caplog.text
    server.pause()
    with pytest.raises(MaxRetriesExceeded) as caught:
        manager.get(server.url)
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.attempts!r}"


def test_a_key_in_the_query_that_the_call_brings_is_the_calls(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    manager = make_manager(api_key=SECRET, api_key_query="k")
    manager.get(server.url + "/?k=mine")
    manager.get(server.url, params={"k": "mine"})
    assert [request.query for request in server.received] == ["k=mine", "k=mine"]


def test_a_key_in_the_query_passes_an_adapter_of_the_users_own(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    manager = make_manager(api_key=SECRET, api_key_query="k")
    manager.session.mount("http://", requests.adapters.HTTPAdapter())
    manager.get(server.url)
    manager.session.send(manager.session.prepare_request(requests.Request("GET", server.url)))
    assert [request.query for request in server.received] == [f"k={SECRET}"] * 2
    manager.session.adapters["http://"].close()


def test_one_scheme_a_request_the_more_specific_wins(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    manager = make_manager(
        api_key="manager",
        endpoint_configs={
            f"{server.host}/own": {"bearer_token": "endpoint"},
            f"{server.host}/own/deeper": {"basic_auth": ("a", "b")},
            f"{server.host}/named": {"api_key_header": "X-Other"},
            f"{server.host}/none": {"api_key": None},
        },
    )

    def sent(path: str, **kwargs: Any) -> dict[str, str]:
        manager.get(server.url + path, **kwargs)
        headers = server.received[-1].headers
        return {name: headers[name] for name in headers if name.lower().startswith(("x-", "auth"))}

    assert sent("/") == {"X-API-Key": "manager"}
    assert sent("/own") == {"Authorization": "Bearer endpoint"}
    assert sent("/own/deeper") == {"Authorization": "Basic YTpi"}
    assert sent("/named") == {"X-Other": "manager"}
    assert sent("/none") == {}
    assert sent("/own", headers={"Authorization": "mine"}) == {"Authorization": "mine"}
    assert sent("/own", headers={b"authorization": b"mine"}) == {"authorization": "mine"}
    assert sent("/own", headers={"Authorization": None}) == {}
    assert sent("/", headers={"x-api-key": "mine"}) == {"x-api-key": "mine"}
    assert sent("/", headers={"Authorization": "mine"}) == {"Authorization": "mine"}
    assert sent("/own", auth=("a", "b")) == {"Authorization": "Basic YTpi"}
    assert sent("/", auth=("a", "b")) == {"Authorization": "Basic YTpi"}


def test_user_info_in_the_url_is_what_the_call_brings(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    manager = make_manager(bearer_token=SECRET)
    manager.get(server.url.replace("//", f"//me:{SECRET}@"))
    assert server.received[0].headers["Authorization"] == BASIC


def test_of_several_in_one_layer_one_is_sent(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    manager = make_manager(api_key="k", bearer_token="b", basic_auth=("u", "p"))
    manager.get(server.url)
    assert server.received[0].headers["Authorization"] == "Bearer b"
    assert "X-API-Key" not in server.received[0].headers


def test_what_the_session_was_given_by_hand_wins_over_the_managers_not_the_endpoints(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    manager = make_manager(
        bearer_token="manager",
        endpoint_configs={f"{server.host}/own": {"bearer_token": "endpoint"}},
    )
    manager.session.headers["Authorization"] = "by hand"
    manager.get(server.url)
    manager.get(server.url + "/own")
    del manager.session.headers["Authorization"]
    manager.session.auth = ("a", "b")
    manager.get(server.url)
    manager.get(server.url + "/own")
    assert [request.headers["Authorization"] for request in server.received] == [
        *("by hand", "Bearer endpoint"),
        *("Basic YTpi", "Bearer endpoint"),
    ]


def test_nothing_that_is_passed_in_is_changed(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    headers: dict[str, str] = {"X-Own": "1"}
    config = {"bearer_token": "t"}
    request = requests.Request("GET", server.url, headers=headers)
    manager = make_manager(endpoint_configs={server.host: config})
    manager.get(server.url, headers=headers)
    manager.session.prepare_request(request)
    assert headers == {"X-Own": "1"}
    assert config == {"bearer_token": "t"}
    assert request.auth is None


def test_credentials_are_among_the_arguments_of_a_patched_session(
    make_manager: MakeManager,
) -> None:
    manager = make_manager(
        api_key="k", endpoint_configs={"b.test": {"bearer_token": "t"}, "c.test": {"api_key": "c"}}
    )
    with mock.patch("requests.Session.request") as patched:
        for host in ("a.test", "b.test", "c.test"):
            manager.get(f"http://{host}/", headers={"X-Own": "1"})
    assert [each.kwargs["headers"] for each in patched.call_args_list] == [
        {"X-Own": "1", "X-API-Key": "k"},
        {"X-Own": "1", "Authorization": "Bearer t"},
        {"X-Own": "1", "X-API-Key": "c"},
    ]


HOSTILE = [
    "http://evil.test/?x=api.example.com",
    "http://api.example.com.evil.test/",
    "http://api.example.com@evil.test/",
    "http://evil.test/api.example.com",
    "http://evil.test#api.example.com",
    "http://evil.test\\@api.example.com.evil.test/",
    "http://xapi.example.com/",
    "http://api.example.com:8080@evil.test/",
    "http://evil.test:80/http://api.example.com/",
]


@pytest.mark.parametrize("url", HOSTILE)
def test_a_hostile_url_gets_no_credentials_of_an_endpoint(
    url: str, make_manager: MakeManager
) -> None:
    manager = make_manager(endpoint_configs={"api.example.com": {"api_key": SECRET}})
    with mock.patch("requests.Session.request") as patched:
        manager.get(url)
    assert SECRET not in repr(patched.call_args)


@pytest.mark.parametrize(("settings", "header", "value"), SCHEMES, ids=IDS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_port_leaves_all_behind(
    settings: dict[str, Any],
    header: str,
    value: str,
    status: int,
    server: ScriptedServer,
    other_server: ScriptedServer,
    make_manager: MakeManager,
) -> None:
    server.script("/go", Reply.redirect(other_server.url + "/there", status))
    other_server.script("/there", Reply.redirect(other_server.url + "/on"))
    other_server.script("/on", Reply.redirect(server.url + "/back"))
    manager = make_manager(**settings)
    manager.post(server.url + "/go", data="x")
    assert server.received[0].headers[header] == value
    elsewhere = [*other_server.received, *server.requests_to("/back")]
    assert len(elsewhere) == 3
    assert SECRET not in repr([request.headers for request in elsewhere])
    assert BASIC not in repr([request.headers for request in elsewhere])


def test_a_redirect_to_another_origin_leaves_the_key_in_the_query_behind(
    server: ScriptedServer, other_server: ScriptedServer, make_manager: MakeManager
) -> None:
    server.script("/go", Reply.redirect("/stay?a=1"))
    server.script("/stay", Reply.redirect(other_server.url + "/there?b=2"))
    other_server.script("/there", Reply.redirect(server.url + "/back"))
    manager = make_manager(api_key=SECRET, api_key_query="k")
    response = manager.get(server.url + "/go")
    assert [request.query for request in server.received] == [f"k={SECRET}", f"a=1&k={SECRET}", ""]
    assert [request.query for request in other_server.received] == ["b=2"]
    assert SECRET not in "".join(each.url for each in [response, *response.history])


def test_a_downgrade_to_http_leaves_all_behind(
    tls_server: ScriptedServer, server: ScriptedServer, bundle: str, make_manager: MakeManager
) -> None:
    plain = server.url.replace("127.0.0.1", "localhost")
    tls_server.script("/go", Reply.redirect(plain))
    for settings in ({"api_key": SECRET}, {"api_key": SECRET, "api_key_query": "k"}):
        make_manager(verify=bundle, **settings).get(tls_server.url + "/go")
    assert SECRET in repr(tls_server.received[0])
    assert SECRET in repr(tls_server.received[1])
    assert SECRET not in repr(server.received)
    assert server.count() == 2


def test_within_the_origin_credentials_follow(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    server.script("/go", Reply.redirect("/there"))
    manager = make_manager(api_key=SECRET, api_key_header="X-Mine")
    manager.get(server.url + "/go", headers={"X-Token": "t"}, cookies={"session": "c"})
    there = server.requests_to("/there")[0].headers
    assert (there["X-Mine"], there["X-Token"], there["Cookie"]) == (SECRET, "t", "session=c")


def test_what_the_caller_brings_does_not_cross_an_origin_either(
    server: ScriptedServer, other_server: ScriptedServer, make_manager: MakeManager
) -> None:
    server.script("/go", Reply.redirect(other_server.url + "/there"))
    manager = make_manager()
    manager.session.headers["X-Auth-Token"] = SECRET
    manager.session.cookies.set("for-all", "hosts")
    manager.get(
        server.url + "/go",
        headers={"X-Api-Key": SECRET, "X-Request-Id": "7", "Cookie": SECRET},
        params={"token": SECRET},
    )
    manager.get(server.url + "/go", cookies={"session": SECRET})
    assert SECRET in repr(server.received[0].headers)
    assert SECRET in repr(server.received[1].headers)
    there = other_server.received
    assert SECRET not in repr(there)
    assert there[0].headers["X-Request-Id"] == "7"
    assert [request.headers["Cookie"] for request in there] == ["for-all=hosts"] * 2


def test_an_auth_does_not_answer_the_challenge_of_another_origin(
    server: ScriptedServer, other_server: ScriptedServer, make_manager: MakeManager
) -> None:
    challenge = {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'}
    server.script("/go", Reply.redirect(other_server.url + "/there"))
    server.script(
        "/asks", Reply(status=401, headers=challenge), Reply.redirect(other_server.url + "/d")
    )
    for path in ("/there", "/d"):
        other_server.script(path, Reply(status=401, headers=challenge))
    make_manager(auth=Signature()).get(server.url + "/go")
    make_manager().get(server.url + "/go", auth=HTTPDigestAuth("me", SECRET))
    make_manager(auth=HTTPDigestAuth("me", SECRET)).get(server.url + "/asks")
    assert server.count("/asks") == 2
    assert other_server.count() == 3
    assert not any("Authorization" in request.headers for request in other_server.received)
    assert SECRET not in repr(other_server.received)


def test_response_hooks_of_the_caller_are_kept_across_origins(
    server: ScriptedServer, other_server: ScriptedServer, make_manager: MakeManager
) -> None:
    seen: list[str] = []
    server.script("/go", Reply.redirect(other_server.url + "/there"))
    make_manager(auth=Signature()).get(
        server.url + "/go", hooks={"response": lambda response, **_: seen.append(response.url)}
    )
    assert seen == [server.url + "/go", other_server.url + "/there"]


def test_an_endpoint_that_is_redirected_to_does_not_give_its_credentials(
    server: ScriptedServer, other_server: ScriptedServer, make_manager: MakeManager
) -> None:
    """Otherwise any server could make us act in our name on another."""
    server.script("/go", Reply.redirect(other_server.url + "/there"))
    pattern = f"{other_server.host}:{other_server.port}"
    make_manager(endpoint_configs={pattern: {"bearer_token": SECRET}}).get(server.url + "/go")
    assert "Authorization" not in other_server.received[0].headers


@pytest.fixture
def netrc(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login me password {SECRET}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.mark.usefixtures("netrc")
def test_the_netrc_stays_what_it_is_in_requests(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    make_manager().get(server.url)
    assert server.received[0].headers["Authorization"] == BASIC
    make_manager(bearer_token="t").get(server.url)
    make_manager(api_key="k").get(server.url)
    assert server.received[1].headers["Authorization"] == "Bearer t"
    assert "Authorization" not in server.received[2].headers


def test_the_setters_replace_one_scheme_by_another(
    server: ScriptedServer, manager: ConnectionManager
) -> None:
    def sent() -> dict[str, str]:
        manager.get(server.url)
        headers = server.received[-1].headers
        return {name: headers[name] for name in headers if name.lower().startswith(("x-", "auth"))}

    manager.set_api_key("k", "X-Mine")
    assert (manager.api_key, manager.api_key_header) == ("k", "X-Mine")
    assert sent() == {"X-Mine": "k"}
    manager.set_api_key("k2")
    assert sent() == {"X-API-Key": "k2"}
    manager.set_bearer_token("b")
    assert (manager.bearer_token, manager.api_key) == ("b", None)
    assert sent() == {"Authorization": "Bearer b"}
    manager.set_oauth2_token("o")
    assert manager.oauth2_token == "o"
    assert sent() == {"Authorization": "Bearer o"}
    manager.set_basic_auth("me", SECRET)
    assert manager.basic_auth == ("me", SECRET)
    assert sent() == {"Authorization": BASIC}
    manager.clear_auth()
    assert sent() == {}


def test_endpoint_auth_is_set_and_cleared(
    server: ScriptedServer, manager: ConnectionManager
) -> None:
    pattern = f"{server.host}/own"
    manager.add_endpoint_config(pattern, {"timeout": 7})
    manager.set_bearer_token("manager")

    def sent() -> str | None:
        manager.get(server.url + "/own")
        headers = server.received[-1].headers
        return headers.get("Authorization") or headers.get("X-API-Key") or headers.get("X-Mine")

    manager.set_endpoint_auth(pattern, "api_key", api_key="k")
    assert sent() == "k"
    manager.set_endpoint_auth(pattern, "api_key", api_key="k2", header_name="X-Mine")
    assert server.received[-1].headers.get("X-Mine") is None
    assert sent() == "k2"
    manager.set_endpoint_auth(pattern, "bearer", token="b")
    assert sent() == "Bearer b"
    manager.set_endpoint_auth(pattern, "oauth2", token="o")
    assert sent() == "Bearer o"
    manager.set_endpoint_auth(pattern, "basic", username="me", password=SECRET)
    assert sent() == BASIC
    assert manager.get_endpoint_configs()[pattern]["timeout"] == 7
    manager.clear_auth(pattern)
    assert sent() == "Bearer manager"
    assert manager.get_endpoint_configs() == {pattern: {"timeout": 7}}
    manager.clear_auth("never.seen.test")
    assert "never.seen.test" not in manager.get_endpoint_configs()
    manager.set_endpoint_auth("brand.new.test", "bearer", token="b")
    assert "brand.new.test" in manager.get_endpoint_configs()


@pytest.mark.parametrize(
    ("auth_type", "fields", "named"),
    [
        ("digest", {}, "auth_type"),
        ("api_key", {}, "api_key"),
        ("bearer", {}, "token"),
        ("oauth2", {"tokn": "x"}, "token"),
        ("basic", {"username": "me"}, "password"),
        ("basic", {"password": SECRET}, "username"),
        ("bearer", {"token": SECRET, "header_name": "X"}, "header_name"),
        ("bearer", {"token": SECRET + "\n"}, "bearer_token"),
    ],
)
def test_impossible_endpoint_auth(
    auth_type: str, fields: dict[str, str], named: str, manager: ConnectionManager
) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        manager.set_endpoint_auth("api.example.com", auth_type, **fields)
    assert isinstance(caught.value, ConfigurationError)
    assert SECRET not in f"{caught.value} {vars(caught.value)}"
    assert manager.get_endpoint_configs() == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("api_key", ""),
        ("api_key", 3),
        ("bearer_token", SECRET + "\n"),
        ("bearer_token", " " + SECRET),
        ("oauth2_token", SECRET + "\r\nX-Injected: 1"),
        ("oauth2_token", SECRET + "€"),
        ("bearer_token", "Bearer " + SECRET),
        ("basic_auth", SECRET),
        ("basic_auth", ("me", SECRET, "more")),
        ("basic_auth", ("me:", SECRET)),
        ("basic_auth", ("me", SECRET + "\n")),
        ("basic_auth", ("me", SECRET + "€")),
        ("basic_auth", ("me", 3)),
        ("auth", ("me", SECRET)),
        ("auth", SECRET),
        ("bearer_tokn", SECRET),
        ("api_key_header", "X Key"),
        ("api_key_header", None),
        ("api_key_query", ""),
        ("api_key_query", 3),
    ],
)
def test_an_impossible_credential_is_refused_and_not_shown(name: str, value: Any) -> None:
    for make in (
        lambda: ConnectionManager(**{name: value}),
        lambda: ConnectionManager(endpoint_configs={"a.test": {name: value}}),
    ):
        with pytest.raises(ConfigurationError, match=name) as caught:
            make()
        assert SECRET not in f"{caught.value} {vars(caught.value)}"


def test_bytes_carry_what_latin_1_cannot(server: ScriptedServer, make_manager: MakeManager) -> None:
    make_manager(basic_auth=(b"me", "€".encode())).get(server.url)
    sent = server.received[0].headers["Authorization"].removeprefix("Basic ")
    assert base64.b64decode(sent) == b"me:\xe2\x82\xac"


@pytest.mark.parametrize("settings", [settings for settings, _, _ in SCHEMES], ids=IDS)
def test_credentials_are_not_shown(settings: dict[str, Any]) -> None:
    configs = {"a.test": settings}
    with ConnectionManager(**settings, endpoint_configs=configs) as manager:
        shown: list[Callable[[], object]] = [
            lambda: manager,
            lambda: manager.stats(),
            lambda: manager.get_stats(),
            lambda: manager.stats()._repr_html_(),
            lambda: manager.explain("http://a.test"),
            lambda: str(manager.explain("http://b.test")),
            lambda: manager._endpoints.defaults,
            lambda: manager._endpoints.table.resolve("http://a.test").settings,
        ]
        for each in shown:
            assert SECRET not in repr(each())


def test_credentials_change_while_others_send(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    """Each request has one whole scheme: the one before the change, or the one after."""
    manager = make_manager(api_key="k", rate_limit_requests=None)

    def work(number: int) -> None:
        for turn in range(30):
            if number == 0:
                manager.set_bearer_token(f"b{turn}")
                manager.set_api_key(f"k{turn}", "X-Mine")
                manager.set_basic_auth("me", "p")
            else:
                manager.get(server.url)

    in_threads(6, work)
    for request in server.received:
        found = [
            name for name in ("X-API-Key", "X-Mine", "Authorization") if name in request.headers
        ]
        assert len(found) == 1


def test_a_key_that_the_server_says_again_is_taken_out_of_a_redirect(
    server: ScriptedServer, other_server: ScriptedServer, make_manager: MakeManager
) -> None:
    server.script("/away", Reply.redirect(f"{other_server.url}/there?k={SECRET}&x=1"))
    server.script("/here", Reply.redirect(f"/there?x=1&k={SECRET}#part"))
    manager = make_manager(api_key=SECRET, api_key_query="k")
    manager.get(server.url + "/away")
    assert [request.query for request in other_server.received] == ["x=1"]
    response = manager.get(server.url + "/here")
    assert response.url == server.url + "/there?x=1#part"
    assert server.received[-1].query == f"x=1&k={SECRET}"


def test_a_copy_of_a_request_carries_what_the_request_carries(
    server: ScriptedServer, other_server: ScriptedServer, make_manager: MakeManager
) -> None:
    server.script("/go", Reply.redirect(other_server.url + "/there"))
    for settings in (
        {"api_key": SECRET, "api_key_header": "X-Mine"},
        {"api_key": SECRET, "api_key_query": "k"},
        {"auth": Signature()},
    ):
        session = make_manager(**settings).session
        session.send(session.prepare_request(requests.Request("GET", server.url + "/go")).copy())
        assert SECRET in repr(server.received[-1])
        assert SECRET not in repr(other_server.received)
    assert other_server.count() == 3


def test_a_pickle_of_a_response_holds_no_key_of_the_query(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    response = make_manager(api_key=SECRET, api_key_query="k").get(server.url)
    assert SECRET.encode() not in pickle.dumps(response)
    assert pickle.loads(pickle.dumps(response)).request.headers == response.request.headers


def test_a_header_that_is_known_to_hold_a_key_does_not_cross_whoever_fills_it(
    server: ScriptedServer, other_server: ScriptedServer, make_manager: MakeManager
) -> None:
    server.script("/go", Reply.redirect(other_server.url + "/there"))
    manager = make_manager(api_key="k", api_key_header="X-Mine")
    manager.get(server.url + "/go", headers={"X-Mine": SECRET})
    manager.session.headers["X-Mine"] = SECRET
    manager.get(server.url + "/go")
    assert [request.headers["X-Mine"] for request in server.received] == [SECRET, SECRET]
    assert ["X-Mine" in request.headers for request in other_server.received] == [False, False]


def test_headers_that_are_no_dictionary_are_what_the_call_brings(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    headers = HTTPMessage()
    headers["authorization"] = "mine"
    make_manager(bearer_token=SECRET).get(server.url, headers=headers)
    assert server.received[0].headers["Authorization"] == "mine"


def test_never_two_schemes_in_one_request(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    own = {"X-API-Key": "mine"}
    make_manager(bearer_token=SECRET).get(server.url, headers=own)
    make_manager(api_key=SECRET, api_key_query="k").get(server.url, headers=own)
    for by_hand in ({"X-API-Key": SECRET}, {"Authorization": SECRET}):
        for settings in ({"bearer_token": "mine"}, {"api_key": "mine"}, {"basic_auth": ("a", "b")}):
            manager = make_manager(endpoint_configs={server.host: settings})
            manager.session.headers.update(by_hand)
            manager.get(server.url)
    assert server.count() == 8
    assert SECRET not in repr(server.received)
    for request in server.received:
        assert ("X-API-Key" in request.headers) + ("Authorization" in request.headers) == 1


@pytest.mark.usefixtures("netrc")
def test_the_netrc_does_not_join_our_credential_on_a_redirect(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    server.script("/go", Reply.redirect("/there"))
    make_manager(api_key="k").get(server.url + "/go")
    make_manager(basic_auth=("a", "b")).get(server.url + "/go")
    make_manager().get(server.url + "/go")
    first, second, third = server.requests_to("/there")
    assert (first.headers["X-API-Key"], "Authorization" in first.headers) == ("k", False)
    assert second.headers["Authorization"] == "Basic YTpi"
    assert third.headers["Authorization"] == BASIC


def test_a_key_in_the_query_passes_an_adapter_of_the_users_own_on_a_redirect(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    server.script("/go", Reply.redirect("/there"))
    manager = make_manager(api_key=SECRET, api_key_query="k")
    manager.session.mount("http://", requests.adapters.HTTPAdapter())
    manager.get(server.url + "/go#part")
    assert [request.query for request in server.received] == [f"k={SECRET}"] * 2
    manager.session.adapters["http://"].close()


@responses.activate
def test_what_stands_in_for_requests_sees_the_key_in_the_query(make_manager: MakeManager) -> None:
    matcher = responses.matchers.query_param_matcher({"k": SECRET, "a": "1"})
    responses.get("http://a.test/", match=[matcher])
    manager = make_manager(api_key=SECRET, api_key_query="k")
    assert manager.get("http://a.test/?a=1").status_code == 200


def test_a_key_in_the_query_is_rotated(server: ScriptedServer, manager: ConnectionManager) -> None:
    manager.set_api_key("old", query_name="k")
    manager.get(server.url)
    manager.set_api_key("new", query_name="k")
    manager.get(server.url)
    assert [request.query for request in server.received] == ["k=old", "k=new"]


def test_a_token_is_never_set_for_all_by_mistake(manager: ConnectionManager) -> None:
    """As it would be if an environment variable with the host were missing."""
    with pytest.raises(ConfigurationError, match="pattern"):
        manager.set_endpoint_auth(None, "bearer", token=SECRET)  # type: ignore[arg-type]
    assert manager.bearer_token is None


@pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-Encoding", "Cookie"])
def test_a_key_is_not_put_where_the_message_is_framed(name: str) -> None:
    with pytest.raises(ConfigurationError, match="api_key_header"):
        ConnectionManager(api_key=SECRET, api_key_header=name)


@pytest.mark.parametrize(
    "mistake",
    [
        lambda manager: manager.set_api_key("X-API-Key", SECRET + " x"),
        lambda manager: manager.set_endpoint_auth("a.test", SECRET, token="t"),
        lambda manager: manager.set_endpoint_auth("a.test", [SECRET], token="t"),
        lambda manager: manager.add_endpoint_config(f"http://me:{SECRET}@a.test", {}),
        lambda manager: ConnectionManager(api_key_query=["k", SECRET]),
        lambda manager: ConnectionManager(api_key_query="\ud800"),
        lambda manager: ConnectionManager(api_key_header={"X-API-Key": SECRET}),
        lambda manager: ConnectionManager(api_ky=SECRET),
        lambda manager: ConnectionManager(basic_aut=("me", SECRET)),
        lambda manager: ConnectionManager(beaer=SECRET),
        lambda manager: ConnectionManager(auth=HTTPBasicAuth),
    ],
)
def test_a_mistake_with_a_credential_is_refused_and_not_shown(
    mistake: Callable[[ConnectionManager], object], manager: ConnectionManager
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        mistake(manager)
    assert SECRET not in f"{caught.value} {vars(caught.value)}"
    assert manager.get_endpoint_configs() == {}


@pytest.mark.parametrize("settings", [settings for settings, _, _ in SCHEMES], ids=IDS)
def test_what_is_made_of_credentials_does_not_show_them(settings: dict[str, Any]) -> None:
    with ConnectionManager(**settings) as manager:
        prepared = manager.session.prepare_request(requests.Request("GET", "http://a.test"))
        endpoint = manager._endpoints.table.resolve("http://a.test")
        assert SECRET not in f"{endpoint!r} {prepared!r} {vars(prepared.headers).get('carried')!r}"
