"""Many requests at once: what goes in, what comes out, and how much is under way."""

from __future__ import annotations

import contextvars
import gc
import itertools
import logging
import threading
import warnings
import weakref
from collections.abc import Iterator
from types import MappingProxyType

import pytest
import requests

from requests_connection_manager import ConfigurationError, ConnectionManager, MaxRetriesExceeded
from requests_connection_manager.batch import BatchResult, batch_request, iter_batch
from tests.conftest import MakeManager
from tests.server import Reply, ScriptedServer

IMPOSSIBLE_ITEMS = [
    ("not a tuple", "must be a tuple/list"),
    (None, "must be a tuple/list"),
    ({"url": "s3cret"}, "must be a tuple/list"),
    ((), "must be a tuple/list"),
    (("GET",), "must be a tuple/list"),
    (("GET", "s3cret", {}, {}), "must be a tuple/list"),
    ((1, "s3cret"), "method and url must be strings"),
    (("GET", None), "method and url must be strings"),
    ((None, "s3cret", {}), "method and url must be strings"),
    (("GET", "s3cret", None), "kwargs must be a dictionary"),
    (("GET", "s3cret", [("headers", {})]), "kwargs must be a dictionary"),
    (("GET", "s3cret", {"heders": "s3cret"}), "'heders' .* did you mean 'headers'"),
    (("GET", "s3cret", {"url": "s3cret"}), "'url' is not an argument"),
    (("GET", "s3cret", {7: "s3cret"}), "must have a text for a name"),
]


def canned(**keywords: object) -> requests.Response:
    """Answers without a network."""
    response = requests.Response()
    response.status_code = 200
    response.url = str(keywords["url"])
    return response


class Gate:
    """Answers once it is opened, and knows how many are before it."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.came = threading.Semaphore(0)

    def send(self, **keywords: object) -> requests.Response:
        self.came.release()
        assert self.opened.wait(20)
        return canned(**keywords)


def test_results_come_in_order(manager: ConnectionManager, server: ScriptedServer) -> None:
    slow = server.script("/slow", Reply(delay=0.2, body=b"slow"))
    fast = server.script("/fast", Reply(body=b"fast"))
    broken = server.script("/broken", Reply(status=503))
    results = manager.batch_request(
        [
            ("GET", slow),
            ("POST", fast, {"json": {"a": 1}, "headers": {"X-Mine": "yes"}}),
            ["GET", broken, {}],
            ("GET", "no-scheme"),
            ("PUT", fast, MappingProxyType({"data": b"x"})),
        ]
    )
    slow_answer, posted, exhausted, mistaken, put = results
    assert (slow_answer.content, posted.content, put.content) == (b"slow", b"fast", b"fast")
    assert isinstance(exhausted, MaxRetriesExceeded)
    assert isinstance(mistaken, requests.exceptions.MissingSchema)
    [post] = [each for each in server.requests_to("/fast") if each.method == "POST"]
    assert (post.body, post.headers["X-Mine"]) == (b'{"a": 1}', "yes")


def test_an_empty_batch(manager: ConnectionManager) -> None:
    before = set(threading.enumerate())
    assert manager.batch_request([]) == []
    assert list(manager.iter_batch([])) == []
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize(("item", "text"), IMPOSSIBLE_ITEMS)
def test_all_items_are_checked_before_one_is_sent(
    manager: ConnectionManager, server: ScriptedServer, item: object, text: str
) -> None:
    with pytest.raises(ValueError, match=f"request 1\\b.*{text}") as caught:
        manager.batch_request([("GET", server.url), item])
    assert isinstance(caught.value, ConfigurationError)
    assert "s3cret" not in f"{caught.value!r} {vars(caught.value)}"
    assert server.count() == 0


@pytest.mark.parametrize(("item", "text"), IMPOSSIBLE_ITEMS[1:])
def test_a_malformed_item_of_an_iterable_is_its_own_error(
    manager: ConnectionManager, server: ScriptedServer, item: object, text: str
) -> None:
    first, second, third = manager.iter_batch([server.url, item, server.url], ordered=True)
    assert first.response.content == third.response.content == b"ok"
    assert second.response is None
    assert second.request is item
    with pytest.raises(ConfigurationError, match=f"request 1\\b.*{text}"):
        raise second.error
    assert "s3cret" not in f"{second.error!r} {second!r}"


@pytest.mark.parametrize("max_workers", [0, -1, 1.5, True, "5", None])
def test_impossible_numbers_of_workers(manager: ConnectionManager, max_workers: object) -> None:
    with pytest.raises(ConfigurationError, match="max_workers"):
        manager.iter_batch([], max_workers=max_workers)
    with pytest.raises(ConfigurationError, match="max_workers"):
        manager.batch_request([], max_workers=max_workers)


@pytest.mark.parametrize(
    "arguments",
    [
        {"requests": "http://a.test"},
        {"requests": b"http://a.test"},
        {"requests": requests.Request("GET", "http://a.test")},
        {"requests": 3},
        {"requests": None},
        {"requests": [], "ordered": 1},
        {"requests": [], "callbacks": print},
        {"requests": [], "callbacks": [print, "print"]},
        {"requests": [], "callbacks": None},
        {"requests": [], "progress": "yes"},
        {"requests": [], "progress": 1},
        {"requests": [], "progress": None},
    ],
)
def test_impossible_arguments_are_refused_at_the_call(
    manager: ConnectionManager, arguments: dict[str, object]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        manager.iter_batch(**arguments)
    assert caught.value.field in arguments


def test_impossible_arguments_of_a_list(manager: ConnectionManager) -> None:
    with pytest.raises(ConfigurationError, match="return_exceptions"):
        manager.batch_request([], return_exceptions="no")
    with pytest.raises(ConfigurationError, match="iterable of requests, not a str"):
        manager.batch_request("http://a.test")


def test_the_first_error_is_raised_and_nothing_more_is_sent(
    manager: ConnectionManager, server: ScriptedServer
) -> None:
    items = [("GET", server.url), ("GET", "no-scheme"), *[("GET", server.url)] * 50]
    with pytest.raises(requests.exceptions.MissingSchema):
        manager.batch_request(items, max_workers=1, return_exceptions=False)
    assert server.count() == 1


def test_of_two_errors_at_once_one_is_raised(manager: ConnectionManager) -> None:
    items = [("GET", f"no-scheme-{n}") for n in range(50)]
    with pytest.raises(requests.exceptions.MissingSchema):
        manager.batch_request(items, max_workers=8, return_exceptions=False)


def test_without_an_error_there_is_none_to_raise(
    manager: ConnectionManager, server: ScriptedServer
) -> None:
    items = [("GET", f"{server.url}/{n}") for n in range(20)]
    results = manager.batch_request(items, return_exceptions=False)
    assert [each.url for each in results] == [url for _, url in items]


def test_items_of_every_kind(manager: ConnectionManager, server: ScriptedServer) -> None:
    seen: list[object] = []
    full = requests.Request(
        "POST",
        server.url + "/full",
        headers={"X-Mine": "yes"},
        data={"d": "1"},
        params={"p": "2"},
        auth=("user", "pass"),
        cookies={"c": "3"},
        hooks={"response": lambda response, **_: seen.append(response)},
    )
    items = [
        server.url + "/text",
        f"{server.url}/bytes".encode(),
        ("PUT", server.url + "/tuple"),
        full,
        requests.Request("POST", server.url + "/json", json=[1]),
        requests.Request("POST", server.url + "/files", files={"f": ("n.txt", b"content")}),
        requests.Request(None, server.url),
    ]
    *results, impossible = manager.iter_batch(items, ordered=True)
    assert [each.request for each in results] == items[:-1]
    assert [each.index for each in results] == [0, 1, 2, 3, 4, 5]
    assert all(each.response.ok and each.error is None for each in results)
    assert isinstance(impossible.error, ConfigurationError)
    got = {each.path: each for each in server.received}
    assert [got[path].method for path in ("/text", "/bytes", "/tuple")] == ["GET", "GET", "PUT"]
    received = got["/full"]
    assert (received.body, received.query) == (b"d=1", "p=2")
    assert (received.headers["X-Mine"], received.headers["Cookie"]) == ("yes", "c=3")
    assert received.headers["Authorization"].startswith("Basic ")
    assert seen == [results[3].response]
    assert got["/json"].body == b"[1]"
    assert b"content" in got["/files"].body


def test_what_is_given_is_not_changed(manager: ConnectionManager, server: ScriptedServer) -> None:
    kwargs = {"headers": {"X-Mine": "yes"}, "params": {"p": "1"}, "timeout": 7}
    manager.batch_request([("GET", server.url, kwargs)] * 3)
    assert kwargs == {"headers": {"X-Mine": "yes"}, "params": {"p": "1"}, "timeout": 7}
    assert server.count() == 3


def test_the_policies_act(make_manager: MakeManager, server: ScriptedServer) -> None:
    manager = make_manager(rate_limit_requests=3, rate_limit_max_wait=0)
    results = manager.batch_request([("GET", server.url)] * 5)
    assert sum(isinstance(each, requests.Response) for each in results) == 3
    assert server.count() == 3


def test_results_come_as_they_end(manager: ConnectionManager, server: ScriptedServer) -> None:
    slow = server.script("/slow", Reply(delay=0.3))
    results = list(manager.iter_batch([slow, server.url, server.url]))
    assert [each.index for each in results][-1] == 0
    assert results[-1].elapsed >= 0.3


def test_ordered_results_wait_for_their_turn_within_the_bound() -> None:
    taken = 0

    def items() -> Iterator[str]:
        nonlocal taken
        for taken in range(1, 101):
            yield f"http://a.test/{taken - 1}"

    gate = Gate()

    def send(**keywords: object) -> requests.Response:
        return gate.send(**keywords) if keywords["url"] == "http://a.test/0" else canned(**keywords)

    results = iter_batch(send, items(), max_workers=3, ordered=True)
    opener = threading.Timer(0.4, gate.opened.set)
    opener.start()
    assert next(results).index == 0
    assert taken == 6
    for expected, result in enumerate(results, start=1):
        assert result.index == expected
        assert taken - expected <= 6
    assert taken == 100


def test_it_is_lazy() -> None:
    taken = handed_out = 0

    def items() -> Iterator[str]:
        nonlocal taken
        for taken in itertools.count(1):
            assert taken - handed_out <= 6
            yield "http://a.test/"

    results = iter_batch(canned, items(), max_workers=3)
    assert taken == 0
    while handed_out < 500:
        next(results)
        handed_out += 1
    results.close()
    assert taken <= 506


def test_all_workers_are_used_and_no_more() -> None:
    gate, before = Gate(), set(threading.enumerate())
    results = iter_batch(gate.send, ["http://a.test"] * 50, max_workers=4)
    consumer = threading.Thread(target=list, args=(results,))
    consumer.start()
    for _ in range(4):
        assert gate.came.acquire(timeout=20)
    assert not gate.came.acquire(timeout=0.05)
    assert len(set(threading.enumerate()) - before) == 4 + 1
    gate.opened.set()
    consumer.join(20)
    assert not consumer.is_alive()


def test_a_thread_is_started_for_an_item_not_for_a_worker() -> None:
    before = set(threading.enumerate())
    results = iter_batch(canned, ["http://a.test"] * 2, max_workers=1000)
    next(results)
    assert len(set(threading.enumerate()) - before) <= 2
    results.close()


class Url(str):
    """One that can be referred to weakly."""


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("fate", ["answered", "failing", "malformed", "callback fails"])
def test_memory_does_not_grow_with_the_items(ordered: bool, fate: str) -> None:
    alive: weakref.WeakSet[object] = weakref.WeakSet()

    def items() -> Iterator[object]:
        for number in range(2000):
            url = Url(f"http://a.test/{number}")
            alive.add(url)
            yield ("GET", url, {"what": 1}) if fate == "malformed" else url
            del url

    def send(**keywords: object) -> requests.Response:
        if fate == "failing":
            raise requests.ConnectionError
        return canned(**keywords)

    def check(result: BatchResult) -> None:
        if fate == "callback fails":
            raise ValueError

    results = iter_batch(send, items(), max_workers=5, ordered=ordered, callbacks=[check])
    gc.disable()  # what only the collector could free counts, too
    try:
        most = 0
        for result in results:
            assert (result.error is not None) == (fate in ("failing", "malformed"))
            del result
            most = max(most, len(alive))
    finally:
        gc.enable()
    # 10 of the batch; one that the generator of the items holds; one that a worker is letting go of
    assert most <= 10 + 1 + 5


def test_an_iterable_that_raises(manager: ConnectionManager, server: ScriptedServer) -> None:
    def items() -> Iterator[str]:
        yield server.script("/slow", Reply(delay=0.2))
        yield server.url
        raise KeyError("the list of URLs")

    results = manager.iter_batch(items())
    assert {next(results).index, next(results).index} == {0, 1}
    with pytest.raises(KeyError, match="the list of URLs"):
        next(results)
    assert list(results) == []


def test_callbacks_run_in_the_worker_and_are_recorded(
    manager: ConnectionManager, server: ScriptedServer
) -> None:
    threads: set[threading.Thread] = set()
    order: list[str] = []

    def first(result: BatchResult) -> str:
        threads.add(threading.current_thread())
        order.append("first")
        assert result.callbacks == ()
        return result.response.text

    def second(result: BatchResult) -> None:
        order.append("second")
        raise ValueError("mine")

    def third(result: BatchResult) -> int:
        order.append("third")
        return result.index

    [result] = manager.iter_batch([server.url], callbacks=iter([first, second, third]))
    text, error, index = result.callbacks
    assert (text, index) == ("ok", 0)
    assert isinstance(error, ValueError)
    assert order == ["first", "second", "third"]
    assert threading.current_thread() not in threads
    assert result.error is None


def test_callbacks_see_errors_too(manager: ConnectionManager) -> None:
    [result] = manager.iter_batch(["no-scheme"], callbacks=[lambda result: result.error])
    assert result.callbacks == (result.error,)
    assert result.response is None


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_worker_reaches_the_consumer(
    manager: ConnectionManager, server: ScriptedServer, kind: type[BaseException]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise kind

    with pytest.raises(kind):
        list(manager.iter_batch([server.url] * 3, callbacks=[interrupt]))
    with pytest.raises(kind):
        manager.batch_request([("GET", server.url, {"hooks": {"response": interrupt}})])


def test_the_repr_tells_no_secret(manager: ConnectionManager, server: ScriptedServer) -> None:
    good = ("GET", server.url + "/?key=s3cret", {"headers": {"X-Key": "s3cret"}})
    bad = ("GET", "no-scheme?key=s3cret")
    for result, what in zip(
        manager.iter_batch([good, bad], ordered=True),
        ("status=200", "error=MissingSchema"),
        strict=True,
    ):
        assert what in repr(result)
        assert f"index={result.index}" in repr(result)
        assert "elapsed=" in repr(result)
        assert "s3cret" not in repr(result)
        assert hash(result)


def test_workers_see_the_context_of_the_consumer() -> None:
    word = contextvars.ContextVar("word", default="none")
    word.set("the consumer's")

    def read_and_set(_: BatchResult) -> str:
        said = word.get()
        word.set("a worker's")
        return said

    [first] = iter_batch(canned, ["http://a.test"], max_workers=1, callbacks=[read_and_set])
    assert first.callbacks == ("the consumer's",)
    assert word.get() == "the consumer's"


def test_a_batch_in_a_callback_of_a_batch(
    manager: ConnectionManager, server: ScriptedServer
) -> None:
    def follow(result: BatchResult) -> list[int]:
        urls = [server.url + "/inner"] * 3
        return [each.response.status_code for each in manager.iter_batch(urls, max_workers=2)]

    results = manager.iter_batch([server.url + "/outer"] * 6, max_workers=3, callbacks=[follow])
    assert [each.callbacks for each in results] == [([200, 200, 200],)] * 6
    assert (server.count("/outer"), server.count("/inner")) == (6, 18)


def test_a_batch_in_a_hook_of_a_call(manager: ConnectionManager, server: ScriptedServer) -> None:
    inner: list[BatchResult] = []

    def follow(response: requests.Response, **_: object) -> None:
        inner.extend(manager.iter_batch([server.url + "/inner"] * 3))

    assert manager.get(server.url, hooks={"response": follow}).content == b"ok"
    assert [each.response.status_code for each in inner] == [200, 200, 200]
    assert manager.get_stats()["requests_made"] == 4


def test_a_batch_feeds_a_batch(manager: ConnectionManager, server: ScriptedServer) -> None:
    first = manager.iter_batch([server.url + "/first"] * 20)
    second = manager.iter_batch(each.response.url.replace("first", "second") for each in first)
    assert sum(each.response.ok for each in second) == 20
    assert server.count("/second") == 20


def test_next_may_be_called_from_changing_threads() -> None:
    results = iter_batch(canned, (f"http://a.test/{n}" for n in range(40)), max_workers=3)
    got: list[int] = []
    for _ in range(40):
        caller = threading.Thread(target=lambda: got.append(next(results).index))
        caller.start()
        caller.join(20)
    assert sorted(got) == list(range(40))
    assert list(results) == []


def test_items_that_share_a_body(manager: ConnectionManager, server: ScriptedServer) -> None:
    body = (b"x" for _ in range(1000))
    results = manager.batch_request([("POST", server.url, {"data": body})] * 4)
    assert len(results) == 4


def test_a_closed_manager(server: ScriptedServer) -> None:
    manager = ConnectionManager()
    seen = []
    for result in manager.iter_batch([server.url] * 30, max_workers=2):
        seen.append(result)
        manager.close()
    assert len(seen) == 30
    assert sum(type(each.error).__name__ == "ManagerClosed" for each in seen) >= 26


@pytest.mark.parametrize("blocking", [False, True])
def test_more_workers_than_connections_are_warned_of_once(
    make_manager: MakeManager,
    server: ScriptedServer,
    caplog: pytest.LogCaptureFixture,
    blocking: bool,
) -> None:
    caplog.set_level(logging.DEBUG)
    manager = make_manager(pool_maxsize=2, pool_block=blocking)
    with pytest.warns(UserWarning, match="max_workers=8") as caught:
        results = manager.iter_batch([server.url] * 40, max_workers=8)
    [warning] = caught
    text = str(warning.message)
    assert "max_workers=8" in text
    assert "pool_maxsize=2" in text
    assert "ConnectionManager(pool_maxsize=8)" in text
    assert ("wait for a connection" in text) == blocking
    assert warning.filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sum(each.response.ok for each in results) == 40
        manager.batch_request([("GET", server.url)] * 40, max_workers=8)
    assert "pool is full" not in caplog.text
    assert server.connections_open <= (2 if blocking else 20)


def test_batch_request_warns_where_it_is_called(make_manager: MakeManager) -> None:
    with pytest.warns(UserWarning, match="max_workers=11") as caught:
        make_manager().batch_request([], 11)
    assert caught[0].filename == __file__


def test_connections_beyond_the_pool_are_closed(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    manager = make_manager(pool_maxsize=2)
    url = server.script("/slow", Reply(delay=0.2))
    with pytest.warns(UserWarning, match="max_workers=6"):
        assert all(manager.batch_request([("GET", url)] * 6, max_workers=6))
    assert server.connections_made == 6
    for _ in range(200):
        if server.connections_open == 2:
            break
        threading.Event().wait(0.02)
    assert server.connections_open == 2


def test_a_list_from_a_plain_function() -> None:
    results = batch_request(
        canned, [("GET", "a"), ("GET", "b")], max_workers=2, return_exceptions=True
    )
    assert [each.url for each in results] == ["a", "b"]
