"""All checks, on every Python that is here: ``nox``, or ``nox -s tests-3.13`` for one of them.

`make` needs nothing but itself; this is for those who have several interpreters.
"""

from __future__ import annotations

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True
PARALLEL = ("--numprocesses", "auto", "--maxprocesses", "4", "--dist", "worksteal")
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]


def _install(session: nox.Session, *groups: str, editable: str = ".") -> None:
    session.install("--upgrade", "pip>=25.1")  # which knows of dependency groups
    session.install(
        "--editable", editable, *(each for name in groups for each in ("--group", name))
    )


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The tests on the newest dependencies."""
    _install(session, "test")
    session.run("python", "-m", "pytest", *PARALLEL, *session.posargs)


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """The tests on the lowest dependencies that are allowed."""
    session.install("--upgrade", "pip>=25.1")
    constraints = session.create_tmp() + "/lowest.txt"
    lines = session.run("python", ".ci/lowest.py", silent=True)
    with open(constraints, "w") as file:
        file.write(lines or "")
    session.install("--editable", ".[all]", "--group", "test", "--constraint", constraints)
    session.run("python", "-m", "pytest", *PARALLEL, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: rules and formatting."""
    _install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """mypy --strict."""
    _install(session, "lint")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, into site/."""
    _install(session, "docs")
    session.run("mkdocs", "build", "--strict", "--quiet")
