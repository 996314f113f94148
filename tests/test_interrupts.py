"""Ctrl-C ends the call at once and leaves limiter, breaker and pool in order."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
import requests

from tests.conftest import MakeManager
from tests.server import Reply, ScriptedServer

FAR = 30


def interrupted_when(condition, work) -> float:
    """Run ``work`` in this, the main thread; press Ctrl-C once ``condition`` holds."""

    def press() -> None:
        end = time.monotonic() + 20
        while not condition() and time.monotonic() < end:
            time.sleep(0.005)
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        work()
    presser.join()
    return time.monotonic() - start


def test_while_waiting_for_a_permit(make_manager: MakeManager, server: ScriptedServer) -> None:
    manager = make_manager(rate_limit_requests=1, rate_limit_period=1.5)
    manager.get(server.url)
    limiter = manager._endpoints.table.resolve(server.url).limiter
    behind = threading.Thread(target=manager.get, args=(server.url,))

    def in_line() -> bool:
        if len(limiter._line) == 1 and not behind.ident:
            behind.start()
        return len(limiter._line) == 2

    took = interrupted_when(in_line, lambda: manager.get(server.url))
    assert took < 1.5  # the window had not ended
    behind.join(20)
    assert not behind.is_alive()
    assert server.count() == 2
    assert not limiter._line
    assert manager.circuit_breaker.fail_counter == 0


def test_while_waiting_behind_others(make_manager: MakeManager, server: ScriptedServer) -> None:
    manager = make_manager(rate_limit_requests=1, rate_limit_period=1)
    manager.get(server.url)
    limiter = manager._endpoints.table.resolve(server.url).limiter
    ahead = threading.Thread(target=manager.get, args=(server.url,))
    ahead.start()
    while len(limiter._line) < 1:
        time.sleep(0.001)
    interrupted_when(lambda: len(limiter._line) == 2, lambda: manager.get(server.url))
    ahead.join(20)
    assert not limiter._line
    assert server.count() == 2


def test_in_a_back_off(make_manager: MakeManager, server: ScriptedServer) -> None:
    url = server.script("/busy", Reply.retry_after(FAR), Reply())
    manager = make_manager(pool_maxsize=1, pool_block=True, respect_server_limits=False)
    took = interrupted_when(lambda: server.count() == 1, lambda: manager.get(url))
    assert took < FAR
    assert manager.circuit_breaker.fail_counter == 0
    assert manager.get(url).status_code == 200  # at once: the pause of the server is not kept
    assert server.connections_made == 1


def test_in_an_attempt(make_manager: MakeManager, server: ScriptedServer) -> None:
    url = server.script("/slow", Reply(delay=FAR), Reply())
    manager = make_manager(pool_maxsize=1, pool_block=True)
    took = interrupted_when(lambda: server.count() == 1, lambda: manager.get(url))
    assert took < FAR
    assert manager.circuit_breaker.fail_counter == 0
    assert manager.get(url).status_code == 200


def test_a_trial_that_is_interrupted(make_manager: MakeManager, server: ScriptedServer) -> None:
    server.pause()
    manager = make_manager(
        circuit_breaker_failure_threshold=1, circuit_breaker_recovery_timeout=0, max_retries=0
    )
    with pytest.raises(requests.ConnectionError):
        manager.get(server.url)
    server.resume()
    url = server.script("/slow", Reply(delay=FAR), Reply())
    interrupted_when(lambda: server.count() == 1, lambda: manager.get(url))
    assert manager.circuit_breaker.current_state == "half-open"
    assert manager.get(url).status_code == 200
    assert manager.circuit_breaker.current_state == "closed"
