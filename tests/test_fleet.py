"""A fleet of processes that share one limit, counted at the server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from requests_connection_manager import RateLimitExceeded, StateUnavailable
from requests_connection_manager.policies import server_pause
from requests_connection_manager.policies.server_limits import stated_pause
from tests.conftest import MakeManager
from tests.redis_server import RedisServer, free_port
from tests.server import Reply, ScriptedServer

WORKER = """
import json, sys, threading
from requests_connection_manager import ConnectionManager, RateLimitExceeded
url, calls, threads, settings = sys.argv[1], *map(json.loads, sys.argv[2:])
refused = []
with ConnectionManager(**settings) as manager:
    def work():
        for _ in range(calls):
            try:
                manager.get(url)
            except RateLimitExceeded as error:
                refused.append(error.retry_after)
    print("ready", flush=True)
    sys.stdin.readline()
    all_of_them = [threading.Thread(target=work) for _ in range(threads)]
    for each in all_of_them: each.start()
    for each in all_of_them: each.join()
print(json.dumps(refused))
"""


class Fleet:
    """Workers that are ready, and begin together."""

    def __init__(self, size: int, url: str, calls: int, threads: int, **settings: Any) -> None:
        command = [sys.executable, "-c", WORKER, url, str(calls), str(threads)]
        self._workers = [
            subprocess.Popen(
                [*command, json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=Path(__file__).parents[1],
            )
            for _ in range(size)
        ]

    def __enter__(self) -> Fleet:
        for worker in self._workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            if worker.poll() is None:
                worker.kill()
            worker.communicate()

    def run(self) -> list[float]:
        """Let all of them work; return what they were refused with."""
        for worker in self._workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        refused: list[float] = []
        for worker in self._workers:
            refused += json.loads(worker.communicate(timeout=50)[0])
            assert worker.returncode == 0
        return refused


@pytest.fixture(params=["sqlite", "redis"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite://{tmp_path}/limits.db"
    else:
        yield request.getfixturevalue("redis_server").url


def test_a_fleet_together_sends_no_more_than_the_limit(state: str, server: ScriptedServer) -> None:
    limit = {"rate_limit_requests": 20, "rate_limit_period": 1000, "rate_limit_max_wait": 0}
    with Fleet(4, server.url, 5, 2, state=state, **limit) as fleet:
        refused = fleet.run()
    assert server.count() == 20
    assert len(refused) == 20
    assert all(0 < each <= 1000 for each in refused)


def test_a_fleet_that_waits_spreads_its_calls(state: str, server: ScriptedServer) -> None:
    limit = {"rate_limit_requests": 10, "rate_limit_period": 1}
    limit |= {"rate_limit_algorithm": "sliding_window", "state": state}
    with Fleet(4, server.url, 5, 2, **limit) as fleet:
        assert fleet.run() == []
    came = sorted(request.at for request in server.received)
    assert len(came) == 40
    # A booked time is kept to within what a busy machine needs to wake a thread.
    assert all(later - earlier > 0.4 for earlier, later in zip(came, came[10:], strict=False))


def test_one_workers_refusal_slows_the_fleet(
    state: str, make_manager: MakeManager, server: ScriptedServer
) -> None:
    url = server.script("/busy", Reply(status=429, headers={"Retry-After": "50"}), Reply())
    make_manager(state=state, max_retries=0).get(url)
    with Fleet(2, url, 2, 2, state=state, rate_limit_max_wait=0) as fleet:
        refused = fleet.run()
    assert server.count("/busy") == 1
    assert len(refused) == 8
    assert all(20 < each <= 50 for each in refused)


def test_a_key_of_a_user_holds_across_managers_and_is_not_readable(
    state: str, make_manager: MakeManager, server: ScriptedServer, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "state": state,
        "rate_limit_requests": 1,
        "rate_limit_max_wait": 0,
        "rate_limit_scope": lambda request: request.headers["Authorization"],
    }
    first, second = make_manager(**settings), make_manager(**settings)
    first.get(server.url, headers={"Authorization": "Bearer s3cr3t"})
    with pytest.raises(RateLimitExceeded):
        second.get(server.url, headers={"Authorization": "Bearer s3cr3t"})
    second.get(server.url, headers={"Authorization": "Bearer other"})
    assert server.count() == 2
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"s3cr3t" not in kept


def test_prefixes_keep_fleets_apart(
    state: str, make_manager: MakeManager, server: ScriptedServer
) -> None:
    limit = {"rate_limit_requests": 1, "rate_limit_max_wait": 0, "state": state}
    make_manager(**limit, state_prefix="one").get(server.url)
    make_manager(**limit, state_prefix="two").get(server.url)
    with pytest.raises(RateLimitExceeded):
        make_manager(**limit, state_prefix="one").get(server.url)
    assert server.count() == 2


def test_a_state_can_be_that_of_one_endpoint(
    state: str, make_manager: MakeManager, server: ScriptedServer
) -> None:
    limit = {"rate_limit_requests": 1, "rate_limit_max_wait": 0}
    pattern = f"{server.url}/shared"
    first, second = (
        make_manager(**limit, endpoint_configs={pattern: {"state": state}}) for _ in range(2)
    )
    first.get(pattern)
    with pytest.raises(RateLimitExceeded, match="/shared"):
        second.get(pattern)
    first.get(server.url)  # the others are each manager's own
    second.get(server.url)
    assert server.count() == 3


def test_a_store_that_is_not_there_fails_no_call(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    limit = {"rate_limit_requests": 2, "rate_limit_max_wait": 0, "state": nowhere}
    manager = make_manager(**limit)
    manager.get(server.url)
    manager.get(server.url)
    with pytest.raises(RateLimitExceeded):  # the same numbers hold here
        manager.get(server.url)
    strict = make_manager(**limit, state_fallback="raise")
    with pytest.raises(StateUnavailable) as caught:
        strict.get(server.url)
    assert server.count() == 2
    assert caught.value.endpoint
    assert caught.value.request is not None


def test_an_answer_is_not_lost_because_its_word_cannot_be_kept(
    make_manager: MakeManager, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script("/", Reply(status=429, headers={"Retry-After": "50"}))
    with RedisServer() as redis:
        manager = make_manager(state=redis.url, state_fallback="raise", max_retries=0)

        def stop_and_state(*args: Any) -> float:
            redis.stop()
            return stated_pause(*args)

        monkeypatch.setattr(server_pause, "stated_pause", stop_and_state)
        assert manager.get(server.url).status_code == 429
