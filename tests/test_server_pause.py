"""What a server says of its limits is kept: by all threads, at its own origin, and not for ever."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import pytest
import requests_mock
from urllib3 import Retry

from requests_connection_manager import DeadlineExceeded, MaxRetriesExceeded, RateLimitExceeded
from tests.conftest import MakeManager
from tests.server import Reply, ScriptedServer

BUSY = Reply(status=429, headers={"Retry-After": "1"})
SPENT = Reply(headers={"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "40"})


def test_one_refusal_holds_up_all_that_comes_after(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    server.script("/busy", BUSY)
    manager = make_manager(max_retries=0)
    assert manager.get(server.url + "/busy").status_code == 429
    assert manager.get(server.url + "/next").status_code == 200
    busy, after = server.received
    assert after.at - busy.at > 0.9
    assert manager.stats().scopes[server.url].counts.permits_waited_for == 1


def test_a_retry_does_not_wait_twice(make_manager: MakeManager, server: ScriptedServer) -> None:
    url = server.script("/busy", BUSY, Reply())
    slept: list[float] = []
    manager = make_manager()
    manager.on_throttle(lambda event: slept.append(event.waited))
    assert manager.get(url).status_code == 200
    assert server.count() == 2
    assert sum(slept) < 0.5


def test_a_retry_at_a_date_does_not_wait_at_all(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    """A date has whole seconds, of the server's clock; its pause must not outlast the back-off."""
    now = int(time.time())
    dates = {"Date": formatdate(now, usegmt=True), "Retry-After": formatdate(now + 1, usegmt=True)}
    url = server.script("/busy", Reply(status=429, headers=dates), Reply())
    assert make_manager(rate_limit_max_wait=0).get(url).status_code == 200
    assert server.count() == 2


def test_a_quota_that_is_spent_stops_the_next_before_it_is_sent(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    server.script("/last", SPENT)
    manager = make_manager(rate_limit_max_wait=0)
    assert manager.get(server.url + "/last").status_code == 200
    with pytest.raises(RateLimitExceeded, match="asked for a pause") as caught:
        manager.get(server.url + "/next")
    assert 38 < caught.value.retry_after <= 40
    assert server.count() == 1


@pytest.mark.parametrize("name", ["Retry-After", "X-RateLimit-Reset"])
def test_a_long_pause_is_told_instead_of_slept(
    make_manager: MakeManager, server: ScriptedServer, name: str
) -> None:
    server.script("/", Reply(status=429, headers={name: "3600"}))
    manager = make_manager()
    with pytest.raises(MaxRetriesExceeded, match="more than retry_after_max=60") as ended:
        manager.get(server.url)
    assert ended.value.retry_after == 3600
    assert ended.value.response is not None
    with pytest.raises(RateLimitExceeded) as caught:
        manager.get(server.url)
    assert 3590 < caught.value.retry_after <= 3600
    assert "retry_after_max" in str(caught.value)
    assert server.count() == 1


@pytest.mark.parametrize("name", ["Retry-After", "X-RateLimit-Reset"])
def test_who_wants_the_last_answer_gets_it_with_its_long_pause(
    make_manager: MakeManager, server: ScriptedServer, name: str
) -> None:
    server.script("/", Reply(status=429, headers={name: "3600"}))
    assert make_manager(raise_on_status=False).get(server.url).headers[name] == "3600"
    assert server.count() == 1


def test_nobody_waits_past_the_deadline(make_manager: MakeManager, server: ScriptedServer) -> None:
    server.script("/", Reply(status=429, headers={"Retry-After": "30"}))
    manager = make_manager(total_timeout=5, max_retries=0)
    manager.get(server.url)
    started = time.monotonic()
    with pytest.raises((RateLimitExceeded, DeadlineExceeded)):
        manager.get(server.url)
    assert time.monotonic() - started < 5
    assert server.count() == 1


def test_another_origin_goes_on(
    make_manager: MakeManager, server: ScriptedServer, other_server: ScriptedServer
) -> None:
    """Though both share the manager's one limit."""
    server.script("/", SPENT)
    manager = make_manager(rate_limit_max_wait=0)
    manager.get(server.url)
    assert manager.get(other_server.url).status_code == 200
    with pytest.raises(RateLimitExceeded):
        manager.get(server.url)


def test_it_holds_without_a_limit_of_our_own(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    server.script("/", SPENT)
    manager = make_manager(rate_limit_requests=None, rate_limit_max_wait=0)
    manager.get(server.url)
    with pytest.raises(RateLimitExceeded):
        manager.get(server.url)


def test_it_can_be_switched_off(make_manager: MakeManager, server: ScriptedServer) -> None:
    server.script("/", SPENT)
    manager = make_manager(respect_server_limits=False, rate_limit_max_wait=0)
    manager.get(server.url)
    assert manager.get(server.url).status_code == 200


@pytest.mark.parametrize(
    "settings",
    [
        {"respect_retry_after": False},
        {"max_retries": Retry(3, status_forcelist=[429], respect_retry_after_header=False)},
    ],
)
def test_who_does_not_listen_to_retry_after_does_not_wait_for_it(
    make_manager: MakeManager, server: ScriptedServer, settings: dict[str, Any]
) -> None:
    long = {"Retry-After": "50"}
    url = server.script("/", Reply(status=429, headers=long), Reply(), SPENT)
    manager = make_manager(rate_limit_max_wait=0, **settings)
    assert manager.get(url).status_code == 200
    assert manager.get(url).status_code == 200
    with pytest.raises(RateLimitExceeded, match="pause"):  # other headers have their say
        manager.get(url)


def test_each_key_has_its_own(make_manager: MakeManager, server: ScriptedServer) -> None:
    server.script("/", SPENT)
    manager = make_manager(
        rate_limit_scope=lambda request: request.headers["X-User"], rate_limit_max_wait=0
    )
    manager.get(server.url, headers={"X-User": "ann"})
    assert manager.get(server.url, headers={"X-User": "bob"}).status_code == 200
    with pytest.raises(RateLimitExceeded):
        manager.get(server.url, headers={"X-User": "ann"})
    assert server.count() == 2


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "soon"},
        {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "never"},
        {"RateLimit": '"default";r=0;t=NaN'},
        {"X-RateLimit-Remaining": "7", "X-RateLimit-Reset": "4000"},
    ],
)
def test_what_is_malformed_or_says_nothing_is_ignored(
    headers, make_manager: MakeManager, server: ScriptedServer
) -> None:
    server.script("/", Reply(status=429, headers=headers), Reply())
    manager = make_manager(max_retries=0, rate_limit_max_wait=0)
    assert manager.get(server.url).status_code == 429
    assert manager.get(server.url).status_code == 200


def test_a_response_of_a_mock_is_heeded_too(make_manager: MakeManager) -> None:
    manager = make_manager(rate_limit_max_wait=0)
    with requests_mock.Mocker(session=manager.session) as mock:
        mock.get("http://a.test/", status_code=429, headers={"Retry-After": "40"})
        assert manager.get("http://a.test/").status_code == 429
        with pytest.raises(RateLimitExceeded):
            manager.get("http://a.test/")
        assert mock.call_count == 1
