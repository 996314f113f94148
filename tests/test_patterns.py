"""A pattern is compared with the URL as it will be sent, never with its text."""

from __future__ import annotations

import time

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from requests_connection_manager import ConfigurationError
from requests_connection_manager.endpoints import Endpoints
from requests_connection_manager.patterns import Pattern, _as_sent, split_url


def matches(pattern: str, url: str) -> bool:
    return Endpoints({}, {pattern: {"timeout": 7}}).table.resolve(url).settings.timeout == 7


@pytest.mark.parametrize(
    ("pattern", "url"),
    [
        ("api.example.com", "https://api.example.com/"),
        ("api.example.com", "http://api.example.com:8080/x?y=1#z"),
        ("api.example.com", "HTTPS://API.EXAMPLE.COM"),
        ("API.Example.com", "https://api.example.com"),
        ("api.example.com", "https://user:secret@api.example.com/"),
        ("api.example.com:8443", "https://api.example.com:8443/v1"),
        ("api.example.com:443", "https://api.example.com/"),
        ("api.example.com:80", "http://api.example.com/"),
        ("*.example.com", "https://a.example.com/"),
        ("*.example.com", "https://a.b.c.example.com/"),
        ("*.example.com:8443", "https://a.example.com:8443/"),
        ("*.example.com/v1", "https://a.example.com/v1/x"),
        ("api.example.com/v1", "https://api.example.com/v1"),
        ("api.example.com/v1", "https://api.example.com/v1/"),
        ("api.example.com/v1/", "https://api.example.com/v1"),
        ("api.example.com/v1", "https://api.example.com/v1/users?page=2"),
        ("api.example.com/v1", "https://api.example.com/v1?page=2"),
        ("api.example.com/v1", "https://api.example.com/v2/../v1/x"),
        ("api.example.com/v1", "https://api.example.com/./v1"),
        ("api.example.com/v1", "https://api.example.com/%761"),
        ("api.example.com/a%20b", "https://api.example.com/a b/c"),
        ("api.example.com/v1", "https://api.example.com//v1"),
        ("https://api.example.com", "https://api.example.com/x"),
        ("https://api.example.com/v1", "https://api.example.com/v1/x"),
        ("HTTPS://api.example.com", "https://api.example.com/x"),
        ("bücher.example", "https://xn--bcher-kva.example/"),
        ("xn--bcher-kva.example", "https://BÜCHER.example/"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000/"),
        ("[::1]:5000", "http://[::1]:5000/"),
        ("localhost", "http://localhost:1234/"),
        ("my_host", "http://my_host/"),
        ("api.example.com", "https://api.example.com./"),
        ("api.example.com.", "https://api.example.com/"),
        ("api.example.com", "  https://api.example.com/"),
        ("test.com", "mock://test.com/path"),
    ],
)
def test_these_match(pattern: str, url: str) -> None:
    assert matches(pattern, url)


@pytest.mark.parametrize(
    ("pattern", "url"),
    [
        ("api.example.com", "http://evil.test/?x=api.example.com"),
        ("api.example.com", "http://evil.test/#api.example.com"),
        ("api.example.com", "http://evil.test/api.example.com"),
        ("api.example.com", "http://api.example.com.evil.test"),
        ("api.example.com", "http://api.example.com@evil.test"),
        ("api.example.com", "http://api.example.com:80@evil.test/"),
        ("api.example.com", "http://x.api.example.com/"),
        ("api.example.com", "http://notapi.example.com"),
        ("api.example.com", "http://evil.test\\@api.example.com.evil.test/"),
        ("example.com", "http://api.example.com"),
        ("*.example.com", "http://example.com"),
        ("*.example.com", "http://badexample.com"),
        ("*.example.com", "http://a.example.com.evil.test"),
        ("api.example.com:8443", "https://api.example.com/"),
        ("api.example.com:8443", "https://api.example.com:8444/"),
        ("api.example.com:443", "http://api.example.com/"),
        ("https://api.example.com", "http://api.example.com"),
        ("api.example.com/v1", "https://api.example.com/v10"),
        ("api.example.com/v1", "https://api.example.com/"),
        ("api.example.com/v1", "https://api.example.com/V1"),
        ("api.example.com/v1", "https://api.example.com/v1/../admin"),
        ("api.example.com/v1", "https://api.example.com/v1/%2e%2e/admin"),
        ("api.example.com/v1", "https://api.example.com/x/v1"),
        ("api.example.com/v1", "https://api.example.com/?/v1"),
        ("api.example.com/v1/users", "https://api.example.com/v1"),
    ],
)
def test_these_do_not(pattern: str, url: str) -> None:
    assert not matches(pattern, url)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        " ",
        "*",
        "*.",
        "**.example.com",
        "a.*.example.com",
        "api*.example.com",
        "/v1",
        "https://",
        "http:///v1",
        "://api.example.com",
        "api.example.com?x=1",
        "api.example.com/v1?x=1",
        "api.example.com#top",
        "user@api.example.com",
        "user:secret@api.example.com",
        "api.example.com:",
        "api.example.com:0",
        "api.example.com:70000",
        "api.example.com:port",
        "api example.com",
        "api..example.com",
        ".example.com",
        "api.example.com\n",
        "api.example.com\\v1",
        "api.example.com/v1/*",
        "[::1",
        "[::zz]",
        None,
        3,
        b"api.example.com",
        ("api.example.com",),
    ],
)
def test_a_pattern_that_cannot_be_parsed_says_what_can(pattern: object) -> None:
    with pytest.raises(ConfigurationError, match="cannot be parsed.*such as") as caught:
        Pattern.parse(pattern)
    assert caught.value.field == "endpoint_configs"
    assert caught.value.value in (pattern, "[REDACTED]@api.example.com")
    assert "secret" not in f"{caught.value} {caught.value.value}"


def test_the_more_specific_wins_key_by_key_whatever_the_order() -> None:
    configs = {
        "https://api.example.com:8443/v1/users": {"timeout": 1},
        "https://api.example.com/v1": {"timeout": 2, "max_retries": 2},
        "api.example.com/v1": {"timeout": 3, "max_retries": 3, "backoff_max": 3},
        "https://api.example.com:8443": {"timeout": 4, "read_timeout": 4},
        "api.example.com:8443": {"timeout": 5, "connect_timeout": 5, "read_timeout": 5},
        "https://api.example.com": {"timeout": 6, "backoff_factor": 6},
        "api.example.com": {"timeout": 7, "backoff_factor": 7, "total_timeout": 7},
        "*.api.example.com": {"timeout": 99},
        "*.example.com": {"timeout": 8, "total_timeout": 8, "retry_after_max": 8},
        "*.com": {"timeout": 9, "retry_after_max": 9, "rate_limit_max_wait": 9},
    }
    expected = {
        "timeout": 1,
        "max_retries": 2,
        "backoff_max": 3,
        "read_timeout": 4,
        "connect_timeout": 5,
        "backoff_factor": 6,
        "total_timeout": 7,
        "retry_after_max": 8,
        "rate_limit_max_wait": 9,
    }
    for order in (configs, dict(reversed(configs.items()))):
        settings = Endpoints({}, order).table.resolve("https://api.example.com:8443/v1/users/3")
        assert {name: getattr(settings.settings, name) for name in expected} == expected


def test_two_spellings_of_one_pattern_are_refused_together() -> None:
    with pytest.raises(ConfigurationError, match="match the same URLs"):
        Endpoints({}, {"api.example.com/v1": {}, "API.example.com/v1/": {}})


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://", requests.exceptions.InvalidURL),
        ("http:///path", requests.exceptions.InvalidURL),
        ("http://.example.com", requests.exceptions.InvalidURL),
        ("http://*.example.com", requests.exceptions.InvalidURL),
        ("http://example.com:99999/", requests.exceptions.InvalidURL),
        ("http://[::1", requests.exceptions.InvalidURL),
        ("example.com", requests.exceptions.MissingSchema),
        ("", requests.exceptions.MissingSchema),
    ],
)
def test_a_url_that_requests_cannot_send_raises_what_requests_raises(
    url: str, kind: type[Exception]
) -> None:
    with pytest.raises(kind), requests.Session() as plain:
        plain.get(url)
    if url == "http://.example.com":
        return  # the host is looked at when it is prepared
    with pytest.raises(kind):
        Endpoints({}, None).table.resolve(url)


@given(
    st.from_regex(
        r"\Ahttps?://[a-z0-9.-]{1,12}(:[0-9]{1,5})?(/[ -~äß]{0,12}){0,3}([?#][ -~]{0,5})?\Z"
    )
)
def test_the_short_way_of_splitting_agrees_with_requests(url: str) -> None:
    try:
        sent = _as_sent(url)
    except requests.RequestException:
        return
    port = "" if sent.port is None else f":{sent.port}"
    origin, path = split_url(url)
    assert (origin, path) == (
        f"{sent.scheme}://{sent.host.removesuffix('.')}{port}",
        "/" + (sent.path or "").lstrip("/"),
    )


def test_the_look_up_does_not_scan_the_patterns() -> None:
    """Counted, not timed: a rule of another host or path is not even looked at."""
    looked_at = 0

    class Counting(Pattern):
        def serves(self, origin: object) -> bool:
            nonlocal looked_at
            looked_at += 1
            return super().serves(origin)  # type: ignore[arg-type]

    configs = {f"host{n}.example.com": {"timeout": n + 1} for n in range(10_000)}
    endpoints = Endpoints({}, configs)
    table = endpoints.table
    for rules in table._by_host.values():
        rules[:] = [rule._replace(pattern=Counting(**vars(rule.pattern))) for rule in rules]
    assert table.resolve("https://host77.example.com/x").settings.timeout == 78
    assert looked_at == 1
    table.resolve("https://host77.example.com/y")
    assert looked_at == 1


def test_ten_thousand_paths_of_one_host_are_not_scanned_either() -> None:
    configs = {f"api.example.com/v{n}/users": {"timeout": n + 1} for n in range(10_000)}
    table = Endpoints({}, configs).table
    assert table.resolve("https://api.example.com/v42/users/7").settings.timeout == 43
    few = Endpoints({}, dict(list(configs.items())[:50])).table
    few.resolve("https://api.example.com/v42/users/7")

    def cost(of: object) -> float:
        best = float("inf")
        for _ in range(20):
            start = time.thread_time()
            for _ in range(200):
                of.resolve("https://api.example.com/v42/users/7")  # type: ignore[attr-defined]
            best = min(best, time.thread_time() - start)
        return best

    assert cost(table) < 3 * cost(few)  # a scan would cost 200 times as much
