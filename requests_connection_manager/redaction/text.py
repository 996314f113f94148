"""Credentials in one plain text: URLs, header lines, forms, and fields as JSON or Python has them.

A value ends where its surroundings show it; where they do not, more is taken rather than less.
Every pattern begins at the start of a run of characters, so that hostile text costs linear time.
"""

from __future__ import annotations

import re

from .names import REDACTED, is_sensitive_field

_NAME = r"\w.\-%+$\[\]"
_USER_INFO_IN_TEXT = re.compile(
    r"(\\?/\\?/)(?:(?:[^\s/?#\"'<>]|[\"'](?![\s,:;)\]}>]|\Z))*@"
    # a password with a slash or a blank in it: what follows the colon is no port
    r"|[^\s/?#@:\[]*:(?!\d{0,5}(?!\w))[^\r\n@\"']{0,128}@)"
)
_USER_INFO_ALONE = re.compile(
    r"\A(?!(?:mailto|e?mail|acct|sips?|xmpp):)[^\s/?#@:]+:[^\s/?#]*@(?=[^\s/?#@]+(?:[/?#]\S*)?\Z)",
    re.IGNORECASE,
)
# A delimiter is a part of the value, unless what follows it shows that the value has ended.
_VALUE = (
    rf"(?:\[REDACTED\]|[^\s&\"'<>,;?#)\]}}\\]|\\+(?![\\\"'])|<(?!/)"
    rf"|\\*[\"')\]}}>](?![\s,:;)\]}}>\"'&\\]|\Z)|[,;?#](?!\s|\Z|[{_NAME}]+=))*"
)
_PLAIN_VALUE = re.compile(_VALUE)
_SCHEME = re.compile(
    r"\b(?:(?i:bearer)|Basic|Digest|Token|Negotiate|NTLM|ApiKey|(?P<weak>(?i:basic|digest|token)))"
    r"[ \t]+"
    r"(?:(?P<digest>[^\r\n]{0,400}?\bresponse=[^\r\n]*)|"
    r"(?!(?i:realm|error|scope|charset|nonce|qop|domain|algorithm)=|(?i:auth[a-z]+|tokens?|scheme"
    rf"|expired|expires|invalid|required|missing|rejected|refused|refresh)\b)(?P<token>{_VALUE}))"
)
_FIELD = re.compile(
    rf"(?:(?<!\\)\\+[nrt]|(?<!\\)(?P<open>\\*[\"'])|(?<![{_NAME}]))(?P<name>[{_NAME}]+)"
    r"(?P<close>\\*[\"'])?[ \t]*(?P<sign>=>?|[:,])(?(close)\s*|[ \t]*)"
)
_QUOTED = re.compile(r"[bBuUrRfF]{0,2}(\\*[\"'])")
_CLOSING = {sign: re.compile(rf"(?<!\\)\\*{sign}") for sign in "\"'"}
_STRUCTURE = re.compile(r"(?<!\\)\\*[\"']|[\[\](){},\r\n]")
_NOTHING = re.compile(r"(?:None|null|True|true|False|false)(?=[ \t]*(?:[\r\n,;&#)\]}\"']|\Z))")
_CALL = re.compile(r"[\w.]*[(\[{]")
_REST_OF_LINE = re.compile(r"[^\r\n]*")
_FOLDED = re.compile(r"(?:\r?\n[ \t]+[^\r\n]*)*")

_ELEMENT = re.compile(r"(<(?P<name>[\w.:-]+)(?:\s[^<>]*)?>)[^<>]+(?=</)")  # of XML
_FORM_PART = re.compile(  # of a multipart body (RFC 7578 §4.2)
    r"(form-data;[ \t]*name=(?P<quote>[\"']?)(?P<name>[^\"'\r\n;]+)(?P=quote)[^\r\n]*"
    r"(?:\r?\n[^\r\n]+){0,8}\r?\n\r?\n)(?s:.*?)(?=\r?\n--|\Z)"
)


def redact_plain_text(text: str) -> str:
    """Return ``text`` without the credentials that stand in it unencoded."""
    text = _USER_INFO_ALONE.sub(f"{REDACTED}@", text)
    text = _USER_INFO_IN_TEXT.sub(rf"\1{REDACTED}@", text)
    text = _redact_fields(_SCHEME.sub(_without_token, text))
    text = _ELEMENT.sub(_without_content, text)
    return _FORM_PART.sub(_without_content, text)


def _without_content(found: re.Match[str]) -> str:
    return found[1] + REDACTED if is_sensitive_field(found["name"]) else found[0]


def _without_token(found: re.Match[str]) -> str:
    token = found["digest"] or found["token"]
    is_word = found["weak"] and (token.isalpha() and token.islower())
    if len(token) < 6 or is_word:
        return found[0]
    return found[0][: len(found[0]) - len(token)] + REDACTED


def _redact_fields(text: str) -> str:
    kept: list[str] = []
    copied = at = 0
    label_is_sensitive = False  # of {'name': 'token', 'value': '...'}
    while found := _FIELD.search(text, at):
        at, name = found.end(), found["name"]
        quoted = _QUOTED.match(text, at)
        hide = is_sensitive_field(name)
        if name == "key" and found["sign"] == ":" and not found["close"]:
            hide = False  # "missing key: colour" is prose
        if found["sign"] == ",":
            before = text[max(0, found.start() - 3) : found.start()].rstrip("bBuU")
            hide = hide and bool(found["open"] and found["close"]) and before[-1:] in ("(", "[")
        elif name in ("name", "key") and quoted and found["close"]:
            limit = min(len(text), at + 200)
            end, _ = _closing_quote(text, quoted.end(), quoted[1], limit)
            label_is_sensitive = is_sensitive_field(text[quoted.end() : end])
        elif name == "value" and label_is_sensitive:
            hide, label_is_sensitive = True, False
        if hide and not _NOTHING.match(text, at):
            start, end = _extent(text, found, quoted)
            if end > start:
                mark = found["close"] if found["close"] and not quoted else ""
                kept += text[copied:start], mark, REDACTED, mark
                copied = at = end
    return "".join(kept) + text[copied:] if kept else text


def _extent(text: str, field: re.Match[str], quoted: re.Match[str] | None) -> tuple[int, int]:
    """Return where the value of a field in a text begins and ends."""
    start = field.end()
    if field["sign"] == ":" and not field["close"]:
        return start, _end_of_header(text, field)
    if quoted:
        return quoted.end(), _closing_quote(text, quoted.end(), quoted[1])[0]
    if field["close"]:
        return start, _end_of_structure(text, start, whole=False)
    if _CALL.match(text, start):  # auth=('user', 'password'), auth=HTTPBasicAuth('user', ...
        start_of_rest = _end_of_structure(text, start, whole=True)
    else:
        start_of_rest = start
    rest = _PLAIN_VALUE.match(text, start_of_rest)
    return start, rest.end() if rest else start_of_rest


def _end_of_header(text: str, field: re.Match[str]) -> int:
    start, before = field.end(), text[max(0, field.start() - 2) : field.start()]
    if (before == "//" or before[-1:] == "@") and text[start : start + 1].isdigit():
        return start  # the name of a host, and a port
    line = _REST_OF_LINE.match(text, start)
    end = line.end() if line else start
    if field["open"]:
        return _closing_quote(text, start, field["open"], end)[0]
    folded = _FOLDED.match(text, end) if before[-1:] in ("", "\r", "\n") else None
    return folded.end() if folded else end


def _closing_quote(text: str, at: int, opening: str, limit: int | None = None) -> tuple[int, int]:
    """Return where the string that ``opening`` began ends, without and with its closing quote.

    A quote with more backslashes than the opening one is inside; so may one be before a letter.
    """
    limit = len(text) if limit is None else limit
    for found in _CLOSING[opening[-1]].finditer(text, at, limit):
        if len(found[0]) <= len(opening) and not text[found.end() : found.end() + 1].isalnum():
            return found.start(), found.end()
    return limit, limit


def _end_of_structure(text: str, at: int, *, whole: bool) -> int:
    """Return where what has brackets ends: with the first one (``whole``), or before a comma."""
    depth = 0
    while found := _STRUCTURE.search(text, at):
        at, sign = found.end(), found[0][-1]
        if sign in "\"'":
            at = _closing_quote(text, at, found[0])[1]
        elif sign in "([{":
            depth += 1
        elif sign in ")]}":
            depth -= 1
            if depth <= 0 and (whole or depth < 0):
                return at if depth == 0 else found.start()
        elif depth == 0:
            return found.start()
    return len(text)
