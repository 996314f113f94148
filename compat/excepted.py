"""The tests of requests that may fail with a manager, and why: as short as it can honestly be.

A test id, or a pattern of ids (``fnmatch``), and the reason, which is also, word for word, in
``docs/explanation/differences.md``; ``tests/test_compat.py`` holds the two together. An exception
that is no longer needed fails the run, too.
"""

from __future__ import annotations

EXCEPTED: dict[str, str] = {}
