"""Every setting is checked where it comes in, and the error names the way out."""

from __future__ import annotations

import inspect
import ssl
from dataclasses import fields
from fractions import Fraction

import pytest
from urllib3.util.retry import Retry

from requests_connection_manager import ConfigurationError, ConnectionManager
from requests_connection_manager.layers import endpoint_layer
from requests_connection_manager.settings import ManagerSettings, Settings


class Halves(float):
    """A float of another type, as numpy's are."""

    def __new__(cls) -> Halves:
        return super().__new__(cls, 0.5)


DOCUMENTED_DEFAULTS = {
    "timeout": 30,
    "connect_timeout": None,
    "read_timeout": None,
    "total_timeout": None,
    "max_retries": 3,
    "backoff_factor": 0.3,
    "backoff_max": 20,
    "backoff_jitter": 0.5,
    "retry_statuses": {429, 500, 502, 503, 504},
    "retry_methods": {"HEAD", "GET", "PUT", "DELETE", "OPTIONS", "TRACE"},
    "respect_retry_after": True,
    "retry_after_max": 60,
    "raise_on_status": True,
    "rate_limit_requests": 100,
    "rate_limit_period": 60,
    "rate_limit_max_wait": None,
    "rate_limit_scope": "endpoint",
    "rate_limits": None,
    "rate_limit_algorithm": "fixed_window",
    "rate_limit_burst": None,
    "rate_limit_cost": 1,
    "respect_server_limits": True,
    "state": "memory",
    "state_prefix": "rcm",
    "state_timeout": 0.25,
    "state_fallback": "local",
    "circuit_breaker_failure_threshold": 5,
    "circuit_breaker_recovery_timeout": 60,
    "circuit_breaker_success_threshold": 1,
    "circuit_breaker_recovery_max": 600,
    "circuit_breaker_recovery_jitter": 0.1,
    "circuit_breaker_failure_rate": None,
    "circuit_breaker_window": 30,
    "circuit_breaker_minimum_calls": 20,
    "circuit_breaker_slow_call": None,
    "max_concurrency": None,
    "max_concurrency_wait": 30,
    "retry_budget": None,
    "adaptive_throttling": None,
    "verify": True,
    "cert": None,
    "ssl_context": None,
    "api_key": None,
    "api_key_header": "X-API-Key",
    "api_key_query": None,
    "bearer_token": None,
    "oauth2_token": None,
    "basic_auth": None,
    "auth": None,
}


def test_the_defaults_are_the_documented_ones() -> None:
    settings = Settings()
    assert {each.name: getattr(settings, each.name) for each in fields(settings)} == (
        DOCUMENTED_DEFAULTS
    )
    pool = ManagerSettings()
    assert (pool.pool_connections, pool.pool_maxsize, pool.pool_block) == (10, 10, False)


def test_settings_are_immutable() -> None:
    with pytest.raises(AttributeError):
        Settings().timeout = 3  # type: ignore[misc]


def test_the_constructor_shows_every_setting_and_its_default() -> None:
    shown = inspect.signature(ConnectionManager).parameters
    assert {name: parameter.default for name, parameter in shown.items()} == {
        each.name: each.default for each in fields(ManagerSettings)
    }
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in shown.values())


IMPOSSIBLE = [
    ("timeout", 0),
    ("timeout", -1),
    ("timeout", "30"),
    ("timeout", (1, 2, 3)),
    ("timeout", (1,)),
    ("timeout", (0, 1)),
    ("timeout", float("nan")),
    ("timeout", float("inf")),
    ("timeout", True),
    ("timeout", 10**400),
    ("connect_timeout", 0),
    ("read_timeout", -3),
    ("total_timeout", 0),
    ("total_timeout", "1"),
    ("max_retries", -1),
    ("max_retries", 2.5),
    ("max_retries", True),
    ("max_retries", None),
    ("backoff_factor", -0.1),
    ("backoff_max", -1),
    ("backoff_jitter", 1.5),
    ("backoff_jitter", -0.5),
    ("retry_statuses", 503),
    ("retry_statuses", ["503"]),
    ("retry_statuses", [99]),
    ("retry_statuses", "503"),
    ("retry_methods", "GET"),
    ("retry_methods", [1]),
    ("respect_retry_after", 1),
    ("retry_after_max", -1),
    ("raise_on_status", "yes"),
    ("rate_limit_requests", 0),
    ("rate_limit_requests", -5),
    ("rate_limit_requests", 1.5),
    ("rate_limit_period", 0),
    ("rate_limit_period", -60),
    ("rate_limit_period", None),
    ("rate_limit_max_wait", -1),
    ("rate_limit_scope", "planet"),
    ("circuit_breaker_failure_threshold", 0),
    ("circuit_breaker_recovery_timeout", -1),
    ("circuit_breaker_success_threshold", 0),
    ("circuit_breaker_success_threshold", None),
    ("verify", None),
    ("verify", ""),
    ("cert", ("only.pem",)),
    ("cert", 3),
    ("ssl_context", "context"),
]


@pytest.mark.parametrize(("field", "value"), IMPOSSIBLE)
def test_an_impossible_value_names_the_field_and_the_value(field: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match="must be") as caught:
        ConnectionManager(**{field: value})
    assert isinstance(caught.value, ValueError)
    assert caught.value.field == field
    assert caught.value.value is value
    assert field in str(caught.value)
    assert field == "cert" or repr(value)[:50] in str(caught.value)


@pytest.mark.parametrize(("field", "value"), IMPOSSIBLE)
def test_the_same_holds_in_an_endpoint_dictionary(field: str, value: object) -> None:
    with pytest.raises(
        ConfigurationError, match=r"endpoint_configs\['api.example.com'\]"
    ) as caught:
        ConnectionManager(endpoint_configs={"api.example.com": {field: value}})
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "value"), [("pool_connections", 0), ("pool_maxsize", -1), ("pool_block", "no")]
)
def test_the_pool_is_checked_too(field: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=field):
        ConnectionManager(**{field: value})


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("timeuot", "timeout"),
        ("max_retry", "max_retries"),
        ("rate_limit_request", "rate_limit_requests"),
        ("endpoint_config", "endpoint_configs"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest_right_one(wrong: str, right: str) -> None:
    with pytest.raises(ConfigurationError, match=f"did you mean '{right}'") as caught:
        ConnectionManager(**{wrong: 3})
    assert caught.value.field == wrong


def test_an_unknown_name_without_a_near_one_lists_what_there_is() -> None:
    with pytest.raises(ConfigurationError, match="choose from .*timeout"):
        endpoint_layer("api.example.com", {"zzz": 1})


def test_a_setting_of_the_whole_manager_is_refused_in_an_endpoint() -> None:
    with pytest.raises(ConfigurationError, match="holds for the whole manager"):
        ConnectionManager(endpoint_configs={"api.example.com": {"pool_maxsize": 3}})


@pytest.mark.parametrize("configs", [[], "api.example.com", 3, ["api.example.com"]])
def test_endpoint_configs_of_the_wrong_shape(configs: object) -> None:
    if configs == []:
        with pytest.raises(
            ConfigurationError,
            match="endpoint_configs .* must be a dictionary",
        ):
            ConnectionManager(endpoint_configs=configs)
        return
    with pytest.raises(ConfigurationError, match="must be a dictionary"):
        ConnectionManager(endpoint_configs=configs)


@pytest.mark.parametrize("config", [None, 3, "timeout=3", [("timeout", 3)]])
def test_an_endpoint_config_of_the_wrong_shape(config: object) -> None:
    with pytest.raises(ConfigurationError, match="must be a dictionary of settings"):
        ConnectionManager(endpoint_configs={"api.example.com": config})


@pytest.mark.parametrize(
    ("given", "pair"),
    [
        ({}, (30, 30)),
        ({"timeout": 5}, (5, 5)),
        ({"timeout": (1, 2)}, (1, 2)),
        ({"timeout": [1, None]}, (1, None)),
        ({"timeout": None}, (None, None)),
        ({"connect_timeout": 3}, (3, 30)),
        ({"timeout": (1, 2), "read_timeout": 9}, (1, 9)),
        ({"timeout": None, "connect_timeout": 4}, (4, None)),
    ],
)
def test_connect_and_read_timeout_replace_their_halves(given: dict, pair: tuple) -> None:
    assert Settings(**given).timeouts == pair


def test_values_come_out_in_their_final_form() -> None:
    settings = Settings(
        retry_statuses=[500, 503], retry_methods=["get", "Post"], cert=["a", "b"], max_retries=False
    )
    assert settings.retry_statuses == frozenset({500, 503})
    assert settings.retry_methods == frozenset({"GET", "POST"})
    assert settings.cert == ("a", "b")
    assert settings.max_retries == 0


@pytest.mark.parametrize("given", [Fraction(1, 2), 0.5, Halves(), 1, 10**8])
def test_numbers_of_any_kind_come_out_as_ints_and_floats(given: object) -> None:
    settings = Settings(timeout=given, total_timeout=given, backoff_factor=given)
    for value in (settings.timeout, settings.total_timeout, settings.backoff_factor):
        assert type(value) in (int, float)
        assert value == float(given)


@pytest.mark.parametrize(
    "field", ["timeout", "total_timeout", "rate_limit_max_wait", "rate_limit_period"]
)
def test_times_that_no_operating_system_can_wait_are_refused(field: str) -> None:
    with pytest.raises(ConfigurationError, match=field):
        Settings(**{field: 1e10})


def test_what_may_be_a_password_is_not_shown() -> None:
    for impossible in (
        {"cert": ("cert.pem", "key.pem", "s3cr3t")},
        {"endpoint_configs": {"a.test": ["bearer_token", "s3cr3t"]}},
        {"endpoint_configs": {"https://me:s3cr3t@a.test": {}}},
        {"endpoint_configs": {"a.test/?key=s3cr3t": {}}},
    ):
        with pytest.raises(ConfigurationError) as caught:
            ConnectionManager(**impossible)
        assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"rate_limit_requests": None},
        {"circuit_breaker_failure_threshold": None},
        {"circuit_breaker_recovery_timeout": None},
        {"circuit_breaker_recovery_timeout": 0},
        {"retry_methods": None},
        {"retry_methods": []},
        {"retry_statuses": []},
        {"max_retries": 0},
        {"max_retries": Retry(2)},
        {"rate_limit_max_wait": 0},
        {"verify": "/etc/bundle.pem"},
        {"cert": "/etc/client.pem"},
        {"ssl_context": ssl.create_default_context()},
        {"backoff_jitter": 0},
        {"backoff_jitter": 1},
    ],
)
def test_possible_values_are_taken(given: dict) -> None:
    ConnectionManager(**given).close()


def test_a_retry_speaks_for_the_settings_that_it_carries() -> None:
    retry = Retry(
        7,
        backoff_factor=2,
        backoff_max=9,
        status_forcelist=[418],
        allowed_methods=["POST"],
        respect_retry_after_header=False,
        raise_on_status=False,
    )
    layer = endpoint_layer("api.example.com", {"max_retries": retry, "backoff_max": 5})
    assert layer == {
        "max_retries": retry,
        "backoff_factor": 2,
        "backoff_max": 5,  # said outright
        "backoff_jitter": 0.0,
        "retry_statuses": frozenset({418}),
        "retry_methods": frozenset({"POST"}),
        "respect_retry_after": False,
        "raise_on_status": False,
    }


def test_a_retry_says_which_methods_with_none_for_any() -> None:
    assert (
        endpoint_layer("x", {"max_retries": Retry(1, allowed_methods=None)})["retry_methods"]
        is None
    )
