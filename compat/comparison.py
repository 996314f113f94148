"""What two runs of one suite differ in; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Run:
    """One run of the suite."""

    outcomes: Mapping[str, str]
    """By test id: ``passed``, ``failed`` or ``skipped``."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """By test id: how it failed."""
    made: Mapping[str, int] = field(default_factory=dict)
    """What the managers did in it."""

    @property
    def passed(self) -> set[str]:
        return {test for test, outcome in self.outcomes.items() if outcome == "passed"}


@dataclass(frozen=True)
class Difference:
    """What the managed run is to be judged by."""

    newly_failing: tuple[str, ...]
    """Pass with plain requests, and not with a manager, and no reason is known."""
    newly_passing: tuple[str, ...]
    excepted: tuple[str, ...]
    """Pass with plain requests, and not with a manager, for a reason that is known."""
    needless: tuple[str, ...]
    """Exceptions that all pass with a manager, or that fit no test."""

    @property
    def is_clean(self) -> bool:
        return not (self.newly_failing or self.needless)


def compare(plain: Run, managed: Run, exceptions: Collection[str]) -> Difference:
    """Tell the runs apart; a test that was not run at all has not passed."""
    worse = sorted(plain.passed - managed.passed)
    better = sorted(managed.passed - plain.passed)
    excepted = tuple(test for test in worse if any(_fits(test, each) for each in exceptions))
    tests = {*plain.outcomes, *managed.outcomes}
    return Difference(
        newly_failing=tuple(test for test in worse if test not in excepted),
        newly_passing=tuple(better),
        excepted=excepted,
        needless=tuple(each for each in exceptions if _is_needless(each, tests, plain, managed)),
    )


def _fits(test: str, pattern: str) -> bool:
    return test == pattern or fnmatchcase(test, pattern)  # "test_x[1]" is a pattern, too: of "x1"


def _is_needless(pattern: str, tests: Iterable[str], plain: Run, managed: Run) -> bool:
    fitting = {test for test in tests if _fits(test, pattern)}
    could_tell = fitting & plain.passed  # on this machine it may fail in any case
    return not fitting or (bool(could_tell) and could_tell <= managed.passed)
