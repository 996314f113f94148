"""How the two runs of requests' own tests are told apart; the runs themselves are `make compat`."""

from __future__ import annotations

import re

import pytest

from compat.comparison import Run, compare
from compat.excepted import EXCEPTED
from tests.test_documentation import ROOT

PLAIN = Run({"a": "passed", "b": "failed", "c[1]": "passed", "c[2]": "passed", "d": "skipped"})


def managed(**changed: str) -> Run:
    return Run({**PLAIN.outcomes, **changed})


def test_no_difference() -> None:
    found = compare(PLAIN, managed(), {})
    assert found.is_clean
    assert (found.newly_failing, found.newly_passing, found.excepted) == ((), (), ())


@pytest.mark.parametrize("outcome", ["failed", "skipped"])
def test_what_does_not_pass_with_a_manager_only(outcome: str) -> None:
    found = compare(PLAIN, managed(a=outcome, b=outcome), {})
    assert found.newly_failing == ("a",)
    assert not found.is_clean


def test_what_was_not_run_has_not_passed() -> None:
    assert compare(PLAIN, Run({}), {}).newly_failing == ("a", "c[1]", "c[2]")


def test_what_passes_with_a_manager_only_is_told() -> None:
    found = compare(PLAIN, managed(b="passed"), {})
    assert found.newly_passing == ("b",)
    assert found.is_clean


def test_an_exception_is_for_all_tests_that_it_names() -> None:
    changed = {"c[1]": "failed"}
    found = compare(PLAIN, managed(**changed), {"c*": "why"})
    assert (found.excepted, found.newly_failing) == (("c[1]",), ())
    assert found.is_clean
    assert compare(PLAIN, managed(**changed), {"c[1]": "why"}).is_clean
    assert compare(PLAIN, managed(a="failed"), {"c*": "why"}).newly_failing == ("a",)


@pytest.mark.parametrize(("pattern", "needless"), [("a", True), ("gone", True), ("b", False)])
def test_an_exception_that_nothing_needs_is_told(pattern: str, needless: bool) -> None:
    """Where plain requests fails as well, nothing shows whether it is needed."""
    found = compare(PLAIN, managed(), {pattern: "why"})
    assert bool(found.needless) is needless
    assert found.is_clean is not needless


def listed(page: str) -> dict[str, str]:
    """The exceptions that a page lists, each with its reason."""
    (section,) = re.findall(r"^## Excepted tests .*?\n(.*?)(?=^## |\Z)", page, re.M | re.S)
    entries = re.findall(r"^- `(.+?)`: (.+?)(?=\n- |\n\n|\s*\Z)", section, re.M | re.S)
    assert section.rstrip().endswith("\nNone.") is not bool(entries)
    return {test: " ".join(reason.split()) for test, reason in entries}


def test_the_documentation_has_the_same_exceptions_and_reasons() -> None:
    assert listed((ROOT / "docs/explanation/differences.md").read_text()) == EXCEPTED


def test_a_list_is_read_with_its_reasons() -> None:
    entries = "- `a[1]`: it is\n  so.\n- `b*`: why.\n"
    page = f"# X\n\n## Excepted tests of x\n\nWords.\n\n{entries}\n## Next\n\n- `c`: d\n"
    assert listed(page) == {"a[1]": "it is so.", "b*": "why."}
