"""Which limiter and breaker a URL gets, and what a change of the endpoints leaves alone."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from urllib3.util.retry import Retry

from requests_connection_manager import ConfigurationError, lookup
from requests_connection_manager.assembly import Endpoint
from requests_connection_manager.endpoints import Endpoints
from requests_connection_manager.layers import manager_layer
from tests.conftest import in_threads


def at(endpoints: Endpoints, url: str) -> Endpoint:
    return endpoints.table.resolve(url)


def test_urls_without_a_limit_of_their_own_share_the_managers() -> None:
    endpoints = Endpoints({}, {"a.test": {"timeout": 3}})
    shared = at(endpoints, "http://a.test").limiter
    assert shared is at(endpoints, "http://b.test/x").limiter
    assert shared is at(endpoints, "https://c.test:8443").limiter
    assert shared is not None
    assert (shared.calls, shared.period) == (100, 60)


@pytest.mark.parametrize(
    "config", [{"rate_limit_requests": 7}, {"rate_limit_period": 9}, {"rate_limit_requests": 100}]
)
def test_a_pattern_that_sets_a_limit_has_one_of_its_own(config: dict[str, Any]) -> None:
    endpoints = Endpoints({}, {"*.a.test": config})
    own = at(endpoints, "http://x.a.test").limiter
    assert own is at(endpoints, "https://y.a.test/z").limiter
    assert own is not at(endpoints, "http://b.test").limiter
    assert own is not None
    assert own.scope == "*.a.test"


def test_a_longest_wait_alone_makes_no_other_limiter() -> None:
    endpoints = Endpoints({}, {"a.test": {"rate_limit_max_wait": 0}})
    assert at(endpoints, "http://a.test").limiter is at(endpoints, "http://b.test").limiter


def test_the_more_specific_pattern_that_sets_a_limit_owns_it() -> None:
    endpoints = Endpoints(
        {},
        {
            "a.test": {"rate_limit_requests": 5},
            "a.test/v1": {"timeout": 3},
            "a.test/v2": {"rate_limit_period": 1},
        },
    )
    whole = at(endpoints, "http://a.test/").limiter
    assert at(endpoints, "http://a.test/v1").limiter is whole
    narrow = at(endpoints, "http://a.test/v2").limiter
    assert narrow is not whole
    assert narrow is not None
    assert (narrow.calls, narrow.period) == (5, 1)


def test_none_switches_the_limit_off() -> None:
    endpoints = Endpoints({}, {"a.test": {"rate_limit_requests": None}})
    assert at(endpoints, "http://a.test").limiter is None
    assert at(Endpoints({"rate_limit_requests": None}, None), "http://a.test").limiter is None


def test_the_scope_host_gives_each_origin_its_own() -> None:
    endpoints = Endpoints({"rate_limit_scope": "host"}, {"*.a.test": {"rate_limit_requests": 3}})
    assert at(endpoints, "http://b.test/x").limiter is at(endpoints, "http://b.test:80/y").limiter
    assert at(endpoints, "http://b.test").limiter is not at(endpoints, "https://b.test").limiter
    one, two = at(endpoints, "http://x.a.test").limiter, at(endpoints, "http://y.a.test").limiter
    assert one is not two
    assert one is not None
    assert "x.a.test" in one.scope


def test_breakers_are_one_per_origin() -> None:
    endpoints = Endpoints({}, {"a.test/v1": {"timeout": 3}})
    breaker = at(endpoints, "http://a.test/v1").breaker
    assert breaker is at(endpoints, "http://a.test/v2").breaker
    assert breaker is not at(endpoints, "http://a.test:81/").breaker
    assert breaker is not at(endpoints, "https://a.test/").breaker
    assert set(endpoints.circuits()) == {"http://a.test", "http://a.test:81", "https://a.test"}


def test_a_pattern_that_sets_breaker_keys_has_breakers_of_its_own_still_one_per_origin() -> None:
    endpoints = Endpoints({}, {"*.a.test/v1": {"circuit_breaker_failure_threshold": 2}})
    own = at(endpoints, "http://x.a.test/v1").breaker
    assert own is not at(endpoints, "http://x.a.test/v2").breaker
    assert own is not at(endpoints, "http://y.a.test/v1").breaker
    assert own is not None
    assert own.circuit.fail_max == 2
    assert "*.a.test/v1 (http://x.a.test)" in endpoints.circuits()


@pytest.mark.parametrize(
    "off", [{"circuit_breaker_failure_threshold": None}, {"circuit_breaker_recovery_timeout": None}]
)
def test_none_switches_the_breaker_off(off: dict[str, Any]) -> None:
    assert at(Endpoints({}, {"a.test": off}), "http://a.test").breaker is None


def test_a_change_keeps_the_state_of_what_did_not_change() -> None:
    endpoints = Endpoints(
        {}, {"a.test": {"rate_limit_requests": 5, "circuit_breaker_failure_threshold": 2}}
    )
    before = at(endpoints, "http://a.test")
    elsewhere = at(endpoints, "http://b.test")
    endpoints.add(
        "a.test",
        {"rate_limit_requests": 5, "circuit_breaker_failure_threshold": 2, "timeout": 1},
    )
    endpoints.add("c.test", {"rate_limit_requests": 1})
    endpoints.remove("c.test")
    after = at(endpoints, "http://a.test")
    assert after.merged.arguments["timeout"] == 1
    assert before.merged.arguments["timeout"] == 30
    assert after.limiter is before.limiter
    assert after.breaker is before.breaker
    assert at(endpoints, "http://b.test").limiter is elsewhere.limiter
    assert at(endpoints, "http://b.test").breaker is elsewhere.breaker


def test_other_numbers_make_another_limiter_and_breaker() -> None:
    endpoints = Endpoints(
        {}, {"a.test": {"rate_limit_requests": 5, "circuit_breaker_failure_threshold": 2}}
    )
    before = at(endpoints, "http://a.test")
    endpoints.add("a.test", {"rate_limit_requests": 6, "circuit_breaker_failure_threshold": 3})
    after = at(endpoints, "http://a.test")
    assert after.limiter is not before.limiter
    assert after.breaker is not before.breaker
    assert len(endpoints.circuits()) == 1


def test_a_table_in_use_is_not_changed_by_a_change() -> None:
    endpoints = Endpoints({}, {"a.test": {"timeout": 3}})
    table = endpoints.table
    endpoints.add("a.test", {"timeout": 4})
    endpoints.remove("a.test")
    assert table.resolve("http://a.test").settings.timeout == 3
    assert at(endpoints, "http://a.test").settings.timeout == 30


def test_configs_are_copies_both_ways() -> None:
    mine = {"timeout": 3, "retry_statuses": [500]}
    endpoints = Endpoints({}, {"a.test": mine})
    mine["timeout"] = 99
    mine["retry_statuses"].append(501)  # type: ignore[attr-defined]
    endpoints.configs()["a.test"]["timeout"] = 98
    assert at(endpoints, "http://a.test").settings.timeout == 3
    assert at(endpoints, "http://a.test").settings.retry_statuses == {500}
    assert endpoints.configs()["a.test"]["timeout"] == 3


def test_a_failed_change_changes_nothing() -> None:
    endpoints = Endpoints({}, {"a.test": {"timeout": 3}})
    with pytest.raises(ConfigurationError):
        endpoints.add("a.test", {"timeout": -3})
    with pytest.raises(ConfigurationError):
        endpoints.add("a test", {"timeout": 3})
    assert endpoints.configs() == {"a.test": {"timeout": 3}}
    assert at(endpoints, "http://a.test").settings.timeout == 3


def test_another_spelling_replaces_and_removes_the_same_pattern() -> None:
    endpoints = Endpoints({}, {"a.test/v1": {"timeout": 3}})
    endpoints.add("A.test/v1/", {"timeout": 4})
    assert endpoints.configs() == {"A.test/v1/": {"timeout": 4}}
    endpoints.remove("a.TEST/v1")
    assert endpoints.configs() == {}


@pytest.mark.parametrize("unknown", ["b.test", "not a pattern", "", None])
def test_removing_an_unknown_pattern_is_no_error(unknown: Any) -> None:
    endpoints = Endpoints({}, {"a.test": {"timeout": 3}})
    endpoints.remove(unknown)
    assert endpoints.configs() == {"a.test": {"timeout": 3}}


def test_changes_from_many_threads_are_all_there_in_the_end() -> None:
    endpoints = Endpoints({}, None)
    start = threading.Barrier(16)
    seen: list[Any] = []

    def change(n: int) -> None:
        start.wait()
        for i in range(20):
            endpoints.add(f"host{n}x{i}.test", {"timeout": n + 1})
            seen.append(at(endpoints, f"http://host{n}x{i}.test").settings.timeout == n + 1)
            if i % 2:
                endpoints.remove(f"host{n}x{i}.test")

    in_threads(16, change)
    assert all(seen)
    assert len(seen) == 320
    assert len(endpoints.configs()) == 160


def test_all_threads_get_the_same_limiter_and_breaker() -> None:
    endpoints = Endpoints({}, {"a.test": {"rate_limit_requests": 3}})
    start = threading.Barrier(32)
    found = []

    def look(_: int) -> None:
        start.wait()
        endpoint = at(endpoints, "http://a.test")
        found.append((endpoint.limiter, endpoint.breaker))

    in_threads(32, look)
    assert len(found) == 32
    assert len(set(found)) == 1


def test_a_crawler_of_many_origins_keeps_only_those_with_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lookup, "MOST_IDLE", 50)
    endpoints = Endpoints({"rate_limit_scope": "host"}, None)
    failing = at(endpoints, "http://failing.test")
    assert failing.breaker is not None
    failing.breaker.failed(failing.breaker.admit(), OSError("down"))
    limited = at(endpoints, "http://limited.test")
    assert limited.limiter is not None
    limited.limiter.acquire()
    for n in range(500):
        at(endpoints, f"http://host{n}.test")
    assert len(endpoints.circuits()) <= 110
    assert at(endpoints, "http://failing.test").breaker is failing.breaker
    assert at(endpoints, "http://limited.test").limiter is limited.limiter


def test_an_endpoints_backoff_has_its_effect_on_a_managers_retry() -> None:
    defaults = manager_layer({"max_retries": Retry(7, backoff_factor=2, status_forcelist=[418])})
    endpoints = Endpoints(defaults, {"a.test": {"backoff_factor": 5}, "b.test": {"max_retries": 1}})
    assert at(endpoints, "http://c.test").settings.backoff_factor == 2
    assert at(endpoints, "http://a.test").settings.backoff_factor == 5
    assert at(endpoints, "http://a.test").settings.retry_statuses == {418}
    assert at(endpoints, "http://b.test").settings.max_retries == 1


def test_an_endpoints_retry_is_not_changed_by_the_managers_numbers() -> None:
    retry = Retry(2, backoff_factor=9)
    endpoints = Endpoints(
        manager_layer({"backoff_factor": 1, "retry_statuses": [500]}),
        {"a.test": {"max_retries": retry}},
    )
    settings = at(endpoints, "http://a.test").settings
    assert settings.backoff_factor == 9
    assert settings.retry_statuses == frozenset()


def failing(endpoint: Endpoint) -> None:
    assert endpoint.breaker is not None
    for _ in range(endpoint.breaker.circuit.fail_max):
        endpoint.breaker.failed(endpoint.breaker.admit(), OSError("down"))


def test_a_breaker_that_no_url_gets_any_more_is_not_listed() -> None:
    endpoints = Endpoints({}, None)
    failing(at(endpoints, "http://a.test/x"))
    failing(at(endpoints, "http://b.test/x"))
    endpoints.add("a.test", {"circuit_breaker_failure_threshold": 9})
    assert set(endpoints.circuits()) == {"http://b.test"}
    at(endpoints, "http://a.test/x")
    assert endpoints.circuits()["a.test (http://a.test)"].current_state == "closed"
    endpoints.remove("a.test")
    assert set(endpoints.circuits()) == {"http://b.test"}


def test_one_that_some_url_still_gets_is() -> None:
    endpoints = Endpoints({}, None)
    failing(at(endpoints, "http://a.test/x"))
    endpoints.add("a.test/v1", {"circuit_breaker_failure_threshold": 9})
    endpoints.add("*.test", {"timeout": 3})
    assert endpoints.circuits()["http://a.test"].current_state == "open"
    assert at(endpoints, "http://a.test/x").breaker.circuit.current_state == "open"
    assert at(endpoints, "http://a.test/v1/x").breaker.circuit.current_state == "closed"


def test_numbers_from_a_less_specific_pattern_make_another_breaker_listed_once() -> None:
    own = {"a.test": {"circuit_breaker_failure_threshold": 1}}
    endpoints = Endpoints({}, {**own, "*.test": {"circuit_breaker_recovery_timeout": 60}})
    at(endpoints, "http://x.a.test/")
    endpoints.add("a.test", {"circuit_breaker_failure_threshold": 1})
    first = at(endpoints, "http://a.test/")
    endpoints.add("*.test", {"circuit_breaker_recovery_timeout": 30})
    second = at(endpoints, "http://a.test/")
    assert second.breaker is not first.breaker
    failing(second)
    assert endpoints.circuits()["a.test (http://a.test)"].current_state == "open"


def test_what_is_in_use_is_not_doubled_when_the_table_is_crowded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lookup, "MOST_IDLE", 20)
    endpoints = Endpoints({"rate_limit_scope": "host", "circuit_breaker_recovery_timeout": 0}, None)
    under_way = at(endpoints, "http://a.test")
    half_open = at(endpoints, "http://b.test")
    failing(half_open)
    trial = half_open.breaker.admit()
    assert trial.is_trial
    for n in range(100):
        at(endpoints, f"http://host{n}.test")
    assert at(endpoints, "http://a.test").limiter is under_way.limiter
    assert at(endpoints, "http://b.test").breaker is half_open.breaker


def test_a_list_or_a_generator_given_is_kept_as_it_was() -> None:
    mine = [500]
    given = (status for status in (500, 503))
    configs = {"a.test": {"retry_statuses": mine}, "b.test": {"retry_statuses": given}}
    endpoints = Endpoints({}, configs)
    mine.append(501)
    assert endpoints.configs()["a.test"]["retry_statuses"] == [500]
    assert endpoints.configs()["b.test"]["retry_statuses"] == {500, 503}
    assert at(endpoints, "http://b.test").settings.retry_statuses == {500, 503}


def test_a_call_under_way_does_not_bring_back_what_was_dropped() -> None:
    endpoints = Endpoints({}, {"a.test": {"circuit_breaker_failure_threshold": 2}})
    under_way = endpoints.table
    endpoints.remove("a.test")
    late = under_way.resolve("http://a.test/")
    assert late.breaker is not None
    assert late.breaker.circuit.fail_max == 2
    assert late.breaker is under_way.resolve("http://a.test/x").breaker
    assert endpoints.circuits() == {}
