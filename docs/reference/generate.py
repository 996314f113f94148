"""A hook of mkdocs: writes the table of settings from the one list that there is."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from requests_connection_manager.settings import ManagerSettings, Settings

MARKS = {"<!-- settings of a URL -->": False, "<!-- settings of the manager -->": True}


def on_page_markdown(markdown: str, **_: Any) -> str:
    for mark, of_the_manager in MARKS.items():
        markdown = markdown.replace(mark, _table(of_the_manager))
    return markdown


def _table(of_the_manager: bool) -> str:
    per_url = {each.name for each in fields(Settings)}
    rows = [
        f"| `{each.name}` | {_shown(each.default)} | {each.metadata['doc']} |"
        for each in fields(ManagerSettings)
        if (each.name not in per_url) == of_the_manager
    ]
    return "\n".join(["| setting | default | |", "|---|---|---|", *rows])


def _shown(default: object) -> str:
    if isinstance(default, frozenset):
        return ", ".join(map(str, sorted(default)))
    return f"`{default!r}`"
