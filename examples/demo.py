"""``python -m examples.demo [URL ...]``, from the root of the repository; ``make demo`` runs it.

Without a URL: two servers of its own misbehave, and one ConnectionManager deals with them.
With URLs: a few polite GETs of them, from several threads.

Exit status: 0, what was shown has happened; 1, something has not; 2, a URL that cannot be
requested; 130, interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence

import requests

from requests_connection_manager import CircuitBreakerOpen, ConnectionManager

from .demo_acts import perform
from .demo_stage import Stage, never_above

CALLS, CALLERS = 12, 4
LIMIT = 5
"""Requests a second, however many URLs there are."""
LONGEST_REST = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo", description="Show what a ConnectionManager does."
    )
    parser.add_argument("urls", nargs="*", metavar="URL", help="GET this, not the demo's own")
    urls: list[str] = parser.parse_args(arguments).urls
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # it is a stream of text
    stage = Stage(seconds=60 if urls else 28)
    try:
        return visit(stage, urls) if urls else perform(stage)
    except KeyboardInterrupt:
        print("\ninterrupted")
        return 130
    except BrokenPipeError:  # piped to something that has read enough, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except TimeoutError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def visit(stage: Stage, urls: Sequence[str]) -> int:
    """GET the URLs in turn; return the exit status."""
    total = max(CALLS, len(urls))
    start = time.monotonic()  # the first second of the limit may begin before the first call
    with ConnectionManager(
        total_timeout=10,
        max_retries=2,
        rate_limit_requests=LIMIT,
        rate_limit_period=1,
        circuit_breaker_failure_threshold=3,
        circuit_breaker_recovery_timeout=1,
    ) as manager:
        try:
            names = [_public_name(manager, url) for url in urls]
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        stage.act(
            f"{total} GETs from {CALLERS} threads through one manager",
            f"At most {LIMIT} requests a second, 2 retries and 10 s a call. 3 failures in a row\n"
            "open the circuit; a caller who is rejected rests as long as the error says.",
        )
        stage.watch(manager, *urls)

        def ask(caller: int) -> None:
            for turn in range(caller - 1, total, CALLERS):
                which = turn % len(urls)
                call = stage.get(manager, names[which], caller, urls[which])
                if isinstance(call.error, CircuitBreakerOpen):
                    time.sleep(min(call.error.retry_after, LONGEST_REST))

        stage.each(CALLERS, ask)
        sent = [attempt.begin for call in stage.calls for attempt in call.attempts]
        stage.tables(manager)
        return stage.verdict(
            (
                f"{total} calls were made, and each ended in an answer or in an error",
                sum(bool(call.status or call.error) for call in stage.calls) == total,
            ),
            (f"never more than {LIMIT} attempts a second", never_above(LIMIT, sent, start)),
        )


def _public_name(manager: ConnectionManager, url: str) -> str:
    """Return the URL without credentials and query; ValueError if it cannot be requested."""
    name, why = "", ""
    try:
        name = manager.explain(url).url.strip()
    except (requests.RequestException, ValueError) as error:
        why = f" ({type(error).__name__})"
    if not name.lower().startswith(("http://", "https://")):  # not echoed: it may hold a secret
        raise ValueError(f"not a URL that can be requested{why}; one looks like https://host/path")
    return name


if __name__ == "__main__":
    sys.exit(main())
