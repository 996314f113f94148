"""A body is sent again only where it surely can be."""

from __future__ import annotations

import io
import tempfile

import pytest
import requests
from requests.exceptions import RetryError

from requests_connection_manager import MaxRetriesExceeded
from tests.conftest import MakeManager
from tests.server import Reply, ScriptedServer

DOWN = Reply(status=503)


def numbers():
    yield b"one"
    yield b"two"


def test_a_body_that_cannot_be_replayed_is_not_sent_twice(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/upload", Reply(reset="after"))
    with pytest.raises(requests.ConnectionError, match="its body can be read only once") as caught:
        make_manager().put(url, data=numbers())
    assert isinstance(caught.value, MaxRetriesExceeded)
    assert len(caught.value.attempts) == 1
    assert server.count() == 1


@pytest.mark.parametrize(
    "body", [bytearray(b"onetwo"), memoryview(b"onetwo"), numbers(), io.BytesIO(b"onetwo")]
)
def test_bodies_of_any_kind_arrive_whole(
    make_manager: MakeManager, server: ScriptedServer, body: object
) -> None:
    assert make_manager().put(server.url, data=body).status_code == 200
    assert server.received[0].body == b"onetwo"


class ReadOnce:
    """Hands out the same iterator every time; that cannot be told from one that can be reread."""

    def __init__(self) -> None:
        self.blocks = numbers()

    def __iter__(self):
        return self.blocks


class UnseekableFile(io.BytesIO):
    """Knows its position, and cannot go back to it; the raw body of a response is like that."""

    def seek(self, *_: object) -> int:
        raise io.UnsupportedOperation("seek")


@pytest.mark.parametrize("body", [ReadOnce(), UnseekableFile(b"onetwo")])
def test_what_cannot_surely_be_replayed_counts_as_such(
    make_manager: MakeManager, server: ScriptedServer, body: object
) -> None:
    url = server.script("/upload", Reply(hang_up=True), Reply())
    with pytest.raises(requests.ConnectionError, match="its body can be read only once"):
        make_manager().put(url, data=body)
    assert [each.body for each in server.received] == [b"onetwo"]


def test_nor_is_it_after_a_bad_status(make_manager: MakeManager, server: ScriptedServer) -> None:
    url = server.script("/upload", DOWN)
    with pytest.raises(RetryError, match="its body can be read only once") as caught:
        make_manager().put(url, data=numbers())
    assert caught.value.response is not None
    assert server.count() == 1


def test_a_pipe_cannot_be_replayed_either(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    class Pipe(io.RawIOBase):
        data = io.BytesIO(b"from a pipe")

        def readable(self) -> bool:
            return True

        def tell(self) -> int:
            raise OSError("a pipe has no position")

        def seekable(self) -> bool:
            return False

        def readinto(self, buffer: object) -> int:
            return self.data.readinto(buffer)  # type: ignore[arg-type]

    url = server.script("/upload", DOWN)
    with pytest.raises(RetryError, match="its body can be read only once"):
        make_manager().put(url, data=Pipe())
    assert server.count() == 1


def test_untouched_it_is_sent_after_a_refused_connection(
    make_manager: MakeManager, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.script("/upload", Reply())
    server.pause()
    manager = make_manager(max_retries=3)
    monkeypatch.setattr("requests_connection_manager.adapter._pause", lambda *_: server.resume())
    assert manager.put(url, data=numbers()).status_code == 200
    assert server.received[0].body == b"onetwo"


def test_a_file_is_sent_again_from_where_it_began(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/upload", DOWN, Reply(reset="after"), Reply())
    with tempfile.TemporaryFile() as file:
        file.write(b"skipped and sent")
        file.seek(len(b"skipped "))
        assert make_manager().put(url, data=file).status_code == 200
    assert [each.body for each in server.received] == [b"and sent"] * 3


@pytest.mark.parametrize("body", [b"bytes", "text", {"a": "1"}, io.BytesIO(b"x"), io.StringIO("x")])
def test_these_bodies_can_be_sent_again(
    make_manager: MakeManager, server: ScriptedServer, body: object
) -> None:
    url = server.script("/upload", DOWN, Reply())
    assert make_manager().put(url, data=body).status_code == 200
    first, second = server.received
    assert first.body == second.body
    assert first.body
