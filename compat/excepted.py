"""The tests of requests that may fail with a manager, and why: as short as it can honestly be.

A pattern (``fnmatch``) of test ids, and its reason, which ``docs/explanation/differences.md`` has
word for word; ``tests/test_compat.py`` holds the two together. A reason that is no longer needed
fails the run, too.
"""

from __future__ import annotations

EXCEPTED: dict[str, str] = {}
