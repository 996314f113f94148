"""What an attempt must have before it is sent, at the server: scopes, costs, several limits."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import Mock, patch

import pytest
import requests
import requests_mock

from requests_connection_manager import (
    ConcurrencyLimitExceeded,
    ConfigurationError,
    ManagerClosed,
    RateLimitExceeded,
)
from requests_connection_manager.limits.algorithms import ALGORITHMS
from requests_connection_manager.limits.memory import MemoryStore
from requests_connection_manager.limits.store import Wanted
from tests.conftest import MakeManager, in_threads
from tests.server import Reply, ScriptedServer, wait_until

NOW = {"rate_limit_max_wait": 0, "rate_limit_period": 1000}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_bounds_what_reaches_the_server(
    algorithm: str, make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(rate_limit_requests=3, rate_limit_algorithm=algorithm, **NOW)
    sent = 0
    for _ in range(10):
        try:
            manager.get(server.url)
            sent += 1
        except RateLimitExceeded as refused:
            assert 0 < refused.retry_after <= 1000
    assert sent == server.count() == (1 if algorithm == "leaky_bucket" else 3)


@pytest.mark.parametrize("algorithm", ["token_bucket", "gcra"])
def test_a_burst_is_what_may_go_at_once(
    algorithm: str, make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(
        rate_limit_requests=100, rate_limit_algorithm=algorithm, rate_limit_burst=2, **NOW
    )
    manager.get(server.url)
    manager.get(server.url)
    with pytest.raises(RateLimitExceeded):
        manager.get(server.url)
    assert server.count() == 2


def test_a_burst_without_a_meaning_is_refused(make_manager: MakeManager) -> None:
    with pytest.raises(ConfigurationError, match="fixed_window") as caught:
        make_manager(rate_limit_burst=5)
    assert caught.value.field == "rate_limit_burst"


def test_half_a_request_a_second(make_manager: MakeManager, server: ScriptedServer) -> None:
    manager = make_manager(rate_limit_requests=0.5, rate_limit_period=1, rate_limit_max_wait=0)
    manager.get(server.url)
    with pytest.raises(RateLimitExceeded, match="1 per 2 s") as caught:
        manager.get(server.url)
    assert 1 < caught.value.retry_after <= 2


def test_of_several_limits_all_are_kept_and_none_is_burnt(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(
        rate_limits=[(5, 1000), (2, 1)],
        rate_limit_algorithm="sliding_window",
        rate_limit_max_wait=3,
    )
    for _ in range(5):
        manager.get(server.url)
    for _ in range(3):
        with pytest.raises(RateLimitExceeded, match="2 per 1 s .*, 5 per 1000 s"):
            manager.get(server.url)
    came = [request.at for request in server.received]
    assert len(came) == 5
    assert all(later - earlier > 0.25 for earlier, later in zip(came, came[2:], strict=False))


def test_a_limit_for_each_key(make_manager: MakeManager, server: ScriptedServer) -> None:
    manager = make_manager(
        rate_limit_requests=2,
        rate_limit_scope=lambda request: request.headers["X-User"],
        **NOW,
    )
    for user in ("ann", "bob", "ann", "bob"):
        manager.get(server.url, headers={"X-User": user})
    with pytest.raises(RateLimitExceeded):
        manager.get(server.url, headers={"X-User": "ann"})
    manager.get(server.url, headers={"X-User": "cid"})
    assert server.count() == 5


def test_a_key_sees_the_request_as_it_is_sent(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    seen: list[requests.PreparedRequest] = []

    def key(request: requests.PreparedRequest) -> str:
        seen.append(request)
        return request.headers["Authorization"]

    manager = make_manager(rate_limit_scope=key, bearer_token="t0ken")
    manager.get(server.url, params={"a": 1})
    (request,) = seen
    assert isinstance(request, requests.PreparedRequest)
    assert request.headers["Authorization"] == "Bearer t0ken"
    assert request.url.endswith("?a=1")


def test_a_key_is_asked_on_each_hop(
    make_manager: MakeManager, server: ScriptedServer, other_server: ScriptedServer
) -> None:
    url = server.script("/here", Reply.redirect(other_server.url + "/there"))
    asked: list[str] = []
    manager = make_manager(rate_limit_scope=lambda request: asked.append(request.url))
    manager.get(url)
    assert asked == [url, other_server.url + "/there"]


def test_a_mocked_session_is_limited_by_key_too(make_manager: MakeManager) -> None:
    manager = make_manager(
        rate_limit_requests=1, rate_limit_scope=lambda request: request.headers["X-User"], **NOW
    )
    with patch("requests.Session.request", return_value=Mock(status_code=200)) as sent:
        manager.get("http://a.test/", headers={"X-User": "ann"})
        with pytest.raises(RateLimitExceeded):
            manager.get("http://a.test/", headers={"X-User": "ann"})
        manager.get("http://a.test/", headers={"X-User": "bob"})
    assert sent.call_count == 2


@pytest.mark.parametrize("wrong", [lambda request: 1 / 0, lambda request: request.missing])
def test_a_key_that_fails_sends_nothing(
    wrong, make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(rate_limit_scope=wrong)
    with pytest.raises(ConfigurationError, match="rate_limit_scope") as caught:
        manager.get(server.url)
    assert caught.value.field == "rate_limit_scope"
    assert server.count() == 0


def test_a_key_that_fails_on_a_redirect_does_not_say_that_nothing_was_sent(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    server.script("/order", Reply.redirect("/done", 303))
    manager = make_manager(rate_limit_scope=lambda request: request.headers["Content-Type"])
    with pytest.raises(ConfigurationError, match="for a request, which was not sent"):
        manager.post(server.url + "/order", json={})
    assert server.count("/order") == 1


@pytest.mark.parametrize("algorithm", sorted({*ALGORITHMS} - {"leaky_bucket"}))
def test_a_request_may_weigh_more(
    algorithm: str, make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(rate_limit_requests=10, rate_limit_algorithm=algorithm, **NOW)
    manager.add_endpoint_config(f"{server.url}/search", {"rate_limit_cost": 4})
    manager.get(server.url + "/search")
    manager.get(server.url + "/search")
    manager.get(server.url + "/one")  # they share the manager's limit
    manager.get(server.url + "/one")
    for path in ("/search", "/one"):
        with pytest.raises(RateLimitExceeded):
            manager.get(server.url + path)
    assert server.count() == 4


def test_what_a_request_weighs_can_be_asked(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    def cost(request: requests.PreparedRequest) -> int:
        return int(request.headers["X-Cost"])

    manager = make_manager(rate_limit_requests=10, rate_limit_cost=cost, **NOW)
    manager.get(server.url, headers={"X-Cost": "9"})
    for _ in range(3):
        manager.get(server.url, headers={"X-Cost": "0"})
    with pytest.raises(RateLimitExceeded):
        manager.get(server.url, headers={"X-Cost": "2"})
    manager.get(server.url, headers={"X-Cost": "1"})
    assert server.count() == 5


@pytest.mark.parametrize("cost", [11, -1, 1.5, "1", None, True])
def test_an_impossible_weight_sends_nothing(
    cost, make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(rate_limit_requests=10, rate_limit_cost=lambda request: cost)
    with pytest.raises(ConfigurationError, match="rate_limit_cost") as caught:
        manager.get(server.url)
    assert (caught.value.field, caught.value.value) == ("rate_limit_cost", cost)
    assert server.count() == 0


def test_heavier_requests_wait_in_line_too(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(rate_limit_requests=4, rate_limit_period=0.5, rate_limit_cost=2)
    in_threads(8, lambda _: manager.get(server.url))
    assert server.count() == 8
    came = sorted(request.at for request in server.received)
    assert all(later - earlier > 0.2 for earlier, later in zip(came, came[2:], strict=False))


def test_waiters_of_a_booked_limit_keep_their_order(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(
        rate_limit_requests=1, rate_limit_period=0.3, rate_limit_algorithm="gcra"
    )
    manager.get(server.url)
    threads = []
    booked: list[object] = []
    book = MemoryStore.book

    def noted(store: MemoryStore, wanted: Wanted) -> object:
        booked.append(answer := book(store, wanted))
        return answer

    with patch.object(MemoryStore, "book", noted):
        for n in range(6):
            thread = threading.Thread(target=manager.get, args=(f"{server.url}/{n}",))
            threads.append(thread)
            thread.start()
            wait_until(lambda so_many=n + 1: len(booked) == so_many)
    for thread in threads:
        thread.join(30)
    assert [request.path for request in server.received[1:]] == [f"/{n}" for n in range(6)]


def test_a_permit_is_not_taken_before_a_slot_is_had(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    """One that waited for a slot would be of a period that is over."""
    server.script("/", *[Reply(delay=1.4)] * 3, Reply())
    manager = make_manager(
        rate_limit_requests=3,
        rate_limit_period=0.6,
        rate_limit_algorithm="sliding_window",
        max_concurrency=3,
    )
    in_threads(12, lambda _: manager.get(server.url))
    came = sorted(request.at for request in server.received)
    assert len(came) == 12
    # Those of stale permits would come at once; a busy machine wakes a thread late, not as late.
    assert all(later - earlier > 0.2 for earlier, later in zip(came, came[3:], strict=False))


def test_a_permit_is_not_taken_before_a_credential_is_had(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    """With the first permit it would come between the others, half a period after one."""

    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        if request.path_url == "/slow":
            time.sleep(1.5)
        return request

    manager = make_manager(rate_limit_requests=1, rate_limit_period=1, auth=sign)
    paths = ("/slow", "/", "/")
    in_threads(3, lambda n: manager.get(server.url + paths[n]))
    assert [request.path for request in server.received] == ["/", "/", "/slow"]


def test_a_slot_that_is_not_had_costs_no_permit(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(
        rate_limit_algorithm="token_bucket",
        rate_limit_requests=4,
        max_concurrency=1,
        max_concurrency_wait=0,
        **NOW,
    )
    with manager.get(server.url, stream=True):
        for _ in range(5):
            with pytest.raises(ConcurrencyLimitExceeded):
                manager.get(server.url)
    for _ in range(3):
        manager.get(server.url)
    with pytest.raises(RateLimitExceeded):
        manager.get(server.url)


@pytest.mark.parametrize("through", ["requests_mock", "send"])
def test_what_stands_in_for_send_is_limited_by_key_too(
    through: str, make_manager: MakeManager
) -> None:
    manager = make_manager(
        rate_limit_requests=2, rate_limit_scope=lambda request: request.url, **NOW
    )
    with ExitStack() as stack:
        if through == "send":
            response = requests.Response()
            response.status_code = 200
            stack.enter_context(patch("requests.Session.send", return_value=response))
        else:
            mock = stack.enter_context(requests_mock.Mocker())
            mock.get("http://a.test/", text="ok")
        manager.get("http://a.test/")
        manager.get("http://a.test/")
        with pytest.raises(RateLimitExceeded):
            manager.get("http://a.test/")


def test_both_waits_together_are_no_longer_than_allowed(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    """The permit's and the pause's, that was stated in the meantime."""
    busy = Reply(status=429, headers={"Retry-After": "2"}, delay=0.4)
    server.script("/busy", busy)
    manager = make_manager(
        rate_limit_requests=2, rate_limit_period=1, rate_limit_max_wait=1.5, max_retries=0
    )
    first = threading.Thread(target=manager.get, args=(server.url + "/busy",))
    first.start()
    manager.get(server.url + "/one")
    with pytest.raises(RateLimitExceeded, match="pause"):
        manager.get(server.url + "/two")
    first.join(30)
    assert server.count("/two") == 0


@pytest.mark.parametrize("state", ["memory", "sqlite"])
def test_what_is_free_keeps_the_servers_pause(
    state: str, make_manager: MakeManager, server: ScriptedServer, tmp_path: Path
) -> None:
    server.script("/", Reply(status=429, headers={"Retry-After": "50"}), Reply())
    where = state if state == "memory" else f"sqlite://{tmp_path}/limits.db"
    manager = make_manager(state=where, rate_limit_cost=0, rate_limit_max_wait=0, max_retries=0)
    manager.get(server.url)
    with pytest.raises(RateLimitExceeded):
        manager.get(server.url)


def test_closing_ends_the_waits(make_manager: MakeManager, server: ScriptedServer) -> None:
    manager = make_manager(rate_limit_requests=1, rate_limit_period=1000)
    manager.get(server.url)
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            manager.get(server.url)
        except ManagerClosed as error:
            ended.append(error)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    limiter = manager._endpoints.table.resolve(server.url).limiter
    wait_until(lambda: len(limiter._line) == 3)
    manager.close()
    for thread in threads:
        thread.join(30)
    assert len(ended) == 3
