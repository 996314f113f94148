"""One family, that pickles, carries its request, and tells no secret."""

from __future__ import annotations

import pickle
import threading

import pytest
import requests
import urllib3
from requests.exceptions import ChunkedEncodingError, ContentDecodingError, RetryError

import requests_connection_manager as package
from requests_connection_manager import (
    Attempt,
    AuthenticationError,
    CircuitBreakerOpen,
    ConcurrencyLimitExceeded,
    ConfigurationError,
    ConnectionManager,
    ConnectionManagerError,
    DeadlineExceeded,
    ManagerClosed,
    MaxRetriesExceeded,
    RateLimitExceeded,
    StateUnavailable,
)
from requests_connection_manager.redaction import public_url
from tests.conftest import MakeManager
from tests.server import Reply, ScriptedServer

FAMILY = {
    ConfigurationError: ValueError,
    AuthenticationError: requests.RequestException,
    RateLimitExceeded: requests.RequestException,
    CircuitBreakerOpen: requests.RequestException,
    ConcurrencyLimitExceeded: requests.RequestException,
    DeadlineExceeded: requests.Timeout,
    MaxRetriesExceeded: requests.RequestException,
    StateUnavailable: requests.RequestException,
    ManagerClosed: RuntimeError,
}
SECRET = "s3cr3t"


@pytest.mark.parametrize(("kind", "also"), FAMILY.items())
def test_the_tree(kind: type[ConnectionManagerError], also: type[Exception]) -> None:
    assert issubclass(kind, ConnectionManagerError)
    assert issubclass(kind, requests.RequestException)
    assert issubclass(kind, also)


@pytest.mark.parametrize("kind", FAMILY)
def test_all_pickle_with_what_they_carry(kind: type[ConnectionManagerError]) -> None:
    error = kind("what happened")
    error.request = requests.Request("POST", "http://a.test/x", json={"a": 1}).prepare()
    error.endpoint = "a.test"
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == "what happened"
    assert again.request.url == "http://a.test/x"
    assert again.request.body == b'{"a": 1}'
    assert again.endpoint == "a.test"


@pytest.mark.parametrize(
    "plain",
    [
        requests.ConnectionError,
        requests.ConnectTimeout,
        requests.ReadTimeout,
        requests.exceptions.SSLError,
        requests.exceptions.ProxyError,
        ChunkedEncodingError,
        ContentDecodingError,
        RetryError,
    ],
)
def test_max_retries_exceeded_of_each_kind_pickles(plain: type[requests.RequestException]) -> None:
    attempt = Attempt(1, 1e9, 0.1, 0.0, 0.0, error=plain("x"))
    error = MaxRetriesExceeded.instead_of(plain("x"))(
        "what happened", attempts=(attempt,), last_error=plain("x"), retry_after=3.0
    )
    assert isinstance(error, plain)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert again.retry_after == 3.0
    assert isinstance(again.last_error, plain)
    assert again.attempts[0].number == 1
    assert type(error).__name__ == "MaxRetriesExceeded"


@pytest.mark.parametrize(
    ("last", "first", "kinds"),
    [
        (requests.ReadTimeout, ChunkedEncodingError, (requests.ReadTimeout, ChunkedEncodingError)),
        (requests.ReadTimeout, requests.ReadTimeout, (requests.ReadTimeout,)),
        (requests.ConnectionError, requests.exceptions.SSLError, (requests.exceptions.SSLError,)),
        (requests.exceptions.SSLError, requests.ConnectionError, (requests.exceptions.SSLError,)),
        (requests.ReadTimeout, requests.Response, (requests.ReadTimeout,)),
        # "safe to retry", say the docs of requests; after the last attempt it is not
        (requests.ReadTimeout, requests.ConnectTimeout, (requests.ReadTimeout,)),
        (KeyError, requests.ConnectTimeout, ()),
    ],
)
def test_it_is_of_the_last_kind_and_of_the_first(
    last: type[Exception], first: type, kinds: tuple[type, ...]
) -> None:
    kind = MaxRetriesExceeded.instead_of(last(), first())
    assert tuple(each for each in kind.__bases__ if each is not MaxRetriesExceeded) == (
        kinds or MaxRetriesExceeded.__bases__
    )
    assert type(pickle.loads(pickle.dumps(kind("x")))) is kind


def test_its_args_survive_pickling_and_so_does_its_text() -> None:
    inner = urllib3.exceptions.ProtocolError("Connection aborted.", threading.Lock())
    plain = requests.ConnectionError(inner)
    error = MaxRetriesExceeded.instead_of(plain)("what happened", last_error=plain)
    assert error.args == (inner,)
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "what happened"
    assert "Connection aborted." in str(again.args[0])


def test_standing_for_what_is_no_exception_of_requests() -> None:
    assert MaxRetriesExceeded.instead_of(KeyError()) is MaxRetriesExceeded


def test_what_cannot_be_pickled_is_left_out() -> None:
    lock = threading.Lock()

    class Local(requests.ConnectionError):
        pass

    prepared = requests.Request("POST", "http://a.test", hooks={"response": lambda r: r}).prepare()
    prepared.body = (block for block in (b"x",))
    response = requests.Response()
    response.status_code = 503
    response._content = b"down"
    response.request = prepared
    error = MaxRetriesExceeded(
        "x",
        attempts=(Attempt(1, 1e9, 0.1, 0.0, 0.0, error=Local("local")),),
        last_error=requests.ConnectionError(lock, request=prepared),
        response=response,
    )
    error.request = prepared
    again = pickle.loads(pickle.dumps(error))
    assert again.request.url == "http://a.test/"
    assert again.request.body is None
    assert again.response.status_code == 503
    assert again.response.content == b"down"
    assert type(again.last_error) is requests.ConnectionError
    assert isinstance(again.attempts[0].error, requests.RequestException)
    error.request = requests.Request("GET", "http://a.test", hooks={"response": lambda r: r})
    assert pickle.loads(pickle.dumps(error)).request.url == "http://a.test"


def easily_failing(make_manager: MakeManager, server: ScriptedServer) -> ConnectionManager:
    return make_manager(
        max_retries=1,
        circuit_breaker_failure_threshold=3,
        rate_limit_max_wait=0,
        endpoint_configs={
            f"127.0.0.1:{server.port}/late": {"total_timeout": 0.2},
            f"127.0.0.1:{server.port}/once": {"rate_limit_requests": 1},
        },
    )


def test_real_errors_pickle(make_manager: MakeManager, server: ScriptedServer) -> None:
    manager = easily_failing(make_manager, server)
    server.script("/cut", Reply(body=b"x" * 9, cut_at=1))
    server.script("/down", Reply(status=503))
    server.script("/late", Reply(delay=30))
    raised = []
    for path in ("/once", "/once", "/cut", "/down", "/late", "/cut", "/x"):
        try:
            manager.get(server.url + path, hooks={"response": lambda r, **_: r})
        except ConnectionManagerError as error:
            raised.append(error)
    assert [type(error).__mro__[1 if "Max" in type(error).__name__ else 0] for error in raised] == [
        RateLimitExceeded,
        MaxRetriesExceeded,
        MaxRetriesExceeded,
        DeadlineExceeded,
        CircuitBreakerOpen,
        CircuitBreakerOpen,
    ]
    for error in raised:
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert error.request is not None
        assert again.request.url == error.request.url
        assert error.endpoint
        assert f"127.0.0.1:{server.port}" in str(error) + error.endpoint


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://a.test/x?key=s3cr3t", "http://a.test/x"),
        ("http://a.test/x#s3cr3t", "http://a.test/x"),
        ("http://user:s3cr3t@a.test:81/x", "http://a.test:81/x"),
        ("http://s3cr3t@a.test", "http://a.test"),
        ("http://user:s3@cr3t@a.test/", "http://a.test/"),
        ("//user:s3cr3t@a.test/", "//a.test/"),
        ("http://a.test/mail@x", "http://a.test/mail@x"),
        ("user:s3cr3t@a.test", "a.test"),
    ],
)
def test_a_public_url_has_no_secret(url: str, shown: str) -> None:
    assert public_url(url) == shown


def test_no_text_of_ours_tells_a_secret(make_manager: MakeManager, server: ScriptedServer) -> None:
    manager = easily_failing(make_manager, server)
    server.script("/reset", Reply(reset="after"))
    server.script("/down", Reply(status=503))
    server.script("/late", Reply(delay=30))
    texts = []
    base = server.url.replace("://", f"://user:{SECRET}@")
    for path in ("/once", "/once", "/reset", "/down", "/late", "/x"):
        try:
            manager.get(f"{base}{path}?api_key={SECRET}", headers={"X-Key": SECRET})
        except ConnectionManagerError as error:
            texts += [str(error), repr(error), repr(getattr(error, "last_error", ""))]
            texts += [str(getattr(error, "last_error", ""))] if "Open" in repr(error) else []
    assert len(texts) > 10
    texts += [str(manager.get_stats()), str(manager.explain(f"{base}/x?k={SECRET}"))]
    texts += [repr(manager), repr(manager.session), str(manager.circuit_breakers)]
    ours = [text for text in texts if "HTTPConnectionPool" not in text]
    assert all(SECRET not in text for text in ours)


def test_the_public_names_are_sorted_and_all_there() -> None:
    assert package.__all__ == sorted(package.__all__)
    assert all(hasattr(package, name) for name in package.__all__)
    public = {
        name
        for name, value in vars(package).items()
        if not name.startswith("_")
        and getattr(value, "__module__", "").startswith(package.__name__)
    }
    assert public == set(package.__all__) - {"__version__"}
