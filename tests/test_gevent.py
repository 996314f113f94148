"""Under gevent's monkey patching, greenlets are what threads are elsewhere.

Each test runs a script of its own: what is patched stays patched.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.server import PrivateCA, Reply, ScriptedServer

pytest.importorskip("gevent", reason="gevent has no wheel for this interpreter")

HEAD = """
from gevent import monkey; monkey.patch_all()
import gevent, json, sys, time
from requests_connection_manager import *
url, bundle = sys.argv[1:]
manager = ConnectionManager(
    backoff_factor=0, rate_limit_requests=None, pool_maxsize=50, verify=bundle
)

def outcomes_of(work, count):
    def outcome(n):
        try:
            return str(work(n))
        except Exception as error:
            return repr(error)
    jobs = [gevent.spawn(outcome, n) for n in range(count)]
    gevent.joinall(jobs, timeout=60)
    return [job.value for job in jobs]

def get(n):
    return manager.get(url).status_code
"""


def run(script: str, url: str, bundle: str = "True") -> Any:
    """Run the script; return what it prints as JSON."""
    # gevent itself warns, of what it finds imported by site's .pth files
    ended = subprocess.run(
        [sys.executable, "-c", HEAD + script, url, bundle],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.parametrize("tls", [False, True])
def test_fifty_greenlets_are_served_at_the_same_time(ca: PrivateCA, bundle: str, tls: bool) -> None:
    with ScriptedServer(tls=ca.server_context() if tls else None) as server:
        url = server.script("/slow", Reply(delay=1))
        outcomes = run("print(json.dumps(outcomes_of(get, 50)))", url, bundle)
        assert outcomes == ["200"] * 50
        assert server.count() == 50
        assert server.most_at_once >= 40  # the rest were late by a busy machine's grace


def test_a_wait_for_a_permit_lets_others_go_on(server: ScriptedServer, bundle: str) -> None:
    script = """
manager.add_endpoint_config("127.0.0.1/limited", {"rate_limit_requests": 5, "rate_limit_period": 1})
order = []
def work(n):
    if n < 12:
        code = manager.get(url + "/limited").status_code
    else:
        code = manager.get(url + "/free").status_code
    order.append(n)
    return code
outcomes = outcomes_of(work, 32)
print(json.dumps([outcomes, order]))
"""
    outcomes, order = run(script, server.url, bundle)
    assert outcomes == ["200"] * 32
    assert {*order[-7:]} == {5, 6, 7, 8, 9, 10, 11}  # those who waited, and they alone were last
    assert {*order[-2:]} == {10, 11}  # in the order in which they came
    limited = [each.at for each in server.requests_to("/limited")]
    assert limited[5] - limited[0] >= 0.9
    assert limited[10] - limited[5] >= 0.9


def test_slots_are_shared_by_greenlets(server: ScriptedServer, bundle: str) -> None:
    url = server.script("/slow", Reply(delay=0.05))
    script = """
manager = ConnectionManager(max_concurrency=3, rate_limit_requests=None, pool_maxsize=20)
print(json.dumps(outcomes_of(get, 20)))
"""
    assert run(script, url, bundle) == ["200"] * 20
    assert server.most_at_once == 3


def test_calls_of_greenlets_do_not_mix(server: ScriptedServer, bundle: str) -> None:
    """What a call carries is in context variables: deadline, ticket, and the key of its query."""
    server.script("/slow", Reply(delay=30))
    server.script("/flaky", Reply(status=503), Reply(status=503), Reply(delay=0.3))
    script = """
manager.add_endpoint_config("127.0.0.1/slow", {"total_timeout": 0.5})
def work(n):
    if n % 2:
        try:
            manager.get(url + "/slow")
        except DeadlineExceeded as error:
            return f"late {len(error.attempts)}"
    own = {"X-Number": str(n)}
    key = {"api_key": f"key-{n}", "api_key_query": "key"}
    with ConnectionManager(rate_limit_requests=None, backoff_factor=0, **key) as mine:
        for shared in (manager, manager.session, mine):
            shared.get(f"{url}/own/{n}", headers=own).raise_for_status()
    return manager.get(url + "/flaky").status_code
print(json.dumps(outcomes_of(work, 20)))
"""
    outcomes = run(script, server.url, bundle)
    assert outcomes[1::2] == ["late 1"] * 10
    assert outcomes[::2] == ["200"] * 10
    for n in range(0, 20, 2):
        seen = server.requests_to(f"/own/{n}")
        assert [each.headers["X-Number"] for each in seen] == [str(n)] * 3
        assert sorted(each.query for each in seen) == ["", "", f"key=key-{n}"]
    assert server.count("/flaky") == 12


def test_only_one_greenlet_makes_the_trial(server: ScriptedServer, bundle: str) -> None:
    server.script("/", Reply(status=503), Reply(delay=0.5))
    script = """
url += "/"
manager = ConnectionManager(
    max_retries=0, circuit_breaker_failure_threshold=1, circuit_breaker_recovery_timeout=0
)
get(0)
outcomes = outcomes_of(get, 10)
print(json.dumps([outcomes, get(0)]))
"""
    outcomes, last = run(script, server.url, bundle)
    assert outcomes.count("200") == 1
    assert sum("CircuitBreakerOpen" in each for each in outcomes) == 9
    assert last == 200
    assert server.count() == 3


def test_batches_tokens_and_a_full_pool_work(server: ScriptedServer, bundle: str) -> None:
    server.script("/token", Reply(body=b'{"access_token": "t"}', delay=0.2))
    script = """
auth = OAuth2ClientCredentials(url + "/token", "me", "s3cr3t")
manager = ConnectionManager(auth=auth, pool_maxsize=2, pool_block=True, total_timeout=20)
codes = outcomes_of(lambda n: manager.get(f"{url}/{n}").status_code, 10)
batch = [each.status_code for each in manager.batch_request([("GET", url)] * 10, max_workers=2)]
print(json.dumps([codes, batch, manager.get_stats()["requests_made"]]))
manager.close()
"""
    codes, batch, made = run(script, server.url, bundle)
    assert codes == ["200"] * 10
    assert batch == [200] * 10
    assert server.count("/token") == 1
    assert made == 21
