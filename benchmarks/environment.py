"""The environment variables that everything is measured with: 40 of them.

For every call requests goes through all of them, in search of proxies, so that its cost grows
with their number; a ratio from a fuller environment would flatter whoever spares that.
"""

from __future__ import annotations

import os

COUNT = 40
_NEEDED = ("PATH", "HOME", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TEMP")
"""For a Python that is started from here, where there are such."""
_BARE = ("HOME", "PATH", "SYSTEMROOT")
_READ_BY_REQUESTS = {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "REQUEST_METHOD"}


def forty() -> dict[str, str]:
    """Return the present variables, made up or cut down to 40; none is about proxies or trust."""
    present = {**_of(_NEEDED), **os.environ}  # those that are needed first
    neutral = [item for item in present.items() if _is_neutral(item[0])]
    made_up = [(f"VAR_{number}", "value") for number in range(COUNT)]
    return dict([*neutral, *made_up][:COUNT])


def bare() -> dict[str, str]:
    """Return what a Python cannot do without."""
    return _of(_BARE)


def _of(names: tuple[str, ...]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}


def _is_neutral(name: str) -> bool:
    return not name.lower().endswith("_proxy") and name not in _READ_BY_REQUESTS
