"""What may be shown of a URL."""

from __future__ import annotations

import re

from .names import REDACTED, is_sensitive_field

_USER_INFO = re.compile(r"^([^/?#]+[/\\]+|//)?[^/?#]*@")
_MATRIX = re.compile(r";([^=;/]+)=([^;/]*)")


def public_url(url: str) -> str:
    """Return ``url`` without user-info, query and fragment, where credentials travel."""
    bare = re.split(r"[?#]", url, maxsplit=1)[0]
    bare = _USER_INFO.sub(lambda match: match[1] or "", bare)
    scheme, slashes, rest = bare.partition("//")
    _, colon, port = rest.partition("/")[0].rpartition(":")
    if colon and port.strip("0123456789") and not port.endswith("]") and "/" not in scheme:
        return f"{scheme}{slashes}{REDACTED}"  # user-info, cut in two by a slash in the password
    return _MATRIX.sub(_without_parameter, bare) if ";" in bare else bare


def _without_parameter(found: re.Match[str]) -> str:
    return f";{found[1]}={REDACTED}" if is_sensitive_field(found[1]) and found[2] else found[0]
