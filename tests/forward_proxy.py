"""A forward proxy and a SOCKS 5 server on real sockets, for tests: small, threaded, and counted."""

from __future__ import annotations

import base64
import ipaddress
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any
from urllib.parse import urlsplit


class _Relay(AbstractContextManager[Any]):
    """Accepts connections, and pumps bytes between a client and where it wants to go."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.resolve: dict[str, int] = {}  # host name → port of 127.0.0.1 where it is served
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._sockets.append(client)
            self._threads.append(threading.Thread(target=self._run, args=(client,), daemon=True))
            self._threads[-1].start()

    def _run(self, client: socket.socket) -> None:
        try:
            self.serve(client)
        except (OSError, ValueError, struct.error):
            pass  # one of the two has left
        finally:
            client.close()

    def serve(self, client: socket.socket) -> None:
        raise NotImplementedError

    def connect(self, host: str, port: int) -> socket.socket:
        target = socket.create_connection(("127.0.0.1", self.resolve.get(host, port)), timeout=20)
        self._sockets.append(target)
        return target

    def pump(self, client: socket.socket, target: socket.socket) -> None:
        def one_way(source: socket.socket, sink: socket.socket) -> None:
            with suppress(OSError):
                while block := source.recv(65_536):
                    sink.sendall(block)
            for each in (source, sink):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

        back = threading.Thread(target=one_way, args=(target, client), daemon=True)
        back.start()
        one_way(client, target)
        back.join(20)
        target.close()

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(20)
        for each in self._sockets:
            each.close()


class ForwardProxy(_Relay):
    """Forwards requests in the absolute form, and opens tunnels (RFC 9110 §9.3.6)."""

    def __init__(self, login: str | None = None) -> None:
        self.login = login  # "user:password" that it demands
        self.heads: list[str] = []  # what it was asked, in the order in which it came
        self.script: list[str] = []  # what to answer instead, in turn: "502", or "cut"
        super().__init__()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return self.address.replace("//", f"//{self.login}@" if self.login else "//")

    @property
    def asked_for(self) -> list[str]:
        return [head.split(" ", 2)[0] + " " + head.split(" ", 2)[1] for head in self.heads]

    def serve(self, client: socket.socket) -> None:
        stream = client.makefile("rb")
        while head := _read_head(stream):
            self.heads.append(head)
            method, target, _ = head.split("\r\n", 1)[0].split(" ")
            lines = [line.split(": ", 1) for line in head.split("\r\n")[1:] if line]
            headers = {name.lower(): value for name, value in lines}
            body = stream.read(int(headers.get("content-length", 0)))
            if self.login is not None and headers.get("proxy-authorization") != _basic(self.login):
                _answer(client, "407 Proxy Authentication Required", "Proxy-Authenticate: Basic")
                continue
            planned = self.script.pop(0) if self.script else ""
            if planned == "cut":
                return
            if planned:
                _answer(client, f"{planned} By The Proxy")
                continue
            if method == "CONNECT":
                host, _, port = target.rpartition(":")
                upstream = self.connect(host, int(port))
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                self.pump(client, upstream)
                return
            self._forward(client, head, target, body)

    def _forward(self, client: socket.socket, head: str, target: str, body: bytes) -> None:
        url = urlsplit(target)
        lines = head.split("\r\n")
        path = target.split(url.netloc, 1)[1] or "/"
        first = f"{lines[0].split(' ')[0]} {path} HTTP/1.1"
        kept = [each for each in lines[1:] if each and not each.lower().startswith("proxy-")]
        kept = [each for each in kept if not each.lower().startswith("connection:")]
        with self.connect(url.hostname or "", url.port or 80) as upstream:
            out = "\r\n".join([first, *kept, "Connection: close", "", ""]).encode("latin-1")
            upstream.sendall(out + body)
            while block := upstream.recv(65_536):
                client.sendall(block)
        client.shutdown(socket.SHUT_RDWR)


class SocksServer(_Relay):
    """SOCKS 5 (RFC 1928), with a login (RFC 1929) if there is one to be demanded."""

    def __init__(self, login: str | None = None) -> None:
        self.login = login
        self.asked_for: list[str] = []
        self.refuse = 0  # so many of the next connects
        super().__init__()

    def url(self, scheme: str = "socks5h") -> str:
        return f"{scheme}://{self.login + '@' if self.login else ''}127.0.0.1:{self.port}"

    def serve(self, client: socket.socket) -> None:
        stream = client.makefile("rb")
        _, count = stream.read(2)
        stream.read(count)
        client.sendall(b"\x05\x02" if self.login else b"\x05\x00")
        if self.login:
            stream.read(1)
            name, password = (stream.read(stream.read(1)[0]).decode() for _ in range(2))
            known = f"{name}:{password}" == self.login
            client.sendall(b"\x01\x00" if known else b"\x01\x01")
            if not known:
                return
        _, _, _, kind = stream.read(4)
        read: dict[int, Callable[[], str]] = {
            1: lambda: str(ipaddress.IPv4Address(stream.read(4))),
            3: lambda: stream.read(stream.read(1)[0]).decode(),
        }
        host = read[kind]()
        (port,) = struct.unpack(">H", stream.read(2))
        self.asked_for.append(f"{host}:{port}")
        if self.refuse:
            self.refuse -= 1
            client.sendall(b"\x05\x05\x00\x01" + bytes(6))
            return
        upstream = self.connect(host, port)
        client.sendall(b"\x05\x00\x00\x01" + bytes(6))
        self.pump(client, upstream)


def _read_head(stream: Any) -> str:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline(65_536)
        if not line:
            return ""
        head += line
    return head.decode("latin-1")


def _basic(login: str) -> str:
    return "Basic " + base64.b64encode(login.encode()).decode()


def _answer(client: socket.socket, status: str, *headers: str) -> None:
    lines = [f"HTTP/1.1 {status}", "Content-Length: 0", *headers, "", ""]
    client.sendall("\r\n".join(lines).encode())
