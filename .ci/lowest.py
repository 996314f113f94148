"""Print pip constraints for the lowest versions that pyproject.toml allows, those of extras too."""

from __future__ import annotations

import re
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    from pip._vendor import tomli as tomllib

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]


def main() -> None:
    extras = PROJECT.get("optional-dependencies", {}).values()
    for requirement in [*PROJECT["dependencies"], *(each for extra in extras for each in extra)]:
        if requirement.startswith(PROJECT["name"]):
            continue  # an extra that is made of others
        found = re.match(r"([\w.-]+)(?:\[[^]]*\])?\s*>=\s*([\w.]+)", requirement)
        if found is None:
            raise SystemExit(f"pyproject.toml: {requirement!r} does not begin with a lower bound")
        print(f"{found[1]}=={found[2]}")


if __name__ == "__main__":
    main()
