"""OAuth2ClientCredentials: one fetch for all, a fresh token after a 401, and a secret kept."""

from __future__ import annotations

import base64
import copy
import io
import json
import logging
import pickle
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, quote, quote_plus

import pytest
import requests

from requests_connection_manager import (
    AuthenticationError,
    CircuitBreakerOpen,
    ConfigurationError,
    DeadlineExceeded,
    ManagerClosed,
    MaxRetriesExceeded,
    RateLimitExceeded,
)
from requests_connection_manager.oauth2 import OAuth2ClientCredentials
from tests.conftest import FakeClock, MakeManager, in_threads
from tests.server import Received, Reply, ScriptedServer, wait_until
from tests.test_interrupts import interrupted_when

CLIENT = "client:1"
SECRET = "s3cr/t+ü &=%:päss"
DOWN = Reply(status=503)
REFUSED = Reply(status=401)
FORMS_OF_THE_SECRET = (
    SECRET,
    quote(SECRET),
    quote_plus(SECRET),
    quote(SECRET, safe=""),
    base64.b64encode(SECRET.encode()).decode(),
    base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode(),
    base64.b64encode(f"{quote_plus(CLIENT)}:{quote_plus(SECRET)}".encode()).decode(),
)

MakeAuth = Callable[..., OAuth2ClientCredentials]


def token(value: object, expires_in: object = 3600, **more: Any) -> Reply:
    fields = {"access_token": value, "token_type": "Bearer", "expires_in": expires_in, **more}
    present = {name: each for name, each in fields.items() if each is not None}
    return Reply(body=json.dumps(present).encode())


def bearers(server: ScriptedServer, path: str = "/data") -> list[str | None]:
    return [each.headers.get("Authorization") for each in server.requests_to(path)]


@pytest.fixture
def tokens() -> Iterator[ScriptedServer]:
    """The server of tokens: the first is `one`, the second `two`."""
    with ScriptedServer() as running:
        running.script("/token", token("one"), token("two"))
        yield running


@pytest.fixture
def make_auth(tokens: ScriptedServer) -> MakeAuth:
    def make(**arguments: Any) -> OAuth2ClientCredentials:
        url = arguments.pop("token_url", tokens.url + "/token")
        return OAuth2ClientCredentials(url, CLIENT, SECRET, **arguments)

    return make


@pytest.fixture
def auth(make_auth: MakeAuth) -> OAuth2ClientCredentials:
    return make_auth()


def assert_shows_nothing(error: BaseException) -> None:
    texts = ["".join(traceback.format_exception(error)), repr(error), str(error)]
    link: BaseException | None = error
    while link is not None:
        texts.append(repr(vars(link)))
        texts.append(repr(pickle.loads(pickle.dumps(link)).__dict__))
        raw = pickle.dumps(link)
        assert not any(form.encode() in raw for form in FORMS_OF_THE_SECRET)
        link = link.__cause__ or link.__context__
    for text in texts:
        assert not any(form in text for form in FORMS_OF_THE_SECRET), text


# The token request


def test_a_token_is_fetched_once_and_used_again(
    make_manager: MakeManager, server: ScriptedServer, tokens: ScriptedServer, auth
) -> None:
    manager = make_manager()
    for _ in range(3):
        assert manager.get(server.url + "/data", auth=auth).status_code == 200
    assert bearers(server) == ["Bearer one"] * 3
    assert tokens.count() == 1


def form_of(request: Received) -> dict[str, list[str]]:
    return parse_qs(request.body.decode(), strict_parsing=True)


def test_basic_form_encodes_id_and_secret_first(
    make_manager: MakeManager, server: ScriptedServer, tokens: ScriptedServer, auth
) -> None:
    """RFC 6749 §2.3.1."""
    make_manager().get(server.url, auth=auth)
    (request,) = tokens.received
    kind, _, pair = request.headers["Authorization"].partition(" ")
    assert kind == "Basic"
    expected = f"{quote_plus(CLIENT)}:{quote_plus(SECRET)}"
    assert base64.b64decode(pair).decode() == expected
    assert (request.method, request.path) == ("POST", "/token")
    assert form_of(request) == {"grant_type": ["client_credentials"]}
    assert request.headers["Accept"] == "application/json"
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"


@pytest.mark.parametrize("scope", ["read write", ["read", "write"], ("read", "write")])
def test_body_scope_and_extra(
    make_manager: MakeManager,
    server: ScriptedServer,
    tokens: ScriptedServer,
    make_auth: MakeAuth,
    scope: Any,
) -> None:
    auth = make_auth(scope=scope, client_auth="body", extra={"audience": "https://a.test/"})
    make_manager().get(server.url, auth=auth)
    (request,) = tokens.received
    assert form_of(request) == {
        "grant_type": ["client_credentials"],
        "scope": ["read write"],
        "audience": ["https://a.test/"],
        "client_id": [CLIENT],
        "client_secret": [SECRET],
    }
    assert "Authorization" not in request.headers


def test_nothing_of_the_session_gets_into_the_token_request(
    make_manager: MakeManager,
    server: ScriptedServer,
    tokens: ScriptedServer,
    make_auth: MakeAuth,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("NETRC", str(netrc))
    manager = make_manager()
    manager.session.headers["X-Own"] = "1"
    manager.session.params = {"own": "1"}
    manager.session.cookies.set("own", "1", domain="127.0.0.1", path="/")
    seen = []
    manager.session.hooks["response"].append(lambda r, **_: seen.append(r.request))
    manager.session.auth = make_auth(client_auth="body")
    assert manager.get(server.url + "/data").status_code == 200
    (request,) = tokens.received
    assert request.query == ""
    assert not {"X-Own", "Cookie", "Authorization"} & set(request.headers)
    assert [each.url for each in seen] == [server.url + "/data?own=1"]


def test_it_is_under_the_policies_of_its_own_url(
    make_manager: MakeManager, server: ScriptedServer, tokens: ScriptedServer, auth
) -> None:
    there = f"127.0.0.1:{tokens.port}"
    tokens.script("/token", DOWN, Reply(hang_up=True), token("one"))
    manager = make_manager(endpoint_configs={there: {"rate_limit_requests": 3}}, max_retries=2)
    assert manager.get(server.url + "/data", auth=auth).status_code == 200
    assert (tokens.count(), server.count()) == (3, 1)
    keys = {each.headers["Idempotency-Key"] for each in tokens.received}
    assert len(keys) == 1
    resolve = manager._endpoints.table.resolve
    assert resolve(tokens.url).limiter._window.num_calls == 3
    assert resolve(server.url).limiter._window.num_calls == 1


def test_so_is_its_body_though_the_session_streams(
    make_manager: MakeManager, server: ScriptedServer, tokens: ScriptedServer, auth
) -> None:
    tokens.script("/token", Reply(body=b"x" * 100, cut_at=5), token("one"))
    manager = make_manager()
    manager.session.stream = True
    with manager.get(server.url + "/data", auth=auth) as response:
        assert response.status_code == 200
    assert tokens.count() == 2


def test_a_plain_call_of_requests_has_a_manager_of_the_tokens_own(
    server: ScriptedServer, tokens: ScriptedServer, auth
) -> None:
    tokens.script("/token", DOWN, token("one"))
    for _ in range(2):
        assert requests.get(server.url + "/data", auth=auth, timeout=10).status_code == 200
    assert bearers(server) == ["Bearer one"] * 2
    assert tokens.count() == 2


def test_a_request_that_is_prepared_outside_a_call_is_signed_too(
    make_manager: MakeManager, server: ScriptedServer, tokens: ScriptedServer, auth
) -> None:
    session = make_manager().session
    server.script("/data", REFUSED, Reply())
    request = requests.Request("GET", server.url + "/data", auth=auth)
    assert session.send(session.prepare_request(request)).status_code == 200
    assert bearers(server) == ["Bearer one", "Bearer two"]


# How long a token is kept


@pytest.mark.parametrize(
    ("expires_in", "skew", "kept"),
    [
        (3600, None, 3570),
        ("3600", None, 3570),
        (3600.5, None, 3570.5),
        (40, None, 20),
        (3600, 600, 3000),
        (3600, 0, 3600),
    ],
)
def test_it_is_renewed_before_it_expires(
    make_manager: MakeManager,
    server: ScriptedServer,
    tokens: ScriptedServer,
    make_auth: MakeAuth,
    clock: FakeClock,
    expires_in: object,
    skew: float | None,
    kept: float,
) -> None:
    tokens.script("/token", token("one", expires_in), token("two"))
    auth = make_auth(skew=skew, clock=clock)
    manager = make_manager()
    manager.get(server.url + "/data", auth=auth)
    clock.now += kept - 5  # the time of the fetch is the real one's, and counts
    manager.get(server.url + "/data", auth=auth)
    clock.now += 5
    manager.get(server.url + "/data", auth=auth)
    assert bearers(server) == ["Bearer one", "Bearer one", "Bearer two"]
    assert tokens.count() == 2


@pytest.mark.parametrize(
    "senseless", [None, 0, -1, "", "soon", "nan", "inf", True, [], {}, 10**400, float("inf")]
)
def test_without_a_sensible_expiry_it_is_kept_until_a_401(
    make_manager: MakeManager,
    server: ScriptedServer,
    tokens: ScriptedServer,
    make_auth: MakeAuth,
    clock: FakeClock,
    senseless: object,
) -> None:
    tokens.script("/token", token("one", senseless), token("two"))
    server.script("/data", Reply(), Reply(), REFUSED, Reply())
    auth = make_auth(clock=clock)
    manager = make_manager()
    for _ in range(3):
        assert manager.get(server.url + "/data", auth=auth).status_code == 200
        clock.now += 1e9
    assert bearers(server) == ["Bearer one"] * 3 + ["Bearer two"]


def test_while_one_renews_early_the_others_go_on(
    make_manager: MakeManager,
    server: ScriptedServer,
    tokens: ScriptedServer,
    make_auth: MakeAuth,
    clock: FakeClock,
) -> None:
    tokens.script("/token", token("one"), Reply(**{**vars(token("two")), "delay": 1.0}))
    auth = make_auth(clock=clock)
    manager = make_manager()
    manager.get(server.url + "/data", auth=auth)
    clock.now += 3590
    renewing = threading.Thread(
        target=manager.get, args=(server.url + "/x",), kwargs={"auth": auth}
    )
    renewing.start()
    wait_until(lambda: tokens.count() == 2)
    in_threads(10, lambda _: manager.get(server.url + "/data", auth=auth))
    assert renewing.is_alive()
    renewing.join(20)
    assert bearers(server) == ["Bearer one"] * 11
    assert bearers(server, "/x") == ["Bearer two"]
    assert tokens.count() == 2


def test_an_early_renewal_that_fails_is_not_tried_at_every_call(
    make_manager: MakeManager,
    server: ScriptedServer,
    tokens: ScriptedServer,
    make_auth: MakeAuth,
    clock: FakeClock,
) -> None:
    tokens.script("/token", token("one"), REFUSED, REFUSED, token("two"))
    auth = make_auth(clock=clock)
    manager = make_manager()
    for later in (0, 3580, 1, 1, 10, 0.1, 5):
        clock.now += later
        manager.get(server.url + "/data", auth=auth)
    assert bearers(server) == ["Bearer one"] * 6 + ["Bearer two"]
    assert tokens.count() == 4


def test_and_once_the_token_has_expired_it_is_an_error(
    make_manager: MakeManager,
    server: ScriptedServer,
    tokens: ScriptedServer,
    make_auth: MakeAuth,
    clock: FakeClock,
) -> None:
    tokens.script("/token", token("one"), REFUSED)
    auth = make_auth(clock=clock)
    manager = make_manager()
    for later in (0, 3580):
        clock.now += later
        manager.get(server.url + "/data", auth=auth)
    clock.now += 20
    for _ in range(2):
        with pytest.raises(AuthenticationError):
            manager.get(server.url + "/data", auth=auth)
    assert (tokens.count(), server.count()) == (4, 2)


# One fetch for any number of threads


def outcomes_of(count: int, work: Callable[[int], requests.Response]) -> list[Any]:
    """Let threads start together; return statuses and exceptions."""
    barrier = threading.Barrier(count)

    def run(number: int) -> Any:
        barrier.wait(20)
        try:
            return work(number).status_code
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@pytest.mark.parametrize("managed", [True, False])
def test_thirty_threads_fetch_once(
    make_manager: MakeManager, server: ScriptedServer, tokens: ScriptedServer, auth, managed: bool
) -> None:
    tokens.script("/token", Reply(**{**vars(token("one")), "delay": 0.3}))
    get = make_manager().get if managed else requests.get
    outcomes = outcomes_of(30, lambda _: get(server.url + "/data", auth=auth))
    assert outcomes == [200] * 30
    assert tokens.count() == 1


def test_a_failed_fetch_fails_all_that_waited_for_it(
    make_manager: MakeManager, server: ScriptedServer, tokens: ScriptedServer, auth
) -> None:
    body = b'{"error": "invalid_client"}'
    tokens.script("/token", Reply(status=401, body=body, delay=0.5))
    manager = make_manager()
    outcomes = outcomes_of(30, lambda _: manager.get(server.url, auth=auth))
    assert {type(each) for each in outcomes} == {AuthenticationError}
    assert len({id(each) for each in outcomes}) == 30
    assert (tokens.count(), server.count()) == (1, 0)
    assert manager.circuit_breaker.fail_counter == 0


def test_a_failure_is_not_remembered(
    make_manager: MakeManager, server: ScriptedServer, tokens: ScriptedServer, auth
) -> None:
    tokens.script("/token", REFUSED, token("one"))
    manager = make_manager()
    with pytest.raises(AuthenticationError):
        manager.get(server.url, auth=auth)
    assert manager.get(server.url, auth=auth).status_code == 200


def test_who_waits_waits_no_longer_than_its_own_deadline(
    make_manager: MakeManager, server: ScriptedServer, tokens: ScriptedServer, auth
) -> None:
    tokens.script("/token", Reply(**{**vars(token("one")), "delay": 2.0}))
    patient, hurried = make_manager(), make_manager(total_timeout=0.3)
    got = []
    first = threading.Thread(target=lambda: got.append(patient.get(server.url, auth=auth)))
    first.start()
    wait_until(lambda: tokens.count() == 1)
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="another thread was still fetching") as caught:
        hurried.get(server.url, auth=auth)
    assert time.monotonic() - started < 1.5
    assert caught.value.request is not None
    first.join(20)
    assert got[0].status_code == 200
    assert tokens.count() == 1
    assert hurried.circuit_breaker.fail_counter == 0


@pytest.mark.parametrize(
    ("everywhere", "retries", "first_reply"),
    [
        (True, 0, Reply(delay=30)),
        (False, 0, Reply(delay=30)),
        (True, 1, Reply(status=503, headers={"Retry-After": "10"}, delay=0.3)),
    ],
    ids=["its own", "of the service only", "that cannot be met"],
)
def test_the_fetchers_own_deadline_fails_nobody_else(
    make_manager: MakeManager,
    server: ScriptedServer,
    tokens: ScriptedServer,
    auth,
    everywhere: bool,
    retries: int,
    first_reply: Reply,
) -> None:
    tokens.script("/token", first_reply, token("one"))
    own = {"total_timeout": 0.5}
    here = {"endpoint_configs": {f"127.0.0.1:{server.port}": own}}
    hurried = make_manager(max_retries=retries, **(own if everywhere else here))
    raised: list[Exception] = []

    def hurry() -> None:
        try:
            hurried.get(server.url, auth=auth)
        except Exception as error:
            raised.append(error)

    first = threading.Thread(target=hurry)
    first.start()
    wait_until(lambda: tokens.count() == 1)
    patient = make_manager()
    assert outcomes_of(10, lambda _: patient.get(server.url, auth=auth)) == [200] * 10
    first.join(20)
    assert [type(error) for error in raised] == [DeadlineExceeded]
    assert_shows_nothing(raised[0])
    assert tokens.count() == 2


def test_nor_does_ctrl_c(
    make_manager: MakeManager, server: ScriptedServer, tokens: ScriptedServer, auth
) -> None:
    tokens.script("/token", Reply(delay=30), token("one"))
    manager = make_manager()
    pool = ThreadPoolExecutor(5)
    waiting: list[Any] = []

    def others_wait() -> bool:
        if tokens.count() == 1 and not waiting:
            waiting.extend(pool.submit(manager.get, server.url, auth=auth) for _ in range(5))
            time.sleep(0.2)
        return bool(waiting)

    interrupted_when(others_wait, lambda: manager.get(server.url, auth=auth))
    assert [each.result(20).status_code for each in waiting] == [200] * 5
    pool.shutdown()
    assert tokens.count() == 2


def test_nor_does_a_fetch_that_ends_without_a_word(
    make_manager: MakeManager, server: ScriptedServer, tokens: ScriptedServer, auth, monkeypatch
) -> None:
    """An interrupt can come in the very moment in which the others are told."""
    tokens.script("/token", Reply(status=400, delay=0.5), token("one"))
    torn: list[object] = []
    land = OAuth2ClientCredentials._land

    def tear(self: OAuth2ClientCredentials, flight: Any) -> None:
        if flight.landing is self._landing and not torn:
            torn.append("")
            raise KeyboardInterrupt
        land(self, flight)

    monkeypatch.setattr(OAuth2ClientCredentials, "_land", tear)
    manager = make_manager()

    def interrupted() -> None:
        with suppress(KeyboardInterrupt):
            manager.get(server.url, auth=auth)

    first = threading.Thread(target=interrupted)
    first.start()
    wait_until(lambda: tokens.count() == 1)
    assert outcomes_of(5, lambda _: manager.get(server.url, auth=auth)) == [200] * 5
    first.join(20)
    assert (torn, tokens.count()) == ([""], 2)


def test_a_manager_that_is_closed_meanwhile_says_so(
    make_manager: MakeManager, server: ScriptedServer, tokens: ScriptedServer, make_auth: MakeAuth
) -> None:
    auth = make_auth(client_auth="body")
    manager = make_manager()

    def close_first(request: requests.PreparedRequest) -> requests.PreparedRequest:
        manager.close()
        return auth(request)

    with pytest.raises(ManagerClosed) as caught:
        manager.get(server.url, auth=close_first)
    assert_shows_nothing(caught.value)
    assert make_manager().get(server.url, auth=auth).status_code == 200
    assert tokens.count() == 1


def test_but_the_time_allowed_for_a_token_fails_all(
    make_manager: MakeManager, server: ScriptedServer, tokens: ScriptedServer, auth
) -> None:
    """All would meet with it, one after the other."""
    tokens.script("/token", Reply(delay=30))
    there = {f"127.0.0.1:{tokens.port}": {"total_timeout": 0.5}}
    manager = make_manager(total_timeout=20, endpoint_configs=there)
    outcomes = outcomes_of(10, lambda _: manager.get(server.url, auth=auth))
    assert {type(each) for each in outcomes} == {AuthenticationError}
    assert isinstance(outcomes[0].__cause__, DeadlineExceeded)
    assert_shows_nothing(outcomes[0])
    assert tokens.count() == 1


def test_a_token_request_that_needs_the_token_is_an_error_not_a_hang(
    make_manager: MakeManager, server: ScriptedServer, tokens: ScriptedServer, auth
) -> None:
    manager = make_manager()

    class SignsAll(requests.adapters.HTTPAdapter):
        def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
            return super().send(auth(request), **kwargs)

    manager.session.mount(tokens.url, SignsAll())
    with pytest.raises(AuthenticationError) as caught:
        manager.get(server.url, auth=auth)
    assert "must not be signed with it" in str(caught.value)
    assert (tokens.count(), server.count()) == (0, 0)


# After a 401


def test_a_fresh_token_is_tried_once_after_a_401(
    make_manager: MakeManager, server: ScriptedServer, tokens: ScriptedServer, auth
) -> None:
    server.script("/data", Reply(), REFUSED, Reply(body=b"data"))
    manager = make_manager()
    manager.get(server.url + "/data", auth=auth)
    answer = manager.get(server.url + "/data", auth=auth)
    assert (answer.status_code, answer.content) == (200, b"data")
    assert [each.status_code for each in answer.history] == [401]
    assert answer.request.headers["Authorization"] == "Bearer two"
    assert bearers(server) == ["Bearer one", "Bearer one", "Bearer two"]
    assert tokens.count() == 2
    assert server.connections_made == 1


def test_a_second_401_is_handed_back(
    make_manager: MakeManager, server: ScriptedServer, tokens: ScriptedServer, auth
) -> None:
    server.script("/data", REFUSED)
    answer = make_manager().get(server.url + "/data", auth=auth)
    assert answer.status_code == 401
    assert bearers(server) == ["Bearer one", "Bearer two"]


@pytest.mark.parametrize("limit", [1, 2])
def test_the_second_try_takes_a_permit_of_its_own(
    make_manager: MakeManager, server: ScriptedServer, auth, limit: int
) -> None:
    server.script("/data", REFUSED, Reply())
    here = {f"127.0.0.1:{server.port}": {"rate_limit_requests": limit, "rate_limit_max_wait": 0}}
    manager = make_manager(endpoint_configs=here)
    if limit == 1:
        with pytest.raises(RateLimitExceeded):
            manager.get(server.url + "/data", auth=auth)
    else:
        assert manager.get(server.url + "/data", auth=auth).status_code == 200
    assert server.count() == limit


@pytest.mark.parametrize("new", ["two", "one"], ids=["another", "the same again"])
def test_threads_with_the_same_stale_token_fetch_once(
    make_manager: MakeManager, server: ScriptedServer, tokens: ScriptedServer, auth, new: str
) -> None:
    tokens.script("/token", token("one"), Reply(**{**vars(token(new)), "delay": 0.2}))
    manager = make_manager(rate_limit_requests=None, pool_maxsize=20)
    manager.get(server.url, auth=auth)
    # so long, for who comes after the new token would take a 401 from another's second round
    server.script("/data", *[Reply(status=401, delay=1)] * 20, Reply())
    outcomes = outcomes_of(20, lambda _: manager.get(server.url + "/data", auth=auth))
    assert outcomes == [200] * 20
    assert (server.count("/data"), tokens.count()) == (40, 2)


def test_a_late_401_does_not_cost_a_newer_token(
    make_manager: MakeManager, server: ScriptedServer, tokens: ScriptedServer, auth
) -> None:
    manager = make_manager()
    server.script("/data", REFUSED, Reply(), REFUSED, Reply())
    signed_before = auth(requests.Request("GET", server.url + "/data").prepare())
    assert manager.get(server.url + "/data", auth=auth).status_code == 200
    assert manager.session.send(signed_before).status_code == 200
    assert bearers(server) == ["Bearer one", "Bearer two"] * 2
    assert tokens.count() == 2


def test_no_fresh_token_after_a_401_is_an_error(
    make_manager: MakeManager, server: ScriptedServer, tokens: ScriptedServer, auth
) -> None:
    tokens.script("/token", token("one"), Reply(status=400))
    server.script("/data", REFUSED)
    with pytest.raises(AuthenticationError) as caught:
        make_manager().get(server.url + "/data", auth=auth)
    assert caught.value.request.url == server.url + "/data"
    assert_shows_nothing(caught.value)


@pytest.mark.parametrize(
    ("body", "statuses", "sent"),
    [
        (b"body", [401, 200], [b"body"] * 2),
        (lambda: io.BytesIO(b"body"), [401, 200], [b"body"] * 2),
        (lambda: _at(io.BytesIO(b"my body"), 3), [401, 200], [b"body"] * 2),
        (lambda: iter([b"bo", b"dy"]), [401], [b"body"]),
    ],
    ids=["bytes", "file", "file from its middle", "generator"],
)
@pytest.mark.parametrize("managed", [True, False])
def test_a_body_is_sent_again_if_it_can_be(
    make_manager: MakeManager,
    server: ScriptedServer,
    tokens: ScriptedServer,
    auth,
    body: Any,
    statuses: list[int],
    sent: list[bytes],
    managed: bool,
) -> None:
    server.script("/data", REFUSED, Reply())
    post = make_manager().post if managed else requests.post
    answer = post(server.url + "/data", data=body() if callable(body) else body, auth=auth)
    assert [each.status_code for each in (*answer.history, answer)] == statuses
    assert [each.body for each in server.received] == sent
    if len(statuses) == 1:  # but the next call does not use the refused token again
        assert post(server.url + "/data", auth=auth).status_code == 200
        assert bearers(server) == ["Bearer one", "Bearer two"]


def _at(file: io.BytesIO, position: int) -> io.BytesIO:
    file.seek(position)
    return file


def test_a_streamed_answer_is_streamed_after_a_401_too(
    make_manager: MakeManager, server: ScriptedServer, auth
) -> None:
    server.script("/data", Reply(status=401, body=b"x" * 100_000), Reply(body=b"data"))
    answer = make_manager().get(server.url + "/data", auth=auth, stream=True)
    assert answer.raw.read() == b"data"
    answer.close()


@pytest.mark.parametrize("managed", [True, False])
def test_no_token_goes_to_another_origin(
    make_manager: MakeManager,
    server: ScriptedServer,
    other_server: ScriptedServer,
    tokens: ScriptedServer,
    auth,
    managed: bool,
) -> None:
    """Not even on the way back from there."""
    server.script("/go", Reply.redirect(other_server.script("/there", REFUSED)))
    server.script(
        "/away",
        Reply.redirect(
            other_server.script("/back", Reply.redirect(server.script("/data", REFUSED)))
        ),
    )
    get = make_manager().get if managed else requests.get
    for path in ("/go", "/away"):
        assert get(server.url + path, auth=auth).status_code == 401
    assert other_server.count() == 2
    assert not any("Authorization" in each.headers for each in other_server.received)
    assert bearers(server) == [None]
    assert tokens.count() == 1


def test_nor_is_one_fetched_for_it(
    make_manager: MakeManager, server: ScriptedServer, other_server: ScriptedServer, tokens, auth
) -> None:
    """Where someone else has let the header go there."""
    request = auth(requests.Request("GET", server.url + "/data").prepare())
    request.url = other_server.script("/there", REFUSED)
    assert make_manager().session.send(request).status_code == 401
    assert (other_server.count(), tokens.count()) == (1, 1)


def test_a_redirect_within_the_origin_keeps_the_token(
    make_manager: MakeManager, server: ScriptedServer, tokens: ScriptedServer, auth
) -> None:
    server.script("/go", Reply.redirect("/data"))
    server.script("/data", REFUSED, Reply())
    answer = make_manager().get(server.url + "/go", auth=auth)
    assert answer.status_code == 200
    assert bearers(server) == ["Bearer one", "Bearer two"]


# Answers that are no token

NO_TOKENS: dict[str, tuple[Reply, str, int]] = {
    "400": (
        Reply(status=400, body=json.dumps({"error": "invalid_client", "d": SECRET}).encode()),
        "status 400, invalid_client; check client_id, client_secret",
        1,
    ),
    "401": (REFUSED, "status 401; check client_id", 1),
    "scope": (Reply(status=400, body=b'{"error": "invalid_scope"}'), "check scope", 1),
    "no code": (Reply(status=400, body=b'{"error": "No Such Thing"}'), "status 400; check", 1),
    "404": (Reply(status=404), "status 404; check token_url", 1),
    "500": (Reply(status=500, body=SECRET.encode()), "status 500; try again later", 3),
    "302": (Reply.redirect("/elsewhere"), "status 302; .*the final address", 1),
    "307": (Reply.redirect("http://:/", status=307), "no token from", 1),
    "201": (Reply(status=201, body=token("x").body), "status 201; check token_url", 1),
    "HTML": (Reply(body=b"<html>"), "no JSON object", 1),
    "array": (Reply(body=b"[]"), "no JSON object", 1),
    "deep": (Reply(body=b"[" * 100_000), "no JSON object", 1),
    "not text": (Reply(body=b"\xff\xfe\xfd"), "no JSON object", 1),
    "empty": (Reply(body=b"{}"), "no access_token", 1),
    "error in 200": (Reply(body=b'{"error": "invalid_scope"}'), "invalid_scope; check scope", 1),
    "number": (token(17), "no access_token", 1),
    "empty token": (token(""), "no access_token", 1),
    "newline": (token("a\r\nX-Evil: 1"), "no access_token", 1),
    "newline at its end": (token("a\n"), "no access_token", 1),
    "space": (token("a b"), "no access_token", 1),
    "beyond latin-1": (token("a€"), "no access_token", 1),
    "wrong kind": (token("a", token_type="mac"), "token_type is not Bearer", 1),
    "no kind of text": (token("a", token_type=1), "token_type is not Bearer", 1),
    "huge": (token("a", more="x" * 1_100_000), "more than 1 MB", 1),
    "hang-up": (Reply(hang_up=True), "ConnectionError in 3 attempts", 3),
    "time-out": (Reply(delay=30), "ReadTimeout in 3 attempts", 3),
    "cut": (Reply(body=b"x" * 100, cut_at=5), "in 3 attempts", 3),
}


@pytest.mark.parametrize("client_auth", ["basic", "body"])
@pytest.mark.parametrize("case", NO_TOKENS)
def test_what_is_no_token_is_an_error_that_tells_no_secret(
    make_manager: MakeManager,
    server: ScriptedServer,
    tokens: ScriptedServer,
    make_auth: MakeAuth,
    caplog: pytest.LogCaptureFixture,
    case: str,
    client_auth: str,
) -> None:
    reply, text, count = NO_TOKENS[case]
    url = tokens.script("/token", reply) + "?tenant=1"
    manager = make_manager(max_retries=2, read_timeout=0.2)
    auth = make_auth(token_url=url, client_auth=client_auth)
    with caplog.at_level(logging.DEBUG), pytest.raises(AuthenticationError, match=text) as caught:
        manager.get(server.url + "/data", auth=auth)
    error = caught.value
    assert str(error).startswith(f"no token from {tokens.url}/token: ")
    assert error.request.url == server.url + "/data"
    assert error.endpoint == tokens.url + "/token"
    assert_shows_nothing(error)
    assert not any(form in caplog.text for form in FORMS_OF_THE_SECRET)
    assert (tokens.count("/token"), tokens.count(), server.count()) == (count, count, 0)


def test_a_token_server_out_of_reach(
    make_manager: MakeManager, server: ScriptedServer, tokens: ScriptedServer, auth
) -> None:
    tokens.pause()
    with pytest.raises(AuthenticationError, match="Connection refused in 4 attempts") as caught:
        make_manager().get(server.url, auth=auth)
    cause = caught.value.__cause__
    assert isinstance(cause, MaxRetriesExceeded)
    assert isinstance(cause, requests.ConnectionError)
    assert len(cause.attempts) == 4
    assert_shows_nothing(caught.value)


def test_a_rejection_of_ours_says_when_to_try_again(
    make_manager: MakeManager, server: ScriptedServer, tokens: ScriptedServer, auth
) -> None:
    tokens.script("/token", DOWN)
    manager = make_manager(circuit_breaker_failure_threshold=1)
    for _ in range(2):
        with pytest.raises(AuthenticationError) as caught:
            manager.get(server.url, auth=auth)
        assert_shows_nothing(caught.value)
    cause = caught.value.__cause__
    assert isinstance(cause, CircuitBreakerOpen)
    assert 0 < cause.retry_after <= 60
    assert manager.circuit_breakers[server.origin].current_state == "closed"
    assert tokens.count() == 4


def test_a_secret_of_plain_letters_does_not_come_back_as_an_error_code(
    make_manager: MakeManager, server: ScriptedServer, tokens: ScriptedServer
) -> None:
    url = tokens.script("/token", Reply(status=400, body=b'{"error": "open_sesame_wrong"}'))
    auth = OAuth2ClientCredentials(url, "me", "open_sesame")
    with pytest.raises(AuthenticationError) as caught:
        make_manager().get(server.url, auth=auth)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("kind", ["bearer", "Bearer", "BEARER", None])
def test_bearer_is_written_as_one_likes(
    make_manager: MakeManager,
    server: ScriptedServer,
    tokens: ScriptedServer,
    auth,
    kind: str | None,
) -> None:
    tokens.script("/token", token("a.b-c_d~e+f/g==", token_type=kind))
    make_manager().get(server.url + "/data", auth=auth)
    assert bearers(server) == ["Bearer a.b-c_d~e+f/g=="]


# The rest of the house


def test_a_token_of_the_service_itself_is_a_part_of_the_trial(
    make_manager: MakeManager, server: ScriptedServer, make_auth: MakeAuth
) -> None:
    manager = make_manager(
        circuit_breaker_failure_threshold=1,
        circuit_breaker_recovery_timeout=0.1,
        max_retries=0,
        circuit_breaker_recovery_max=0,
    )
    manager.get(server.script("/down", DOWN))
    auth = make_auth(token_url=server.script("/token", DOWN, token("one")))
    with pytest.raises(CircuitBreakerOpen):
        manager.get(server.url + "/data", auth=auth)
    time.sleep(0.15)
    with pytest.raises(AuthenticationError):
        manager.get(server.url + "/data", auth=auth)
    assert manager.circuit_breaker.current_state == "open"
    time.sleep(0.15)
    assert manager.get(server.url + "/data", auth=auth).status_code == 200
    assert manager.circuit_breaker.current_state == "closed"
    assert [each.path for each in server.received] == ["/down", "/token", "/token", "/data"]


def test_nothing_of_it_shows(
    make_manager: MakeManager, server: ScriptedServer, auth, caplog: pytest.LogCaptureFixture
) -> None:
    server.script("/data", REFUSED, Reply())
    with caplog.at_level(logging.DEBUG):
        answer = make_manager().get(server.url + "/data", auth=auth)
    shown = [repr(auth), repr(answer.request.hooks), repr(auth._token), caplog.text]
    for text in shown:
        assert not any(form in text for form in (*FORMS_OF_THE_SECRET, "one", "two'"))
    assert CLIENT in repr(auth)
    assert "/token" in repr(auth)
    again = pickle.loads(pickle.dumps(answer))
    assert again.request.headers == answer.request.headers
    raw = pickle.dumps(answer)
    assert not any(form.encode() in raw for form in FORMS_OF_THE_SECRET)
    assert again.request.hooks["response"][0](again) is again


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))]
)
def test_a_copy_begins_without_a_token(
    make_manager: MakeManager, server: ScriptedServer, tokens: ScriptedServer, auth, duplicate: Any
) -> None:
    assert requests.get(server.url + "/data", auth=auth).status_code == 200
    other = duplicate(auth)
    assert repr(other) == repr(auth)
    make_manager().get(server.url + "/data", auth=other)
    requests.get(server.url + "/data", auth=auth)
    assert bearers(server) == ["Bearer one", "Bearer two", "Bearer one"]


URL = "https://a.test/token"


@pytest.mark.parametrize(
    ("arguments", "more", "name"),
    [
        (("ftp://a.test/", CLIENT, SECRET), {}, "token_url"),
        (("a.test/token", CLIENT, SECRET), {}, "token_url"),
        (("https:///token", CLIENT, SECRET), {}, "token_url"),
        (("https://[/", CLIENT, SECRET), {}, "token_url"),
        (("https://u:p@a.test/", CLIENT, SECRET), {}, "token_url"),
        (("https://a.test/#x", CLIENT, SECRET), {}, "token_url"),
        (("https://a.test:x/", CLIENT, SECRET), {}, "token_url"),
        (("https://*.a.test/", CLIENT, SECRET), {}, "token_url"),
        ((None, CLIENT, SECRET), {}, "token_url"),
        ((SECRET, URL, CLIENT), {}, "token_url"),
        ((URL, "", SECRET), {}, "client_id"),
        ((URL, None, SECRET), {}, "client_id"),
        ((URL, CLIENT, ""), {}, "client_secret"),
        ((URL, CLIENT, None), {}, "client_secret"),
        ((URL, CLIENT, SECRET.encode()), {}, "client_secret"),
        ((URL, CLIENT, SECRET + "\udc80"), {}, "client_secret"),
        ((URL, CLIENT, SECRET, 5), {}, "scope"),
        ((URL, CLIENT, SECRET, [5]), {}, "scope"),
        ((URL, CLIENT, SECRET, b"read"), {}, "scope"),
        ((URL, CLIENT, SECRET), {"client_auth": "post"}, "client_auth"),
        ((URL, CLIENT, SECRET), {"client_auth": SECRET}, "client_auth"),
        ((URL, CLIENT, SECRET), {"extra": [("a", "b")]}, "extra"),
        ((URL, CLIENT, SECRET), {"extra": {"a": 1}}, "extra"),
        ((URL, CLIENT, SECRET), {"extra": {"client_secret": SECRET}}, "extra"),
        ((URL, CLIENT, SECRET), {"skew": -1}, "skew"),
        ((URL, CLIENT, SECRET), {"skew": float("nan")}, "skew"),
        ((URL, CLIENT, SECRET), {"skew": "30"}, "skew"),
    ],
)
def test_an_impossible_argument_is_named_but_never_shown(
    arguments: tuple[Any, ...], more: dict[str, Any], name: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}") as caught:
        OAuth2ClientCredentials(*arguments, **more)
    assert caught.value.field == name
    assert SECRET not in repr(caught.value.value)
    assert_shows_nothing(caught.value)


def test_what_is_passed_in_is_not_kept(
    make_manager: MakeManager, server: ScriptedServer, tokens: ScriptedServer, make_auth: MakeAuth
) -> None:
    extra = {"audience": "a"}
    auth = make_auth(extra=extra, scope=(word for word in ("read", "write")))
    extra["audience"] = "b"
    make_manager().get(server.url, auth=auth)
    make_manager().get(server.url, auth=copy.copy(auth))
    for request in tokens.received:
        assert form_of(request)["audience"] == ["a"]
        assert form_of(request)["scope"] == ["read write"]


def test_as_the_credential_of_the_manager_or_of_an_endpoint(
    make_manager: MakeManager, server: ScriptedServer, other_server: ScriptedServer
) -> None:
    token_url = other_server.script("/token", Reply(body=b'{"access_token": "t-1"}'))
    auth = OAuth2ClientCredentials(token_url, "id", "s3cret")
    for settings in ({"auth": auth}, {"endpoint_configs": {server.host: {"auth": auth}}}):
        manager = make_manager(**settings)
        manager.get(server.url)
        assert "s3cret" not in repr(manager.get_stats())
    assert [request.headers["Authorization"] for request in server.received] == ["Bearer t-1"] * 2
    assert other_server.count("/token") == 1


@pytest.mark.parametrize(
    "reply",
    [Reply(delay=30), Reply(status=503), Reply.retry_after(3), Reply(body=b"x" * 600, drip=0.1)],
)
def test_the_deadline_of_the_call_bounds_the_fetch(
    reply: Reply, make_manager: MakeManager, server: ScriptedServer, other_server: ScriptedServer
) -> None:
    token_url = other_server.script("/token", reply)
    manager = make_manager(
        backoff_factor=0.3,
        backoff_jitter=0,
        auth=OAuth2ClientCredentials(token_url, "id", "s3cret"),
        endpoint_configs={f"{server.host}:{server.port}": {"total_timeout": 0.5}},
    )
    with pytest.raises(requests.RequestException):
        manager.get(server.url)
    assert server.count() == 0
    assert other_server.count() <= 3
