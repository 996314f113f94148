"""What an answer says of its server's rate limit: for how many seconds nothing more should be sent.

Pure: from status, headers and clock to seconds. Malformed headers are ignored, and nothing is
capped: how long a pause is borne is the caller's to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

from ..headers import names

_LONGEST_VALUE = 1000
"""Characters; a longer value is no limit, but perhaps an attempt to keep a regex busy."""

_EARLIEST_EPOCH = 1e9
"""September 2001, or a delta of 31 years: no API means a smaller date, or a longer delta."""

_NUMBER = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?")
_DURATION = re.compile(r"(?:[0-9]{1,15}(?:\.[0-9]{1,15})?(?:ms|[dhms]))+")
_DURATION_PART = re.compile(r"([0-9.]+)(ms|[dhms])")
_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}

_QUOTA_PART = re.compile(r"-(remaining|reset-after|reset)(?=-|$)")
# A string that is not closed goes on to the end: if it failed, each part of it would be tried anew.
_STRING = r'"(?:[^"\\]|\\.?)*(?:"|\Z)'
_LIST_MEMBER = re.compile(rf'(?:[^,"]|{_STRING})+', re.DOTALL)
_PARAMETER = re.compile(rf'(?:[^;"]|{_STRING})+', re.DOTALL)


def stated_pause(
    status: object, headers: Mapping[str, str], now: float, by_retry_after: bool = True
) -> float:
    """Return the seconds for which nothing more should be sent; 0.0: nothing is stated.

    ``now`` is seconds since the epoch; the server's own ``Date`` is preferred to it, for a client's
    clock may be off. A ``Retry-After`` on 429 and 503 (RFC 9110 §10.2.3) speaks alone, even if it
    is shorter: it "MUST take precedence" (draft-ietf-httpapi-ratelimit-headers-11 §7). Else the
    longest pause counts of the quotas that have less than 1 left, for a request costs 1; on a 429
    also of those that do not say how much is left. Without ``by_retry_after`` that says nothing.
    """
    try:
        every = "\n".join(names(headers)).lower()  # one search is cheaper than a look at each
    except TypeError:  # something stands in for headers
        return 0.0
    refused = by_retry_after and status in (429, 503)
    if "limit" not in every and not (refused and "retry-after" in every):
        return 0.0
    if not isinstance(headers, Mapping):
        return 0.0
    stated = _Stated(headers)
    if refused:
        pause = stated.retry_after(now)
        if pause is not None:
            return pause
    spent = [
        reset
        for left, reset in _quotas(stated)
        if (left < 1 if left is not None else status == 429)
    ]
    # What a cache kept is no longer so (the same draft, §7.3).
    if not spent or (_number(stated["age"]) or 0) > 0:
        return 0.0
    clock = _server_clock(stated, now)
    return max(_seconds_until(reset, clock) or 0.0 for reset in spent)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds that ``Retry-After`` says, by the server's clock; None: malformed."""
    return _Stated(headers).retry_after(now)


class _Stated:
    """Headers by their names in lower case, each looked up when it is asked for."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers
        self._names = {name.lower(): name for name in headers}

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __getitem__(self, name: str) -> str:
        """Return the value; "" if it is absent, or no text of a sensible length."""
        if name not in self._names:
            return ""
        value: object = self._headers[self._names[name]]
        return value.strip() if isinstance(value, str) and len(value) <= _LONGEST_VALUE else ""

    def retry_after(self, now: float) -> float | None:
        """Return the seconds that ``Retry-After`` says; None: absent or malformed."""
        return _seconds_until(self["retry-after"], _server_clock(self, now))


_Quota = tuple[float | None, str]
"""How much is left, None: not stated; and when it is reset, as it was written."""


def _quotas(stated: _Stated) -> Iterator[_Quota]:
    families: dict[str, dict[str, str]] = {}
    for name in stated:
        if "ratelimit" not in name and "rate-limit" not in name:
            continue
        if name.endswith("ratelimit"):  # Jira: Beta-RateLimit
            yield from _listed_quotas(stated[name], stated[f"{name}-policy"])
        elif part := _QUOTA_PART.search(name):
            # What is left of the name tells one family from another: x-ratelimit-remaining-tokens
            # (OpenAI) and x-ratelimit-reset-tokens are both of x-ratelimit-tokens.
            family = families.setdefault(name[: part.start()] + name[part.end() :], {})
            if stated[_limit_of(name, part)].startswith("-"):
                continue  # Tyk: a limit of -1 is none, and -1 of it are left for a whole period
            family[part[1]] = stated[name].partition(";")[0].rstrip()  # Docker Hub: 76;w=21600
    for family in families.values():
        after = family.get("reset-after", "")  # Discord's second word: finer, and of no clock
        reset = family.get("reset", "") if _seconds_until(after, 0.0) is None else after
        yield _number(family.get("remaining", "")), reset


def _limit_of(name: str, part: re.Match[str]) -> str:
    """Return the name of the header that states how many there are, of the same family."""
    return f"{name[: part.start()]}-limit{name[part.end() :]}"


def _listed_quotas(limit: str, policy: str) -> Iterator[_Quota]:
    """Read ``RateLimit`` in the form of draft 08 and later, or of draft 07: one dictionary."""
    members = _members(limit)
    plain = dict(_pair(head) for head, _ in members)
    yield _number(plain.get("remaining", "")), plain.get("reset", "")
    policies = dict(_members(policy))
    for head, parameters in members:
        # Without t, the quota is full again after its policy's whole window, at the latest.
        window = parameters.get("t") or policies.get(head, {}).get("w", "")
        if "r" in parameters:
            yield _number(parameters["r"]), window


def _members(text: str) -> list[tuple[str, dict[str, str]]]:
    """Split a list of structured fields (RFC 9651 §3.1) into heads and their parameters."""
    found = []
    for member in _LIST_MEMBER.findall(text):
        head, *parameters = _PARAMETER.findall(member) or [""]
        found.append((head.strip(), dict(map(_pair, parameters))))
    return found


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key.strip().lower(), value.strip()


def _server_clock(stated: _Stated, now: float) -> float:
    """Return the time by ``Date``, unless it is absent, malformed, or of a clock never set."""
    date = stated["date"]
    moment = _epoch(date) if date else None
    return now if moment is None or moment < _EARLIEST_EPOCH else moment


def _seconds_until(text: str, clock: float) -> float | None:
    """Read seconds, an epoch, a duration or a date; what is past is 0.0; None: malformed.

    A number from `_EARLIEST_EPOCH` on is an epoch, in seconds or, by a thousand times more each,
    in milli-, micro- or nanoseconds: APIs send all of them under one name.
    """
    if not text:
        return None
    number = _number(text)
    if number is not None:
        if number < _EARLIEST_EPOCH:
            return number if number >= 0 else None
        while number >= 1000 * _EARLIEST_EPOCH:
            number /= 1000
        return max(0.0, number - clock)
    if _DURATION.fullmatch(text):
        return sum(float(size) * _SECONDS[unit] for size, unit in _DURATION_PART.findall(text))
    moment = _epoch(text)
    return None if moment is None else max(0.0, moment - clock)


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


def _epoch(text: str) -> float | None:
    """Read an ISO 8601 or an HTTP date, UTC if it names no zone; None: malformed."""
    try:
        moment = _iso_date(text) if text[:4].isdigit() else parsedate_to_datetime(text)
        if moment.tzinfo is None:
            if "GMT" in text:  # JavaScript's "GMT+0100 (...)": its offset was not understood
                return None
            moment = moment.replace(tzinfo=timezone.utc)
        return moment.timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):  # email's parser knows all of them
        return None


def _iso_date(text: str) -> datetime:
    # Python 3.10 wants the fraction to have 3 or 6 digits, and a colon in the offset.
    text = re.sub(r"\.([0-9]+)", lambda m: "." + m[1][:6].ljust(6, "0"), text)
    text = re.sub(r"(?:[zZ]| UTC)$", "+00:00", text)  # " UTC", " +0000": Ruby's Time#to_s
    return datetime.fromisoformat(re.sub(r" ?([+-][0-9]{2})([0-9]{2})$", r"\1:\2", text))
