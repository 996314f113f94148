"""Those who make the same GET: us, and what one could use instead, as their own pages show it.

Each runs in a process of its own, ``python -m benchmarks.contenders NAME URL``, of whichever
environment has it installed. The process says that it is ready, and then times a block of calls
for each line that it reads; when there are no more lines, it ends.

All have a time-out of 30 s and read the body. What they offer of retries, a circuit breaker and a
rate limit is switched on, with a limit that nobody reaches.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NamedTuple

from .harness import block_of, everything_on

TIMEOUT = 30
STATUSES = (429, 500, 502, 503, 504)
NEVER_REACHED = 10_000_000
"""Calls a second."""
BLOCK_SECONDS = 0.02
"""Longer than elsewhere: after the turns of ten other processes, the caches are cold."""
EXPECTED = b'{"answer": "ok"}'

Get = Callable[[], bytes]
"""Makes the GET, and returns the body."""

# Everything is imported late: each of the processes has one of these, and pays for no other.


def _plain(url: str) -> Get:
    import requests

    session = requests.Session()
    return lambda: session.get(url, timeout=TIMEOUT).content


def _with_retry(url: str) -> Get:
    import requests
    from requests.adapters import HTTPAdapter

    session = requests.Session()
    session.mount("http://", HTTPAdapter(max_retries=_urllib3_retry()))
    return lambda: session.get(url, timeout=TIMEOUT).content


def _managed(url: str) -> Get:
    manager = everything_on()
    return lambda: manager.get(url).content


def _urllib3(url: str) -> Get:
    import urllib3

    pool = urllib3.PoolManager(retries=_urllib3_retry(), timeout=TIMEOUT)
    return lambda: pool.request("GET", url).data


def _httpx(url: str) -> Get:
    import httpx

    client = httpx.Client(transport=httpx.HTTPTransport(retries=3), timeout=TIMEOUT)
    return lambda: client.get(url).content


def _niquests(url: str) -> Get:
    import niquests

    session = niquests.Session(retries=_urllib3_retry())  # its own environment's urllib3
    return lambda: session.get(url, timeout=TIMEOUT).content or b""


def _requests_ratelimiter(url: str) -> Get:
    from requests_ratelimiter import LimiterSession

    session = LimiterSession(per_second=NEVER_REACHED)
    return lambda: session.get(url, timeout=TIMEOUT).content


def _resilient_http(url: str) -> Get:
    from resilient_http.circuit_breaker import CircuitBreaker
    from resilient_http.resilient_session import ResilientRequestsSession
    from resilient_http.retry_policy import RetryPolicy

    session = ResilientRequestsSession(
        retry_policy=RetryPolicy(max_attempts=4),
        circuit_breaker=CircuitBreaker(failure_threshold=5, recovery_timeout=60),
    )
    return lambda: session.get(url, timeout=TIMEOUT).content


def _pyresilience(url: str, **more: Any) -> Get:
    import requests
    from pyresilience import CircuitBreakerConfig, RateLimiterConfig, RetryConfig, resilient
    from pyresilience.contrib.http import retry_after_delay, retry_on_status

    session = requests.Session()

    @resilient(
        retry=RetryConfig(
            max_attempts=4,
            retry_on_result=retry_on_status(*STATUSES),
            delay_func=retry_after_delay(max_wait=60.0),
        ),
        circuit_breaker=CircuitBreakerConfig(failure_threshold=5, recovery_timeout=60),
        rate_limiter=RateLimiterConfig(max_calls=NEVER_REACHED, period=1.0),
        **more,
    )
    def get() -> requests.Response:
        return session.get(url, timeout=TIMEOUT)

    return lambda: get().content


def _pyresilience_with_timeout(url: str) -> Get:
    from pyresilience import TimeoutConfig

    return _pyresilience(url, timeout=TimeoutConfig(seconds=TIMEOUT, per_attempt=False))


def _nopanic(url: str) -> Get:
    import requests
    from nopanic import circuit_breaker, compose, deadline, rate_limit, retry

    session = requests.Session()
    resilient = compose(
        deadline(TIMEOUT),
        retry(
            attempts=4,
            on=(requests.ConnectionError, requests.Timeout),
            on_result=lambda response: response.status_code in STATUSES,
        ),
        circuit_breaker(min_calls=5, reset_timeout=60.0),
        rate_limit(NEVER_REACHED, per=1.0),
    )

    @resilient
    def get() -> requests.Response:
        return session.get(url, timeout=TIMEOUT)

    return lambda: get().content


def _urllib3_retry() -> Any:
    from urllib3.util import Retry

    return Retry(total=3, backoff_factor=0.3, status_forcelist=STATUSES)


class Contender(NamedTuple):
    """One of them: the package that it comes in, and what of it is switched on."""

    package: str
    switched_on: str
    prepare: Callable[[str], Get]


CONTENDERS = {
    "plain Session": Contender("requests", "a plain Session", _plain),
    "retry": Contender("requests", "HTTPAdapter with Retry", _with_retry),
    "managed": Contender(
        "requests_connection_manager",
        "retry, breaker, rate limit, total time-out",
        _managed,
    ),
    "urllib3": Contender("urllib3", "Retry", _urllib3),
    "httpx": Contender("httpx", "retries of connecting", _httpx),
    "niquests": Contender("niquests", "Retry", _niquests),
    "requests-ratelimiter": Contender("requests-ratelimiter", "rate limit", _requests_ratelimiter),
    "resilient-http": Contender("resilient-http", "retry, breaker", _resilient_http),
    "pyresilience": Contender("pyresilience", "retry, breaker, rate limit", _pyresilience),
    "pyresilience-timeout": Contender(
        "pyresilience", "retry, breaker, rate limit, total time-out", _pyresilience_with_timeout
    ),
    "nopanic": Contender("nopanic", "retry, breaker, rate limit, deadline of waits", _nopanic),
}


def main(name: str, url: str) -> None:
    """Be one of them, for as long as there is someone to ask."""
    contender = CONTENDERS[name]
    try:
        get = contender.prepare(url)
    except ModuleNotFoundError as missing:
        print(json.dumps({"missing": missing.name}), flush=True)
        return
    body = get()
    assert body == EXPECTED, body
    block = block_of(get, BLOCK_SECONDS)
    print(json.dumps({"ready": version(contender.package)}), flush=True)
    gc.collect()
    gc.freeze()  # what there is by now is no garbage, and need not be looked at again
    for _ in sys.stdin:
        get()
        print(block(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
