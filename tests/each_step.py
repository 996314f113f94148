"""Ctrl-C after each of the steps that something takes, one by one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

from tests.conftest import in_threads


def interrupt_each_step(
    act: Callable[[], object], then: Callable[[int], object], spared: tuple[str, ...] = ()
) -> int:
    """Interrupt ``act`` after its first step, and again after one more, until it comes to its end.

    ``then`` is called after each interrupt, with how many there were; that is returned, too.
    Nothing is interrupted within functions of a ``spared`` name.
    """
    steps = 0

    def stopped_after(most: int) -> bool:
        left = most

        def trace(frame: FrameType, *_: object) -> object:
            nonlocal left
            if spared and _is_within(frame, spared):
                return None
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
            return trace

        before = sys.gettrace()  # that of the coverage, say
        sys.settrace(trace)  # type: ignore[arg-type]  # a function that returns itself has no type
        try:
            act()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False

    def stop_after_each(_: int) -> None:
        nonlocal steps
        while stopped_after(steps):
            steps += 1
            then(steps)

    in_threads(1, stop_after_each)  # Python may leave what it has handled in the thread
    return steps


def _is_within(frame: FrameType | None, names: tuple[str, ...]) -> bool:
    while frame is not None and frame.f_code.co_name not in names:
        frame = frame.f_back
    return frame is not None
