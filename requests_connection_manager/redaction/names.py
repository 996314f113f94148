"""Which names tell that a field holds a credential."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote_plus

REDACTED = "[REDACTED]"

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W\d_]+")
# The names are in lower case, their words joined by "_".
_CREDENTIAL = re.compile(
    r"passw|pwd|pass_?(?:phrase|code|key)|secret(?!ar|ion|ive|e)|token(?!i[sz])|credential|cookie"
    r"|authori[sz]ation|authentication|jwt|bearer|signature|hmac|[cx]srf|sess(?:ion)?_?id"
    r"|(?:^|_)(?:db|user|my|smtp|proxy|root|admin|ftp|mail|login|sql)?pass(?:_|$)"
    r"|(?:^|_)(?:x|o|basic|http|proxy|user)?auth(?:_|$|key|code|header|data)"
    r"|(?:^|_)(?:creds?|sess(?:ion)?s?|sid|sig|t?otp|mfa|pin|cvv|cvc|ssn|assertion)(?:_|$)"
    r"|saml_?re(?:sponse|quest)|code_?verifier"
    r"|(?:api|access|private|subscription|functions?|app|application|client|consumer|master|signing"
    r"|encryption|shared|account|storage|license|service|session|server|ssh|rsa|aes|webhook|admin)"
    r"_?key(?!board|word)"
)
_FACT_ABOUT_ONE = re.compile(
    r"(?:counts?|types?|limits?|length|size|endpoint|ur[li]|usage|methods?|algorithm|alg|timeout"
    r"|ttl|scopes?|policy|duration|lifetime|version|(?:created|updated|issued|changed)_?at"
    r"|expir(?:es?|y|ation)(?:_?(?:at|in|on|date|time))?|allow_credentials)$"
    r"|(?:^|_)(?:max|min|total|num|n)_?tokens?(?:_|$)|tokens_?(?:per|used|limit|remaining|total)"
    r"|(?:^|_)(?:prompt|completion|input|output|new|cached?|reasoning|thinking|audio|text|image"
    r"|generated|remaining|limit|used|ratelimit_\w+)_?tokens(?:_|$|details)"
    r"|^api_key_(?:header|query)$"
)
_KEY = re.compile(r"(?:^|_)key$")
_KEY_TO_NO_LOCK = re.compile(
    r"(?:public|primary|foreign|sort|partition|cache|idempotency|object|routing|row|group|range"
    r"|hash|unique|index|lookup|surrogate|web_?socket|translation|message|event|deduplication|project"
    r"|issue|parent|natural|composite|locale|label|map|dict|search|order|column|field|json)_key$"
)


def is_sensitive_field(name: object) -> bool:
    """Whether a header, query, cookie, JSON or form field of this name holds a credential."""
    if isinstance(name, (bytes, bytearray)):
        name = name.decode("latin-1")
    if not isinstance(name, str):
        return False
    return _is_sensitive(name) if len(name) < 256 else _is_sensitive.__wrapped__(name)


@lru_cache(maxsize=4096)
def _is_sensitive(name: str) -> bool:
    for _ in range(3):  # an encoded name may be encoded again
        name = unquote_plus(name) if "%" in name else name
    # Header names come in any case: "aPi-kEy" has no words in camel case.
    spellings = {"_".join(_WORD.findall(form.lower())) for form in (name, _CAMEL.sub("_", name))}
    return any(
        (_CREDENTIAL.search(words) and not _FACT_ABOUT_ONE.search(words))
        or (_KEY.search(words) and not _KEY_TO_NO_LOCK.search(words))
        for words in spellings
    )
