"""What may be shown of a request: never a credential."""

from __future__ import annotations

import re

_USER_INFO = re.compile(r"^([^/?#]*//)?[^/?#]*@")


def public_url(url: str) -> str:
    """Return ``url`` without user-info, query and fragment, where credentials travel."""
    bare = re.split(r"[?#]", url, maxsplit=1)[0]
    return _USER_INFO.sub(lambda match: match[1] or "", bare)
