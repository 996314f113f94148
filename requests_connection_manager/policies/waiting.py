"""Waiting for as long as it is wanted, and not at all where it would be longer than allowed."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..exceptions import RateLimitExceeded
from ..failures import in_seconds

LOOK = 0.2
"""Seconds between two looks of a waiter whether what it waits for is still wanted."""

Check = Callable[[], object]
"""Raises what says that it is not wanted any more."""


def nap(seconds: float, check: Check | None) -> None:
    """Sleep, and look now and then whether there is still a reason to."""
    if check is None:
        time.sleep(seconds)
        return
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        check()
        time.sleep(min(left, LOOK))
    check()


def refusal(
    why: str, wait: float, longest: float, endpoint: str, more: str = "rate_limit_max_wait"
) -> RateLimitExceeded:
    """Make the error for a wait that would be too long."""
    return RateLimitExceeded(
        f"{why} in {in_seconds(wait)}, and the wait may take {in_seconds(max(longest, 0))}. Try "
        f"again in `retry_after` seconds, or allow a longer wait: {more}, total_timeout.",
        retry_after=wait,
        endpoint=endpoint,
    )
