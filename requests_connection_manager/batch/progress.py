"""How far a batch is, shown by tqdm or told to a callable."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from ..exceptions import ConfigurationError
from ..log import callback_failed


@dataclass(frozen=True)
class BatchProgress:
    """How far a batch is."""

    done: int
    """Items that have ended, the failed ones included."""
    failed: int
    """Those that ended with an error, or with a status that speaks against the service."""
    waiting: int
    """Those in flight that wait for a rate limit."""
    in_flight: int
    """Those that a worker has begun."""
    total: int | None
    """None: the iterable does not say."""
    elapsed: float
    """Seconds since the batch began."""

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.done / self.elapsed if self.elapsed > 0 else 0.0


Listener = Callable[[BatchProgress], object]


class Display(Protocol):
    """Where progress is shown."""

    pause: float
    """Seconds from one showing to the next, at least."""

    def show(self, progress: BatchProgress) -> object: ...
    def close(self) -> object: ...


OpenDisplay = Callable[[int | None], Display]
"""Opens a display for a batch of so many items; None: nobody knows."""


def display_for(progress: bool | Listener) -> OpenDisplay | None:
    """Return what opens the display; None: there is to be none. Raises `ConfigurationError`."""
    if progress is False:
        return None
    if progress is True:
        tqdm = _load_tqdm()
        return lambda total: _Bar(tqdm, total)
    if not callable(progress):
        raise ConfigurationError(
            "progress must be True, False or a callable that takes a BatchProgress, not of type "
            f"{type(progress).__name__}.",
            field="progress",
        )
    return lambda _: _Told(progress)


class Meter:
    """Counts what has ended, and shows it."""

    def __init__(self, display: Display | None, total: int | None) -> None:
        self._display = display
        self._total = total
        self._started = time.monotonic()
        self._done = 0
        self._failed = 0
        self._shown: tuple[int, int] | None = None
        self._shown_at = -math.inf
        self._complained = False

    def count(self, failed: bool) -> None:
        """Count one item that has ended."""
        self._done += 1
        self._failed += failed

    def look(self, waiting: int, in_flight: int) -> None:
        """Show what has changed since it was last shown."""
        display = self._display
        if display is None or self._shown == (self._done, waiting):
            return
        now = time.monotonic()
        if now - self._shown_at >= display.pause:
            self._shown, self._shown_at = (self._done, waiting), now
            self._show(display, waiting, in_flight)

    def close(self, waiting: int, in_flight: int) -> None:
        """Show how it ended."""
        if self._display is None:
            return
        try:
            self._show(self._display, waiting, in_flight)
        finally:
            with self._forgiving():
                self._display.close()

    def _show(self, display: Display, waiting: int, in_flight: int) -> None:
        elapsed = time.monotonic() - self._started
        with self._forgiving():
            display.show(
                BatchProgress(self._done, self._failed, waiting, in_flight, self._total, elapsed)
            )

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # what shows the batch must not stop it
            if not self._complained:
                self._complained = True
                callback_failed("what shows the progress of a batch", error)


class _Told:
    pause = 0.0

    def __init__(self, listener: Listener) -> None:
        self.show = listener

    def close(self) -> None:
        pass


class _Bar:
    pause = 0.1

    def __init__(self, tqdm: Any, total: int | None) -> None:
        # Without a pause of its own: what it leaves out, it shows when more is done, and while a
        # batch waits for a limit nothing is. The unit makes it say "7 done".
        self._bar = tqdm(total=total, unit=" done", mininterval=0, miniters=0)

    def show(self, progress: BatchProgress) -> None:
        self._bar.set_postfix(failed=progress.failed, waiting=progress.waiting, refresh=False)
        self._bar.update(progress.done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


def _load_tqdm() -> Any:
    try:
        with warnings.catch_warnings():
            # In a notebook without ipywidgets it falls back to text, which serves.
            warnings.simplefilter("ignore")
            from tqdm.auto import tqdm
    except ImportError as error:
        raise ConfigurationError(
            "progress=True needs tqdm: pip install 'requests_connection_manager[progress]'.",
            field="progress",
            value=True,
        ) from error
    return tqdm
