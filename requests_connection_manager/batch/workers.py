"""The threads that send the items of a batch.

The law: what a worker has finished is taken by the consumer, or closed; by whom, the order of two
steps decides. A worker puts it down and then looks for the stop; the stopper stops and then clears
away what is there. So one of them finds it.

The threads are daemons of our own, for those of ``concurrent.futures`` are waited for at the
interpreter's exit. Only queues written in C stand between them and the consumer: in Python's own
conditions, a Ctrl-C at the wrong moment would leave a lock held.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Any

import requests

from .. import forking
from ..call import current_call
from ..policies.deadline import inherited
from ..work_group import BatchStopped, WorkGroup, current_group
from .items import BatchResult

Send = Callable[..., requests.Response]
Callback = Callable[[BatchResult], object]


@dataclass(frozen=True)
class Task:
    """An item and the keywords that send it, or why they cannot be had."""

    index: int
    item: object
    keywords: dict[str, Any] | Exception


class Workers:
    """Up to ``most`` threads, started as work comes in; none of them is ever waited for."""

    def __init__(self, send: Send, callbacks: tuple[Callback, ...], most: int) -> None:
        self.group = WorkGroup()
        self._send = send
        self._callbacks = callbacks
        self._most = most
        self._started = 0
        self._unfinished = 0
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._finished: deque[BatchResult | BaseException] = deque()
        self._bell: SimpleQueue[None] = SimpleQueue()
        """Rings once for each that is put down in ``_finished``."""
        self._over = False
        self._left_behind = False
        outer = current_call.get()
        self._deadline = outer.deadline if outer is not None else inherited.get()
        forking.register(self)

    def begin_in_child(self) -> None:
        self._left_behind = True  # the threads are the parent's

    @property
    def busy(self) -> int:
        return min(self._unfinished, self._started)

    def give(self, task: Task) -> None:
        """Let a worker do ``task`` when its turn comes."""
        if self._started < self._most:
            name = f"batch-worker-{self._started + 1}"
            work = copy_context().run
            worker = threading.Thread(target=work, args=(self._work,), name=name, daemon=True)
            try:
                worker.start()
                self._started += 1
            except RuntimeError:  # there can be no more threads; those that there are will do
                if not self._started:
                    raise
                self._most = self._started
        self._tasks.put(task)
        self._unfinished += 1

    def take(self, into: dict[int, BatchResult], longest: float) -> BatchResult | None:
        """Put a result ``into`` the consumer's own; None: there was none in ``longest`` seconds.

        An interrupt leaves it in one of the two places at least, where it is closed. Raises
        `BatchStopped`, and the KeyboardInterrupt or SystemExit that met a worker.
        """
        self.group.check()
        if self._left_behind:
            raise BatchStopped("the batch belongs to the process that began it: begin another.")
        try:
            self._bell.get(longest > 0, longest)
        except Empty:
            return None
        finished = self._finished[0]
        if isinstance(finished, BaseException):
            raise finished
        into[finished.index] = finished
        self._finished.popleft()
        self._unfinished -= 1
        return finished

    def dismiss(self) -> None:
        """Let the workers end, once there is nothing more to do."""
        self._tasks.put(None)

    def stop(self) -> None:
        """Let nothing more be sent; return without waiting for what is in flight."""
        self._over = True
        self.group.stop()
        self.dismiss()
        self._clear_away()

    def _work(self) -> None:
        current_call.set(None)  # a call in whose hook the batch was begun is another thread's
        inherited.set(self._deadline)
        current_group.set(self.group)
        while self._do(self._tasks.get()):
            pass
        self._tasks.put(None)  # for the next worker

    def _do(self, task: Task | None) -> bool:
        """Return whether to go on."""
        if task is None or self.group.stopped or self._left_behind:
            return False
        try:
            self._finished.append(self._result_of(task))
        except BaseException as interrupt:  # the consumer's affair, whose thread decides
            self._finished.append(interrupt)
        self._bell.put(None)
        if self._over:
            self._clear_away()
        return True

    def _result_of(self, task: Task) -> BatchResult:
        result = _sent(self._send, task)
        try:
            if self._callbacks and not self.group.stopped:
                said = tuple(_said(callback, result) for callback in self._callbacks)
                result = replace(result, callbacks=said)
                del said
            return result
        except BaseException:
            discard(result.response)
            raise
        finally:
            # The traceback of an error keeps alive the frames that it went through and those that
            # called them, this one, too. A circle through it only the collector could free.
            del result

    def _clear_away(self) -> None:
        with suppress(IndexError):  # none is left; the consumer and a worker may both be here
            while True:
                finished = self._finished.popleft()
                if isinstance(finished, BatchResult):
                    discard(finished.response)


def discard(response: requests.Response | None) -> None:
    """Close a response that nobody will see, lest it keeps its connection."""
    if response is not None:
        with suppress(Exception):  # a mock's, or a socket's; there are others to be closed
            response.close()


def _sent(send: Send, task: Task) -> BatchResult:
    if isinstance(task.keywords, Exception):
        return BatchResult(task.index, task.item, None, task.keywords, (), 0.0)
    start = time.monotonic()
    try:
        response = send(**task.keywords)
    except Exception as error:
        elapsed = time.monotonic() - start
        return BatchResult(task.index, task.item, None, error, (), elapsed)
    return BatchResult(task.index, task.item, response, None, (), time.monotonic() - start)


def _said(callback: Callback, result: BatchResult) -> object:
    try:
        return callback(result)
    except Exception as error:
        return error
