"""Where a managed call is faster, its result, and what reaches the wire, are those of requests."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from unittest import mock

import pytest
import requests
from requests.structures import CaseInsensitiveDict
from urllib3.exceptions import IncompleteRead

from requests_connection_manager import ConnectionManager
from tests.conftest import MakeManager
from tests.server import Reply, ScriptedServer


def test_the_error_of_a_body_that_is_cut_does_not_hold_the_body(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    body = os.urandom(3_000_000)
    url = server.script("/big", Reply(body=body, cut_at=len(body) - 1000))
    with pytest.raises(requests.exceptions.ChunkedEncodingError) as caught:
        make_manager(max_retries=0).get(url)
    inner = caught.value.args[0].args[1]
    assert type(inner) is IncompleteRead
    assert isinstance(inner.partial, int)
    assert len(pickle.dumps(caught.value)) < 10_000


def test_a_host_with_a_dot_at_its_end_is_another_host(
    make_manager: MakeManager, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the resolver, and to no_proxy."""
    manager = make_manager(max_retries=0)
    session = manager.session
    monkeypatch.setenv("no_proxy", "a.test")
    monkeypatch.setenv("http_proxy", "http://proxy.test:1")
    said = [
        session.merge_environment_settings(f"http://{host}/", {}, None, True, None)["proxies"]
        for host in ("a.test.", "a.test", "a.test.")
    ]
    assert [bool(each.get("http")) for each in said] == [True, False, True]
    adapter = manager.get_adapter("http://a.test")
    pools = [
        adapter.get_connection_with_tls_context(requests.Request("GET", url).prepare(), True)
        for url in ("http://a.test./", "http://a.test/", "http://a.test./")
    ]
    assert [pool.host for pool in pools] == ["a.test.", "a.test", "a.test."]


def test_a_setting_of_the_pools_that_is_made_later_counts(manager: ConnectionManager) -> None:
    adapter = manager.get_adapter("http://a.test")
    request = requests.Request("GET", "http://a.test/").prepare()
    before = adapter.get_connection_with_tls_context(request, True)
    adapter.poolmanager.connection_pool_kw["source_address"] = ("127.0.0.1", 0)
    after = adapter.get_connection_with_tls_context(request, True)
    assert after is not before
    assert after.conn_kw["source_address"] == ("127.0.0.1", 0)


def test_headers_that_change_meanwhile_are_not_kept_for_other_requests() -> None:
    """The other thread's change comes between two looks at the headers."""

    class Changing(CaseInsensitiveDict):
        pass

    with ConnectionManager() as manager:
        manager.headers["Authorization"] = "first"
        blank = manager.session._managing._preparation._before.blank
        blank(manager.headers)
        real = CaseInsensitiveDict.lower_items

        def slow(self):
            items = list(real(self))
            self["Authorization"] = "second"
            return iter(items)

        manager.headers["Authorization"] = "third"
        with mock.patch.object(CaseInsensitiveDict, "lower_items", slow):
            blank(manager.headers)
        manager.headers["Authorization"] = "third"
        assert blank(manager.headers).headers["Authorization"] == "third"


def test_headers_that_are_no_plain_dictionary(
    manager: ConnectionManager, server: ScriptedServer
) -> None:
    class Odd(dict):
        def items(self):
            return [("X-A", "1"), ("X-B", "2")]

    manager.get(server.url, headers=Odd(a="1"))
    manager.headers[b"X-Own"] = "1"
    manager.get(server.url, headers={"X-Other": None})
    first, second = server.received
    assert (first.headers["X-A"], first.headers["X-B"], "a" in first.headers) == ("1", "2", False)
    assert second.headers["X-Own"] == "1"


def test_a_proxy_gets_its_own_login_alone(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    proxies = {"http": server.url.replace("http://", "http://user:word@")}
    headers = {"proxy-authorization": "Basic mine"}
    make_manager().get("http://a.test/", proxies=proxies, headers=headers)
    sent = server.received[0].headers["Proxy-Authorization"]
    assert "," not in sent


@pytest.mark.parametrize(
    "name", ["requests.sessions.get_environ_proxies", "requests.utils.getproxies"]
)
def test_a_stand_in_for_a_look_into_the_environment_is_asked(
    name: str, manager: ConnectionManager
) -> None:
    def proxies() -> dict[str, str]:
        said = manager.merge_environment_settings("http://a.test/", {}, None, True, None)
        return dict(said["proxies"])

    assert proxies() == {}
    with mock.patch(name, return_value={"http": "http://mock:1"}):
        assert proxies() == {"http": "http://mock:1"}
    assert proxies() == {}


def test_who_stands_in_for_the_following_of_redirects_is_asked(
    manager: ConnectionManager, server: ScriptedServer
) -> None:
    asked: list[str] = []
    real = requests.Session.resolve_redirects

    def own(self, resp, req, **kwargs):
        asked.append(resp.url)
        return real(self, resp, req, **kwargs)

    with mock.patch("requests.Session.resolve_redirects", own):
        manager.get(server.url)
    assert len(asked) == 1


def test_no_query_is_remembered(manager: ConnectionManager) -> None:
    request = requests.Request("GET", "http://a.test/?token=s3cret")
    manager.prepare_request(request)
    managing = manager.session._managing
    assert "s3cret" not in str(vars(managing._preparation._before))
    assert "s3cret" not in str(vars(sys.modules["requests_connection_manager.patterns"])["_parts"])


def test_threads_may_be_the_first_to_use_the_package() -> None:
    code = """
import threading
import requests_connection_manager as package
names = ["ConnectionManager", "RateLimitExceeded", "redact_sensitive_data", "managed"]
gate, failures = threading.Barrier(len(names)), []
def use(name):
    gate.wait()
    try:
        getattr(package, name)
    except BaseException as error:
        failures.append(error)
threads = [threading.Thread(target=use, args=(name,)) for name in names]
for each in threads: each.start()
for each in threads: each.join()
assert not failures, failures
assert package.exceptions.RateLimitExceeded is package.RateLimitExceeded
assert {"hooks", "ConnectionManager"} <= set(dir(package))
"""
    for _ in range(4):
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_copy_keeps_what_refers_to_its_session_together() -> None:
    with Client() as client:
        other = pickle.loads(pickle.dumps(client))
    assert other.users.session is other.session
    assert other.extra == 3
    other.close()


class Users:
    def __init__(self, session: requests.Session) -> None:
        self.session = session


class Client(ConnectionManager):
    __slots__ = ("extra",)

    def __init__(self) -> None:
        super().__init__()
        self.users = Users(self.session)
        self.extra = 3


def test_a_jar_can_be_pickled_while_it_changes(manager: ConnectionManager) -> None:
    done = threading.Event()

    def change() -> None:
        number = 0
        while not done.is_set():
            number += 1
            manager.cookies.set(f"n{number % 50}", "1", path=f"/{number % 7}")

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(200):
            pickle.dumps(manager)
    finally:
        done.set()
        thread.join()
