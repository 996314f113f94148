"""What is read of a server's rate limit in its answers' headers."""

from __future__ import annotations

import math
import time
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from requests_connection_manager.policies.server_limits import stated_pause

NOW = 1_800_000_000.0
"""Fri, 15 Jan 2027 08:00:00 GMT"""
DATE = "Fri, 15 Jan 2027 08:00:00 GMT"


def pause(status: object, headers: dict[str, str], now: float = NOW) -> float:
    return stated_pause(status, CaseInsensitiveDict(headers), now)


REAL = [
    ("GitHub, well within", 200, 0, {
        "X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "4987", "X-RateLimit-Used": "13",
        "X-RateLimit-Reset": "1800000900", "X-RateLimit-Resource": "core"}),
    ("GitHub, the last request of the hour", 200, 900, {
        "x-ratelimit-limit": "60", "x-ratelimit-remaining": "0", "x-ratelimit-used": "60",
        "x-ratelimit-reset": "1800000900", "x-ratelimit-resource": "core"}),
    ("GitHub, primary limit", 403, 900, {
        "X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": "1800000900"}),
    ("GitHub, secondary limit", 429, 60, {
        "Retry-After": "60", "X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "4900",
        "X-RateLimit-Reset": "1800003000"}),
    ("GitHub, secondary limit, without a word on when", 429, 0, {
        "X-RateLimit-Remaining": "4900", "X-RateLimit-Reset": "1800003000"}),
    ("GitLab", 429, 37, {
        "RateLimit-Limit": "600", "RateLimit-Observed": "601", "RateLimit-Remaining": "0",
        "RateLimit-Reset": "1800000060", "RateLimit-ResetTime": "Fri, 15 Jan 2027 08:01:00 GMT",
        "Retry-After": "37"}),
    ("GitLab, without Retry-After", 429, 60, {
        "RateLimit-Remaining": "0", "RateLimit-Reset": "1800000060",
        "RateLimit-ResetTime": "Fri, 15 Jan 2027 08:01:00 GMT"}),
    ("Discord, the bucket is empty", 200, 64.57, {
        "X-RateLimit-Limit": "5", "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": "1800000065.123", "X-RateLimit-Reset-After": "64.57",
        "X-RateLimit-Bucket": "abcd1234"}),
    ("Discord, refused", 429, 65, {
        "Retry-After": "65", "X-RateLimit-Limit": "10", "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": "1800000065.123", "X-RateLimit-Reset-After": "64.57",
        "X-RateLimit-Scope": "user"}),
    ("Shopify", 429, 2, {
        "Retry-After": "2.0", "X-Shopify-Shop-Api-Call-Limit": "40/40"}),
    ("Shopify, well within", 200, 0, {"X-Shopify-Shop-Api-Call-Limit": "32/40"}),
    ("Jira, the minute only", 429, 60, {
        "X-RateLimit-Reset": "2027-01-15T08:01Z", "X-RateLimit-NearLimit": "true"}),
    ("Jira", 429, 45, {
        "Retry-After": "45", "X-RateLimit-Limit": "100", "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": "2027-01-15T09:00:00Z",
        "RateLimit-Reason": "jira-quota-global-based"}),
    ("Jira, the hour's points are spent", 200, 600, {
        "Beta-RateLimit-Policy": '"global-app-quota";q=65000;w=3600,"jira-burst-based";q=100;w=1',
        "Beta-RateLimit": '"global-app-quota";r=0;t=600'}),
    ("Jira, well within: it leaves r out", 200, 0, {
        "Beta-RateLimit-Policy": '"global-app-quota";q=65000;w=3600',
        "Beta-RateLimit": '"global-app-quota";t=3200'}),
    ("Confluence Data Center, tokens are left", 200, 0, {
        "X-RateLimit-Limit": "10", "X-RateLimit-Remaining": "5", "X-RateLimit-FillRate": "2",
        "X-RateLimit-Interval-Seconds": "60", "Retry-After": "0"}),
    ("Slack", 429, 30, {"Retry-After": "30"}),
    ("X", 429, 540, {
        "x-rate-limit-limit": "900", "x-rate-limit-remaining": "0",
        "x-rate-limit-reset": "1800000540"}),
    ("Okta", 429, 12, {
        "X-Rate-Limit-Limit": "600", "X-Rate-Limit-Remaining": "0",
        "X-Rate-Limit-Reset": "1800000012"}),
    ("Zendesk, well within", 200, 0, {
        "x-rate-limit": "700", "ratelimit-limit": "700", "x-rate-limit-remaining": "699",
        "ratelimit-remaining": "699", "ratelimit-reset": "41",
        "zendesk-ratelimit-tickets-index": "total=100; remaining=99; resets=41"}),
    ("Zendesk, spent", 200, 41, {
        "x-rate-limit": "700", "ratelimit-limit": "700", "x-rate-limit-remaining": "0",
        "ratelimit-remaining": "0", "ratelimit-reset": "41"}),
    ("Reddit", 200, 0, {
        "x-ratelimit-remaining": "599.0", "x-ratelimit-used": "1", "x-ratelimit-reset": "327"}),
    ("Reddit, spent", 200, 327, {
        "x-ratelimit-remaining": "0.0", "x-ratelimit-used": "600", "x-ratelimit-reset": "327"}),
    ("OpenAI", 200, 0, {
        "x-ratelimit-limit-requests": "5000", "x-ratelimit-limit-tokens": "160000",
        "x-ratelimit-remaining-requests": "4999", "x-ratelimit-remaining-tokens": "159976",
        "x-ratelimit-reset-requests": "12ms", "x-ratelimit-reset-tokens": "9ms"}),
    ("OpenAI, no request is left", 200, 0.12, {
        "x-ratelimit-remaining-requests": "0", "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-requests": "120ms", "x-ratelimit-reset-tokens": "6m0s"}),
    ("OpenAI, no token is left", 429, 360, {
        "x-ratelimit-remaining-requests": "59", "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-remaining-tokens_usage_based": "0", "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-reset-tokens_usage_based": "9ms"}),
    ("Azure OpenAI, which does not know", 200, 0, {
        "x-ratelimit-limit-tokens": "-1", "x-ratelimit-remaining-tokens": "-1",
        "x-ratelimit-reset-tokens": "0"}),
    ("Tyk, a key without a quota", 200, 0, {
        "X-RateLimit-Limit": "-1", "X-RateLimit-Remaining": "-1",
        "X-RateLimit-Reset": "1800003600"}),
    ("Tyk, a key without a quota, refused for its rate", 429, 0, {
        "X-RateLimit-Limit": "-1", "X-RateLimit-Remaining": "-1",
        "X-RateLimit-Reset": "1800003600"}),
    ("of tokens there is no limit, of requests there is", 200, 30, {
        "x-ratelimit-limit-tokens": "-1", "x-ratelimit-remaining-tokens": "-1",
        "x-ratelimit-reset-tokens": "3600", "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "30"}),
    ("Groq", 200, 179.56, {
        "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "2m59.56s"}),
    ("Anthropic", 200, 3, {
        "anthropic-ratelimit-requests-limit": "50", "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": "2027-01-15T08:00:03Z",
        "anthropic-ratelimit-tokens-remaining": "40000",
        "anthropic-ratelimit-tokens-reset": "2027-01-15T08:01:00Z"}),
    ("Docker Hub", 200, 0, {
        "ratelimit-limit": "100;w=21600", "ratelimit-remaining": "76;w=21600",
        "docker-ratelimit-source": "192.0.2.1"}),
    ("Docker Hub, spent: a window is no reset", 200, 0, {
        "ratelimit-limit": "100;w=21600", "ratelimit-remaining": "0;w=21600"}),
    ("Stripe", 429, 0, {"Stripe-Rate-Limited-Reason": "global-rate"}),
    ("Kong", 429, 12, {
        "X-RateLimit-Limit-Minute": "10", "X-RateLimit-Remaining-Minute": "0",
        "RateLimit-Limit": "10", "RateLimit-Remaining": "0", "RateLimit-Reset": "12"}),
    ("Envoy", 429, 1, {
        "x-ratelimit-limit": '10, 10;w=1;name="per-ip"', "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": "1"}),
    ("lemlist, whose offset is beyond us", 200, 0, {
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": "Fri Jan 15 2027 09:00:42 GMT+0100 (Central European Standard Time)",
    }),
]  # fmt: skip


@pytest.mark.parametrize(("status", "seconds", "headers"), [row[1:] for row in REAL],
                         ids=[row[0] for row in REAL])  # fmt: skip
def test_what_well_known_apis_state(status: int, seconds: float, headers: dict[str, str]) -> None:
    assert pause(status, {"Date": DATE, **headers}) == pytest.approx(seconds)
    assert pause(status, headers) == pytest.approx(seconds)
    # A client whose clock is a day off reads the same, by the server's.
    assert pause(status, {"Date": DATE, **headers}, NOW + 86400) == pytest.approx(seconds)
    shouted = {name.upper(): value for name, value in headers.items()}
    assert stated_pause(status, shouted, NOW) == pytest.approx(seconds)  # a plain dict


@pytest.mark.parametrize(
    ("limit", "policy", "seconds"),
    [
        # current: structured fields (drafts 08 to 11)
        ('"default";r=0;t=30', "", 30),
        ('"default";r=50;t=30', "", 0),
        ('"default";r=0', '"default";q=100;w=60', 60),
        ('"default";r=0;t=7', '"default";q=100;w=60', 7),
        ('"default";r=0', '"other";q=100;w=60', 0),
        ('"default";r=0', "", 0),
        ('"default";r=999;pk=:dHJpYWwxMjEzMjM=:', '"default";q=1000;w=60', 0),
        ('"default";r=0;t=60;pk=:QXBwLTk5OQ==:', "", 60),
        ('"burst";r=0;t=5, "daily";r=10;t=9000', "", 5),
        ('"burst";r=0;t=5,"daily";r=0;t=9000', "", 9000),
        ('"burst";r=0,"daily";r=1', '"burst";q=100;w=60,"daily";q=1000;w=86400', 60),
        ('"a, b; c";r=0; t=4', "", 4),
        (r'"a\"; r=5, b";r=0;t=4', "", 4),
        ("default;r=0;t=30", "", 30),  # a token: what some servers send
        # draft 07: a dictionary
        ("limit=100, remaining=0, reset=30", "100;w=60", 30),
        ("limit=100, remaining=1, reset=30", "100;w=60", 0),
        ("limit=100,remaining=0", "100;w=60", 0),
        # malformed
        ("", "", 0),
        ('"default', "", 0),
        ('"default;r=0;t=30', "", 0),
        ('"default";r=0;t=30,"other', "", 30),
        (";;;,,,", ",;=", 0),
        ('"default";r=;t=', "", 0),
        ('"default";r=0;t=-1', "", 0),
        ('"default";r=0;t=soon', "", 0),
        ('"default";r=nan;t=5', "", 0),
    ],
)  # fmt: skip
def test_the_drafts_of_ietf_httpapi(limit: str, policy: str, seconds: float) -> None:
    assert pause(200, {"RateLimit": limit, "RateLimit-Policy": policy}) == seconds


@pytest.mark.parametrize(
    ("remaining", "reset", "seconds"),
    [("0", "50", 50), ("1", "50", 0), ("0", "0", 0), ("0", None, 0), (None, "50", 0)],
)
def test_draft_03(remaining: str | None, reset: str | None, seconds: float) -> None:
    headers = {"RateLimit-Limit": "100, 100;w=60", "RateLimit-Remaining": remaining}
    headers["RateLimit-Reset"] = reset
    assert pause(200, {name: text for name, text in headers.items() if text}) == seconds


@pytest.mark.parametrize(
    ("hint", "seconds"),
    [
        ("120", 120),
        (" 120 ", 120),
        ("0", 0),
        ("2.0", 2),
        ("0.25", 0.25),
        ("Fri, 15 Jan 2027 08:00:30 GMT", 30),
        ("Friday, 15-Jan-27 08:00:30 GMT", 30),
        ("Fri Jan 15 08:00:30 2027", 30),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
        ("1800000030", 30),  # against RFC 9110, but not 57 years
    ],
)
def test_retry_after(hint: str, seconds: float) -> None:
    for status in (429, 503):
        assert pause(status, {"Retry-After": hint}) == seconds
        assert pause(status, {"Retry-After": hint, "Date": DATE}, NOW + 999) == seconds
    for status in (200, 301, 403, 413, 500):
        assert pause(status, {"Retry-After": hint}) == 0


def test_retry_after_speaks_alone_but_only_where_it_is_valid_and_has_a_say() -> None:
    reset = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "30"}
    for status in (429, 503):
        assert pause(status, {"Retry-After": "5", **reset}) == 5
        assert pause(status, {"Retry-After": "0", **reset}) == 0
        assert pause(status, {"Retry-After": "soon", **reset}) == 30
    assert pause(200, {"Retry-After": "5", **reset}) == 30


def test_a_date_of_a_clock_that_was_never_set_is_not_believed() -> None:
    reset = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1800000030"}
    for date in ("Thu, 01 Jan 1970 00:00:09 GMT", "today", "", "Fri, 99 Foo 2027 99:99:99 GMT"):
        assert pause(200, {"Date": date, **reset}) == 30


def test_what_a_cache_kept_states_nothing_of_now() -> None:
    reset = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "30"}
    assert pause(200, {"Age": "7", **reset}) == 0
    assert pause(200, {"Age": "0", **reset}) == 30
    assert pause(503, {"Age": "7", "Retry-After": "3"}) == 3


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        ("30", 30),
        ("86400", 86400),
        ("999999999", 999999999),
        ("1000000000", 0),  # September 2001
        ("1800000030", 30),
        ("1800000030.5", 30.5),
        ("1800000030500", 30.5),
        ("1800000030500000", 30.5),
        ("1799999999", 0),
        ("2027-01-15T08:00:30Z", 30),
        ("2027-01-15T08:00:30.5Z", 30.5),
        ("2027-01-15T08:00:30.123456789Z", 30.123456),
        ("2027-01-15T09:00:30+01:00", 30),
        ("2027-01-15T09:00:30+0100", 30),
        ("2027-01-15 08:00:30", 30),
        ("2027-01-15 08:00:30 UTC", 30),
        ("2027-01-15 09:00:30 +0100", 30),
        ("Fri, 15 Jan 2027 08:00:30 GMT", 30),
        ("1h2m3s", 3723),
        ("1.5s", 1.5),
        ("1d", 86400),
    ],
)
def test_every_form_of_a_reset(reset: str, seconds: float) -> None:
    got = pause(200, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset})
    assert got == pytest.approx(seconds, abs=1e-3)


MALFORMED = [
    "", " ", "-1", "-0.5", "nan", "inf", "-inf", "Infinity", "1e9", "0x1f", "+5", "1_000", "٣",
    "9" * 21, "9" * 500, "9" * 100_000, "1s" * 5000, "5 s", "s", "1.s", "1w", "30, 60", "soon",
    "Fri, 99 Foo 2027 99:99:99 GMT", "Mon, 01 Jan 99999 00:00:00 GMT", "2027-13-45T99:99:99Z",
    "2027-", "99999-01-01T00:00:00Z", "\x00", "Thu, 01 Jan 1 00:00:00 +9999999999",
]  # fmt: skip


@pytest.mark.parametrize("text", MALFORMED)
def test_what_is_malformed_is_ignored(text: str) -> None:
    assert pause(429, {"Retry-After": text}) == 0
    assert pause(429, {"Retry-After": text, "X-RateLimit-Reset": "8"}) == 8
    assert pause(200, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": text}) == 0
    after = {"X-RateLimit-Reset-After": text, "X-RateLimit-Reset": "8"}
    assert pause(200, {"X-RateLimit-Remaining": "0", **after}) == 8
    if not text.startswith("-"):  # what is overdrawn is spent
        assert pause(200, {"X-RateLimit-Remaining": text, "X-RateLimit-Reset": "8"}) == 0


@pytest.mark.parametrize(("left", "seconds"), [("1", 0), ("1.0", 0), ("0.9", 8), ("-3", 8)])
def test_less_than_one_left_is_nothing(left: str, seconds: float) -> None:
    assert pause(200, {"X-RateLimit-Remaining": left, "X-RateLimit-Reset": "8"}) == seconds


def test_a_remaining_that_is_not_stated_counts_on_429_only() -> None:
    for status, seconds in ((200, 0), (403, 0), (503, 0), (429, 8)):
        assert pause(status, {"X-RateLimit-Reset": "8"}) == seconds


def test_families_do_not_lend_each_other_their_resets() -> None:
    assert pause(200, {"X-RateLimit-Remaining-Tokens": "0", "X-RateLimit-Reset-Requests": "8"}) == 0


@pytest.mark.parametrize(
    "headers",
    [
        None, 7, object(), [], ["X-RateLimit-Remaining"], "retry-after", mock.Mock(),
        mock.MagicMock(), {1: "2"}, {b"Retry-After": b"5"}, {"Retry-After": 5},
        {"Retry-After": None, "X-RateLimit-Remaining": mock.Mock(), "X-RateLimit-Reset": []},
    ],
)  # fmt: skip
def test_what_stands_in_for_an_answer_states_nothing(headers: object) -> None:
    for status in (200, 429, None, mock.Mock(), [], "429"):
        assert stated_pause(status, headers, NOW) == 0  # type: ignore[arg-type]


NAMES = st.sampled_from([
    "Retry-After", "Date", "Age", "RateLimit", "RateLimit-Policy", "RateLimit-Remaining",
    "RateLimit-Reset", "X-RateLimit-Remaining", "X-Rate-Limit-Reset", "x-ratelimit-reset-after",
    "X-RateLimit-Remaining-Tokens", "X-RateLimit-Reset-Tokens", "Content-Length",
])  # fmt: skip
VALUES = st.one_of(
    st.text(),
    st.text('0123456789.-+:;,="\\ rtwdhmsTZGMT', max_size=40),
    st.integers().map(str),
    st.floats().map(str),
    st.datetimes().map(str),
    st.sampled_from(["0", '"default";r=0;t=5', "Fri, 15 Jan 2027 08:00:30 GMT", *MALFORMED]),
)


@pytest.mark.parametrize("piece", ['"', '\\"', '"\\', ",", ";", "a,", '";', "=", "\\"])
def test_a_value_that_is_made_to_keep_us_busy_does_not(piece: str) -> None:
    """A hundred of them, as many as an answer can have; they took four seconds."""
    value = (piece * 1000)[:1000]
    headers = {f"{n}-RateLimit": value for n in range(100)}
    start = time.process_time()
    assert pause(429, headers) == 0
    assert time.process_time() - start < 1


@given(
    status=st.sampled_from([200, 403, 429, 503]),
    headers=st.dictionaries(st.one_of(NAMES, st.text()), VALUES),
    now=st.floats(0, 1e11),
)
@example(429, {"Retry-After": '"\\' * 499}, NOW)
@example(429, {"RateLimit": '"\\' * 499}, NOW)
@example(429, {"RateLimit": '"' * 999}, NOW)
def test_whatever_is_stated_a_pause_is_a_finite_number_of_seconds(
    status: int, headers: dict[str, str], now: float
) -> None:
    for form in (headers, CaseInsensitiveDict(headers)):
        seconds = stated_pause(status, form, now)
        assert isinstance(seconds, float)
        assert math.isfinite(seconds)
        assert seconds >= 0
