"""The environment means what it means to requests, and a change of it is seen by the next call."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from copy import copy
from pathlib import Path
from typing import Any

import pytest
import requests

from requests_connection_manager import DeadlineExceeded, environment
from tests.conftest import MakeManager
from tests.server import Reply, ScriptedServer

REQUESTS = tuple(int(part) for part in requests.__version__.split(".")[:2])
STEPS: list[dict[str, str | None]] = [
    {},
    {"http_proxy": "http://proxy.test:1"},
    {"no_proxy": "a.test,127.0.0.1"},
    {"no_proxy": "b.test"},
    {"no_proxy": "*"},
    {"no_proxy": None},
    {"http_proxy": None, "HTTP_PROXY": "http://proxy.test:2"},
    {"REQUEST_METHOD": "GET"},
    {"REQUEST_METHOD": None, "HTTP_PROXY": None},
    {"all_proxy": "http://proxy.test:3"},
    {"all_proxy": None, "Https_Proxy": "http://proxy.test:4"},
    {"REQUESTS_CA_BUNDLE": "/first.pem"},
    {"CURL_CA_BUNDLE": "/second.pem"},
    {"REQUESTS_CA_BUNDLE": None},
    {"CURL_CA_BUNDLE": None, "Https_Proxy": "http://proxy.test:5"},
    {"Https_Proxy": None, "some_other": "1"},
    {"some_other": None, "http_proxy": "http://proxy.test:6"},  # as many variables as before
    {"http_proxy": None},
]
ARGUMENTS: list[tuple[str, dict[str, str] | None, Any, Any, Any]] = [
    ("http://a.test/x", {}, None, True, None),
    ("http://a.test:8080/", {}, True, True, None),
    ("http://b.test/x?y", {}, False, False, "cert.pem"),
    ("https://b.test/x", {}, None, "/mine.pem", ("a", "b")),
    ("https://user:pass@b.test/x", {}, None, None, None),
    ("https://b.test/x", {"https": "http://given.test"}, None, True, None),
    ("https://b.test/x", {"no_proxy": "b.test"}, None, True, None),
]
if REQUESTS >= (2, 33):  # before, requests itself fails without proxies
    ARGUMENTS.append(("https://b.test/x", None, None, True, None))


@contextmanager
def tunnel_to(server: ScriptedServer | None, delay: float = 0) -> Iterator[str]:
    """A proxy that opens one tunnel after ``delay``, to a server, or to nothing at all."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as open_sockets:

        def pump(source: socket.socket, sink: socket.socket) -> None:
            with suppress(OSError):
                while block := source.recv(65_536):
                    sink.sendall(block)
            with suppress(OSError):
                sink.shutdown(socket.SHUT_WR)

        def serve() -> None:
            while True:
                try:
                    client = open_sockets.enter_context(listener.accept()[0])
                except OSError:
                    return
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += client.recv(1)
                time.sleep(delay)
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                if server is not None:
                    target = socket.create_connection(("127.0.0.1", server.port))
                    open_sockets.enter_context(target)
                    for pair in ((client, target), (target, client)):
                        threading.Thread(target=pump, args=pair, daemon=True).start()

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        serving.join(10)


@pytest.mark.parametrize(
    "session_wide", [{}, {"proxies": {"http": "http://s.test"}}, {"cert": "c"}]
)
def test_it_says_what_requests_says_whatever_changes(
    make_manager: MakeManager, monkeypatch: pytest.MonkeyPatch, session_wide: dict[str, Any]
) -> None:
    ours, plain = make_manager().session, requests.Session()
    for name, value in session_wide.items():
        setattr(ours, name, value)
        setattr(plain, name, value)
    for step in STEPS:
        for name, value in step.items():
            if value is None:
                monkeypatch.delenv(name)
            else:
                monkeypatch.setenv(name, value)
        for trust in (True, False):
            ours.trust_env = plain.trust_env = trust
            for url, proxies, stream, verify, cert in ARGUMENTS * 2:
                said = [
                    session.merge_environment_settings(url, copy(proxies), stream, verify, cert)
                    for session in (ours, plain)
                ]
                assert said[0] == said[1], (step, url)
                if proxies == {}:
                    said[0]["proxies"]["http"] = "changed by the caller"


def test_a_proxy_of_the_environment_is_used_from_the_next_call_on(
    make_manager: MakeManager, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = make_manager()
    assert manager.get(server.url + "/direct").status_code == 200
    monkeypatch.setenv("http_proxy", server.url)
    assert manager.get("http://api.test/proxied").status_code == 200
    assert server.received[1].target == "http://api.test/proxied"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    manager.get(server.url + "/direct")
    assert server.received[2].target == "/direct"


def test_a_proxy_is_managed_like_any_other_way(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    proxies = {"http": server.url}
    server.script("/flaky", Reply(status=503), Reply(hang_up=True), Reply())
    server.script("/slow", Reply(body=b"x" * 600, drip=0.05))
    manager = make_manager(endpoint_configs={"api.test/slow": {"total_timeout": 0.3}})
    assert manager.get("http://api.test/flaky", proxies=proxies).status_code == 200
    assert server.count() == 3
    with pytest.raises(DeadlineExceeded):
        manager.get("http://api.test/slow", proxies=proxies)
    server.pause()
    with pytest.raises(requests.exceptions.ProxyError):
        manager.post("http://api.test/x", proxies=proxies)
    assert set(manager.circuit_breakers) == {"http://api.test"}


@pytest.mark.parametrize("failure", [Reply(hang_up=True), Reply(reset="after")])
@pytest.mark.parametrize("body", [b"1 EUR", "generator"])
def test_a_post_that_a_proxy_has_seen_is_not_sent_twice(
    make_manager: MakeManager, server: ScriptedServer, failure: Reply, body: Any
) -> None:
    server.script("/pay", failure)
    data = (block for block in (b"1 ", b"EUR")) if body == "generator" else body
    with pytest.raises(requests.ConnectionError):
        make_manager().post("http://api.test/pay", data=data, proxies={"http": server.url})
    assert [each.body for each in server.received] == [b"1 EUR"]


def test_nor_is_one_that_went_through_a_tunnel(
    make_manager: MakeManager, tls_server: ScriptedServer, bundle: str
) -> None:
    url = tls_server.script("/pay", Reply(hang_up=True))
    with tunnel_to(tls_server) as proxy, pytest.raises(requests.ConnectionError):
        make_manager(verify=bundle).post(url, data=b"1 EUR", proxies={"https": proxy})
    assert tls_server.count("/pay") == 1


def test_a_tunnel_that_says_nothing_more_is_left_at_the_deadline(
    make_manager: MakeManager, tls_server: ScriptedServer
) -> None:
    """The handshake gets what the opening of the tunnel has left, not the whole time again."""
    manager = make_manager(total_timeout=2, max_retries=0)
    with tunnel_to(None, delay=1.8) as proxy, pytest.raises(DeadlineExceeded) as caught:
        manager.get(tls_server.url, proxies={"https": proxy})
    assert caught.value.elapsed < 3  # and not 3.8


def test_an_environment_that_a_test_has_put_in_its_place_is_asked(
    make_manager: MakeManager, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    session = make_manager().session
    url = "http://a.test/"

    def proxies() -> dict[str, str]:
        return dict(session.merge_environment_settings(url, {}, None, True, None)["proxies"])

    assert proxies() == {}
    (tmp_path / "own").write_text("machine a.test login me password s3cr3t")
    own = {"http_proxy": "http://proxy.test:1", "NETRC": str(tmp_path / "own")}
    with monkeypatch.context() as patched:
        patched.setattr(os, "environ", own)
        assert proxies() == {"http": "http://proxy.test:1"}
        assert "Authorization" in session.prepare_request(requests.Request("GET", url)).headers
    assert proxies() == {}


def test_what_is_remembered_is_bounded(
    make_manager: MakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "_MOST", 20)
    session = make_manager().session
    for n in range(100):
        session.merge_environment_settings(f"http://host{n}.test/", {}, None, True, None)
    assert len(session._managing.environment.now().by_origin) <= 20


def test_netrc_is_read_as_requests_reads_it(
    make_manager: MakeManager, server: ScriptedServer, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password s3cr3t\n")
    monkeypatch.setenv("NETRC", str(netrc))
    manager = make_manager()
    manager.get(server.url)
    manager.session.trust_env = False
    manager.get(server.url)
    first, second = server.received
    assert first.headers["Authorization"].startswith("Basic ")
    assert "Authorization" not in second.headers


def test_the_pools_are_urllib3s_and_as_many_as_they_may_be(
    make_manager: MakeManager, server: ScriptedServer, other_server: ScriptedServer
) -> None:
    manager = make_manager(pool_connections=1)
    for _ in range(3):
        assert manager.get(server.url).status_code == 200
        assert manager.get(other_server.url).status_code == 200
    adapter = manager.session.get_adapter(server.url)
    assert len(adapter.poolmanager.pools) == 1
    assert (server.connections_made, other_server.connections_made) == (3, 3)


def test_the_keys_of_pools_do_not_pile_up(make_manager: MakeManager) -> None:
    manager = make_manager(pool_connections=2)
    adapter = manager.session.get_adapter("http://a.test")
    for n in range(100):
        request = requests.Request("GET", f"http://host{n}.test/").prepare()
        adapter.get_connection_with_tls_context(request, True)
    assert len(adapter._pool_keys) <= 10


def test_a_session_that_an_sdk_closed_can_be_used_again(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager()
    manager.get(server.url)
    manager.session.close()
    assert manager.get(server.url).status_code == 200
    assert server.connections_made == 2


def test_kinds_of_trust_have_pools_of_their_own(
    make_manager: MakeManager, tls_server: ScriptedServer, bundle: str
) -> None:
    manager = make_manager(max_retries=0)
    for _ in range(2):
        assert manager.get(tls_server.url, verify=bundle).status_code == 200
        with pytest.raises(requests.exceptions.SSLError):
            manager.get(tls_server.url, verify=True)
        with pytest.warns():
            assert manager.get(tls_server.url, verify=False).status_code == 200
    assert tls_server.connections_made == 4  # two that were kept, and two refused
