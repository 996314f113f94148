"""One jar of cookies, and all the threads that use the manager."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from requests.cookies import RequestsCookieJar

from tests.conftest import MakeManager, in_threads
from tests.server import Reply, ScriptedServer

THREADS, EACH = 24, 4


@pytest.fixture
def _hurried() -> Iterator[None]:
    """Threads take turns as often as they can, so that what is not safe shows."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("_hurried")
@pytest.mark.parametrize("through", ["manager", "session"])
def test_no_cookie_is_lost_and_nobody_fails(
    make_manager: MakeManager, server: ScriptedServer, through: str
) -> None:
    """Some stay, some come and go at once: each of them changes the jar under the others."""
    manager = make_manager(rate_limit_requests=None, pool_maxsize=THREADS)
    send = manager if through == "manager" else manager.session
    for n in range(THREADS):
        here, gone = f"fleeting{n}=1; Path=/", f"fleeting{n}=; Path=/; Max-Age=0"
        server.script(f"/{n}/here", Reply(headers={"Set-Cookie": here}))
        server.script(f"/{n}/gone", Reply(headers={"Set-Cookie": gone}))
        for k in range(EACH):
            headers = {"Set-Cookie": f"c{n}-{k}=1; Path=/only/{k}"}
            server.script(f"/{n}/{k}", Reply(headers=headers))
    errors: list[Exception] = []

    def call(n: int) -> None:
        try:
            for k in range(EACH):
                for path in (f"/{n}/{k}", f"/{n}/here", f"/{n}/gone"):
                    assert send.get(server.url + path).status_code == 200
        except Exception as error:
            errors.append(error)

    in_threads(THREADS, call)
    assert not errors, errors[0]
    expected = {f"c{n}-{k}" for n in range(THREADS) for k in range(EACH)}
    assert {cookie.name for cookie in manager.session.cookies} == expected


def test_the_cookies_of_a_call_are_its_own(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    """However many others are under way; and they are gone with the call."""
    manager = make_manager(rate_limit_requests=None, pool_maxsize=THREADS)
    manager.session.cookies.set("everybody", "1")

    def call(n: int) -> None:
        for _ in range(EACH):
            manager.get(f"{server.url}/{n}", cookies={"own": str(n)})

    in_threads(THREADS, call)
    for n in range(THREADS):
        sent = [each.headers["Cookie"] for each in server.requests_to(f"/{n}")]
        assert [set(cookies.split("; ")) for cookies in sent] == [
            {"everybody=1", f"own={n}"}
        ] * EACH
    manager.get(server.url + "/after")
    assert server.requests_to("/after")[0].headers["Cookie"] == "everybody=1"
    assert manager.session.cookies.get_dict() == {"everybody": "1"}


def test_a_cookie_that_was_just_set_goes_with_the_next_call_of_any_thread(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(rate_limit_requests=None)
    manager.get(server.script("/login", Reply(headers={"Set-Cookie": "who=me; Path=/"})))
    in_threads(8, lambda n: manager.get(f"{server.url}/{n}"))
    assert [server.requests_to(f"/{n}")[0].headers["Cookie"] for n in range(8)] == ["who=me"] * 8


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda jar: pickle.loads(pickle.dumps(jar))]
)
def test_the_jar_can_be_kept_as_that_of_requests_can(
    make_manager: MakeManager, server: ScriptedServer, duplicate: Callable[[Any], Any]
) -> None:
    manager = make_manager()
    manager.session.cookies.set("who", "me")
    kept = duplicate(manager.session.cookies)
    assert type(kept) is RequestsCookieJar
    other = make_manager()
    other.session.cookies = kept
    other.get(server.url)
    assert server.received[0].headers["Cookie"] == "who=me"
