"""An error of requests tells what failed, and no credential: not even in a printed traceback."""

from __future__ import annotations

import re
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import requests
import urllib3
from requests import exceptions

from requests_connection_manager.redaction import REDACTED, redact_error
from tests.server import Reply, ScriptedServer

SECRET = "s3cr3t-Wört"
QUERY = f"q=a {SECRET}&code={SECRET}&token={SECRET}"
SPELLINGS = (SECRET, requests.utils.quote(SECRET), "s3cr3t", "W%C3%B6rt", "W\\xc3")


def told(error: BaseException) -> str:
    """All that an error shows: by itself, what it was made from, and on a terminal."""
    parts = [error, *error.args, error.__cause__, error.__context__, getattr(error, "reason", "")]
    texts = [form(part) for part in parts for form in (str, repr)]
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    # the lines of source code are the caller's own text
    return "\n".join([*texts, *(line for line in lines if not line.startswith("  File"))])


def raised(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011  # which one is the test's business
        call()
    return caught.value


@contextmanager
def closed_port() -> Iterator[int]:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        yield unheard.getsockname()[1]


def test_a_refused_connection_names_the_path_only() -> None:
    with closed_port() as port:
        url = f"http://user:{SECRET}@127.0.0.1:{port}/x/y?{QUERY}#{SECRET}"
        error = raised(lambda: requests.get(url, timeout=5))
    assert SECRET.partition("W")[0] in told(error)
    redact_error(error, url)
    assert not any(spelling in told(error) for spelling in SPELLINGS)
    assert "Max retries exceeded with url: /x/y (Caused by NewConnectionError" in str(error)
    assert error.args[0].url == "/x/y"
    assert type(error) is exceptions.ConnectionError


def test_it_does_so_without_being_told_the_url() -> None:
    with closed_port() as port:
        url = f"http://user:{SECRET}@127.0.0.1:{port}/x;sid={SECRET}?{QUERY}"
        error = raised(lambda: requests.get(url, timeout=5))
    redact_error(error)
    assert not any(spelling in told(error) for spelling in SPELLINGS)
    assert f"/x;sid={REDACTED}?{REDACTED} (Caused by" in str(error)


@pytest.mark.parametrize(
    ("url", "kind", "shown"),
    [
        (f"http://[::1?{QUERY}", exceptions.InvalidURL, "Failed to parse"),
        (f"http://user:{SECRET}/{SECRET}@h/x", exceptions.InvalidURL, "Failed to parse"),
        (f"http://user:{SECRET}@h:port/x?{QUERY}", exceptions.InvalidURL, "Failed to parse"),
        (f"http://user:{SECRET}@h:99999/x?{QUERY}", exceptions.InvalidURL, "h:99999/x"),
        (f"http://?{QUERY}", exceptions.InvalidURL, "No host supplied"),
        (f"//user:{SECRET}@h/x?{QUERY}", exceptions.InvalidSchema, "//h/x"),
        (f"h/x?{QUERY}", exceptions.MissingSchema, "Invalid URL 'h/x'"),
        (f"user:{SECRET}@h/x?{QUERY}", exceptions.InvalidSchema, "No connection adapters"),
        (f"ftp://user:{SECRET}@h/x?{QUERY}", exceptions.InvalidSchema, "ftp://h/x"),
    ],
)
def test_a_url_that_cannot_be_sent(url: str, kind: type[Exception], shown: str) -> None:
    error = raised(lambda: requests.get(url, timeout=5))
    assert type(error) is kind
    redact_error(error, url)
    assert not any(spelling in told(error) for spelling in SPELLINGS)
    assert shown in str(error)


@pytest.mark.parametrize(
    "value", [f"Bearer {SECRET}\n", f" {SECRET}", f"a\r\nb: '{SECRET}'", SECRET.encode() + b"\n"]
)
def test_the_value_of_an_invalid_header(value: str | bytes) -> None:
    error = raised(lambda: requests.get("http://127.0.0.1:9/", headers={"X-Anything": value}))
    assert type(error) in (exceptions.InvalidHeader, ValueError)  # some are left to http.client
    redact_error(error)
    assert not any(spelling in told(error) for spelling in SPELLINGS)
    assert re.search(rf"header value:? {re.escape(REDACTED)}$", str(error))


@pytest.mark.parametrize(
    "value", [["s3cr3t"], {"s3cr3t": ") from ('X-Any', s3cr3t"}, ("s3cr3t must be",), [SECRET, 1]]
)
def test_a_header_that_is_no_text(value: object) -> None:
    error = raised(lambda: requests.get("http://127.0.0.1:9/", headers={"X-Any": value}))
    redact_error(error)
    assert not any(spelling in told(error) for spelling in SPELLINGS)
    assert f"from ('X-Any', {REDACTED}) must be of type str or bytes" in str(error)


def test_a_header_whose_name_is_no_text() -> None:
    text = "Header part (7) from (7, 's3cr3t') must be of type str or bytes, not <class 'int'>"
    error = exceptions.InvalidHeader(text)
    redact_error(error)
    assert str(error) == f"Header part {REDACTED} must be of type str or bytes, not <class 'int'>"


@pytest.mark.parametrize(
    "proxy",
    [
        f"http:///user:{SECRET}@h",
        f"http://user:{SECRET}/x@h",
        f"http://user:{SECRET}@127.0.0.1:{{}}",
    ],
)
def test_the_credentials_of_a_proxy(proxy: str) -> None:
    with closed_port() as port:
        proxies = {"http": proxy.format(port)}
        url = f"http://h/x?{QUERY}"
        error = raised(lambda: requests.get(url, proxies=proxies, timeout=5))
    assert isinstance(error, requests.RequestException)
    redact_error(error, url)
    assert not any(spelling in told(error) for spelling in SPELLINGS)


def test_answers_that_stall_break_off_or_lead_astray(server: ScriptedServer) -> None:
    server.script("/late", forever=Reply(delay=30))
    server.script("/cut", forever=Reply(body=b"x" * 100, cut_at=10, chunked=True))
    server.script("/bad", forever=Reply.redirect("http://u:s3cr3t@h:port/?b=s3cr3t&token=s3cr3t"))
    server.script("/odd", forever=Reply.redirect("odd://user:s3cr3t@h/?a=s3cr3t"))
    server.script("/ring", forever=Reply.redirect("/ring?token=s3cr3t&a=s3cr3t"))
    server.script("/down", forever=Reply(status=503))
    kinds = {
        "/late": requests.ReadTimeout,
        "/cut": exceptions.ChunkedEncodingError,
        "/bad": exceptions.InvalidURL,
        "/odd": exceptions.InvalidSchema,
        "/ring": exceptions.TooManyRedirects,
        "/down": requests.HTTPError,
    }
    for path, kind in kinds.items():
        url = f"{server.url}{path}?{QUERY}"

        def call(url: str = url) -> None:
            requests.get(url, timeout=0.3 if "late" in url else 10).raise_for_status()

        error = raised(call)
        assert type(error) is kind
        redact_error(error, url)
        assert not any(spelling in told(error) for spelling in SPELLINGS), path
        assert str(error)
    assert str(error).endswith(f"for url: {server.url}/down")


def test_errors_of_urllib3_itself() -> None:
    with closed_port() as port, urllib3.PoolManager(retries=0) as pool:
        url = f"http://127.0.0.1:{port}/x?token=s3cr3t&a=s3cr3t"
        errors = [
            raised(lambda: pool.request("GET", url)),
            raised(lambda: urllib3.util.parse_url("http://user:s3cr3t@h:port/")),
            raised(lambda: urllib3.util.parse_url("http://user:s3cr3t/s3cr3t@h")),
            raised(lambda: urllib3.util.parse_url("http://user:s3cr3t@h:99999/?a=s3cr3t")),
        ]
    for error in errors:
        redact_error(error, url)
        assert "s3cr3t" not in told(error)
        assert "s3cr3t" not in repr(vars(error))


def test_the_context_of_an_error_is_redacted_with_it() -> None:
    inner = requests.ConnectionError("token=s3cr3t")
    middle = OSError(5, "token=s3cr3t", "http://u:s3cr3t@h")
    outer = requests.RequestException(middle)
    outer.__context__ = inner
    inner.__cause__ = outer  # a ring
    redact_error(outer)
    assert "s3cr3t" not in told(outer) + told(inner) + told(middle)
    assert middle.errno == 5


def test_an_error_of_the_callers_own_is_left_alone() -> None:
    class OwnError(requests.RequestException):
        pass

    own = OwnError("token=s3cr3t")
    just_handled = ValueError("token=s3cr3t")
    own.__context__ = just_handled
    own.__cause__ = requests.ConnectionError("token=s3cr3t")
    redact_error(own, "http://h/?token=s3cr3t")
    assert str(own) == str(just_handled) == str(own.__cause__) == "token=s3cr3t"


def test_what_was_being_handled_before_is_left_alone() -> None:
    before, error = requests.HTTPError("token=s3cr3t"), requests.ConnectionError("token=s3cr3t")
    error.__context__ = before
    redact_error(error, handled=before)
    assert (str(before), str(error)) == ("token=s3cr3t", "token=[REDACTED]")


def test_what_cannot_be_encoded_is_hidden() -> None:
    with pytest.raises(UnicodeEncodeError) as caught:
        "Bearer s3cr3t€".encode("latin-1")
    redact_error(caught.value)
    assert "s3cr3t" not in repr(caught.value) + str(caught.value) + caught.value.object
