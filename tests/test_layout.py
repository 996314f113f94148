"""The house: imports run downward only, files are small, dependencies have one door each."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import requests_connection_manager

HOUSE = Path(requests_connection_manager.__file__).parent
FLOORS = [  # from the cellar up; a module may import what is below it
    {"forking", "redaction.names"},
    {"redaction.text", "redaction.urls"},
    {"redaction.values"},
    {"redaction.errors"},
    {"arguments", "exceptions", "headers", "plain", "redaction"},
    {"checks", "contexts", "cookies", "events", "failures", "stats"},
    {"limits.algorithms"},
    {"limit_checks", "limits.keys", "limits.sqlite_rows", "limits.store", "limits.turn"},
    {"limits.redis_scripts", "limits.sqlite_file", "log", "patterns", "settings"},
    {"limits.memory", "limits.redis", "limits.sqlite"},
    {"body_end", "carried", "environment", "hooks", "layers", "limits.absence"},
    {"limits.fallback", "preparation"},
    {"auth", "ledger"},
    {
        "limits.opening",
        "policies.line",
        "policies.rolling",
        "policies.server_limits",
        "policies.waiting",
    },
    {"policies.server_pause"},
    {"policies.permits"},
    {"policies.circuit", "policies.open_time", "policies.outcome_window"},
    {"policies.deadline", "policies.retry", "policies.circuit_breaker"},
    {"policies.given_trials", "policies.shared_circuit"},
    {"policies.shared_breaker"},
    {"policies.rate_limit", "policies.booked_limit", "policies.concurrency"},
    {"policies.retry_budget", "policies.adaptive_throttling"},
    {"transport", "scopes", "token_endpoint", "work_group"},
    {"assembly.merging"},
    {"assembly.site"},
    {"assembly.breakers", "assembly.limits"},
    {"assembly.endpoint"},
    {"assembly", "attempt"},
    {"lookup"},
    {"endpoints"},
    {"call", "explanation"},
    {"hop", "ring"},
    {"adapter"},
    {"signing"},
    {"managing"},
    {"session"},
    {"live_settings", "overrides", "report", "verbs"},
    {"session_like"},
    {"batch.items", "batch.progress"},
    {"batch.workers"},
    {"batch.run"},
    {"batch"},
    {"manager"},
    {"hosting", "oauth2"},
    {"process_wide"},
    {"", "policies", "limits"},
]
ONE_DOOR = {
    "ratelimit": {"policies.rate_limit"},
    "pybreaker": {"policies.circuit"},
    "redis": {"limits.redis_scripts"},
    "tqdm": {"batch.progress"},
}


def name_of(path: Path) -> str:
    parts = path.relative_to(HOUSE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in HOUSE.rglob("*.py")}


def imports_of(path: Path) -> tuple[set[str], set[str]]:
    """The modules of the house that a file imports, and the packages from elsewhere."""
    package = [*path.relative_to(HOUSE).parts[:-1]]
    own: set[str] = set()
    foreign: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            foreign |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            foreign.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1]
            if node.module:
                own.add(".".join([*base, node.module]))
            else:
                own |= {".".join([*base, alias.name]) for alias in node.names}
    return own, foreign


def test_every_file_has_its_floor() -> None:
    assert set(FILES) == set().union(*FLOORS)


@pytest.mark.parametrize("name", FILES)
def test_imports_run_downward_only(name: str) -> None:
    floor = next(level for level, floor in enumerate(FLOORS) if name in floor)
    below = set().union(*FLOORS[:floor])
    own, _ = imports_of(FILES[name])
    assert own <= below, f"{name} imports {own - below}"


@pytest.mark.parametrize("name", FILES)
def test_a_dependency_comes_in_by_one_door(name: str) -> None:
    _, foreign = imports_of(FILES[name])
    for package, doors in ONE_DOOR.items():
        assert package not in foreign or name in doors


@pytest.mark.parametrize("name", FILES)
def test_no_file_is_long(name: str) -> None:
    assert len(FILES[name].read_text().splitlines()) <= 350
