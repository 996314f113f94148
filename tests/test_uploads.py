"""What is sent from files, forms and generators arrives as requests sends it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from requests_connection_manager import MaxRetriesExceeded
from tests.conftest import MakeManager
from tests.server import Reply, ScriptedServer

BOTH = pytest.mark.parametrize("through", ["manager", "session"])
SETTINGS: dict[str, Any] = {"total_timeout": 30, "api_key": "k3y", "api_key_query": "key"}


def sender(make_manager: MakeManager, through: str) -> Any:
    manager = make_manager(**SETTINGS)
    return manager if through == "manager" else manager.session


@BOTH
def test_a_generator_is_sent_in_chunks_as_it_comes(
    make_manager: MakeManager, server: ScriptedServer, through: str
) -> None:
    def numbers() -> Iterator[bytes]:
        for n in range(1000):
            yield b"%d," % n

    assert sender(make_manager, through).post(server.url, data=numbers()).status_code == 200
    assert server.received[0].body == b"".join(numbers())
    assert server.received[0].headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in server.received[0].headers


@BOTH
def test_a_file_is_sent_with_its_length(
    make_manager: MakeManager, server: ScriptedServer, tmp_path: Path, through: str
) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * 8192)
    with path.open("rb") as file:
        assert sender(make_manager, through).put(server.url, data=file).status_code == 200
    assert server.received[0].body == path.read_bytes()
    assert server.received[0].headers["Content-Length"] == str(2 * 1024 * 1024)


@BOTH
def test_a_form_of_files_is_sent_again_whole(
    make_manager: MakeManager, server: ScriptedServer, tmp_path: Path, through: str
) -> None:
    server.script("/form", Reply(status=503), Reply(reset="after"), Reply())
    path = tmp_path / "notes.txt"
    path.write_bytes(b"from a file")
    with path.open("rb") as file:
        files = {"one": file, "two": ("b.bin", io.BytesIO(b"\x00\x01"), "application/x-own")}
        answer = sender(make_manager, through).put(
            server.url + "/form", data={"field": "value"}, files=files
        )
    assert answer.status_code == 200
    bodies = [each.body for each in server.received]
    assert len(bodies) == 3
    assert len(set(bodies)) == 1
    for part in (b'name="field"', b"value", b'filename="notes.txt"', b"from a file", b"x-own"):
        assert part in bodies[0]


@BOTH
def test_an_upload_that_is_answered_early_is_answered(
    make_manager: MakeManager, server: ScriptedServer, through: str
) -> None:
    """The server has said 413 while the body is still on its way."""
    url = server.script("/refused", Reply(status=413, headers={"Connection": "close"}))
    answer = sender(make_manager, through).post(url, data=io.BytesIO(b"x" * 200_000))
    assert answer.status_code == 413


@BOTH
def test_a_redirected_upload_is_sent_again_from_where_it_began(
    make_manager: MakeManager, server: ScriptedServer, through: str
) -> None:
    url = server.script("/old", Reply.redirect("/new", 307))
    file = io.BytesIO(b"skipped, sent")
    file.seek(len(b"skipped, "))
    assert sender(make_manager, through).post(url, data=file).status_code == 200
    assert [each.body for each in server.received] == [b"sent"] * 2


@BOTH
def test_a_generator_that_was_begun_is_not_sent_twice(
    make_manager: MakeManager, server: ScriptedServer, through: str
) -> None:
    url = server.script("/down", Reply(status=503))
    with pytest.raises(MaxRetriesExceeded, match="read only once"):
        sender(make_manager, through).put(url, data=iter([b"once"]))
    assert [each.body for each in server.received] == [b"once"]


@BOTH
def test_an_error_of_the_generators_own_comes_through(
    make_manager: MakeManager, server: ScriptedServer, through: str
) -> None:
    def broken() -> Iterator[bytes]:
        yield b"begun"
        raise LookupError("mine")

    send = sender(make_manager, through)
    with pytest.raises(LookupError, match="mine"):
        send.put(server.url, data=broken())
    assert send.get(server.url).status_code == 200
    assert server.count("/") == 1  # the PUT never ended
