"""Many requests at once, in a bounded number of threads and in bounded memory.

The law: the caller's iterable is advanced in the caller's thread only, and only while fewer than
two items for each worker have been taken and not yet handed out. A slow consumer so slows the
intake, and a million items need no more memory than a hundred.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sized
from contextlib import closing
from typing import Any

import requests

from .. import checks as check
from ..exceptions import ConfigurationError
from ..failures import failure_of_status
from ..work_group import BatchStopped
from .items import BatchItem, BatchResult, check_requests, keywords_of, keywords_of_tuple
from .progress import Listener, Meter, OpenDisplay, display_for
from .workers import Callback, Send, Task, Workers, discard

_LOOK = 0.2
"""Seconds between two looks at what waits for a limit, while nothing ends."""


def iter_batch(
    send: Send,
    items: Iterable[BatchItem],
    *,
    max_workers: int,
    ordered: bool = False,
    callbacks: Iterable[Callback] = (),
    progress: bool | Listener = False,
) -> Generator[BatchResult]:
    """Send items with ``send`` and yield what comes of them, as they end or in their order.

    Raises `ConfigurationError` at once for arguments that are impossible. A malformed item is the
    error of its own result.
    """
    check_requests(items)
    ordered = check.boolean("ordered", ordered)
    workers = check.count(1)("max_workers", max_workers)
    return _results(send, items, workers, ordered, _checked(callbacks), display_for(progress))


def batch_request(
    send: Send,
    items: Iterable[BatchItem],
    *,
    max_workers: int,
    return_exceptions: bool,
) -> list[requests.Response | Exception]:
    """Send all items with ``send``; return what came of each, in their order.

    Nothing is sent if one is malformed. ``return_exceptions=False`` raises the first error that
    comes, and sends nothing more.
    """
    return_exceptions = check.boolean("return_exceptions", return_exceptions)
    check_requests(items)
    items = list(items)
    for index, item in enumerate(items):
        keywords_of_tuple(index, item)
    outcomes: list[requests.Response | Exception | None] = [None] * len(items)
    first = _FirstError(send)
    send, callbacks = (send, ()) if return_exceptions else (first.send, (first.note,))
    try:
        with closing(
            iter_batch(send, items, max_workers=max_workers, callbacks=callbacks)
        ) as results:
            for result in results:
                if first.error is not None:
                    discard(result.response)
                    raise first.error
                outcomes[result.index] = result.response if result.error is None else result.error
        return outcomes  # type: ignore[return-value]  # each has been filled in
    except BaseException:
        for outcome in outcomes:
            if not isinstance(outcome, Exception):
                discard(outcome)
        raise
    finally:  # an error that is raised would hold this frame, and all answers, in a circle
        first.error = None
        result = results = outcome = None  # type: ignore[assignment]
        outcomes = []


class _FirstError:
    """Looks out for an error where it comes, so that its worker already sends nothing more."""

    def __init__(self, send: Send) -> None:
        self.error: Exception | None = None
        self._send = send

    def send(self, **keywords: Any) -> requests.Response:
        if self.error is not None:
            raise BatchStopped("an earlier request of the batch has failed; this was not sent.")
        return self._send(**keywords)

    def note(self, result: BatchResult) -> None:
        self.error = self.error or result.error


class _Batch:
    """One run, in the thread of its consumer."""

    def __init__(
        self, items: Iterable[BatchItem], workers: Workers, most: int, ordered: bool, meter: Meter
    ) -> None:
        self._source: Iterator[object] = iter(items)
        self._workers = workers
        self._most = most
        """Items that may have been taken and not yet handed out."""
        self._ordered = ordered
        self._meter = meter
        self._taken = 0
        self._handed_out = 0
        self._exhausted = False
        self._broken: Exception | None = None
        """What the caller's iterable raised."""
        self._held: dict[int, BatchResult] = {}
        """Results that are not yet handed out, by index."""

    def run(self) -> Generator[BatchResult]:
        """Take one item, hand out one result, and so on: neither waits for more of the other."""
        while not (self._exhausted and self._taken == self._handed_out):
            if self._has_room:
                self._take_item()
            self._collect()
            if (due := self._due()) is not None:
                self._handed_out += 1
                yield self._held.pop(due)
        broken, self._broken = self._broken, None
        try:
            if broken is not None:
                raise broken
        finally:
            del broken  # it would hold this frame in a circle

    def discard_held(self) -> None:
        for result in self._held.values():
            discard(result.response)

    @property
    def _has_room(self) -> bool:
        return not self._exhausted and self._taken - self._handed_out < self._most

    def _due(self) -> int | None:
        """Return the index of the result to hand out next, if there is one."""
        if self._ordered:
            return self._handed_out if self._handed_out in self._held else None
        return next(iter(self._held), None)

    def _take_item(self) -> None:
        try:
            item = next(self._source)
        except StopIteration:
            self._exhausted = True
        except Exception as error:  # raised when what is in flight has been handed out
            self._exhausted, self._broken = True, error
        else:
            self._workers.give(Task(self._taken, item, _keywords_or_error(self._taken, item)))
            self._taken += 1

    def _collect(self) -> None:
        """Take what has ended; wait for it only if there is nothing else to do."""
        all_out = self._taken == self._handed_out
        idle = not self._has_room and not all_out and self._due() is None
        result = self._workers.take(self._held, _LOOK if idle else 0)
        if result is not None:
            self._meter.count(_has_failed(result))
        self._meter.look(self._workers.group.waiting, self._workers.busy)


def _results(
    send: Send,
    items: Iterable[BatchItem],
    max_workers: int,
    ordered: bool,
    callbacks: tuple[Callback, ...],
    open_display: OpenDisplay | None,
) -> Generator[BatchResult]:
    workers = Workers(send, callbacks, max_workers)
    total = None if open_display is None else _length_of(items)
    meter = Meter(None if open_display is None else open_display(total), total)
    batch: _Batch | None = None
    end = workers.stop
    try:
        batch = _Batch(items, workers, 2 * max_workers, ordered, meter)
        yield from batch.run()
        # Not a stop: what the callbacks have set going in threads of their own may go on.
        end = workers.dismiss
    finally:
        end()
        if batch is not None:
            batch.discard_held()
        meter.close(workers.group.waiting, workers.busy)


def _checked(callbacks: object) -> tuple[Callback, ...]:
    every = tuple(callbacks) if isinstance(callbacks, Iterable) else (None,)
    if not all(map(callable, every)):
        raise ConfigurationError(
            "callbacks must be an iterable of callables, each of which takes a BatchResult.",
            field="callbacks",
        )
    return every


def _keywords_or_error(index: int, item: object) -> dict[str, Any] | Exception:
    try:
        return keywords_of(index, item)
    except Exception as error:
        return error


def _has_failed(result: BatchResult) -> bool:
    status = getattr(result.response, "status_code", None)
    return result.error is not None or failure_of_status(status) is not None


def _length_of(items: Iterable[object]) -> int | None:
    try:
        return len(items) if isinstance(items, Sized) else None
    except Exception:  # of a foreign __len__; the length is only for show
        return None
