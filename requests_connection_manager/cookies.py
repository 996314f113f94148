"""The cookies of a session that many threads share."""

from __future__ import annotations

from typing import Any

from requests.cookies import RequestsCookieJar


class SharedCookies(RequestsCookieJar):
    """A jar that is quick to say that an answer has no cookie for it."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        headers = response.info()
        if "Set-Cookie" in headers or "Set-Cookie2" in headers:
            super().extract_cookies(response, request)
