"""The cookies of a manager: one jar, which many threads read and change at once."""

from __future__ import annotations

from collections.abc import Iterator
from http.cookiejar import Cookie
from typing import Any

from requests.cookies import RequestsCookieJar


class BlankJar(RequestsCookieJar):
    """A jar that is empty, and stays so: what is wanted of it are its copies."""

    def copy(self) -> RequestsCookieJar:
        return RequestsCookieJar(self.get_policy())


class SharedCookieJar(RequestsCookieJar):
    """A jar that can be read while it changes, and is quick to say that nothing is for it.

    In Python 3.10 a reader trips over a cookie that is deleted meanwhile.
    """

    def __iter__(self) -> Iterator[Cookie]:  # type: ignore[override]  # as in requests
        with self._cookies_lock:
            return iter([*super().__iter__()])

    def extract_cookies(self, response: Any, request: Any) -> None:
        headers = response.info()
        if "Set-Cookie" in headers or "Set-Cookie2" in headers:
            super().extract_cookies(response, request)

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickle of cookies is kept for long: it names the class of requests, and not this one.
        jar = RequestsCookieJar(self.get_policy())
        jar.update(self)  # as it is now: others may go on to change this one
        return RequestsCookieJar, (), jar.__getstate__()
