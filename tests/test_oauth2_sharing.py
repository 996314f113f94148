"""Who shares the fetch of a token, and its failure; and what the second try after a 401 sends."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from requests_connection_manager import (
    AttemptMade,
    AuthenticationError,
    ConnectionManager,
    OAuth2ClientCredentials,
)
from tests.conftest import FakeClock, MakeManager
from tests.server import Reply, ScriptedServer, wait_until


def token(value: str, **fields: Any) -> Reply:
    return Reply(body=json.dumps({"access_token": value, **fields}).encode())


def after(seconds: float, reply: Reply) -> Reply:
    return Reply(body=reply.body, delay=seconds)


def auth_at(server: ScriptedServer, **options: Any) -> OAuth2ClientCredentials:
    return OAuth2ClientCredentials(server.url + "/token", "id", "s3cret", **options)


class Caller(threading.Thread):
    """Makes one call, and keeps what came of it."""

    def __init__(self, manager: ConnectionManager, url: str, **kwargs: Any) -> None:
        super().__init__(daemon=True)
        self._send = lambda: manager.get(url, **kwargs)
        self.outcome: object = None
        self.start()

    def run(self) -> None:
        try:
            self.outcome = self._send().status_code
        except requests.RequestException as error:
            self.outcome = error


def test_a_batch_that_is_stopped_is_no_failure_of_those_who_waited(
    server: ScriptedServer, other_server: ScriptedServer, make_manager: MakeManager
) -> None:
    other_server.script("/token", Reply.retry_after(2), token("t"))
    auth = auth_at(other_server)
    mine, others = make_manager(), make_manager()
    waiting: list[Caller] = []

    def items() -> Iterator[tuple[str, str, dict[str, Any]]]:
        yield "GET", server.url, {"auth": auth}
        wait_until(lambda: other_server.count("/token") == 1)
        waiting.append(Caller(others, server.url, auth=auth))
        time.sleep(0.2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(mine.iter_batch(items()))
    waiting[0].join(20)
    assert waiting[0].outcome == 200


def test_the_policies_of_one_manager_are_not_anothers(
    server: ScriptedServer, other_server: ScriptedServer, make_manager: MakeManager
) -> None:
    other_server.script("/token", after(1, token("late")), token("t"))
    auth = auth_at(other_server)
    hasty = Caller(make_manager(auth=auth, max_retries=0, read_timeout=0.3), server.url)
    wait_until(lambda: other_server.count("/token") == 1)
    patient = Caller(make_manager(auth=auth), server.url)
    for each in (hasty, patient):
        each.join(20)
    assert isinstance(hasty.outcome, AuthenticationError)
    assert patient.outcome == 200


def test_an_early_renewal_is_not_worth_a_call(
    server: ScriptedServer, other_server: ScriptedServer, make_manager: MakeManager
) -> None:
    clock = FakeClock()
    other_server.script("/token", token("t", expires_in=1000), after(30, token("late")))
    manager = make_manager(total_timeout=0.6, auth=auth_at(other_server, skew=600, clock=clock))
    manager.get(server.url)
    clock.now += 500
    assert manager.get(server.url).status_code == 200
    assert manager.get(server.url).status_code == 200
    assert other_server.count("/token") == 2


def test_a_batch_of_a_listener_does_not_wait_for_its_own_fetch(
    server: ScriptedServer, other_server: ScriptedServer, make_manager: MakeManager
) -> None:
    other_server.script("/token", token("t"))
    manager = make_manager(auth=auth_at(other_server))
    outcomes: list[object] = []

    @manager.on_attempt
    def tell(event: AttemptMade) -> None:
        if not outcomes:
            outcomes.append(None)
            outcomes.extend(manager.batch_request([("GET", server.url + "/metrics")]))

    assert manager.get(server.url).status_code == 200
    assert isinstance(outcomes[1], AuthenticationError)


def test_the_token_servers_cookie_stays_with_it(
    server: ScriptedServer, other_server: ScriptedServer, make_manager: MakeManager
) -> None:
    cookie = {"Set-Cookie": "idp=s3ssion; Path=/"}
    other_server.script("/token", Reply(headers=cookie, body=b'{"access_token": "t"}'))
    manager = make_manager(auth=auth_at(other_server))
    for _ in range(2):
        manager.get(server.url)
    assert not any("Cookie" in request.headers for request in server.received)
    assert len(manager.session.cookies) == 0


def test_the_life_of_a_token_is_counted_from_the_attempt_that_brought_it(
    server: ScriptedServer, other_server: ScriptedServer, make_manager: MakeManager
) -> None:
    clock = FakeClock()
    other_server.script("/token", Reply(status=503), token("t", expires_in=100))
    manager = make_manager(auth=auth_at(other_server, skew=0, clock=clock))

    def later(event: object) -> None:
        clock.now += 99

    manager.on_retry(later)
    manager.get(server.url)
    clock.now += 90
    manager.get(server.url)
    assert other_server.count("/token") == 2


def test_redirects_after_a_second_try_have_the_fresh_token(
    server: ScriptedServer, other_server: ScriptedServer, make_manager: MakeManager
) -> None:
    other_server.script("/token", token("old"), token("new"))
    server.script("/a", Reply(status=401), Reply.redirect("/b"))
    make_manager(auth=auth_at(other_server)).get(server.url + "/a")
    assert [request.headers["Authorization"] for request in server.received] == [
        *("Bearer old", "Bearer new", "Bearer new")
    ]


def test_a_cut_401_of_a_stream_does_not_hinder_the_second_try(
    server: ScriptedServer, other_server: ScriptedServer, make_manager: MakeManager
) -> None:
    other_server.script("/token", token("old"), token("new"))
    server.script("/a", Reply(status=401, body=b"x" * 1000, cut_at=10), Reply())
    manager = make_manager(auth=auth_at(other_server))
    with manager.get(server.url + "/a", stream=True) as response:
        assert response.status_code == 200


def test_a_cookie_that_comes_with_a_401_goes_with_the_second_try(
    server: ScriptedServer, other_server: ScriptedServer, make_manager: MakeManager
) -> None:
    other_server.script("/token", token("old"), token("new"))
    server.script("/a", Reply(status=401, headers={"Set-Cookie": "lb=1; Path=/"}), Reply())
    make_manager(auth=auth_at(other_server)).get(server.url + "/a", cookies={"own": "2"})
    assert set(server.received[1].headers["Cookie"].split("; ")) == {"lb=1", "own=2"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # which it is here to show
def test_a_child_that_was_forked_during_a_fetch_makes_its_own(
    server: ScriptedServer, other_server: ScriptedServer, make_manager: MakeManager
) -> None:
    other_server.script("/token", after(3, token("t")), token("t"))
    auth = auth_at(other_server)
    caller = Caller(make_manager(), server.url, auth=auth)
    wait_until(lambda: other_server.count("/token") == 1)
    child = os.fork()
    if not child:
        status = 1
        try:
            signal.alarm(20)
            status = int(requests.get(server.url, auth=auth, timeout=5).status_code != 200)
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    caller.join(20)
