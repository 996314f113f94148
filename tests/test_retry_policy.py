"""What the retry policy decides, from values."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from urllib3.util.retry import Retry

from requests_connection_manager.layers import manager_layer
from requests_connection_manager.policies.retry import Again, RetryPolicy, Stop
from requests_connection_manager.settings import Settings


def policy(chance: float = 0.0, **settings: object) -> RetryPolicy:
    return RetryPolicy(Settings(**manager_layer(settings)), chance=lambda: chance)  # type: ignore[arg-type]


def answer(status: int, **headers: str) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return response


def delays(of: RetryPolicy, status: int = 503, method: str = "GET") -> list[float]:
    """The delays before each retry until the policy stops."""
    retry, found = of.begin("GET", {}), []
    while True:
        decision = of.after_response(retry, method, "/", answer(status))
        if not isinstance(decision, Again):
            assert isinstance(decision, Stop)
            return found
        found.append(decision.delay)
        retry = decision.retry


def test_the_delays_are_urllib3s() -> None:
    assert delays(policy(max_retries=5)) == pytest.approx([0, 0.6, 1.2, 2.4, 4.8])
    assert delays(policy(max_retries=9, backoff_max=3)) == pytest.approx(
        [0, 0.6, 1.2, 2.4, 3, 3, 3, 3, 3]
    )


@given(chance=st.floats(0, 1), jitter=st.floats(0, 1))
def test_jitter_shortens_a_delay_by_its_fraction_at_most(chance: float, jitter: float) -> None:
    jittered = delays(policy(chance, max_retries=4, backoff_jitter=jitter))
    for got, full in zip(jittered, [0, 0.6, 1.2, 2.4], strict=True):
        assert full * (1 - jitter) - 1e-9 <= got <= full + 1e-9
    assert jittered == pytest.approx([d * (1 - jitter * chance) for d in [0, 0.6, 1.2, 2.4]])


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_the_default_statuses_are_retried(status: int) -> None:
    assert len(delays(policy(), status)) == 3


@pytest.mark.parametrize("status", [200, 302, 400, 404, 413, 501, 505])
def test_others_stand(status: int) -> None:
    assert policy().after_response(policy().begin("GET", {}), "GET", "/", answer(status)) is None


@pytest.mark.parametrize(
    ("method", "headers", "retried"),
    [
        ("GET", {}, True),
        ("PUT", {}, True),
        ("POST", {}, False),
        ("PATCH", {}, False),
        ("POST", {"Idempotency-Key": "1"}, True),
    ],
)
def test_methods(method: str, headers: dict, retried: bool) -> None:
    it = policy()
    headers = requests.structures.CaseInsensitiveDict(headers)
    decision = it.after_response(it.begin(method, headers), method, "/", answer(503))
    assert isinstance(decision, Again) is retried
    retry = it.begin(method, headers)
    error = requests.ReadTimeout("slow")
    assert isinstance(it.after_error(retry, method, "/", error), Again) is retried
    never_left = requests.ConnectTimeout("far")
    assert isinstance(it.after_error(retry, method, "/", never_left), Again)


def test_no_method_and_any_method() -> None:
    none = policy(retry_methods=[])
    assert none.after_response(none.begin("GET", {}), "GET", "/", answer(503)) is None
    every = policy(retry_methods=None)
    assert isinstance(
        every.after_response(every.begin("POST", {}), "POST", "/", answer(503)), Again
    )


@pytest.mark.parametrize(
    "error",
    [
        requests.exceptions.InvalidURL("x"),
        requests.exceptions.InvalidHeader("x"),
        requests.exceptions.MissingSchema("x"),
        requests.exceptions.ContentDecodingError("x"),
        requests.TooManyRedirects("x"),
        ValueError("x"),
        KeyError("x"),
    ],
)
def test_mistakes_of_the_caller_are_not_retried(error: Exception) -> None:
    assert policy().after_error(policy().begin("GET", {}), "GET", "/", error) is None


@pytest.mark.parametrize(
    ("hint", "delay"),
    [
        ("7", 7),
        (" 7 ", 7),
        ("0", 0),  # nothing to wait for: the back-off, which is 0 at first
        ("soon", 0),
        ("", 0),
        ("-3", 0),
        ("1.5", 0),
        ("9" * 5000, 0),
        ("Fri, 99 Foo 2026 99:99:99 GMT", 0),
        ("Mon, 01 Jan 0001 00:00:00 GMT", 0),
        ("Mon, 01 Jan 99999 00:00:00 GMT", 0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0),  # long past
    ],
)
def test_retry_after_in_seconds_and_what_is_malformed(hint: str, delay: float) -> None:
    decision = policy().after_response(
        policy().begin("GET", {}), "GET", "/", answer(503, Retry_After=hint)
    )
    assert isinstance(decision, Again)
    assert decision.delay == delay


def test_retry_after_as_a_date() -> None:
    when = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=30), usegmt=True)
    decision = policy().after_response(
        policy().begin("GET", {}), "GET", "/", answer(429, Retry_After=when)
    )
    assert isinstance(decision, Again)
    assert 27 < decision.delay <= 30


@pytest.mark.parametrize("off", [-86400, 0, 86400])
def test_a_date_is_of_the_servers_clock(off: float) -> None:
    """With the client's, a retry would come before the server's pause is over, or never."""
    now = datetime.now(timezone.utc) + timedelta(seconds=off)
    date, when = (format_datetime(each, usegmt=True) for each in (now, now + timedelta(seconds=30)))
    refused = answer(429, Retry_After=when, Date=date)
    decision = policy().after_response(policy().begin("GET", {}), "GET", "/", refused)
    assert isinstance(decision, Again)
    assert decision.delay == 30


def test_who_reads_the_hint_in_his_own_way_is_left_to() -> None:
    class Brief(Retry):
        def parse_retry_after(self, retry_after: str) -> float:
            return min(super().parse_retry_after(retry_after), 2)

    it = policy(max_retries=Brief(3, status_forcelist=[429]))
    decision = it.after_response(it.begin("GET", {}), "GET", "/", answer(429, Retry_After="30"))
    assert isinstance(decision, Again)
    assert decision.delay == 2


@pytest.mark.parametrize(("hint", "seconds"), [("61", 61), ("86400", 86400)])
def test_a_longer_hint_stops_and_is_told(hint: str, seconds: float) -> None:
    decision = policy().after_response(
        policy().begin("GET", {}), "GET", "/", answer(429, Retry_After=hint)
    )
    assert isinstance(decision, Stop)
    assert decision.retry_after == seconds


def test_the_hint_can_be_disregarded() -> None:
    it = policy(respect_retry_after=False)
    decision = it.after_response(it.begin("GET", {}), "GET", "/", answer(503, Retry_After="3600"))
    assert isinstance(decision, Again)
    assert decision.delay == 0


def test_a_retry_object_decides_as_it_does_in_urllib3() -> None:
    it = policy(max_retries=Retry(5, status=2, status_forcelist=[418], backoff_factor=1))
    assert delays(it, 418) == [0, 2]
    # 413 is in its RETRY_AFTER_STATUS_CODES
    assert it.after_response(it.begin("GET", {}), "GET", "/", answer(413)) is None
    hinted = it.after_response(it.begin("GET", {}), "GET", "/", answer(413, Retry_After="2"))
    assert isinstance(hinted, Again)
    assert hinted.delay == 2
    reads_off = policy(max_retries=Retry(5, connect=False, read=0))
    error = requests.ConnectTimeout("x")
    retry = reads_off.begin("GET", {})
    assert reads_off.after_error(retry, "GET", "/", error) is None
    late = requests.ReadTimeout("x")
    assert isinstance(reads_off.after_error(retry, "GET", "/", late), Stop)


@pytest.mark.parametrize("off", [0, False, Retry(0), Retry(False)])
def test_switched_off_everything_stands(off: object) -> None:
    it = policy(max_retries=off)
    assert it.after_response(it.begin("GET", {}), "GET", "/", answer(503)) is None
    assert it.after_error(it.begin("GET", {}), "GET", "/", requests.ReadTimeout("x")) is None


def test_retry_without_a_total_counts_its_kinds() -> None:
    it = policy(max_retries=Retry(None, status=2, status_forcelist=[503]))
    assert len(delays(it)) == 2
