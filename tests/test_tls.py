"""verify, cert and ssl_context, per endpoint, against a real TLS server."""

from __future__ import annotations

import ssl

import pytest
import requests

from requests_connection_manager import MaxRetriesExceeded
from tests.conftest import MakeManager
from tests.server import Reply, ScriptedServer


@pytest.fixture
def mutual(ca):
    with ScriptedServer(tls=ca.server_context(client_ca=True)) as running:
        yield running


def test_a_private_authority_is_trusted_where_it_is_said_to_be(
    make_manager: MakeManager, tls_server: ScriptedServer, bundle: str
) -> None:
    assert make_manager(verify=bundle).get(tls_server.url).status_code == 200
    assert make_manager().get(tls_server.url, verify=bundle).status_code == 200
    manager = make_manager(endpoint_configs={f"localhost:{tls_server.port}": {"verify": bundle}})
    assert manager.get(tls_server.url).status_code == 200
    assert manager.session.get(tls_server.url).status_code == 200
    bare = requests.Request("GET", tls_server.url).prepare()
    assert manager.session.send(bare).status_code == 200
    for untrusting in (make_manager(), manager):
        with pytest.raises(requests.exceptions.SSLError):
            untrusting.get(tls_server.url, verify=True)


def test_verify_false_of_an_endpoint_does_not_follow_a_redirect(
    make_manager: MakeManager, tls_server: ScriptedServer, ca
) -> None:
    with ScriptedServer(tls=ca.server_context()) as other:
        url = tls_server.script("/go", Reply.redirect(other.url))
        manager = make_manager(endpoint_configs={f"localhost:{tls_server.port}": {"verify": False}})
        with pytest.warns(), pytest.raises(requests.exceptions.SSLError):
            manager.get(url)
        assert (tls_server.count(), other.count()) == (1, 0)
        with pytest.warns():
            assert manager.get(url, verify=False).status_code == 200


def test_the_environments_bundle_does_not_override_an_endpoints(
    make_manager: MakeManager,
    tls_server: ScriptedServer,
    bundle: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import certifi

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
    manager = make_manager(endpoint_configs={"localhost": {"verify": bundle}})
    assert manager.get(tls_server.url).status_code == 200
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    assert make_manager().get(tls_server.url).status_code == 200
    with pytest.raises(requests.exceptions.SSLError):
        make_manager(verify=certifi.where()).get(tls_server.url)


def test_a_client_certificate_is_shown_to_its_endpoint_only(
    make_manager: MakeManager, mutual: ScriptedServer, ca, bundle: str, tmp_path
) -> None:
    cert = ca.client_certificate(tmp_path)
    manager = make_manager(
        verify=bundle, endpoint_configs={f"localhost:{mutual.port}": {"cert": cert}}
    )
    assert manager.get(mutual.url).status_code == 200
    assert mutual.received[0].client_certificate
    with ScriptedServer(tls=ca.server_context(client_ca=True)) as other:
        url = mutual.script("/go", Reply.redirect(other.url))
        with pytest.raises(requests.ConnectionError):
            manager.get(url)
        assert other.count() == 0
        assert manager.get(url, cert=cert).status_code == 200


def test_a_missing_client_certificate_is_no_failure_of_the_service(
    make_manager: MakeManager, mutual: ScriptedServer, bundle: str
) -> None:
    manager = make_manager(verify=bundle, max_retries=2, circuit_breaker_failure_threshold=1)
    with pytest.raises(requests.exceptions.SSLError) as caught:
        manager.get(mutual.url)
    assert not isinstance(caught.value, MaxRetriesExceeded)
    assert manager.circuit_breaker.current_state == "closed"


def test_a_wrong_host_name_is_refused(make_manager: MakeManager, ca, bundle: str) -> None:
    with ScriptedServer(tls=ca.server_context(host="wrong.test")) as server:
        with pytest.raises(requests.exceptions.SSLError) as caught:
            make_manager(verify=bundle).get(server.url)
        assert not isinstance(caught.value, MaxRetriesExceeded)
        assert server.count() == 0


def test_an_ssl_context_brings_its_own_trust(
    make_manager: MakeManager, tls_server: ScriptedServer, bundle: str
) -> None:
    trusting = ssl.create_default_context(cafile=bundle)
    assert make_manager(ssl_context=trusting).get(tls_server.url).status_code == 200
    trusts_nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with pytest.raises(requests.exceptions.SSLError):
        make_manager(ssl_context=trusts_nobody).get(tls_server.url)


def test_verify_true_adds_nothing_to_an_ssl_context(
    make_manager: MakeManager,
    tls_server: ScriptedServer,
    bundle: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    trusts_nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    manager = make_manager(ssl_context=trusts_nobody)
    with pytest.raises(requests.exceptions.SSLError):
        manager.get(tls_server.url)
    assert trusts_nobody.cert_store_stats()["x509"] == 0
    with pytest.raises(requests.exceptions.SSLError):
        manager.get(tls_server.url, verify=True)
    assert trusts_nobody.cert_store_stats()["x509"] == 0
    assert trusts_nobody.verify_mode is ssl.CERT_REQUIRED


def test_an_ssl_context_of_an_endpoint_can_hold_a_client_certificate(
    make_manager: MakeManager, mutual: ScriptedServer, ca, bundle: str, tmp_path
) -> None:
    context = ssl.create_default_context(cafile=bundle)
    context.load_cert_chain(*ca.client_certificate(tmp_path))
    manager = make_manager(
        endpoint_configs={f"localhost:{mutual.port}": {"ssl_context": context}},
        verify=bundle,
    )
    assert manager.get(mutual.url).status_code == 200
    with ScriptedServer(tls=ca.server_context()) as other:
        assert manager.get(other.url).status_code == 200
        assert other.received[0].client_certificate is None


def test_a_call_that_wants_no_checks_gets_none(
    make_manager: MakeManager, tls_server: ScriptedServer
) -> None:
    trusts_nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    manager = make_manager(ssl_context=trusts_nobody)
    with pytest.warns():
        assert manager.get(tls_server.url, verify=False).status_code == 200
    assert trusts_nobody.verify_mode is ssl.CERT_REQUIRED
    assert trusts_nobody.check_hostname


def test_a_missing_bundle_is_the_callers_mistake(
    make_manager: MakeManager, tls_server: ScriptedServer
) -> None:
    manager = make_manager(verify="/no/such/bundle.pem", circuit_breaker_failure_threshold=1)
    with pytest.raises(OSError, match="bundle"):
        manager.get(tls_server.url)
    assert manager.circuit_breaker.current_state == "closed"
