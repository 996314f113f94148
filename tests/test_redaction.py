"""No credential shows in what is made of a request, whatever carries it."""

from __future__ import annotations

import copy
import io
import json
import re
import time
from collections import namedtuple
from collections.abc import Callable
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import pytest
import requests
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from requests.cookies import RequestsCookieJar
from requests.structures import CaseInsensitiveDict

from requests_connection_manager.redaction import (
    REDACTED,
    is_sensitive_field,
    public_url,
    redact_sensitive_data,
    redact_text,
)

SECRET = "s3cr3t-Wert"
STABLE = settings(max_examples=120, deadline=None, derandomize=True, database=None)

SENSITIVE = re.findall(
    r"\S+",
    """
    Authorization Proxy-Authorization auth password passwd pwd passphrase pass secret token %74oken
    %2574oken api_key apikey apiKey APIKey X-API-Key x-aPi-kEy access_key private_key key
    Ocp-Apim-Subscription-Key x-functions-key X-Goog-Api-Key credential credentials Cookie
    Set-Cookie session sessionid JSESSIONID PHPSESSID connect.sid sid jwt bearer signature sig hmac
    otp pin cvv csrf_token xsrf X-CSRFToken client_secret clientSecret refresh_token accessToken
    id_token assertion client_assertion SAMLResponse code_verifier authorization_code auth_code
    accesstoken authtoken clientsecret mypassword dbpassword userpwd user[password] user:password
    X-Amz-Signature X-Amz-Security-Token AWSAccessKeyId X-Hub-Signature-256 password1 token2
    oauth_token password_reset_token signing_key access_tokens SECRET_KEY
    """,
)
HARMLESS = re.findall(
    r"\S+",
    """
    Idempotency-Key public_key publicKey primary_key foreign_key sort_key partition_key cache_key
    author authority author_id keyboard monkey passenger compass secretary session_count page q
    Content-Type User-Agent WWW-Authenticate Proxy-Authenticate ETag max_tokens maxTokens
    total_tokens prompt_tokens completion_tokens_details cache_read_input_tokens token_count
    token_type tokenType tokenizer token_expires_at expires_in nonce keys url username email id name
    value x-ratelimit-remaining-tokens Access-Control-Allow-Credentials Sec-WebSocket-Key bypass
    """,
)


@pytest.mark.parametrize("name", SENSITIVE)
def test_these_names_hold_credentials(name: str) -> None:
    assert is_sensitive_field(name)
    assert is_sensitive_field(name.encode())


@pytest.mark.parametrize("name", [*HARMLESS, "", None, 7, ("token",)])
def test_these_do_not(name: object) -> None:
    assert not is_sensitive_field(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:S@h/x", "http://[REDACTED]@h/x"),
        ("http://S@h", "http://[REDACTED]@h"),
        ("http://user:S@S@h/x?a=b@c", "http://[REDACTED]@h/x?a=b@c"),
        ("http://user:a/S@h/x", "http://[REDACTED]@h/x"),
        ("http://user:p%40S%2F@h/", "http://[REDACTED]@h/"),
        ("user:S@h:80/x", "[REDACTED]@h:80/x"),
        ("see http://u:'S'@h, or b@c", "see http://[REDACTED]@h, or b@c"),
        (
            "/x?a=1&token=S&b=2#access_token=S",
            "/x?a=1&token=[REDACTED]&b=2#access_token=[REDACTED]",
        ),
        ("/x;jsessionid=S?a=1", "/x;jsessionid=[REDACTED]?a=1"),
        ("/x?%74oken=S", "/x?%74oken=[REDACTED]"),
        ("/x?sig=a/b+c==,S;S", "/x?sig=[REDACTED]"),
        ("next=%2Fx%3Ftoken%3DS", "next=/x%3Ftoken%3D[REDACTED]"),
        ("a=1&token=S", "a=1&token=[REDACTED]"),
        ("Authorization: Basic S\r\nHost: h", "Authorization: [REDACTED]\r\nHost: h"),
        ("Authorization: Digest a=b,\r\n S\r\nHost: h", "Authorization: [REDACTED]\r\nHost: h"),
        ("Cookie: a=b; c=S\nHost: h", "Cookie: [REDACTED]\nHost: h"),
        ("curl -H 'X-Key: a S' http://h", "curl -H 'X-Key: [REDACTED]' http://h"),
        ("sent\\r\\nCookie: S", "sent\\r\\nCookie: [REDACTED]"),
        ("refused Bearer SSSSSS.", "refused Bearer [REDACTED]"),
        ("Token SSSSSS was sent", "Token [REDACTED] was sent"),
        ('Digest username="u", response="S"', "Digest [REDACTED]"),
        ('{"token": "S", "a": 1}', '{"token": "[REDACTED]", "a": 1}'),
        ('{"\\u0074oken": "S", "pin": null}', '{"token": "[REDACTED]", "pin": null}'),
        ('{"a": {"token": "S"}, "a": 1}', '{"a": 1}'),
        ('"{\\"token\\": \\"S\\"}"', '"{\\"token\\": \\"[REDACTED]\\"}"'),
        ('got {"token": "a\\"S", "a": 1}', 'got {"token": "[REDACTED]", "a": 1}'),
        ('got {\\"token\\": \\"S\\"}', 'got {\\"token\\": \\"[REDACTED]\\"}'),
        (
            "{'token': 'S', 'pin': 12, 'a': 1}",
            "{'token': '[REDACTED]', 'pin': '[REDACTED]', 'a': 1}",
        ),
        ("{'auth': ('S', 'S'), 'a': 1}", "{'auth': '[REDACTED]', 'a': 1}"),
        ("[('token', 'S'), ('a', 'b')]", "[('token', '[REDACTED]'), ('a', 'b')]"),
        ("[{'name': 'token', 'value': 'S'}]", "[{'name': 'token', 'value': '[REDACTED]'}]"),
        ("f(token='S S', timeout=3)", "f(token='[REDACTED]', timeout=3)"),
        ("f(auth=('S', 'S'), timeout=3)", "f(auth=[REDACTED], timeout=3)"),
        ("f(auth=HTTPBasicAuth('S', 'S'), a=3)", "f(auth=[REDACTED], a=3)"),
        ("{'token':\n  'S'}", "{'token':\n  '[REDACTED]'}"),
        ("<a:password b='c'>S</a:password>", "<a:password b='c'>[REDACTED]</a:password>"),
        (
            '--b\r\nContent-Disposition: form-data; name="token"\r\n\r\nS\nS\r\n--b--',
            '--b\r\nContent-Disposition: form-data; name="token"\r\n\r\n[REDACTED]\r\n--b--',
        ),
    ],
)
def test_a_text_is_shown_without(text: str, shown: str) -> None:
    assert redact_text(text) == shown
    assert redact_text(shown) == shown
    assert redact_sensitive_data(text.encode()) == shown.encode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://api.example.com:8443/v1/users?page=2&q=a%20b#top",
        "HTTPConnectionPool(host='auth', port=80): Max retries exceeded with url: /token (by",
        "http://auth:8080/x, http://token:80",
        'WWW-Authenticate: Bearer realm="x", error="invalid_token"',
        "Basic authentication is required; the token expired.",
        "write to joe@example.com: it's 5 o'clock",
        '{"a": [1.0, null, "x"], "max_tokens": 7}',
        '{"key": "color", "value": "red"}',
        "token=None, password=''",
        "<html><body class='token'>50% = half</body></html>",
    ],
)
def test_a_harmless_text_comes_through(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({b"Token": b"S", 3: "x"}, {b"Token": REDACTED, 3: "x"}),
        (CaseInsensitiveDict({"X-API-Key": "S"}), {"X-API-Key": REDACTED}),
        ({"auth": ("S", "S"), "tokens": ["S"]}, {"auth": REDACTED, "tokens": REDACTED}),
        ({"a": [{"b": ({"pin": 7},)}]}, {"a": [{"b": ({"pin": REDACTED},)}]}),
        ({"token": None, "key": False, "pin": ""}, {"token": None, "key": False, "pin": ""}),
        ([("token", "S"), ["key", "S"]], [("token", REDACTED), ["key", REDACTED]]),
        (["token", "page"], ["token", "page"]),
        ({("token", "S"), "a"}, {("token", REDACTED), "a"}),
        ({"Name": "token", "Value": "S"}, {"Name": "token", "Value": REDACTED}),
        ({"key": "token", "value": "S"}, {"key": "token", "value": REDACTED}),
        ({"key": "S"}, {"key": REDACTED}),
        ({"http://u:S@h/": 1}, {"http://[REDACTED]@h/": 1}),
        ({"a": '{"b": "{\\"token\\": 7}"}'}, {"a": '{"b": "{\\"token\\": \\"[REDACTED]\\"}"}'}),
        (ValueError("token=S"), "token=[REDACTED]"),
        (b"\xff?token=S", b"\xff?token=[REDACTED]"),
        (b'"\xff", {"token": "\\ud800S"}', b'"\xff", {"token": "[REDACTED]"}'),
        ('["ä\\ud800 token=S"]'.encode(), '["ä'.encode() + b'\xed\xa0\x80 token=[REDACTED]"]'),
        (bytearray(b"token=S"), bytearray(b"token=[REDACTED]")),
        ({"a": 1}.items(), [("a", 1)]),
    ],
)
def test_a_value_is_shown_without(value: Any, shown: Any) -> None:
    result = redact_sensitive_data(value)
    assert result == shown
    assert type(result) is type(shown)


def test_a_named_tuple_keeps_its_kind() -> None:
    login = namedtuple("login", "user password")
    assert redact_sensitive_data(login("joe", "S")) == login("joe", REDACTED)


@pytest.mark.parametrize("kind", [CookieJar, RequestsCookieJar])
def test_no_cookie_is_shown(kind: type[CookieJar]) -> None:
    jar = kind()
    jar.set_cookie(requests.cookies.create_cookie("a", SECRET))
    assert redact_sensitive_data({"x": jar, "y": list(jar)}) == {
        "x": {"a": REDACTED},
        "y": [REDACTED],
    }


def test_what_is_no_value_in_memory_is_left_alone() -> None:
    stream, generator, unknown = io.BytesIO(b"token=S"), (part for part in [b"x"]), object()
    given_ = {"a": stream, "b": generator, "c": unknown, "d": requests.Request("GET", "http://h")}
    assert redact_sensitive_data(given_) == given_
    assert stream.tell() == 0
    assert next(generator) == b"x"


def test_what_contains_itself_or_goes_too_deep_ends() -> None:
    ring: dict[str, Any] = {"token": SECRET}
    ring["self"] = [ring]
    assert redact_sensitive_data(ring) == {"token": REDACTED, "self": [REDACTED]}
    deep: Any = SECRET
    for _ in range(10_000):
        deep = [deep]
    assert SECRET not in repr(redact_sensitive_data(deep))
    text = "[" * 10_000 + f'{{"token": "{SECRET}"}}' + "]" * 10_000
    assert SECRET not in redact_text(text)
    wide: Any = {"token": SECRET}
    for _ in range(60):
        wide = [wide, wide]  # 2 to the 60 ways lead to the secret
    first = redact_sensitive_data(wide)
    while isinstance(first, list):
        first = first[0]
    assert first == {"token": REDACTED}


def test_a_container_that_raises_is_hidden() -> None:
    class Broken(dict[str, str]):
        def items(self) -> Any:
            raise OSError(SECRET)

    assert redact_sensitive_data([Broken(a="b")]) == REDACTED


def encoded(secret: str) -> set[str]:
    spellings = {secret, repr(secret)[1:-1], quote(secret, safe=""), quote_plus(secret)}
    return spellings | {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}


CARRIERS: list[Callable[[str, str], Any]] = [
    lambda name, secret: {name: secret},
    lambda name, secret: {"a": [{"b": {name.encode(): [secret, {"c": secret}]}}]},
    lambda name, secret: CaseInsensitiveDict({name: secret}),
    lambda name, secret: [("page", "1"), (name, secret)],
    lambda name, secret: [["page", "1"], [name, secret]],
    lambda name, secret: {"headers": [{"name": name, "value": secret}]},
    lambda name, secret: urlencode({"page": "1", name: secret, "b": "2"}),
    lambda name, secret: urlencode({"page": "1", name: secret}).encode(),
    lambda name, secret: f"https://h:1/x?a=b&{urlencode({name: secret})}#top",
    lambda name, secret: f"https://h/x#{quote(name)}={quote(secret)}&a=b",
    lambda name, secret: "next=" + quote(f"https://h/x?{urlencode({name: secret})}", safe=""),
    lambda name, secret: f"https://user:{quote(secret, safe='')}@h/x",
    lambda name, secret: f"https://{quote(secret, safe='')}@h/x",
    lambda name, secret: json.dumps({"a": [{name: secret}], "b": 1}),
    lambda name, secret: json.dumps({"a": {name: {"b": secret}}}, ensure_ascii=False).encode(),
    lambda name, secret: json.dumps({"a": json.dumps([{"b": json.dumps({name: secret})}])}),
    lambda name, secret: "got: " + json.dumps({"a": json.dumps({"b": json.dumps({name: secret})})}),
    lambda name, secret: f"sent { ({'a': 1, name: secret, 'b': [(name, secret)]})!r} in vain",
    lambda name, secret: ValueError(f"got {json.dumps({'a': [1, {name: [secret, 2]}]})}, sorry"),
    lambda name, secret: {"log": [f"kwargs={ ({'json': json.dumps({name: secret})})!r}"]},
    lambda name, secret: f"GET /x HTTP/1.1\r\n{name}: {secret}\r\nHost: h",
    lambda name, secret: f"curl -d {json.dumps(json.dumps({name: secret}))} http://h",
]
plain_names = [name for name in SENSITIVE if "%" not in name and ":" not in name]
secrets = st.text(
    st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=8
)


@STABLE
@given(st.sampled_from(range(len(CARRIERS))), st.sampled_from(plain_names), secrets)
def test_a_secret_shows_nowhere(number: int, name: str, secret: str) -> None:
    assume(secret.strip() == secret and secret not in REDACTED)
    value = CARRIERS[number](name, secret)
    before = copy.deepcopy(value)
    shown = redact_sensitive_data(value)
    for spelling in encoded(secret):
        assert spelling not in str(shown)
        assert spelling not in repr(shown)
    assert REDACTED in repr(shown) or quote(REDACTED) in repr(shown)
    assert redact_sensitive_data(shown) == shown
    assert isinstance(value, Exception) or value == before


harmless = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("abcäß .-_\n"),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(HARMLESS[:30]), inner),
    max_leaves=20,
)


@STABLE
@given(harmless)
def test_harmless_values_come_through(value: Any) -> None:
    assert redact_sensitive_data(value) == value
    text = json.dumps(value)
    assert redact_text(text) == text
    assert redact_text(f"got {value!r} and {text}") == f"got {value!r} and {text}"


fragments = re.findall(
    r"\S+",
    r"""token= token: key 'token': "pin": \ \" ' " [ ] { } ( ) , ; & ? # @ // : = % %3D""",
)
pieces = st.sampled_from(
    [*fragments, " ", "\n", "Bearer abcdef", "http://u:p@h", "a", "1", REDACTED]
)


@settings(STABLE, max_examples=400)
@given(st.lists(pieces, max_size=12).map("".join))
def test_twice_is_once(text: str) -> None:
    once = redact_text(text)
    assert redact_text(once) == once


@pytest.mark.parametrize(
    "part",
    [
        *re.findall(r"\S+", r"""a = & " @ / : { [ % \ //a:b a= 'token': token=( token=, %25 ;a="""),
        '"name":\'a',
        '"token: a\n',
        "token: a\n",
        "a  ",
        "Bearer ",
        "Digest ",
    ],
)
def test_hostile_text_costs_linear_time(part: str) -> None:
    def cost(size: int) -> float:
        text, best = part * (size // len(part)), float("inf")
        for _ in range(3):
            start = time.thread_time()
            redact_text(text)
            best = min(best, time.thread_time() - start)
        return best

    def is_linear() -> bool:
        return cost(80_000) < 10 * cost(20_000) + 0.01  # quadratic: 16 times

    assert any(is_linear() for _ in range(5))  # something else may have had the machine meanwhile


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h/x;jsessionid=S/y;v=1?a=b", "http://h/x;jsessionid=[REDACTED]/y;v=1"),
        ("http://user:S/S@h/x", "http://[REDACTED]"),
        ("http://user:S?S@h/x", "http://[REDACTED]"),
        ("http://[::1]:80/x//b:c", "http://[::1]:80/x//b:c"),
        ("/x//b:c?token=S", "/x//b:c"),
    ],
)
def test_a_public_url_tells_no_part_of_a_password(url: str, shown: str) -> None:
    assert public_url(url) == shown
