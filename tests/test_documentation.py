"""What the README and the reference show is so."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import requests
import responses

import requests_connection_manager
from docs.reference.generate import on_page_markdown
from requests_connection_manager import ConnectionManager
from requests_connection_manager.settings import ManagerSettings

ROOT = Path(requests_connection_manager.__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMPLETE = [ROOT / "README.md", ROOT / "docs" / "index.md"]


def examples(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", COMPLETE, ids=lambda page: page.name)
@responses.activate
def test_the_examples_run(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    responses.add(responses.GET, "https://api.example.com/data", json={"ok": True})
    names: dict[str, Any] = {}
    for example in examples(page):
        exec(example, names)
    assert names["response"].json() == {"ok": True}
    names["manager"].close()
    if page.name == "README.md":
        assert (
            "https://api.example.com/data is served by api.example.com" in capsys.readouterr().out
        )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_example_is_python(page: Path) -> None:
    for example in examples(page):
        compile(f"def example():\n{re.sub('^', '    ', example, flags=re.MULTILINE)}", page, "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target


def test_the_first_page_leads_to_every_other() -> None:
    start = ROOT / "docs/index.md"
    named = set(re.findall(r"\]\(([^)#]+\.md)\)", start.read_text()))
    pages = {str(page.relative_to(ROOT / "docs")) for page in PAGES[1:] if page != start}
    assert named == pages


def test_the_reference_has_every_setting_once() -> None:
    page = on_page_markdown((ROOT / "docs/reference/settings.md").read_text())
    for each in fields(ManagerSettings):
        assert page.count(f"| `{each.name}` |") == 1
        assert each.metadata["doc"] in page


def test_the_reference_says_what_every_name_is_for() -> None:
    page = on_page_markdown((ROOT / "docs/reference/names.md").read_text())
    names = [name for name in requests_connection_manager.__all__ if name[0] != "_"]
    methods = [name for name in dir(ConnectionManager) if name[0] != "_"]
    for name in [*names, *methods]:
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert len(row) > len(f"| `{name}` |  |") + 10, row


def test_what_an_example_calls_exists() -> None:
    for page in PAGES:
        for example in examples(page):
            for name in re.findall(r"\bmanager\.(\w+)", example):
                assert name == "session" or hasattr(ConnectionManager, name), (page, name)


def test_every_setting_that_a_page_names_exists() -> None:
    """On the pages, `name=` and {"name": …} of code are settings or arguments."""
    known = {each.name for each in fields(ManagerSettings)}
    known |= inspect.signature(requests.Session.request).parameters.keys()
    for page in PAGES:
        for example in examples(page):
            for name in re.findall(r'"(\w+)": ', example) + re.findall(r"^    (\w+)=", example):
                assert name in known, (page, name)
