"""A scripted HTTP/1.1 server on real sockets, for tests, demos and benchmarks.

Law: only the thread that uses a socket closes it; others shut it down, which wakes it, and join.
"""

from __future__ import annotations

import http.client
import itertools
import socket
import ssl
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any, BinaryIO, Literal
from urllib.parse import urlsplit

import trustme
from requests.structures import CaseInsensitiveDict

HEAD_LIMIT = 64 * 1024
_Steps = list[tuple[float, bytes]]  # seconds to wait, and bytes to send then


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the server does for one request. Times are in seconds."""

    status: int = 200
    body: bytes = b"ok"
    headers: Mapping[str, str] | tuple[tuple[str, str], ...] = ()
    delay: float = 0  # before the status line, the reset or the hang-up
    header_drip: float = 0  # between the single bytes of the head: slow, yet no read times out
    drip: float = 0  # between the pieces of the body
    drip_size: int = 1  # bytes a piece
    cut_at: int | None = None  # announce the whole body, send only so many bytes of it, close
    chunked: bool = False  # one chunk a piece; with `cut_at`, the final chunk never comes
    reset: Literal["", "before", "after"] = ""  # an RST for an answer: on the head, or on the body
    hang_up: bool = False  # the request is read, then a clean FIN for an answer
    close_silently: bool = False  # a keep-alive answer, and then a close that was not announced

    @classmethod
    def retry_after(cls, at: int | datetime, status: int = 503) -> Reply:
        """Refuse until then, in seconds or as an IMF-fixdate (RFC 9110 §10.2.3, §5.6.7)."""
        text = formatdate(at.timestamp(), usegmt=True) if isinstance(at, datetime) else f"{at:d}"
        return cls(status=status, body=b"", headers={"Retry-After": text})

    @classmethod
    def redirect(cls, location: str, status: int = 302) -> Reply:
        return cls(status=status, body=b"", headers={"Location": location})


@dataclass(frozen=True)
class Received:
    """One request as it reached the server."""

    at: float  # time.monotonic() when the head was complete
    connection: int  # which TCP connection brought it, counted from 1
    method: str
    target: str  # as on the request line
    path: str  # the target without origin and query
    query: str
    headers: CaseInsensitiveDict[str]  # of a name that came twice, both values, joined by ", "
    body: bytes  # not all of it when the client left early; none for a reset "before"
    client_certificate: dict[str, Any] | None  # as SSLSocket.getpeercert() has it


class ScriptedServer(AbstractContextManager["ScriptedServer"]):
    """Listens on a free port of 127.0.0.1, answers by script, and remembers what reached it."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, reset_on_connect: bool = False):
        self.connections_made = 0  # TCP connections accepted so far
        self.most_at_once = 0  # the largest number of requests being answered at the same time
        self.reset_on_connect = reset_on_connect  # RST for each connection; may be changed
        self._tls = tls
        self._lock = threading.Lock()  # guards the records, the scripts, and the sockets' closing
        self._scripts = defaultdict[str, Iterator[Reply]](lambda: itertools.repeat(Reply()))
        self._received: list[Received] = []
        self._answering_now = 0
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._down = threading.Event()
        self._down.set()
        self._listener = _bind(0, tls)
        self.host = "localhost" if tls else "127.0.0.1"
        self.port: int = self._listener.getsockname()[1]
        self.url = self.origin = f"{'https' if tls else 'http'}://{self.host}:{self.port}"
        self.resume()

    def script(self, path: str, *replies: Reply, forever: Reply | None = None) -> str:
        """Answer `path` with these replies in turn, then with `forever` or the last one, always.

        Replaces the path's earlier script; returns its URL. Without a script, a path answers 200.
        """
        planned = [*replies, *([] if forever is None else [forever])]
        if not planned or not path.startswith("/") or "?" in path or "#" in path:
            raise ValueError(f"a script needs a path without a query, and a reply: {path!r}")
        for reply in planned:
            if not isinstance(reply, Reply) or not isinstance(reply.body, bytes):
                raise TypeError(f"not a reply, or one whose body is not bytes: {reply!r}")
            least = min(reply.delay, reply.header_drip, reply.drip)
            if least < 0 or reply.reset not in ("", "before", "after"):
                raise ValueError(f"not a reply that can be sent: {reply!r}")
            _steps(reply, "GET", closing=False)  # what cannot be sent fails here, not in a thread
        with self._lock:
            self._scripts[path] = itertools.chain(replies, itertools.repeat(planned[-1]))
        return self.url + path

    @property
    def received(self) -> list[Received]:
        return list(self._received)

    def requests_to(self, path: str) -> list[Received]:
        return [request for request in self.received if request.path == path]

    def count(self, path: str | None = None) -> int:
        return len(self.received if path is None else self.requests_to(path))

    @property
    def connections_open(self) -> int:
        return len(self._sockets)

    def forget(self) -> None:
        """Clear `received` and `most_at_once`; the count of connections and the scripts go on."""
        with self._lock:
            self._received.clear()
            self.most_at_once = self._answering_now

    def pause(self) -> None:
        """Be down: every connection ends, connects are refused. The port stays ours."""
        self.close()
        # Bound but not listening, it refuses connects, and no client is given the port as its own:
        # TCP would connect such a client to itself.
        self._listener = _bind(self.port, self._tls)

    def resume(self) -> None:
        """Be up again, on the same port."""
        if self._down.is_set():
            self._down.clear()
            self._listener.listen(512)
            self._acceptor = threading.Thread(target=self._accept, daemon=True)
            self._acceptor.start()

    def close(self) -> None:
        """End every connection, whatever it is doing, and every thread."""
        self._down.set()
        with suppress(OSError):  # wakes accept() at once on Linux; elsewhere its time-out does
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        with self._lock:
            for connection in self._sockets:
                with suppress(OSError):
                    # SSLSocket.shutdown would take the TLS object away from under a read
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        self._listener.settimeout(0.05)
        while not self._down.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:  # nobody came in time, or who came has left
                continue
            self._sockets.add(connection)
            self.connections_made += 1
            args = (connection, self.connections_made)
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            self._threads.append(threading.Thread(target=self._serve, args=args, daemon=True))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        try:
            if self.reset_on_connect:
                raise ConnectionResetError
            if isinstance(connection, ssl.SSLSocket):
                connection.do_handshake()
            with connection.makefile("rb") as stream:
                while self._exchange(connection, stream, number):
                    pass
        except ConnectionResetError:  # by the script, or by the client, whom it does not harm
            with suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except ssl.SSLError:  # a close with unread input is an RST, which may overtake our alert
            with suppress(OSError):
                connection.settimeout(1)
                socket.socket.shutdown(connection, socket.SHUT_WR)
                while socket.socket.recv(connection, HEAD_LIMIT):
                    pass
        except (OSError, ValueError):
            pass  # the client left or does not speak HTTP, or the server closes
        finally:
            with self._lock:
                connection.close()
                self._sockets.discard(connection)

    def _exchange(self, connection: socket.socket, stream: BinaryIO, number: int) -> bool:
        """Read one request and answer it; true when the connection stays."""
        tls = connection if isinstance(connection, ssl.SSLSocket) else None
        request = _read_head(stream, number, tls.getpeercert() if tls else None)
        with self._lock:
            reply = next(self._scripts[request.path])
        if reply.reset != "before":
            if request.headers.get("Expect", "").lower() == "100-continue":
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            request = replace(request, body=_read_body(stream, request.headers))
        sides = (CaseInsensitiveDict(reply.headers), request.headers)
        closing = any("close" in side.get("Connection", "").lower() for side in sides)
        self._answer(connection, request, _steps(reply, request.method, closing=closing))
        if reply.reset:
            raise ConnectionResetError
        return not (closing or reply.hang_up or reply.close_silently or reply.cut_at is not None)

    def _answer(self, connection: socket.socket, request: Received, steps: _Steps) -> None:
        with self._lock:
            self._received.append(request)
            self._answering_now += 1
            self.most_at_once = max(self.most_at_once, self._answering_now)
        due = b""  # what is to be sent at the same time goes out in one write
        try:
            for seconds, piece in steps:
                if seconds:
                    connection.sendall(due)
                    due = b""
                    if self._down.wait(seconds):
                        raise ConnectionAbortedError
                due += piece
        finally:
            # Before the last write: a client that has all of its answer may ask again elsewhere
            # before we run on, and its two requests in a row would count as two at once.
            with self._lock:
                self._answering_now -= 1
        connection.sendall(due)


def _read_head(stream: BinaryIO, number: int, certificate: dict[str, Any] | None) -> Received:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline(HEAD_LIMIT - len(head))
        if not line:  # the client left, or has too much to say
            raise ConnectionAbortedError
        head += line
    at = time.monotonic()
    request_line, *lines = head[:-4].decode("latin-1").split("\r\n")
    headers: CaseInsensitiveDict[str] = CaseInsensitiveDict()
    for name, _, value in (line.partition(":") for line in lines):
        headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
    method, target, _version = request_line.split(" ")
    # a proxy is sent the whole URL; all others get an origin here, lest "//" begin one
    url = urlsplit(target if target.startswith("http") else f"http://origin{target}")
    return Received(at, number, method, target, url.path, url.query, headers, b"", certificate)


def _read_body(stream: BinaryIO, headers: CaseInsensitiveDict[str]) -> bytes:
    if "chunked" not in headers.get("Transfer-Encoding", "").lower():
        return stream.read(int(headers.get("Content-Length", "0")))
    body = b""
    while size := int(stream.readline(HEAD_LIMIT).partition(b";")[0], 16):
        body += stream.read(size)
        stream.readline(HEAD_LIMIT)
    stream.readline(HEAD_LIMIT)  # nobody here sends trailers
    return body


def _steps(reply: Reply, method: str, *, closing: bool) -> _Steps:
    if reply.reset or reply.hang_up:
        return [(reply.delay, b"")]
    given = reply.headers.items() if isinstance(reply.headers, Mapping) else reply.headers
    length = f"Content-Length: {len(reply.body)}"
    bodiless = reply.status in (204, 304)  # RFC 9110 §6.4.1: neither a body nor a length
    lines = [f"HTTP/1.1 {reply.status:d} {http.client.responses.get(reply.status, '')}"]
    lines += [f"{name}: {value}" for name, value in given]
    lines += [] if bodiless else ["Transfer-Encoding: chunked" if reply.chunked else length]
    lines += ["Connection: close"] if closing else []
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")

    body = reply.body[: reply.cut_at]
    size = reply.drip_size if reply.drip else max(len(body), 1)
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    if reply.chunked:
        pieces = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces]
        pieces += [b"0\r\n\r\n"] if reply.cut_at is None else []
    if bodiless or method == "HEAD":
        pieces = []
    step = 1 if reply.header_drip else len(head)
    steps = [(reply.delay, b"")]
    steps += [(reply.header_drip, head[at : at + step]) for at in range(0, len(head), step)]
    steps += [(reply.drip if number else 0, piece) for number, piece in enumerate(pieces)]
    return steps


def _bind(port: int, tls: ssl.SSLContext | None) -> socket.socket:
    listener = socket.socket()
    if tls:  # for the connections; each shakes hands in its own thread
        listener = tls.wrap_socket(listener, server_side=True, do_handshake_on_connect=False)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it
    # else the connections of before a pause, in TIME_WAIT, would keep us from the port
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    return listener


@dataclass(frozen=True)
class PrivateCA:
    """A certificate authority that only those trust who are given its bundle."""

    _ca: trustme.CA

    def server_context(self, *, host: str = "", client_ca: bool = False) -> ssl.SSLContext:
        """For localhost and 127.0.0.1, or else `host`; `client_ca` demands a client certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        names = (host,) if host else ("localhost", "127.0.0.1")
        self._ca.issue_cert(*names).configure_cert(context)
        self._ca.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED if client_ca else ssl.CERT_NONE
        return context

    def ca_bundle(self, folder: Path) -> str:
        self._ca.cert_pem.write_to_path(path := str(folder / "ca.pem"))
        return path

    def client_certificate(self, folder: Path) -> tuple[str, str]:
        leaf = self._ca.issue_cert("client.test", common_name="client.test")
        leaf.cert_chain_pems[0].write_to_path(certificate := str(folder / "client.pem"))
        leaf.private_key_pem.write_to_path(key := str(folder / "client.key"))
        return certificate, key


def private_ca() -> PrivateCA:
    return PrivateCA(trustme.CA())


def wait_until(predicate: Callable[[], object], timeout: float = 20.0) -> None:
    """Return once the predicate holds; AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not predicate():
        assert time.monotonic() < deadline, f"still not so after {timeout} s: {predicate}"
        time.sleep(0.002)
