"""The scripted server does what its script says: seen from raw sockets, http.client and requests.

No test asks that something be quick: a delay that stands for "for ever" is never waited for, and
durations have lower bounds only.
"""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.server import HEAD_LIMIT, PrivateCA, Reply, ScriptedServer, private_ca, wait_until

FOR_EVER = 3600.0
HANGS = 30.0  # a time-out that only a defect can reach
GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture(scope="module")
def ca() -> PrivateCA:
    return private_ca()


def dial(server: ScriptedServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=HANGS)


def read_until_closed(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


def causes(error: BaseException) -> list[type[BaseException]]:
    """The types of an error and of what it wraps, in its arguments as requests and urllib3 do."""
    inner = [arg for arg in (*error.args, error.__cause__) if isinstance(arg, BaseException)]
    return [type(error), *(kind for one in inner for kind in causes(one))]


# -- the script


def test_replies_come_in_order_and_the_last_one_repeats(
    server: ScriptedServer, session: requests.Session
) -> None:
    url = server.script("/a", Reply(status=503), Reply(status=429), Reply(body=b"at last"))
    assert [session.get(url).status_code for _ in range(5)] == [503, 429, 200, 200, 200]
    assert session.get(url).content == b"at last"


def test_forever_repeats_after_the_replies(
    server: ScriptedServer, session: requests.Session
) -> None:
    url = server.script("/a", Reply(status=500), forever=Reply(status=201))
    assert [session.get(url).status_code for _ in range(3)] == [500, 201, 201]
    server.script("/a", forever=Reply(status=202))
    assert [session.get(url).status_code for _ in range(2)] == [202, 202]


def test_a_path_without_a_script_answers_200(
    server: ScriptedServer, session: requests.Session
) -> None:
    response = session.get(f"{server.url}/unknown?a=b")
    assert (response.status_code, response.reason, response.content) == (200, "OK", b"ok")
    assert response.headers == {"Content-Length": "2"}


@pytest.mark.parametrize(
    ("path", "replies", "error"),
    [
        ("/a", (), ValueError),
        ("a", (Reply(),), ValueError),
        ("/a?b=c", (Reply(),), ValueError),
        ("/a", (503,), TypeError),
        ("/a", (Reply(), None), TypeError),
        ("/a", (Reply(body="text"),), TypeError),  # type: ignore[arg-type]  # the point of the test
        ("/a", (Reply(status="200"),), ValueError),  # type: ignore[arg-type]  # the point
        ("/a", (Reply(delay=None),), TypeError),  # type: ignore[arg-type]  # the point
        ("/a", (Reply(delay=-1),), ValueError),
        ("/a", (Reply(reset="never"),), ValueError),  # type: ignore[arg-type]  # the point
        ("/a", (Reply(headers={"X": "\u20ac"}),), UnicodeEncodeError),
    ],
)
def test_a_script_that_cannot_be_played_fails_at_once(
    server: ScriptedServer, path: str, replies: tuple[Any, ...], error: type[Exception]
) -> None:
    with pytest.raises(error):
        server.script(path, *replies)


def test_a_header_may_come_twice(server: ScriptedServer) -> None:
    server.script("/", Reply(headers=(("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"))))
    with dial(server) as client:
        client.sendall(GET)
        assert client.recv(65536).count(b"Set-Cookie: ") == 2


# -- what a reply can say


def test_retry_after_in_seconds_and_as_a_date(
    server: ScriptedServer, session: requests.Session
) -> None:
    vienna = timezone(timedelta(hours=1))
    url = server.script(
        "/a",
        Reply.retry_after(7),
        Reply.retry_after(datetime(1994, 11, 6, 9, 49, 37, tzinfo=vienna), status=429),
    )
    seconds, date = session.get(url), session.get(url)
    assert (seconds.status_code, seconds.headers["Retry-After"]) == (503, "7")
    # the example of RFC 9110 §5.6.7
    assert (date.status_code, date.headers["Retry-After"]) == (429, "Sun, 06 Nov 1994 08:49:37 GMT")


def test_redirects_are_followed_on_one_connection_of_the_same_origin(
    server: ScriptedServer, session: requests.Session
) -> None:
    url = server.script("/from", Reply.redirect("/to"))
    response = session.get(url)
    assert [hop.status_code for hop in response.history] == [302]
    assert [(r.path, r.connection) for r in server.received] == [("/from", 1), ("/to", 1)]


def test_redirects_lead_to_another_origin(
    server: ScriptedServer, session: requests.Session
) -> None:
    with ScriptedServer() as other:
        target = other.script("/to", Reply(body=b"there"))
        url = server.script("/from", Reply.redirect(target, status=307))
        response = session.post(url, data=b"body", headers={"Authorization": "secret"})
        assert (response.content, response.url) == (b"there", target)
        (here,), (there,) = server.received, other.received
    assert (here.method, here.body, here.headers["authorization"]) == ("POST", b"body", "secret")
    assert (there.method, there.body) == ("POST", b"body")
    assert "Authorization" not in there.headers
    assert server.origin != other.origin


@pytest.mark.parametrize("status", [204, 304])
def test_204_and_304_have_neither_body_nor_length(
    server: ScriptedServer, session: requests.Session, status: int
) -> None:
    url = server.script("/a", Reply(status=status, chunked=status == 204), Reply())
    response = session.get(url)
    assert (response.status_code, response.content, dict(response.headers)) == (status, b"", {})
    assert session.get(url).content == b"ok"
    assert server.connections_made == 1


@pytest.mark.parametrize("chunked", [False, True])
def test_an_answer_to_head_has_no_body(
    server: ScriptedServer, session: requests.Session, chunked: bool
) -> None:
    url = server.script("/a", Reply(body=b"hidden", chunked=chunked))
    response = session.head(url)
    framing = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": "6"}
    assert (response.content, dict(response.headers)) == (b"", framing)
    assert session.get(url).content == b"hidden"
    assert server.connections_made == 1


def test_a_chunked_body_keeps_the_connection(
    server: ScriptedServer, session: requests.Session
) -> None:
    url = server.script("/a", Reply(body=b"abc" * 9, chunked=True, drip=0.001, drip_size=4))
    for _ in range(2):
        response = session.get(url)
        assert response.content == b"abc" * 9
        assert "Content-Length" not in response.headers
    assert server.connections_made == 1


def test_an_answer_without_a_drip_is_one_write(server: ScriptedServer) -> None:
    with dial(server) as client:
        client.sendall(GET)
        assert client.recv(65536).endswith(b"\r\n\r\nok")


# -- slow


def test_a_delay_holds_back_the_status_line(
    server: ScriptedServer, session: requests.Session
) -> None:
    url = server.script("/a", Reply(delay=0.1))
    start = time.monotonic()
    assert session.get(url).ok
    assert time.monotonic() - start >= 0.09


def test_a_delay_makes_a_read_time_out(server: ScriptedServer, session: requests.Session) -> None:
    url = server.script("/a", Reply(delay=FOR_EVER))
    with pytest.raises(requests.ReadTimeout):
        session.get(url, timeout=0.05)
    wait_until(lambda: server.count("/a") == 1)


def test_slow_headers_come_byte_by_byte(server: ScriptedServer) -> None:
    server.script("/", Reply(header_drip=0.003, body=b"and the body"))
    start = time.monotonic()
    with dial(server) as client:
        client.sendall(GET)
        pieces = [client.recv(65536)]
        while not pieces[-1].endswith(b"body"):
            pieces.append(client.recv(65536))
    head = b"".join(pieces).removesuffix(b"and the body")
    assert head == b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n"
    assert time.monotonic() - start >= 0.003 * len(head) * 0.9


def test_slow_headers_outlast_a_read_timeout(
    server: ScriptedServer, session: requests.Session
) -> None:
    """Each byte restarts the clock of a read, so only a deadline can end such an answer."""
    url = server.script("/a", Reply(header_drip=0.06))
    start = time.monotonic()
    assert session.get(url, timeout=2).ok
    assert time.monotonic() - start > 2


def test_a_drip_waits_between_the_pieces_of_the_body(
    server: ScriptedServer, session: requests.Session
) -> None:
    url = server.script("/a", Reply(body=b"abcdefg", drip=0.05, drip_size=3))
    start = time.monotonic()
    assert session.get(url).content == b"abcdefg"
    assert time.monotonic() - start >= 0.05 * 2 * 0.9


def test_the_first_piece_of_a_drip_comes_with_the_head(server: ScriptedServer) -> None:
    server.script("/", Reply(body=b"abcdefg", drip=FOR_EVER, drip_size=3))
    with dial(server) as client:
        client.sendall(GET)
        assert client.recv(65536).endswith(b"\r\n\r\nabc")


# -- broken


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("cut_at", [0, 4])
def test_a_cut_body_is_announced_whole_and_ends_early(
    server: ScriptedServer, chunked: bool, cut_at: int
) -> None:
    server.script("/a", Reply(body=b"0123456789", cut_at=cut_at, chunked=chunked))
    client = http.client.HTTPConnection(server.host, server.port, timeout=HANGS)
    client.request("GET", "/a")
    with client.getresponse() as response:
        assert response.getheader("Content-Length") == (None if chunked else "10")
        assert response.getheader("Connection") is None
        with pytest.raises(http.client.IncompleteRead) as caught:
            response.read()
    client.close()
    assert caught.value.partial == b"0123456789"[:cut_at]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_cut_body_is_an_error_of_requests(
    server: ScriptedServer, session: requests.Session, chunked: bool
) -> None:
    url = server.script("/a", Reply(cut_at=1, chunked=chunked), Reply())
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        session.get(url)
    assert session.get(url).ok
    assert [request.connection for request in server.received] == [1, 2]


def test_reset_before_does_not_wait_for_the_body(server: ScriptedServer) -> None:
    server.script("/", Reply(reset="before"))
    with dial(server) as client:
        client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\nhalf of")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    (request,) = server.received
    assert (request.method, request.body) == ("POST", b"")


def test_reset_after_waits_for_the_body(server: ScriptedServer) -> None:
    server.script("/", Reply(reset="after"))
    with dial(server) as client:
        client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert server.received == []
        client.sendall(b"body")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert [request.body for request in server.received] == [b"body"]


@pytest.mark.parametrize("reset", ["before", "after"])
def test_a_reset_is_a_connection_error_of_requests(
    server: ScriptedServer, session: requests.Session, reset: Any
) -> None:
    url = server.script("/a", Reply(reset=reset))
    with pytest.raises(requests.ConnectionError) as caught:
        session.get(url)
    assert ConnectionResetError in causes(caught.value)


def test_reset_on_connect_answers_no_connection(
    server: ScriptedServer, session: requests.Session
) -> None:
    server.reset_on_connect = True
    with pytest.raises(requests.ConnectionError) as caught:
        session.get(server.url)
    assert any(issubclass(kind, ConnectionResetError) for kind in causes(caught.value))
    assert (server.received, server.connections_made) == ([], 1)
    server.reset_on_connect = False
    assert session.get(server.url).ok
    with (
        ScriptedServer(reset_on_connect=True) as other,
        pytest.raises(ConnectionResetError),
        dial(other) as client,
    ):
        client.recv(1)


def test_hang_up_is_a_clean_end_without_an_answer(
    server: ScriptedServer, session: requests.Session
) -> None:
    url = server.script("/a", Reply(hang_up=True))
    with dial(server) as client:
        client.sendall(b"POST /a HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody")
        assert client.recv(1) == b""
    with pytest.raises(requests.ConnectionError) as caught:
        session.get(url)
    assert http.client.RemoteDisconnected in causes(caught.value)
    assert [request.body for request in server.requests_to("/a")] == [b"body", b""]


def test_a_silent_close_was_not_announced(
    server: ScriptedServer, session: requests.Session
) -> None:
    url = server.script("/a", Reply(close_silently=True), Reply())
    assert "Connection" not in session.get(url).headers
    wait_until(lambda: server.connections_open == 0)
    assert session.get(url).ok
    assert [request.connection for request in server.received] == [1, 2]
    assert server.connections_open == 1


# -- connections


def test_a_connection_is_kept_until_one_side_says_close(
    server: ScriptedServer, session: requests.Session
) -> None:
    url = server.script("/a", Reply(), Reply(headers={"connection": "close"}), Reply())
    session.get(url)
    session.get(url)  # the server's close
    response = session.get(url, headers={"Connection": "close"})  # the client's
    assert response.headers["Connection"] == "close"
    session.get(url)
    assert [request.connection for request in server.received] == [1, 1, 2, 3]
    assert server.connections_made == 3
    wait_until(lambda: server.connections_open == 1)


def test_requests_may_come_in_one_packet(server: ScriptedServer) -> None:
    with dial(server) as client:
        client.sendall(
            GET + GET.replace(b"/ ", b"/last ").replace(b"Host", b"Connection: close\r\nHost")
        )
        assert read_until_closed(client).count(b"200 OK") == 2
    assert [(r.path, r.connection) for r in server.received] == [("/", 1), ("/last", 1)]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfew\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * HEAD_LIMIT + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: te",
    ],
    ids=["tls", "no request line", "no length", "no chunk", "too long a head", "half a head"],
)
def test_nonsense_ends_its_connection_and_nothing_else(
    server: ScriptedServer, session: requests.Session, nonsense: bytes
) -> None:
    with dial(server) as client, suppress(OSError):
        client.sendall(nonsense)
        client.shutdown(socket.SHUT_WR)
        assert read_until_closed(client) == b""
    wait_until(lambda: server.connections_open == 0)
    assert server.received == []
    assert session.get(server.url).ok


# -- the records


def test_a_record_says_what_was_asked_when_and_where(
    server: ScriptedServer, session: requests.Session
) -> None:
    before = time.monotonic()
    session.post(f"{server.url}/a/b?c=d&e=%20f", data=b"body", headers={"X-One": "1"})
    (request,) = server.received
    assert before <= request.at <= time.monotonic()
    assert (request.connection, request.method, request.body) == (1, "POST", b"body")
    assert request.target == "/a/b?c=d&e=%20f"
    assert (request.path, request.query) == ("/a/b", "c=d&e=%20f")
    assert request.headers["x-one"] == request.headers["X-ONE"] == "1"
    assert request.client_certificate is None


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("//a.test/b?c", "//a.test/b", "c"),
        ("http://a.test:81/b?c=http://d", "/b", "c=http://d"),
        ("/a/../b;c", "/a/../b;c", ""),
        ("/?", "/", ""),
    ],
)
def test_targets_are_split_but_not_normalised(
    server: ScriptedServer, target: str, path: str, query: str
) -> None:
    with dial(server) as client:
        client.sendall(
            f"GET {target} HTTP/1.1\r\nA: 1\r\na:2\r\nConnection: close\r\n\r\n".encode()
        )
        read_until_closed(client)
    (request,) = server.received
    assert (request.target, request.path, request.query) == (target, path, query)
    assert request.headers["a"] == "1, 2"


def test_the_time_of_a_record_is_that_of_its_head(server: ScriptedServer) -> None:
    with dial(server) as client:
        client.sendall(b"PUT / HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 100 ")
        head_sent = time.monotonic()
        client.sendall(b"!")
        client.recv(65536)
    assert server.received[0].at <= head_sent


def test_a_chunked_request_body_is_read(server: ScriptedServer, session: requests.Session) -> None:
    session.post(server.url, data=iter([b"a" * 70_000, b"b", b"c\r\n"]))
    session.post(server.url, data=b"plain")
    first, second = server.received
    assert (first.body, first.headers["transfer-encoding"]) == (
        b"a" * 70_000 + b"bc\r\n",
        "chunked",
    )
    assert (second.body, second.connection) == (b"plain", 1)


def test_records_are_counted_by_path_and_forgotten(
    server: ScriptedServer, session: requests.Session
) -> None:
    for path in ("/a", "/b", "/a?x"):
        session.get(server.url + path)
    assert (server.count(), server.count("/a"), server.count("/c")) == (3, 2, 0)
    assert [request.query for request in server.requests_to("/a")] == ["", "x"]
    snapshot = server.received
    server.forget()
    assert (server.count(), server.most_at_once, len(snapshot)) == (0, 0, 3)
    assert (server.connections_made, server.connections_open) == (1, 1)


def test_the_most_at_once_is_counted(server: ScriptedServer) -> None:
    server.script("/", Reply(delay=FOR_EVER))
    clients = [dial(server) for _ in range(4)]
    for client in clients:
        assert server.most_at_once < len(clients)
        client.sendall(GET)
    wait_until(lambda: server.most_at_once == len(clients))
    server.forget()
    assert server.most_at_once == 4  # they still wait
    server.pause()
    server.forget()
    assert server.most_at_once == 0
    for client in clients:
        client.close()


def test_requests_in_a_row_are_never_two_at_once(server: ScriptedServer) -> None:
    with dial(server) as one, dial(server) as other:
        for client in (one, other) * 200:
            client.sendall(GET)
            assert client.recv(65536)
    assert (server.most_at_once, server.count(), server.connections_made) == (1, 400, 2)


# -- TLS


def test_a_private_ca_is_trusted_by_those_who_have_its_bundle(
    ca: PrivateCA, session: requests.Session, tmp_path: Path
) -> None:
    with ScriptedServer(tls=ca.server_context()) as server:
        assert server.url == server.origin == f"https://localhost:{server.port}"
        bundle = ca.ca_bundle(tmp_path)
        assert session.get(server.url, verify=bundle).content == b"ok"
        assert session.get(f"https://127.0.0.1:{server.port}", verify=bundle).ok
        with pytest.raises(requests.exceptions.SSLError):
            session.get(server.url + "/never")
        assert server.count("/never") == 0
        assert not any(request.client_certificate for request in server.received)


def test_a_certificate_for_another_host_is_refused(
    ca: PrivateCA, session: requests.Session, tmp_path: Path
) -> None:
    with ScriptedServer(tls=ca.server_context(host="wrong.test")) as server:
        with pytest.raises(requests.exceptions.SSLError, match=r"wrong\.test|[Hh]ostname"):
            session.get(server.url, verify=ca.ca_bundle(tmp_path))
        assert server.received == []


def test_mutual_tls_records_who_came(
    ca: PrivateCA, session: requests.Session, tmp_path: Path
) -> None:
    with ScriptedServer(tls=ca.server_context(client_ca=True)) as server:
        bundle, own = ca.ca_bundle(tmp_path), ca.client_certificate(tmp_path)
        assert session.get(server.url, verify=bundle, cert=own).ok
        certificate = server.received[0].client_certificate
        assert certificate is not None
        assert certificate["subjectAltName"] == (("DNS", "client.test"),)


@pytest.mark.parametrize("stranger", [False, True], ids=["without", "of another CA"])
def test_mutual_tls_refuses_clients_with_an_alert(
    ca: PrivateCA, session: requests.Session, tmp_path: Path, stranger: bool
) -> None:
    """As an SSLError, not as the reset that an early close can make of it; hence the ten times."""
    other = private_ca().client_certificate(tmp_path) if stranger else None
    with ScriptedServer(tls=ca.server_context(client_ca=True)) as server:
        for _ in range(10):
            with pytest.raises(requests.exceptions.SSLError):
                session.get(server.url, verify=ca.ca_bundle(tmp_path), cert=other)
        assert server.received == []


def test_clients_that_do_not_speak_tls_harm_nobody(
    ca: PrivateCA, session: requests.Session, tmp_path: Path
) -> None:
    with ScriptedServer(tls=ca.server_context()) as server:
        with dial(server) as plain, dial(server) as gone, dial(server):
            plain.sendall(GET)
            gone.shutdown(socket.SHUT_WR)
            assert b"HTTP" not in read_until_closed(plain)
            assert session.get(server.url, verify=ca.ca_bundle(tmp_path)).ok
        wait_until(lambda: server.connections_open == 1)
        assert server.count() == 1


def test_replies_break_under_tls_as_they_do_without(
    ca: PrivateCA, session: requests.Session, tmp_path: Path
) -> None:
    session.verify = ca.ca_bundle(tmp_path)
    with ScriptedServer(tls=ca.server_context()) as server:
        # Python's ssl may show an RST as an end of file; http.client's error for that is a
        # ConnectionResetError as well.
        for reset in (Reply(reset="before"), Reply(reset="after"), Reply(hang_up=True)):
            with pytest.raises(requests.ConnectionError) as caught:
                session.get(server.script("/reset", reset))
            assert any(issubclass(kind, ConnectionResetError) for kind in causes(caught.value))
        for chunked in (False, True):
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                session.get(server.script("/cut", Reply(cut_at=1, chunked=chunked)))
        url = server.script("/silent", Reply(close_silently=True))
        for _ in range(2):
            assert session.get(url).ok
            wait_until(lambda: server.connections_open == 0)


# -- up and down


def test_a_paused_server_refuses_and_returns_on_the_same_port(
    server: ScriptedServer, session: requests.Session
) -> None:
    url = server.script("/a", Reply(body=b"one"), Reply(body=b"two"))
    assert session.get(url).content == b"one"
    for _ in range(3):
        server.pause()
        server.pause()
        assert server.connections_open == 0
        with pytest.raises(ConnectionRefusedError):
            dial(server)
        with pytest.raises(requests.ConnectionError):
            session.get(url)
        server.resume()
        server.resume()
        assert session.get(url).content == b"two"
    assert server.count() == 4


def test_a_pause_keeps_the_port(server: ScriptedServer) -> None:
    server.pause()
    with socket.socket() as thief, pytest.raises(OSError, match="in use"):
        thief.bind(("127.0.0.1", server.port))


def test_a_pause_ends_idle_and_waiting_connections(server: ScriptedServer) -> None:
    server.script("/", Reply(delay=FOR_EVER))
    with dial(server) as idle, dial(server) as waiting:
        waiting.sendall(GET)
        wait_until(lambda: server.count() == 1 and server.connections_open == 2)
        server.pause()
        assert idle.recv(1) == b""
        assert waiting.recv(1) == b""


def test_pauses_under_fire_lose_no_thread_and_no_port(server: ScriptedServer) -> None:
    answered: list[bool] = []
    over = threading.Event()

    def keep_asking() -> None:
        while not over.is_set():
            with requests.Session() as session, suppress(requests.RequestException):
                session.trust_env = False
                answered.append(session.get(server.url, timeout=HANGS).ok)

    askers = [threading.Thread(target=keep_asking) for _ in range(4)]
    for asker in askers:
        asker.start()
    for _ in range(20):
        server.forget()
        wait_until(server.count)
        server.pause()
        assert server.connections_open == 0
        server.resume()
    over.set()
    for asker in askers:
        asker.join()
    assert answered


@pytest.mark.parametrize(
    ("reply", "sent"),
    [
        (Reply(delay=FOR_EVER), GET),
        (Reply(delay=FOR_EVER, reset="after"), GET),
        (Reply(drip=FOR_EVER), GET),
        (Reply(header_drip=FOR_EVER), GET),
        (Reply(body=b"x" * 20_000_000), GET),  # more than the buffers between us hold
        (Reply(), b""),
        (Reply(), b"GET / HT"),
        (Reply(), b"PUT / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf"),
    ],
    ids=["delay", "reset", "drip", "slow head", "unread", "silent", "half a head", "half a body"],
)
@pytest.mark.parametrize("times", [1, 5])
def test_close_ends_every_connection_and_thread(reply: Reply, sent: bytes, times: int) -> None:
    others = set(threading.enumerate())
    server = ScriptedServer()
    server.script("/", reply)
    clients = [dial(server) for _ in range(times)]
    for client in clients:
        client.sendall(sent)
    expected = times if sent == GET else 0
    wait_until(lambda: server.connections_open == times and server.count() == expected)
    server.close()
    server.close()
    assert set(threading.enumerate()) <= others
    assert server.connections_open == 0
    for client in clients:
        client.close()
    with pytest.raises(ConnectionRefusedError):
        dial(server)


def test_close_ends_a_handshake_and_a_delay_under_tls(
    ca: PrivateCA, session: requests.Session, tmp_path: Path
) -> None:
    others = set(threading.enumerate())
    session.verify = ca.ca_bundle(tmp_path)
    seen: list[type[Exception]] = []

    def wait_for_ever(url: str) -> None:
        try:
            session.get(url, timeout=HANGS)
        except requests.RequestException as error:
            seen.append(type(error))

    with ScriptedServer(tls=ca.server_context()) as server:
        url = server.script("/", Reply(delay=FOR_EVER))
        with dial(server) as silent:
            waiting = threading.Thread(target=wait_for_ever, args=(url,))
            waiting.start()
            wait_until(lambda: server.count() == 1 and server.connections_open == 2)
            server.close()
            assert silent.recv(1) == b""
        waiting.join()
    assert seen == [requests.ConnectionError]
    assert set(threading.enumerate()) <= others


def test_wait_until_waits_and_at_last_fails() -> None:
    turns = iter([0, None, "yes"])
    wait_until(lambda: next(turns))
    with pytest.raises(AssertionError, match="still not so"):
        wait_until(lambda: False, timeout=0.01)
