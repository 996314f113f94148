"""What the settings of limits, of their state, of the breaker and of overload may be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
import requests

from requests_connection_manager import (
    ConfigurationError,
    ConnectionManager,
    RateLimitExceeded,
)
from requests_connection_manager.layers import manager_layer
from requests_connection_manager.settings import Settings
from tests.server import ScriptedServer


async def answer_later(request: requests.PreparedRequest) -> int:
    """A coroutine function: what it returns is not the value."""
    return 1


FINE = [
    ("rate_limit_requests", 1, 1),
    ("rate_limit_requests", 2.0, 2),
    ("rate_limit_requests", 0.5, 0.5),
    ("rate_limit_requests", None, None),
    ("rate_limits", [(10, 1), [1000, 3600]], ((10, 1), (1000, 3600))),
    ("rate_limits", iter([(0.5, 1)]), ((0.5, 1),)),
    ("rate_limits", None, None),
    ("rate_limit_algorithm", "gcra", "gcra"),
    ("rate_limit_scope", "host", "host"),
    ("rate_limit_cost", 0, 0),
    ("state", "memory", "memory"),
    ("state", "sqlite:////var/lib/limits.db", "sqlite:////var/lib/limits.db"),
    ("state", "redis://localhost:6379/0", "redis://localhost:6379/0"),
    ("state", "redis://cache.test/", "redis://cache.test/"),
    ("state", "rediss://user:secret@cache.test", "rediss://user:secret@cache.test"),
    ("state", "redis://cache.test?password=a@b", "redis://cache.test?password=a@b"),
    ("state", "unix:///run/redis.sock", "unix:///run/redis.sock"),
    ("state", "unix://me@/run/user@1/x.sock?db=1", "unix://me@/run/user@1/x.sock?db=1"),
    ("state_prefix", "fleet-1.eu:x", "fleet-1.eu:x"),
    ("retry_budget", None, None),
    ("retry_budget", False, None),
    ("retry_budget", True, (0.2, 1)),
    ("retry_budget", 0.1, (0.1, 1)),
    ("retry_budget", [0, 3], (0, 3)),
    ("adaptive_throttling", True, 2),
    ("adaptive_throttling", 1.1, 1.1),
    ("adaptive_throttling", False, None),
    ("circuit_breaker_failure_rate", 1, 1),
    ("circuit_breaker_recovery_max", 0, 0),
    ("max_concurrency", 1, 1),
    ("max_concurrency_wait", 0, 0),
]
WRONG = [
    ("rate_limit_requests", 0, "whole number"),
    ("rate_limit_requests", -1, "whole number"),
    ("rate_limit_requests", 5e-324, "at least 1e-09"),
    ("rate_limit_requests", 2.5, "5 in 2 s"),
    ("rate_limit_requests", True, "whole number"),
    ("rate_limit_requests", float("nan"), "whole number"),
    ("rate_limit_requests", "10/s", "whole number"),
    ("rate_limit_requests", 1e-8, "one permit in 100,000,000 s"),
    ("rate_limits", [], "one to eight"),
    ("rate_limits", [(1, 1)] * 9, "one to eight"),
    ("rate_limits", (10, 1), "pairs"),
    ("rate_limits", [(10, 0)], "period that is a number of seconds above 0"),
    ("rate_limits", [(0, 1)], "requests that are a whole number"),
    ("rate_limits", [(10, 1, 5)], "pairs"),
    ("rate_limits", "10/s", "pairs"),
    ("rate_limits", {10: 1}, "pairs"),
    ("rate_limit_algorithm", "sliding", "sliding_window"),
    ("rate_limit_burst", 0, "whole number"),
    ("rate_limit_burst", 10**400, "whole number"),
    ("rate_limit_burst", 5, "fixed_window"),
    ("rate_limit_burst", 10**9 + 1, "to 1,000,000,000"),
    ("rate_limit_scope", "origin", "a function"),
    ("rate_limit_scope", str, "a function"),
    ("rate_limit_scope", answer_later, "not an async one"),
    ("rate_limit_cost", -1, "whole number"),
    ("rate_limit_cost", 0.5, "whole number"),
    ("rate_limit_cost", answer_later, "not an async one"),
    ("respect_server_limits", 1, "True or False"),
    ("state", "sqlite://limits.db", "absolute path"),
    ("state", "sqlite:///", "absolute path"),
    ("state", "postgres://x/y", "redis.Redis"),
    ("state", "redis://", "host:port"),
    ("state", "redis:/x", "host:port"),
    ("state", "redis://host/zero", "number for db"),
    ("state", "redis://host/0/1", "number for db"),
    ("state", "sqlite:/limits.db", "absolute path"),
    ("state", "unix:/run/redis.sock", "unix:///path"),
    ("state", "sqlite:///limits.db?mode=rwc", "without"),
    ("state", "sqlite:///limits.db#x", "without"),
    ("state", "sqlite:///my%20limits.db", "without"),
    ("state", "sqlite:///:memory:", "absolute path"),
    ("state", "sqlite:///limits/", "absolute path"),
    ("state", "sqlite:///limits\0.db", "absolute path"),
    ("state", "redis://user:12/34@host", "escaped"),
    ("state", "redis://user:12#34@host", "%23 for #"),
    ("state", "redis://user:12?34@host", "escaped"),
    ("state", "unix://:12/34@/run/redis.sock", "unix:///path"),
    ("state", "redis://host?no_such=1", "no option after a ?"),
    ("state", redis.asyncio.Redis(), "asyncio"),
    ("state", redis.Redis().pipeline(), "pipeline"),
    ("rate_limits", [(1e-6, 1e8)], "least"),
    ("state", 7, "redis.Redis"),
    ("state", redis.Redis, "redis.Redis"),
    ("state_prefix", "", "letters"),
    ("state_prefix", "a{b}", "letters"),
    ("state_timeout", 0, "seconds above 0 and at most 100,000,000"),
    ("state_fallback", "ignore", "'local' or 'raise'"),
    ("circuit_breaker_failure_rate", 0, "above 0"),
    ("circuit_breaker_failure_rate", 1.1, "at most 1"),
    ("circuit_breaker_window", 0, "at least 0.001"),
    ("circuit_breaker_window", 1e-305, "at least 0.001"),
    ("circuit_breaker_minimum_calls", 0, "whole number"),
    ("circuit_breaker_slow_call", 0, "above 0"),
    ("circuit_breaker_recovery_max", -1, "at least 0"),
    ("circuit_breaker_recovery_jitter", 1.5, "at most 1"),
    ("max_concurrency", 0, "whole number"),
    ("max_concurrency_wait", -1, "at least 0"),
    ("retry_budget", -0.1, "ratio"),
    ("retry_budget", (0.1,), "pair"),
    ("retry_budget", "20%", "ratio"),
    ("retry_budget", 20, "0.2 is 20 %"),
    ("adaptive_throttling", 0.5, "at least 1"),
    ("adaptive_throttling", "yes", "at least 1"),
]


@pytest.mark.parametrize(("name", "value", "meant"), FINE)
def test_what_is_fine(name: str, value: object, meant: object) -> None:
    layer = manager_layer({name: value})
    assert layer[name] == meant
    assert getattr(Settings(**layer), name) == meant


def test_a_client_is_kept_as_it_is() -> None:
    client = redis.Redis(port=1)
    assert Settings(state=client).state is client


@pytest.mark.parametrize(("name", "value", "words"), WRONG)
def test_what_is_wrong_is_said_at_once(name: str, value: object, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        ConnectionManager(**{name: value})
    assert caught.value.field == name
    with ConnectionManager() as manager, pytest.raises(ConfigurationError, match=words):
        add_and_explain(manager, {name: value})


def add_and_explain(manager: ConnectionManager, config: dict[str, object]) -> None:
    """Add a pattern; what is wrong beside other settings is said before anything is sent."""
    manager.add_endpoint_config("api.test", config)
    manager.explain("http://api.test/")


@pytest.mark.parametrize("url", ["redis://:s3cr3t@", "mysql://me:s3cr3t@host/db", "s3cr3t"])
def test_a_wrong_state_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ConnectionManager(state=url)
    assert "s3cr3t" not in f"{caught.value} {caught.value!r} {vars(caught.value)}"


def test_what_could_be_a_password_of_a_state_shows_nowhere() -> None:
    url = "redis://:s3cr3t@127.0.0.1:1/0"
    with ConnectionManager(state=url, endpoint_configs={"a.test": {"state": url}}) as manager:
        shown = f"{manager.get_stats()} {manager.stats()} {manager.explain('http://a.test/')}"
        shown += f"{manager!r} {manager.session.endpoints.defaults!r}"
    assert "s3cr3t" not in shown


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ("memory", "memory"),
        ("sqlite:////var/lib/limits.db", "sqlite:////var/lib/limits.db"),
        ("redis://:s3cr3t@cache.test:6379/0", "redis://cache.test:6379/0"),
        ("rediss://cache.test/?password=s3cr3t", "rediss://cache.test/"),
        ("unix://me:s3cr3t@/run/redis.sock?db=1", "unix:///run/redis.sock"),
        (redis.Redis(port=1, password="s3cr3t"), "Redis"),
    ],
)
def test_where_limits_are_kept_is_explained(state: object, shown: str) -> None:
    # without a circuit, whose state would be asked for
    with ConnectionManager(state=state, circuit_breaker_failure_threshold=None) as manager:
        assert explained(manager, "state") == shown
        assert "s3cr3t" not in f"{manager.explain('http://a.test/')!r}"


def test_how_long_to_wait_for_the_state_makes_no_limit_of_its_own(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """Neither in memory, nor while the shared state is gone."""
    for state in ("memory", f"sqlite://{tmp_path}/missing/limits.db"):
        with ConnectionManager(
            state=state,
            rate_limit_requests=3,
            rate_limit_algorithm="sliding_window",
            rate_limit_max_wait=0,
            endpoint_configs={"127.0.0.1/b": {"state_timeout": 0.5}},
        ) as manager:
            for path in ("/a", "/b", "/a"):
                manager.get(server.url + path)
            for path in ("/a", "/b"):
                with pytest.raises(RateLimitExceeded):
                    manager.get(server.url + path)


def explained(manager: ConnectionManager, name: str) -> object:
    settings = manager.explain("http://a.test/").settings
    return next(each.value for each in settings if each.setting == name)


def test_a_pattern_that_says_one_limit_means_one_limit() -> None:
    with ConnectionManager(rate_limits=[(1, 1), (10, 60)]) as manager:
        manager.add_endpoint_config("a.test", {"rate_limit_requests": 5})
        assert explained(manager, "rate_limits") is None
        assert manager.explain("http://a.test/").limiter == "5 per 60 s, shared by a.test"


def test_a_pattern_with_another_algorithm_has_not_the_other_ones_burst() -> None:
    with ConnectionManager(rate_limit_algorithm="gcra", rate_limit_burst=5) as manager:
        manager.add_endpoint_config("a.test", {"rate_limit_algorithm": "sliding_window"})
        assert explained(manager, "rate_limit_burst") is None
        text = "100 per 60 s (sliding_window), shared by a.test"
        assert manager.explain("http://a.test/").limiter == text
        other = manager.explain("http://b.test/").limiter
        assert other is not None
        assert other.startswith("100 per 60 s (gcra, burst 5)")


def test_settings_can_be_copied_with_a_function(server) -> None:
    def key(request: requests.PreparedRequest) -> str:
        return request.url or ""

    with ConnectionManager(rate_limit_scope=key) as manager:
        assert manager.get(server.url).status_code == 200
        assert manager.explain(server.url).limiter


@pytest.mark.parametrize(
    "config",
    [
        {"rate_limit_requests": 3, "rate_limit_cost": 4},
        {"rate_limits": [(10, 1), (3, 60)], "rate_limit_cost": 4},
        {"rate_limit_algorithm": "gcra", "rate_limit_burst": 3, "rate_limit_cost": 4}
        | {"rate_limit_requests": 100},
    ],
)
def test_a_cost_that_no_limit_can_give_is_refused_where_both_are_said(config) -> None:
    with pytest.raises(ConfigurationError, match="from 0 to 3"):
        ConnectionManager(**config)
    with pytest.raises(ConfigurationError, match="from 0 to 3"):
        ConnectionManager(endpoint_configs={"a.test": config})
    with ConnectionManager() as manager, pytest.raises(ConfigurationError, match="from 0 to 3"):
        manager.add_endpoint_config("a.test", config)


def test_limits_that_come_to_the_same_are_one() -> None:
    with ConnectionManager(
        rate_limits=[(0.5, 60), (1, 120), (9, 200)], rate_limit_algorithm="gcra"
    ) as manager:
        limiter = manager.explain("http://a.test/").limiter
    assert limiter is not None
    assert limiter.count("1 per 120 s") == 1


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        ({"a.test": {"rate_limit_burst": 5}}, "endpoint_configs['a.test']: rate_limit_burst=5 has"),
        (
            {"a.test": {"rate_limit_burst": 5, "rate_limit_algorithm": "sliding_window"}},
            "endpoint_configs['a.test']: rate_limit_burst=5 has no meaning",
        ),
        (
            {"a.test": {"rate_limit_cost": 5}, "a.test/b": {"rate_limit_requests": 4}},
            "endpoint_configs['a.test'] with endpoint_configs['a.test/b']: rate_limit_cost=5 is",
        ),
        ({"a.test": {"state": "redis://h?x=1"}}, "endpoint_configs['a.test']: state"),
    ],
)
def test_what_patterns_come_to_is_said_of_them(
    configs: dict[str, dict[str, Any]], message: str
) -> None:
    with (
        pytest.raises(ConfigurationError, match=re.escape(message)) as caught,
        ConnectionManager(endpoint_configs=configs) as manager,
    ):
        manager.get("http://a.test/b")
    assert str(caught.value).count("endpoint_configs") == len(configs)
