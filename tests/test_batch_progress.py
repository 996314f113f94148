"""How far a batch is: told to a callable, or shown by tqdm."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator

import pytest
import requests

from requests_connection_manager import ConfigurationError, ConnectionManager
from requests_connection_manager.batch import BatchProgress, iter_batch
from tests.conftest import MakeManager
from tests.server import Reply, ScriptedServer


def canned(**_: object) -> requests.Response:
    response = requests.Response()
    response.status_code = 200
    return response


class Urls(list[str]):
    """A list whose length cannot be had."""

    def __init__(self, error: Exception) -> None:
        super().__init__(["http://a.test"])
        self.error = error

    def __len__(self) -> int:
        raise self.error


def test_a_callable_is_told_of_each_item_and_of_the_end(
    manager: ConnectionManager, server: ScriptedServer
) -> None:
    told: list[BatchProgress] = []
    urls = [server.url, server.script("/no", Reply(status=404)), "no-scheme"]
    urls.append(server.script("/down", Reply(status=503)))
    items = [("POST", url) for url in urls]  # a POST is not retried, and its 503 stands
    for handed_out, _ in enumerate(manager.iter_batch(items, progress=told.append), start=1):
        assert told[-1].done >= handed_out
    ends = [each.done for each in told]
    assert sorted(ends) == ends
    assert set(ends) >= {1, 2, 3, 4}
    last = told[-1]
    assert (last.done, last.failed, last.total) == (4, 2, 4)
    assert (last.waiting, last.in_flight) == (0, 0)
    assert last.rate == pytest.approx(4 / last.elapsed)


def test_a_callable_is_told_how_many_are_in_flight() -> None:
    told: list[BatchProgress] = []
    opened = threading.Event()

    def send(**_: object) -> requests.Response:
        assert opened.wait(20)
        return canned()

    def items() -> Iterator[str]:
        yield from ["http://a.test"] * 6
        opened.set()

    list(iter_batch(send, items(), max_workers=4, progress=told.append))
    assert max(each.in_flight for each in told) <= 4
    assert told[0].total is None


def test_a_callable_is_told_who_waits_for_a_limit(
    make_manager: MakeManager, server: ScriptedServer
) -> None:
    told: list[BatchProgress] = []
    manager = make_manager(rate_limit_requests=2, rate_limit_period=0.6)
    results = manager.iter_batch([server.url] * 6, max_workers=4, progress=told.append)
    assert len(list(results)) == 6
    # with two done, and nothing that ends: it was seen in a look between
    assert max(each.waiting for each in told if each.done == 2) == 4
    assert told[-1].waiting == 0
    assert told[-1].done == 6


def test_a_callable_that_raises_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: BatchProgress) -> None:
        raise ValueError("mine")

    results = list(iter_batch(canned, ["http://a.test"] * 20, max_workers=3, progress=broken))
    assert len(results) == 20
    [record] = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert record.name == "requests_connection_manager"
    assert "ValueError: mine" in record.getMessage()


def test_a_callable_is_told_of_an_early_end() -> None:
    told: list[BatchProgress] = []
    results = iter_batch(canned, ["http://a.test"] * 20, max_workers=1, progress=told.append)
    assert told == []
    next(results)
    results.close()
    assert told[-1].done == 1
    assert told[-1].total == 20


@pytest.mark.parametrize("error", [TypeError(), RuntimeError(), OverflowError()])
def test_a_length_that_cannot_be_had(error: Exception) -> None:
    told: list[BatchProgress] = []
    assert len(list(iter_batch(canned, Urls(error), max_workers=1, progress=told.append))) == 1
    assert told[-1].total is None


def test_the_bar_says_how_many_are_done_failed_and_waiting(
    make_manager: MakeManager, server: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    manager = make_manager(rate_limit_requests=2, rate_limit_period=0.6)
    items = [("GET", "no-scheme"), *[("GET", server.url)] * 4]
    assert len(list(manager.iter_batch(items, progress=True))) == 5
    shown = capsys.readouterr().err
    assert "5/5" in shown
    assert "done/s" in shown
    assert "failed=1" in shown
    assert "waiting=2" in shown
    assert shown.endswith("\n")


def test_the_bar_of_an_iterable_without_a_length(capsys: pytest.CaptureFixture[str]) -> None:
    list(iter_batch(canned, iter(["http://a.test"] * 7), max_workers=2, progress=True))
    assert "7 done [" in capsys.readouterr().err


def test_the_bar_is_closed_whatever_happens(capsys: pytest.CaptureFixture[str]) -> None:
    from tqdm.auto import tqdm

    results = iter_batch(canned, ["http://a.test"] * 20, max_workers=2, progress=True)
    assert capsys.readouterr().err == ""
    next(results)
    assert len(tqdm._instances) == 1
    results.close()
    assert len(tqdm._instances) == 0

    def items() -> Iterator[str]:
        yield "http://a.test"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(iter_batch(canned, items(), max_workers=2, progress=True))
    assert len(tqdm._instances) == 0


def test_without_tqdm_the_remedy_is_named_at_the_call(
    manager: ConnectionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "tqdm"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ConfigurationError) as caught:
        manager.iter_batch([], progress=True)
    assert "pip install 'requests_connection_manager[progress]'" in str(caught.value)
    assert list(manager.iter_batch([], progress=print)) == []
