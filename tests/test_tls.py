"""verify, cert and ssl_context, per endpoint, against a real TLS server."""

from __future__ import annotations

import ssl

import certifi
import pytest
import requests

from requests_connection_manager import ConfigurationError, MaxRetriesExceeded
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


# An ssl_context is never changed: nothing of one endpoint is loaded into what others use, too.


def own_trust(bundle: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=bundle)


def test_a_context_beside_another_trust_or_certificate_is_refused(
    make_manager: MakeManager, bundle: str
) -> None:
    for other in ({"verify": bundle}, {"verify": False}, {"cert": "client.pem"}):
        both = {"ssl_context": own_trust(bundle), **other}
        with pytest.raises(ConfigurationError, match="impossible beside ssl_context"):
            make_manager(**both)
        with pytest.raises(ConfigurationError, match="impossible beside ssl_context"):
            make_manager(endpoint_configs={"a.test": both})
    make_manager(ssl_context=own_trust(bundle), verify=True, cert=None)


def test_a_more_specific_trust_takes_the_place_of_the_context(
    make_manager: MakeManager, tls_server: ScriptedServer, bundle: str
) -> None:
    trusts_nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    here = f"localhost:{tls_server.port}"
    manager = make_manager(
        ssl_context=trusts_nobody, endpoint_configs={f"{here}/own": {"verify": bundle}}
    )
    assert manager.get(tls_server.url + "/own").status_code == 200
    assert manager.get(tls_server.url, verify=bundle).status_code == 200
    assert trusts_nobody.cert_store_stats()["x509"] == 0
    with pytest.raises(requests.exceptions.SSLError):
        manager.get(tls_server.url)
    explained = {each.setting: each for each in manager.explain(f"{tls_server.url}/own").settings}
    assert explained["ssl_context"] == ("ssl_context", None, f"{here}/own")


def test_a_more_specific_context_takes_the_place_of_trust_and_certificate(
    make_manager: MakeManager, mutual: ScriptedServer, ca, bundle: str, tmp_path
) -> None:
    cert = ca.client_certificate(tmp_path)
    with ScriptedServer(tls=ca.server_context()) as other:
        manager = make_manager(
            cert=cert,
            verify="/no/such/bundle.pem",
            endpoint_configs={f"localhost:{other.port}": {"ssl_context": own_trust(bundle)}},
        )
        assert manager.get(other.url).status_code == 200
        assert other.received[0].client_certificate is None


def test_a_callers_certificate_is_not_loaded_into_the_context(
    make_manager: MakeManager, mutual: ScriptedServer, ca, bundle: str, tmp_path
) -> None:
    manager = make_manager(ssl_context=own_trust(bundle), max_retries=0)
    cert = ca.client_certificate(tmp_path)
    assert manager.get(mutual.url, cert=cert, verify=bundle).status_code == 200
    with pytest.raises(requests.ConnectionError):
        manager.get(mutual.url)


def test_connecting_never_loosens_a_context_that_others_use(
    make_manager: MakeManager, tls_server: ScriptedServer, bundle: str
) -> None:
    """The attributes of a pool are read by whoever connects at that moment."""
    manager = make_manager(ssl_context=own_trust(bundle))
    modes = []
    adapter = manager.session.get_adapter(tls_server.url)
    pool = adapter.get_connection_with_tls_context

    def watched(*args, **kwargs):
        found = pool(*args, **kwargs)
        kind = type(found)
        modes.append(found.cert_reqs)
        found.__class__ = type(kind.__name__, (kind,), {"cert_reqs": Watched(modes)})
        return found

    adapter.get_connection_with_tls_context = watched
    assert manager.get(tls_server.url).status_code == 200
    assert set(modes) <= {None, "CERT_REQUIRED", ssl.CERT_REQUIRED}


class Watched:
    """An attribute that keeps all values that it ever had."""

    def __init__(self, values: list) -> None:
        self.values = values

    def __get__(self, instance: object, kind: object = None) -> object:
        return self.values[-1]

    def __set__(self, instance: object, value: object) -> None:
        self.values.append(value)


def test_none_in_a_pattern_means_no_certificate(
    make_manager: MakeManager, mutual: ScriptedServer, ca, bundle: str, tmp_path
) -> None:
    with ScriptedServer(tls=ca.server_context()) as other:
        manager = make_manager(
            verify=bundle,
            cert=ca.client_certificate(tmp_path),
            endpoint_configs={f"localhost:{other.port}": {"cert": None}},
        )
        assert manager.get(mutual.script("/go", Reply.redirect(other.url))).status_code == 200
        assert manager.get(other.url).status_code == 200
        assert [each.client_certificate for each in other.received] == [None, None]


def test_code_that_prepares_and_sends_by_itself_gets_the_endpoints_trust(
    make_manager: MakeManager,
    tls_server: ScriptedServer,
    bundle: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The idiom of requests' own documentation."""

    def idiom(manager) -> int:
        prepared = requests.Request("GET", tls_server.url).prepare()
        settings = manager.session.merge_environment_settings(prepared.url, {}, None, None, None)
        return manager.session.send(prepared, **settings).status_code

    pattern = f"localhost:{tls_server.port}"
    assert idiom(make_manager(endpoint_configs={pattern: {"verify": bundle}})) == 200
    assert idiom(make_manager(ssl_context=own_trust(bundle))) == 200
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    trusts_nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for manager in (
        make_manager(ssl_context=trusts_nobody),
        make_manager(verify=False, endpoint_configs={pattern: {"verify": certifi.where()}}),
    ):
        with pytest.raises(requests.exceptions.SSLError):
            idiom(manager)
    assert trusts_nobody.cert_store_stats()["x509"] == 0


def test_redirects_resolved_by_hand_have_the_default_timeout(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(timeout=0.2, max_retries=0)
    server.script("/slow", Reply(delay=30))
    response = manager.get(
        server.script("/go", Reply.redirect("/slow")), allow_redirects=False, timeout=20
    )
    with pytest.raises(requests.ReadTimeout):
        list(manager.session.resolve_redirects(response, response.request))


def by_hand(manager, url: str) -> requests.Response:
    """Prepare, merge, send: the idiom of requests' own documentation."""
    prepared = requests.Request("GET", url).prepare()
    settings = manager.session.merge_environment_settings(prepared.url, {}, None, None, None)
    return manager.session.send(prepared, **settings)


def test_what_was_merged_for_one_url_does_not_follow_a_redirect(
    make_manager: MakeManager,
    tls_server: ScriptedServer,
    mutual: ScriptedServer,
    ca,
    bundle,
    tmp_path,
) -> None:
    here, there = f"localhost:{tls_server.port}", f"localhost:{mutual.port}"
    url = tls_server.script("/go", Reply.redirect(mutual.url))
    unchecked = make_manager(endpoint_configs={here: {"verify": False}}, max_retries=0)
    with pytest.warns(), pytest.raises(requests.exceptions.SSLError):
        by_hand(unchecked, url)
    assert mutual.count() == 0
    cert = ca.client_certificate(tmp_path)
    manager = make_manager(
        endpoint_configs={
            here: {"verify": bundle},
            there: {"verify": bundle, "cert": cert},
        }
    )
    assert by_hand(manager, url).status_code == 200


def test_a_context_holds_by_hand_too_whatever_certificate_the_manager_has(
    make_manager: MakeManager, tls_server: ScriptedServer, ca, bundle: str, tmp_path
) -> None:
    manager = make_manager(
        cert=ca.client_certificate(tmp_path),
        endpoint_configs={f"localhost:{tls_server.port}": {"ssl_context": own_trust(bundle)}},
    )
    assert by_hand(manager, tls_server.url).status_code == 200
    assert tls_server.received[0].client_certificate is None
