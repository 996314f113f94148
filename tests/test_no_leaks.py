"""A secret, wherever it is put, is in nothing that is logged, raised or shown."""

from __future__ import annotations

import json
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from requests_connection_manager import ConnectionManager, redact_sensitive_data
from tests.server import Reply, ScriptedServer

SECRET = "s3cret"
Carrier = Callable[[str, str, str], dict[str, Any]]

SECRETS = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=10, max_size=20
).map(lambda text: "S3" + text)
NAMES = st.sampled_from(
    ["api_key", "token", "access_token", "X-Api-Key", "client_secret", "password", "sessionid"]
)


def in_query(url: str, name: str, secret: str) -> dict[str, Any]:
    return {"url": f"{url}?a=1&{name}={quote(secret, safe='')}"}


def in_params(url: str, name: str, secret: str) -> dict[str, Any]:
    return {"url": url, "params": {name: secret}}


def in_fragment(url: str, name: str, secret: str) -> dict[str, Any]:
    return {"url": f"{url}#{name}={quote(secret, safe='')}"}


def in_user_info(url: str, name: str, secret: str) -> dict[str, Any]:
    return {"url": url.replace("//", f"//me:{quote(secret, safe='')}@")}


def in_header(url: str, name: str, secret: str) -> dict[str, Any]:
    return {"url": url, "headers": {name.replace("_", "-"): secret}}


def in_bad_header(url: str, name: str, secret: str) -> dict[str, Any]:
    return {"url": url, "headers": {name.replace("_", "-"): secret + "\n"}}


def in_cookie(url: str, name: str, secret: str) -> dict[str, Any]:
    return {"url": url, "cookies": {name: quote(secret, safe="")}}


def in_json(url: str, name: str, secret: str) -> dict[str, Any]:
    return {"url": url, "json": {"a": [{"b": {name: [secret]}}]}}


def in_form(url: str, name: str, secret: str) -> dict[str, Any]:
    return {"url": url, "data": {name: secret, "a": 1}}


def in_auth(url: str, name: str, secret: str) -> dict[str, Any]:
    return {"url": url, "auth": ("me", secret)}


CARRIERS = [
    *(in_query, in_params, in_fragment, in_user_info, in_header, in_bad_header),
    *(in_cookie, in_json, in_form, in_auth),
]


class Log(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(logging.Formatter().format(record))


@pytest.fixture
def log() -> Iterator[Log]:
    logger, handler = logging.getLogger("requests_connection_manager"), Log()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


def told_by(error: BaseException) -> str:
    return "\n".join(
        [
            *(repr(error), str(error), repr(getattr(error, "attempts", ""))),
            *(repr(getattr(error, "last_error", "")), repr(error.__cause__)),
            *traceback.format_exception_only(error),
            "".join(
                line for each in chain(error) for line in traceback.format_exception_only(each)
            ),
            repr(pickle.loads(pickle.dumps(error))),
        ]
    )


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def spellings(secret: str) -> set[str]:
    """The secret as text, in a URL, in a form, in JSON, and in a repr."""
    return {
        *(secret, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1]),
        *(repr(secret)[1:-1], urlencode({"": secret})[1:]),
    }


@pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.__name__)
@given(name=NAMES, secret=SECRETS)
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_secret_is_neither_logged_nor_raised_nor_shown(
    carrier: Carrier, name: str, secret: str, server: ScriptedServer, log: Log
) -> None:
    server.script("/ok", Reply())
    server.script("/down", Reply(status=503))
    server.script("/cut", Reply(cut_at=1))
    server.script("/away", Reply.redirect("http://127.0.0.1:1/gone"))
    log.lines.clear()
    told: list[str] = []
    with ConnectionManager(
        backoff_factor=0,
        max_retries=1,
        circuit_breaker_failure_threshold=3,
        rate_limit_requests=1000,
    ) as manager:
        manager.on_attempt(lambda event: told.append(repr(event)))
        manager.on_breaker_change(lambda event: told.append(repr(event)))
        manager.register_error_hook(lambda context: 1 / 0)
        for url in (
            *(server.url + path for path in ("/ok", "/down", "/cut", "/away")),
            *("http://127.0.0.1:1/refused", "ftp://a.test/b", "http:///nothing", "no-scheme"),
            *("http://127.0.0.1:99999/port", "http://exa mple.test/blank"),
        ):
            arguments = carrier(url, name, secret)
            try:
                response = manager.request("POST", **arguments)
                told.append(repr(response))
            except (requests.RequestException, ValueError) as error:  # http.client's, for a header
                told.append(told_by(error))
            told.append(repr(manager.explain(server.url)))
        told += [str(manager.stats()), repr(manager.stats()), repr(manager.get_stats())]
        told.append(repr(redact_sensitive_data(carrier(server.url, name, secret))))
    everything = "\n".join([*told, *log.lines])
    assert log.lines
    for spelling in spellings(secret):
        assert spelling not in everything


def test_an_error_without_retries_is_the_plain_one_without_the_secret(
    server: ScriptedServer,
) -> None:
    server.pause()
    with (
        ConnectionManager(max_retries=0) as manager,
        pytest.raises(requests.ConnectionError) as caught,
    ):
        manager.get(server.url + "/a", params={"q": "harmless", "token": SECRET})
    assert type(caught.value) is requests.ConnectionError
    assert "Max retries exceeded with url: /a" in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
