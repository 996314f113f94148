"""A hook of mkdocs: writes the tables of the reference from the code, where each thing is said."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

import requests_connection_manager
from requests_connection_manager import ConnectionManager
from requests_connection_manager.settings import ManagerSettings, Settings

MARKS = {"<!-- settings of a URL -->": False, "<!-- settings of the manager -->": True}


def on_page_markdown(markdown: str, **_: Any) -> str:
    for mark, of_the_manager in MARKS.items():
        markdown = markdown.replace(mark, _table(of_the_manager))
    package = requests_connection_manager
    names = {name: getattr(package, name) for name in package.__all__ if name[0] != "_"}
    methods = {name: it for name, it in inspect.getmembers(ConnectionManager) if name[0] != "_"}
    markdown = markdown.replace("<!-- names -->", _first_sentences(names))
    return markdown.replace("<!-- methods -->", _first_sentences(methods))


def _first_sentences(members: dict[str, Any]) -> str:
    rows = [
        f"| `{name}` | {(inspect.getdoc(it) or '').partition(chr(10))[0]} |"
        for name, it in members.items()
    ]
    return "\n".join(["| name | |", "|---|---|", *rows])


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
