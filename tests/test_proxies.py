"""Real proxies between: who is asked, what each of the two is told, and that policies act."""

from __future__ import annotations

import base64
import gc
import socket
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from requests_connection_manager import (
    CircuitBreakerOpen,
    DeadlineExceeded,
    MaxRetriesExceeded,
    RateLimitExceeded,
)
from tests.conftest import MakeManager, in_threads
from tests.forward_proxy import ForwardProxy, SocksServer
from tests.server import PrivateCA, Reply, ScriptedServer

pytestmark = []
if sys.version_info < (3, 11):  # its http.client leaves the answer of a refused tunnel unclosed
    pytestmark.append(
        pytest.mark.filterwarnings(r"ignore:unclosed <socket.socket \[closed\]:ResourceWarning")
    )

LOGIN = "proxyuser:pr0xyp4ss"
BOTH = pytest.mark.parametrize("through", ["manager", "session"])


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """What is to be warned of is warned of in the test that it belongs to."""
    yield
    gc.collect()


@pytest.fixture
def proxy() -> Iterator[ForwardProxy]:
    with ForwardProxy(LOGIN) as running:
        yield running


@pytest.fixture
def socks() -> Iterator[SocksServer]:
    with SocksServer() as running:
        yield running


@pytest.fixture(params=["http", "https"])
def origin(
    request: pytest.FixtureRequest, ca: PrivateCA, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ScriptedServer]:
    tls = ca.server_context() if request.param == "https" else None
    with ScriptedServer(tls=tls) as running:
        yield running


def sender(manager: Any, through: str) -> Any:
    return manager if through == "manager" else manager.session


def texts_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error)


@BOTH
@pytest.mark.parametrize("where", ["call", "session", "environment"])
def test_a_call_goes_through_the_proxy_and_each_gets_its_own_credentials(
    make_manager: MakeManager,
    origin: ScriptedServer,
    proxy: ForwardProxy,
    bundle: str,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    through: str,
) -> None:
    scheme = origin.url.partition(":")[0]
    settings = {"api_key": "k3y", "api_key_query": "key"}
    manager = make_manager(verify=bundle, endpoint_configs={"localhost": {}, "127.0.0.1": settings})
    if scheme == "https":
        manager.add_endpoint_config("localhost", {"bearer_token": "t0ken"})
    proxies = {scheme: proxy.url}
    kwargs = {"proxies": proxies} if where == "call" else {}
    if where == "session":
        manager.session.proxies = proxies
    elif where == "environment":
        monkeypatch.setenv(f"{scheme}_proxy", proxy.url)
    for n in range(3):
        assert sender(manager, through).get(f"{origin.url}/{n}", **kwargs).status_code == 200
    assert origin.count() == 3
    for each in origin.received:
        assert not any(name.lower().startswith("proxy-") for name in each.headers)
        assert "pr0xy" not in str(each)
    asked = "\n".join(proxy.heads)
    if scheme == "https":
        assert proxy.asked_for == [f"CONNECT localhost:{origin.port}"]
        assert "t0ken" not in asked
        assert origin.received[0].headers["Authorization"] == "Bearer t0ken"
    else:
        assert proxy.asked_for == [f"GET {origin.url}/{n}?key=k3y" for n in range(3)]
        assert origin.received[0].query == "key=k3y"
        assert "Authorization" not in origin.received[0].headers
    assert asked.count(base64.b64encode(LOGIN.encode()).decode()) == len(proxy.heads)


def test_no_proxy_and_changes_of_mind_count_from_the_next_call_on(
    make_manager: MakeManager,
    origin: ScriptedServer,
    proxy: ForwardProxy,
    bundle: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scheme = origin.url.partition(":")[0]
    manager = make_manager(verify=bundle)
    host = origin.host

    def went_through(**kwargs: Any) -> int:
        """0: nobody; 1: the first proxy; 2: the second."""
        before = (proxy.connections, other.connections)
        manager.session.close()  # so that no connection of before is used again
        manager.get(origin.url, **kwargs).raise_for_status()
        after = (proxy.connections, other.connections)
        return [(0, 0), (1, 0), (0, 1)].index((after[0] - before[0], after[1] - before[1]))

    with ForwardProxy() as other:
        assert went_through() == 0
        monkeypatch.setenv(f"{scheme}_proxy", proxy.url)
        assert went_through() == 1
        monkeypatch.setenv(f"{scheme}_proxy", other.url)
        assert went_through() == 2
        monkeypatch.setenv("no_proxy", f"elsewhere.test,{host}")
        assert went_through() == 0
        monkeypatch.setenv("no_proxy", "elsewhere.test")
        assert went_through() == 2
        manager.session.proxies = {scheme: proxy.url}  # the environment's say comes before it
        assert went_through() == 2
        monkeypatch.delenv(f"{scheme}_proxy")
        assert went_through() == 1
        assert went_through(proxies={scheme: other.url}) == 2
        manager.session.proxies = {}
        assert went_through() == 0
        monkeypatch.setenv(f"{scheme}_proxy", proxy.url)
        manager.session.trust_env = False
        assert went_through() == 0


@BOTH
def test_an_answer_of_the_proxys_own_is_retried_and_counted(
    make_manager: MakeManager,
    origin: ScriptedServer,
    proxy: ForwardProxy,
    bundle: str,
    through: str,
) -> None:
    """A plain request gets a 502 as its answer; a tunnel that is refused is a ProxyError."""
    scheme = origin.url.partition(":")[0]
    manager = make_manager(verify=bundle, rate_limit_requests=3, rate_limit_max_wait=0)
    seen: list[Any] = []
    manager.on_attempt(lambda event: seen.append(event.attempt))
    proxy.script = ["502", "502"]
    send = sender(manager, through)
    assert send.get(origin.url, proxies={scheme: proxy.url}).status_code == 200
    assert len(proxy.heads) == 3
    assert origin.count() == 1
    assert len(seen) == 3
    if scheme == "http":
        assert [each.status for each in seen] == [502, 502, 200]
    else:
        kinds = [type(each.error) for each in seen]
        assert kinds == [requests.exceptions.ProxyError] * 2 + [type(None)]
    with pytest.raises(RateLimitExceeded):
        send.get(origin.url, proxies={scheme: proxy.url})
    assert len(proxy.heads) == 3


@BOTH
def test_a_proxy_that_is_down_is_the_error_and_shows_nothing(
    make_manager: MakeManager, origin: ScriptedServer, bundle: str, through: str
) -> None:
    scheme = origin.url.partition(":")[0]
    with ForwardProxy(LOGIN) as gone:
        url = gone.url
    manager = make_manager(
        verify=bundle,
        api_key="k3y",
        api_key_query="key",
        max_retries=2,
        circuit_breaker_failure_threshold=1,
    )
    send = sender(manager, through)
    with pytest.raises(requests.exceptions.ProxyError) as caught:
        send.post(origin.url, data=b"1", proxies={scheme: url})
    assert isinstance(caught.value, MaxRetriesExceeded)
    assert len(caught.value.attempts) == 3  # it never left
    assert "pr0xy" not in texts_of(caught.value)
    assert "k3y" not in texts_of(caught.value)
    with pytest.raises(CircuitBreakerOpen) as refused:
        send.get(origin.url)
    assert "pr0xy" not in texts_of(refused.value)
    assert origin.count() == 0


def test_wrong_credentials_for_the_proxy_are_not_shown(
    make_manager: MakeManager, origin: ScriptedServer, proxy: ForwardProxy, bundle: str
) -> None:
    scheme = origin.url.partition(":")[0]
    manager = make_manager(verify=bundle, max_retries=1)
    proxies = {scheme: proxy.url.replace("pr0xyp4ss", "wr0ng")}
    if scheme == "http":
        answer = manager.get(origin.url, proxies=proxies)
        assert answer.status_code == 407
        assert "Proxy-Authorization" not in answer.request.headers
        assert len(proxy.heads) == 1
    else:
        with pytest.raises(requests.exceptions.ProxyError) as caught:
            manager.get(origin.url, proxies=proxies)
        assert "wr0ng" not in texts_of(caught.value)
        assert "407" in str(caught.value.__cause__)
    assert origin.count() == 0


def test_a_redirect_from_a_plain_origin_to_one_in_a_tunnel(
    make_manager: MakeManager,
    server: ScriptedServer,
    tls_server: ScriptedServer,
    proxy: ForwardProxy,
    bundle: str,
) -> None:
    """The proxy's credentials go to the proxy on both ways, and to no origin."""
    server.script("/go", Reply.redirect(tls_server.url + "/there"))
    manager = make_manager(verify=bundle)
    proxies = {"http": proxy.url, "https": proxy.url}
    assert manager.get(server.url + "/go", proxies=proxies).status_code == 200
    assert proxy.asked_for == [f"GET {server.url}/go", f"CONNECT localhost:{tls_server.port}"]
    for each in (*server.received, *tls_server.received):
        assert not any(name.lower().startswith("proxy-") for name in each.headers)


def test_calls_of_many_threads_keep_to_their_proxies(
    make_manager: MakeManager, origin: ScriptedServer, proxy: ForwardProxy, bundle: str
) -> None:
    scheme = origin.url.partition(":")[0]
    manager = make_manager(verify=bundle, rate_limit_requests=None)
    with ForwardProxy() as other:

        def call(n: int) -> None:
            ways = [{scheme: proxy.url}, {scheme: other.url}, None]
            for k in range(6):
                path = f"{origin.url}/{k % 3}"
                assert manager.get(path, proxies=ways[k % 3]).status_code == 200

        in_threads(12, call)
        if scheme == "http":
            assert proxy.asked_for == [f"GET {origin.url}/0"] * 24
            assert other.asked_for == [f"GET {origin.url}/1"] * 24
    assert [origin.count(f"/{k}") for k in range(3)] == [24] * 3


@BOTH
def test_socks_with_names_that_the_proxy_resolves(
    make_manager: MakeManager, origin: ScriptedServer, bundle: str, through: str
) -> None:
    scheme = origin.url.partition(":")[0]
    with SocksServer(LOGIN) as socks:
        socks.resolve["nowhere.test"] = origin.port
        host = "nowhere.test" if scheme == "http" else "localhost"
        url = f"{scheme}://{host}:{origin.port}"
        manager = make_manager(verify=bundle)
        origin.script("/flaky", Reply(status=503), Reply(hang_up=True), Reply())
        send = sender(manager, through)
        proxies = {scheme: socks.url()}
        assert send.get(url + "/flaky", proxies=proxies).status_code == 200
        assert origin.count("/flaky") == 3
        assert set(socks.asked_for) == {f"{host}:{origin.port}"}
        assert len(socks.asked_for) == 2  # the second attempt used the first's connection
        stats = manager.get_stats()["scopes"][url]
        assert (stats["connections_open"], stats["connections_idle"]) == (1, 1)


def test_socks_that_refuses_is_retried(
    make_manager: MakeManager, server: ScriptedServer, socks: SocksServer
) -> None:
    socks.refuse = 2
    manager = make_manager()
    proxies = {"http": socks.url()}
    assert manager.post(server.url, proxies=proxies).status_code == 200  # it had never left
    assert len(socks.asked_for) == 3
    manager.session.close()  # else the connection that there is now would do
    socks.refuse = 99
    with pytest.raises(requests.ConnectionError) as caught:
        manager.get(server.url, proxies={"http": socks.url()})
    assert isinstance(caught.value, MaxRetriesExceeded)
    assert server.count() == 1


@BOTH
def test_socks_keeps_to_the_deadline(
    make_manager: MakeManager, origin: ScriptedServer, socks: SocksServer, bundle: str, through: str
) -> None:
    scheme = origin.url.partition(":")[0]
    origin.script("/trickle", Reply(body=b"x" * 1000, drip=0.1))
    manager = make_manager(verify=bundle, total_timeout=1, max_retries=0)
    with pytest.raises(DeadlineExceeded) as caught:
        sender(manager, through).get(
            origin.url + "/trickle", proxies={scheme: socks.url("socks5h")}
        )
    assert caught.value.elapsed < 20  # and not the 100 s that it would have taken


def test_socks_that_says_nothing_is_left_at_the_deadline(make_manager: MakeManager) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        manager = make_manager(total_timeout=0.5, max_retries=0)
        proxies = {"http": f"socks5h://127.0.0.1:{mute.getsockname()[1]}"}
        with pytest.raises(DeadlineExceeded) as caught:
            manager.get("http://api.test", proxies=proxies)
    assert caught.value.elapsed < 20  # and not the 30 s of the timeout


def test_credentials_for_socks_are_not_shown(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    with SocksServer(LOGIN) as socks:
        manager = make_manager(max_retries=0)
        wrong = socks.url().replace("pr0xyp4ss", "wr0ng")
        with pytest.raises(requests.ConnectionError) as caught:
            manager.get(server.url, proxies={"http": wrong})
    assert "wr0ng" not in texts_of(caught.value)
    assert server.count() == 0
