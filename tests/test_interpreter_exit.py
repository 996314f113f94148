"""The interpreter ends, whatever threads are doing: in bounded time, and without noise."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.server import Reply, ScriptedServer, wait_until

FAR = 100  # seconds; longer than a test may take
HEAD = """
import atexit, os, sys, threading, time
from requests_connection_manager import ConnectionManager, OAuth2ClientCredentials
url = sys.argv[1]
manager = ConnectionManager(backoff_factor=0, endpoint_configs={
    "127.0.0.1/limited": {"rate_limit_requests": 1, "rate_limit_period": 1000},
    "127.0.0.1/flaky": {"backoff_factor": 1000, "backoff_max": 1000, "backoff_jitter": 0},
    "127.0.0.1/signed": {"auth": OAuth2ClientCredentials(url + "/token", "me", "s3cr3t")},
})

def start(work, *args, daemon=True, **kwargs):
    threading.Thread(target=work, args=args, kwargs=kwargs, daemon=daemon).start()

def read(path):
    with manager.get(url + path, stream=True) as response:
        for block in response.iter_content(10):
            pass

def until(count):
    while int(manager.get(url + "/count").text or 0) < count:
        time.sleep(0.01)
"""
IN_ALL_SORTS_OF_WAITS = """
manager.get(url + "/limited")
start(manager.get, url + "/slow")
start(manager.get, url + "/limited")
start(manager.session.get, url + "/limited")
start(manager.get, url + "/flaky")
start(manager.get, url + "/signed")
start(manager.get, url + "/signed")
start(read, "/trickle")
start(manager.batch_request, [("GET", url + "/slow")] * 20)
start(lambda: [*manager.iter_batch([url + "/slow"] * 20, max_workers=3)])
print("ready", flush=True)
time.sleep(1)
"""


@pytest.fixture
def busy(server: ScriptedServer) -> ScriptedServer:
    server.script("/slow", Reply(delay=FAR))
    server.script("/token", Reply(delay=FAR))
    server.script("/flaky", Reply(hang_up=True))
    server.script("/trickle", Reply(body=b"x" * 1000, drip=0.1))
    return server


def started(server: ScriptedServer, script: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", HEAD + script, server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(script: subprocess.Popen[str], within: float = 40) -> tuple[int, str]:
    """The exit code, and what was said on standard error."""
    try:
        _, noise = script.communicate(timeout=within)
    finally:
        script.kill()
    return script.returncode, noise


@pytest.mark.parametrize(
    ("last", "code"), [("", 0), ("sys.exit(7)", 7), ("manager.close()", 0), ("del manager", 0)]
)
def test_daemon_threads_hold_nothing_up(busy: ScriptedServer, last: str, code: int) -> None:
    script = started(busy, IN_ALL_SORTS_OF_WAITS + last)
    assert ended(script) == (code, "")
    assert busy.count("/slow") > 5  # they were indeed in the midst of it


def test_an_unhandled_exception_is_all_that_is_said(busy: ScriptedServer) -> None:
    code, noise = ended(started(busy, IN_ALL_SORTS_OF_WAITS + "raise LookupError('mine')"))
    assert code == 1
    assert noise.count("Traceback") == 1
    assert noise.rstrip().endswith("LookupError: mine")
    assert "ignored" not in noise


def test_a_signal_to_end_ends_it(busy: ScriptedServer) -> None:
    script = started(busy, IN_ALL_SORTS_OF_WAITS + "time.sleep(100)")
    wait_until(lambda: busy.count("/slow") > 5)
    script.send_signal(signal.SIGTERM)
    assert ended(script) == (-signal.SIGTERM, "")


def test_a_graceful_handler_of_signals_ends_it_too(busy: ScriptedServer) -> None:
    """While the main thread itself waits, for a permit."""
    wait = """
import signal
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
threading.Timer(1, os.kill, (os.getpid(), signal.SIGTERM)).start()
manager.get(url + "/limited")
"""
    assert ended(started(busy, IN_ALL_SORTS_OF_WAITS + wait)) == (3, "")


def test_other_threads_are_waited_for_as_always(server: ScriptedServer) -> None:
    """What they ask for after the end of the main thread is sent, a batch's requests too."""
    server.script("/slow", Reply(delay=1))
    script = """
def work():
    assert manager.get(url + "/slow").status_code == 200
    assert manager.get(url + "/after").status_code == 200
start(work, daemon=False)
"""
    assert ended(started(server, script)) == (0, "")
    assert (server.count("/slow"), server.count("/after")) == (1, 1)


def test_a_manager_can_still_be_used_at_the_exit(server: ScriptedServer) -> None:
    server.script("/flaky", Reply(hang_up=True), Reply())
    script = """
@atexit.register
def say_goodbye():
    manager.add_endpoint_config("127.0.0.1/flaky", {})
    assert manager.get(url + "/flaky").status_code == 200
    assert manager.session.post(url + "/bye").status_code == 200
    assert manager.get_stats()["requests_made"] == 3
    manager.close()
manager.get(url)
"""
    assert ended(started(server, script)) == (0, "")
    assert server.count("/flaky") == 2
    assert server.count("/bye") == 1


def test_a_manager_that_nobody_closed_says_nothing(tls_server: ScriptedServer, bundle: str) -> None:
    script = f"""
manager = ConnectionManager(verify={bundle!r})
assert manager.get(url).status_code == 200
kept = manager.get(url, stream=True)
results = manager.iter_batch([url] * 4)
next(results)
"""
    assert ended(started(tls_server, script)) == (0, "")
