"""``explain`` says where each setting comes from, without sending anything."""

from __future__ import annotations

import pytest
import requests

from requests_connection_manager import ConnectionManager, Explanation
from tests.conftest import MakeManager


def test_it_names_the_source_of_each_setting_the_policies_and_their_order(
    make_manager: MakeManager,
) -> None:
    manager = make_manager(
        total_timeout=9,
        endpoint_configs={
            "*.example.com": {"timeout": 3, "rate_limit_requests": 7},
            "api.example.com/v1": {"max_retries": 1, "circuit_breaker_failure_threshold": 2},
        },
    )
    explained = manager.explain("https://user:secret@api.example.com/v1/x?key=secret")
    assert isinstance(explained, Explanation)
    sources = {each.setting: (each.value, each.source) for each in explained.settings}
    assert sources["timeout"] == (3, "*.example.com")
    assert sources["max_retries"] == (1, "api.example.com/v1")
    assert sources["backoff_max"] == (20, "manager")
    assert explained.endpoint == "api.example.com/v1"
    assert explained.limiter == "7 per 60 s, shared by *.example.com"
    assert explained.breaker == "api.example.com/v1 (https://api.example.com), closed"
    assert explained.order == ("deadline", "circuit breaker", "retry", "rate limit", "send")


def test_it_prints_as_a_small_table(make_manager: MakeManager) -> None:
    manager = make_manager(endpoint_configs={"api.example.com": {"timeout": 3}})
    text = str(manager.explain("https://user:secret@api.example.com/?key=secret"))
    assert "secret" not in text
    lines = text.splitlines()
    assert lines[0] == "https://api.example.com/ is served by api.example.com"
    assert any(line.split() == ["timeout", "3", "api.example.com"] for line in lines)
    assert any(line.split() == ["total_timeout", "None", "manager"] for line in lines)
    assert max(map(len, lines)) <= 110


def test_what_is_switched_off_is_left_out(make_manager: MakeManager) -> None:
    manager = make_manager(
        rate_limit_requests=None, circuit_breaker_failure_threshold=None, max_retries=0
    )
    explained = manager.explain("https://api.example.com/")
    assert (explained.limiter, explained.breaker) == (None, None)
    assert explained.order == ("send",)
    assert "none" in str(explained)


def test_a_url_in_any_form_that_requests_takes(manager: ConnectionManager) -> None:
    assert manager.explain(b"http://a.test/x").endpoint == "http://a.test"


def test_a_url_that_cannot_be_sent(manager: ConnectionManager) -> None:
    with pytest.raises(requests.exceptions.MissingSchema):
        manager.explain("api.example.com")
