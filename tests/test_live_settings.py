"""TLS and times are changed on a live manager, for all URLs or for a pattern."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from requests_connection_manager import ConfigurationError, ConnectionManager
from tests.conftest import MakeManager, in_threads
from tests.server import PrivateCA, Reply, ScriptedServer


@pytest.fixture
def mutual(ca: PrivateCA) -> Iterator[ScriptedServer]:
    with ScriptedServer(tls=ca.server_context(client_ca=True)) as running:
        yield running


def test_verification_is_changed_and_a_trusting_connection_not_used_again(
    tls_server: ScriptedServer, bundle: str, manager: ConnectionManager
) -> None:
    manager.set_ssl_verification(bundle)
    assert manager.get(tls_server.url).status_code == 200
    manager.set_ssl_verification(True)
    assert (manager.verify, manager.session.verify) == (True, True)
    with pytest.raises(requests.exceptions.SSLError):
        manager.get(tls_server.url)
    manager.set_ssl_verification(False)
    with pytest.warns(match="Unverified"):
        manager.get(tls_server.url)
    manager.set_ssl_verification(True)
    with pytest.raises(requests.exceptions.SSLError):
        manager.get(tls_server.url)
    assert tls_server.count() == 2
    assert manager.explain(tls_server.url).settings


def test_mutual_tls_comes_and_goes(
    mutual: ScriptedServer, ca: PrivateCA, bundle: str, tmp_path: Path, make_manager: MakeManager
) -> None:
    manager = make_manager(verify=bundle, max_retries=0)
    with pytest.raises(requests.ConnectionError):
        manager.get(mutual.url)
    certificate = ca.client_certificate(tmp_path)
    manager.set_client_certificate(certificate)
    assert manager.cert == certificate
    assert manager.get(mutual.url).status_code == 200
    manager.set_client_certificate(None)
    with pytest.raises(requests.ConnectionError):
        manager.get(mutual.url)
    manager.set_client_certificate(certificate, pattern="localhost")
    assert manager.get(mutual.url).status_code == 200
    assert manager.cert is None
    assert [bool(request.client_certificate) for request in mutual.received] == [True, True]


def test_a_context_takes_the_place_of_verify_and_cert(
    tls_server: ScriptedServer, ca: PrivateCA, bundle: str, make_manager: MakeManager
) -> None:
    trusting, strict = ssl.create_default_context(cafile=bundle), ssl.create_default_context()
    manager = make_manager(verify=False)
    manager.set_ssl_context(trusting)
    assert (manager.ssl_context, manager.verify, manager.cert) == (trusting, True, None)
    assert manager.get(tls_server.url).status_code == 200
    manager.set_ssl_verification(True)  # adds nothing to the context
    assert manager.get(tls_server.url).status_code == 200
    manager.set_ssl_context(strict)
    with pytest.raises(requests.exceptions.SSLError):
        manager.get(tls_server.url)
    manager.set_ssl_context(trusting, pattern="localhost")
    assert manager.get(tls_server.url).status_code == 200
    manager.set_ssl_context(None, pattern="localhost")
    manager.set_ssl_context(None)
    with pytest.raises(requests.exceptions.SSLError):
        manager.get(tls_server.url)


def test_a_contexts_trust_is_not_dropped_by_the_way(manager: ConnectionManager) -> None:
    context = ssl.create_default_context()
    manager.set_ssl_context(context)
    for change in (
        lambda: manager.set_ssl_verification(False),
        lambda: manager.set_ssl_verification("/some/bundle.pem"),
        lambda: manager.set_client_certificate("/some/cert.pem"),
    ):
        with pytest.raises(ConfigurationError, match="beside ssl_context"):
            change()
    assert (manager.ssl_context, manager.verify, manager.cert) == (context, True, None)


def test_times_are_changed(server: ScriptedServer, make_manager: MakeManager) -> None:
    server.script("/slow", Reply(delay=5))
    manager = make_manager(max_retries=0)
    manager.get(server.url)
    manager.set_timeouts(connect_timeout=7, read_timeout=0.05)
    assert (manager.connect_timeout, manager.read_timeout, manager.timeout) == (7, 0.05, 30)
    with pytest.raises(requests.ReadTimeout):
        manager.get(server.url + "/slow")
    manager.set_timeouts(read_timeout=9)
    assert (manager.connect_timeout, manager.read_timeout) == (7, 9)
    manager.set_timeouts(None, None)
    assert (manager.connect_timeout, manager.read_timeout) == (30, 30)
    manager.set_timeouts(read_timeout=0.05, pattern=f"{server.host}/slow")
    with pytest.raises(requests.ReadTimeout):
        manager.get(server.url + "/slow")
    assert manager.get_endpoint_configs() == {f"{server.host}/slow": {"read_timeout": 0.05}}
    assert server.connections_made <= 3


@pytest.mark.parametrize(
    ("setter", "value", "field"),
    [
        ("set_ssl_verification", 3, "verify"),
        ("set_ssl_verification", None, "verify"),
        ("set_client_certificate", ("a", "b", "password"), "cert"),
        ("set_ssl_context", "context", "ssl_context"),
        ("set_timeouts", 0, "connect_timeout"),
        ("set_timeouts", "3", "connect_timeout"),
        ("set_api_key", None, ""),
        ("set_bearer_token", "", "bearer_token"),
    ],
)
def test_what_is_impossible_changes_nothing(
    setter: str, value: Any, field: str, server: ScriptedServer, manager: ConnectionManager
) -> None:
    before = manager.get_stats()
    if value is None and setter == "set_api_key":
        manager.set_api_key(None)  # type: ignore[arg-type]  # as clear_auth()
        return
    with pytest.raises(ConfigurationError, match=field):
        getattr(manager, setter)(value)
    with pytest.raises(ConfigurationError, match=field):
        manager.add_endpoint_config("a.test", {field: value})
    assert manager.get_stats() == before


def test_a_pattern_that_cannot_be_read_is_refused(manager: ConnectionManager) -> None:
    for change in (
        lambda: manager.set_timeouts(3, pattern="not a host"),
        lambda: manager.clear_auth("not a host"),
        lambda: manager.set_endpoint_auth("not a host", "bearer", token="t"),
    ):
        with pytest.raises(ConfigurationError, match="cannot be parsed"):
            change()


def test_limiters_and_breakers_keep_their_state(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    manager = make_manager(
        rate_limit_requests=2, rate_limit_max_wait=0, endpoint_configs={server.host: {}}
    )
    manager.get(server.url)
    circuit = manager.circuit_breakers[server.url]
    manager.set_timeouts(3, 3)
    manager.set_bearer_token("t")
    manager.set_timeouts(4, pattern=server.host)
    manager.get(server.url)
    with pytest.raises(requests.RequestException, match="rate limit"):
        manager.get(server.url)
    assert manager.circuit_breakers == {server.url: circuit}
    assert manager.get_stats()["requests_made"] == 2


def test_changes_do_not_disturb_calls_under_way(
    server: ScriptedServer, make_manager: MakeManager
) -> None:
    manager = make_manager(rate_limit_requests=None)

    def work(number: int) -> None:
        for turn in range(1, 21):
            if number == 0:
                manager.set_timeouts(turn, turn)
                manager.set_timeouts(turn, turn, pattern=server.host)
                manager.set_ssl_verification(bool(turn % 2))
                manager.set_client_certificate(None)
            else:
                assert manager.get(server.url).status_code == 200

    in_threads(6, work)
    assert server.count() == 100


def test_a_certificate_beside_an_inherited_context_is_refused(
    mutual: ScriptedServer, ca: PrivateCA, bundle: str, tmp_path: Path, make_manager: MakeManager
) -> None:
    """It cannot be loaded into the context, and the context's trust must not be dropped for it."""
    certificate = ca.client_certificate(tmp_path)
    manager = make_manager(ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    with pytest.raises(ConfigurationError, match="beside ssl_context"):
        manager.get(mutual.url, cert=certificate)
    manager.set_client_certificate(certificate, pattern="localhost")
    with pytest.raises(ConfigurationError, match=r"'localhost'.*beside ssl_context"):
        manager.get(mutual.url)
    manager.set_ssl_verification(bundle, pattern="localhost")  # now it is said whom to trust
    assert manager.get(mutual.url).status_code == 200
    assert mutual.count() == 1


def test_what_the_session_has_is_what_the_manager_has(
    tls_server: ScriptedServer, bundle: str, manager: ConnectionManager
) -> None:
    manager.session.verify = bundle
    assert (manager.verify, manager.session.verify) == (bundle, bundle)
    explained = {each.setting: each.value for each in manager.explain(tls_server.url).settings}
    assert explained["verify"] == bundle
    assert manager.get(tls_server.url).status_code == 200
    manager.session.cert = Path("client.pem")
    assert manager.cert == "client.pem"
    with pytest.raises(ConfigurationError, match="verify"):
        manager.session.verify = 3


def test_a_hop_has_the_trust_of_the_table_that_its_call_began_with(
    server: ScriptedServer, tls_server: ScriptedServer, bundle: str, make_manager: MakeManager
) -> None:
    manager = make_manager(verify=bundle)
    server.script("/go", Reply.redirect(tls_server.url))

    def change(response: requests.Response, **_: Any) -> None:
        manager.set_ssl_context(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    assert manager.get(server.url + "/go", hooks={"response": change}).status_code == 200


def test_a_renewed_file_under_the_same_name_takes_effect(
    mutual: ScriptedServer, ca: PrivateCA, bundle: str, tmp_path: Path, make_manager: MakeManager
) -> None:
    manager = make_manager(verify=bundle)
    for _ in range(2):
        manager.set_client_certificate(ca.client_certificate(tmp_path))
        manager.get(mutual.url)
    first, second = (request.client_certificate for request in mutual.received)
    assert first is not None
    assert second is not None
    assert first["serialNumber"] != second["serialNumber"]
