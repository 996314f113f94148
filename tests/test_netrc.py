"""The real netrc file, as it comes, changes and goes while a manager is in use."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.conftest import MakeManager
from tests.server import Reply, ScriptedServer


def entry(login: str, machine: str = "127.0.0.1") -> str:
    return f"machine {machine} login {login} password s3cr3t\n"


def basic(login: str) -> str:
    return "Basic " + base64.b64encode(f"{login}:s3cr3t".encode()).decode()


@pytest.mark.parametrize("where", ["NETRC", "HOME"])
@pytest.mark.parametrize("through", ["manager", "session"])
def test_it_counts_from_the_next_call_on(
    make_manager: MakeManager,
    server: ScriptedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    through: str,
) -> None:
    netrc = tmp_path / ".netrc"
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv(where, str(netrc if where == "NETRC" else tmp_path))
    manager = make_manager(total_timeout=30)
    send = manager if through == "manager" else manager.session
    expected: list[str | None] = []
    for content, sent in (
        (None, None),
        (entry("first"), basic("first")),
        (entry("second"), basic("second")),
        (entry("other", machine="elsewhere.test"), None),
        (entry("third"), basic("third")),
        (None, None),
    ):
        netrc.unlink(missing_ok=True)
        if content is not None:
            netrc.write_text(content)
            netrc.chmod(0o600)
        send.get(server.url).raise_for_status()
        expected.append(sent)
    assert [each.headers.get("Authorization") for each in server.received] == expected


def test_ours_come_before_it_and_another_origin_gets_its_own(
    make_manager: MakeManager,
    server: ScriptedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(entry("me") + entry("me-there", machine="localhost"))
    monkeypatch.setenv("NETRC", str(netrc))
    there = f"http://localhost:{server.port}/there"
    url = server.script("/go", Reply.redirect(there))
    manager = make_manager(endpoint_configs={f"127.0.0.1:{server.port}": {"bearer_token": "t0ken"}})
    assert manager.get(url).status_code == 200
    assert [each.headers.get("Authorization") for each in server.received] == [
        "Bearer t0ken",
        basic("me-there"),
    ]
