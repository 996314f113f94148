# Everything here sets itself up: it needs Python 3.10 or later, and make.

PYTHON ?= python3
VENV   ?= .venv
LOWEST ?= $(shell command -v python3.10 >/dev/null 2>&1 && python3.10 -c '' 2>/dev/null && echo python3.10 || echo $(PYTHON))
BIN    := $(VENV)/bin
COMPAT ?= .venv-compat
URL    ?=
# A worker for each core, up to four, which takes over from another that has more left to do.
PYTEST := -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test test-lowest compat nox lint types docs bench bench-peers bench-limiters clean

help:  ## what there is to make
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(VENV)/.ready  ## the main job, against an embedded server that misbehaves; or URL=https://…
	$(BIN)/python -m examples.demo $(if $(URL),'$(URL)')

test: $(VENV)/.ready  ## all tests, with branch coverage and its floor
	$(BIN)/python $(PYTEST) --cov --cov-report=term

test-lowest: .venv-lowest/.ready  ## the tests on the lowest Python and dependencies that are allowed
	.venv-lowest/bin/python $(PYTEST)

compat: $(COMPAT)/.ready  ## the tests of requests itself, with a manager in the place of its Session
	$(COMPAT)/bin/python -m compat

nox: $(VENV)/.ready  ## all of it, on every Python that is here, see noxfile.py
	$(BIN)/python -m pip install --quiet nox
	$(BIN)/nox

lint: $(VENV)/.ready-tools  ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready-tools  ## mypy --strict
	$(BIN)/mypy

docs: $(VENV)/.ready-tools  ## build the documentation into site/
	$(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/.ready  ## the figures, each as a ratio to a peer in the same run
	$(BIN)/python -m benchmarks

bench-peers: $(VENV)/.ready-peers  ## the same GET by other libraries, which this installs aside; draws the chart
	$(BIN)/python -m benchmarks peers --chart docs/explanation/peers.svg

bench-limiters: $(VENV)/.ready-limiters  ## limiters of other libraries, installed aside; writes the table of rate-limits.md
	$(BIN)/python -m benchmarks.limiters

clean:  ## remove what was made here
	rm -rf $(VENV) $(COMPAT) .venv-lowest .nox site build dist .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/.ready: GROUP = test
$(COMPAT)/.ready: GROUP = compat
$(VENV)/.ready $(COMPAT)/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed")'
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(@D)/bin/python -m pip install --quiet --editable . --group $(GROUP)
	@touch $@

$(VENV)/.ready-tools: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --group lint --group docs
	@touch $@

# They stay out of the main environment; benchmarks/peers.py looks for them here.
$(VENV)/.ready-peers: $(VENV)/.ready
	$(PYTHON) -m venv $(VENV)/peers
	$(VENV)/peers/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(VENV)/peers/bin/python -m pip install --quiet --editable . --group peers
	$(PYTHON) -m venv $(VENV)/niquests
	$(VENV)/niquests/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(VENV)/niquests/bin/python -m pip install --quiet --group niquests
	@touch $@

# benchmarks/limiters.py looks for them here.
$(VENV)/.ready-limiters: $(VENV)/.ready
	$(PYTHON) -m venv $(VENV)/limiters
	$(VENV)/limiters/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(VENV)/limiters/bin/python -m pip install --quiet --editable '.[redis]' --group limiters
	@touch $@

.venv-lowest/.ready: pyproject.toml .ci/lowest.py
	$(LOWEST) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed")'
	$(LOWEST) -m venv --clear .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	.venv-lowest/bin/python .ci/lowest.py > .venv-lowest/constraints.txt
	.venv-lowest/bin/python -m pip install --quiet --editable '.[all]' --group test --constraint .venv-lowest/constraints.txt
	@touch $@
