"""The other end: an HTTP/1.1 keep-alive server in a process of its own, as fast as Python allows.

    /             200, at once; so is any path that is not listed, after the request's body
    /bytes/1000   200 and a body of 1,000 bytes, at once
    /delay/50     200, after 50 ms
    /status/503   503, at once
    /counted      200, and the time of arrival is kept
    /arrivals     the times kept so far (seconds, as JSON); they are forgotten

The law: it lives no longer than its parent. It ends when its standard input does, and that is
closed when the parent closes it, exits or is killed.
"""

from __future__ import annotations

import asyncio
import functools
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

HEAD_END = b"\r\n\r\n"


@contextmanager
def serving() -> Iterator[str]:
    """Run the server for the length of a ``with`` block, which gets its URL, without a slash."""
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()


class Answering(asyncio.Protocol):
    """One connection. Its client does not pipeline, and states the length of its bodies."""

    transport: asyncio.Transport

    def __init__(self, arrivals: list[float]) -> None:
        self._arrivals = arrivals
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio has set TCP_NODELAY on it
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._unread += data
        if self._unread.startswith(b"GET "):  # has no body: spare the look at its headers
            is_whole = self._unread.endswith(HEAD_END)
        else:
            head, end, body = self._unread.partition(HEAD_END)
            is_whole = bool(end) and len(body) >= _length_stated_in(head)
        if is_whole:
            request, self._unread = self._unread, b""
            self._answer(request.split(b" ", 2)[1])

    def _answer(self, path: bytes) -> None:
        if path.startswith(b"/delay/"):
            seconds = int(path[len(b"/delay/") :]) / 1000
            asyncio.get_running_loop().call_later(seconds, self.transport.write, OK)
        elif path.startswith(b"/bytes/"):
            self.transport.write(_reply_of(int(path[len(b"/bytes/") :])))
        elif path.startswith(b"/status/"):
            self.transport.write(reply(b"", status=int(path[len(b"/status/") :])))
        elif path == b"/arrivals":
            self.transport.write(reply(json.dumps(self._arrivals).encode()))
            self._arrivals.clear()
        else:
            if path == b"/counted":
                self._arrivals.append(time.monotonic())
            self.transport.write(OK)


def reply(body: bytes, status: int = 200) -> bytes:
    """Return the bytes of an answer."""
    return (
        b"HTTP/1.1 %d Answer\r\n"
        b"Content-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (status, len(body), body)
    )


@functools.cache
def _reply_of(length: int) -> bytes:
    return reply(b"x" * length)


def _length_stated_in(head: bytes) -> int:
    stated = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    return int(stated[1]) if stated else 0


OK = reply(b'{"answer": "ok"}')


async def serve_until_orphaned() -> None:
    """Report the port on standard output, and answer until standard input ends."""
    arrivals: list[float] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answering(arrivals), "127.0.0.1", 0, backlog=128)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):  # the terminal sends it to us, too; the parent reports it
        asyncio.run(serve_until_orphaned())
