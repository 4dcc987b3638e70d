# What can be done with this tree; `make` alone lists it. Needs python3 (3.11 or later) with its venv module.

PYTHON  ?= python3
VENV    ?= .venv
SEEDS   ?= 100000
MINUTES ?= 10
SECONDS ?= 60
SEED    ?=
CONFIG  ?= conf/services.yaml
ARGS    ?=
TESTS   ?= tests/wsgi tests/crews tests/kernel/test_scoreboard.py
# The other releases of Python that forkd supports, as far as they are on this machine.
PYTHONS ?= $(foreach release,3.11 3.12 3.13,$(firstword $(wildcard \
    /usr/bin/python$(release) /usr/local/bin/python$(release) $(HOME)/.pyenv/versions/$(release).*/bin/python3)))

# Else each process that is started here compiles all of forkd anew.
unexport PYTHONDONTWRITEBYTECODE

BIN     := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# "compat" is a plain path in a .pth file: the default hook would be imported by every process, the launcher included.
EDITABLE := --config-settings editable_mode=compat --editable

# A copy of the package with its compiled modules beside their sources, for the interpreter of this environment.
COMPILED := build/compiled$(patsubst .venv%,%,$(notdir $(VENV)))

.PHONY: help run test test-versions test-compiled check format simulate chaos traffic fuzz coverage bench schema wheel \
    compiled system-packages clean
.DEFAULT_GOAL := help

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/installed ## start forkd on conf/services.yaml (CONFIG=…)
	@$(if $(filter conf/services.yaml,$(CONFIG)),sed 's/8080/$(or $(LINKBOX_PORT),8080)/' conf/welcome.txt)
	@exec $(BIN)/forkd start --config $(CONFIG)

test: $(VENV)/developer ## run the whole test suite (ARGS="-k reload")
	$(BIN)/python -m pytest --numprocesses logical $(ARGS)

test-versions: ## run it with each supported release of Python on this machine
	@set -e; for python in $(PYTHONS); do \
	    release=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	    echo "Python $$release: $$python"; \
	    $(MAKE) --no-print-directory test PYTHON=$$python VENV=$(VENV)-$$release; \
	done

test-compiled: compiled ## run the tests of what a request passes with those modules compiled (TESTS="…" ARGS="…")
	rm -rf $(COMPILED)/tests $(COMPILED)/conf $(COMPILED)/docs
	cp -r tests conf docs setup.py pyproject.toml $(COMPILED)
	cd $(COMPILED) && PYTHONPATH=$(abspath $(COMPILED)) $(abspath $(BIN))/python -m tests.compiled
	cd $(COMPILED) && PYTHONPATH=$(abspath $(COMPILED)) $(abspath $(BIN))/python -m pytest --numprocesses logical $(TESTS) $(ARGS)

check: $(VENV)/developer ## lint, format, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --quiet tests/test_architecture.py

format: $(VENV)/developer ## let ruff format and mend what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

simulate: $(VENV)/developer ## run the supervisor through SEEDS=100000 random histories
	$(BIN)/python -m tests.simulation --seeds $(SEEDS)

chaos: $(VENV)/developer ## hit an installed forkd at random for MINUTES=10, reproducibly by SEED=…
	$(BIN)/python -m tests.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

fuzz: $(VENV)/developer ## send broken requests to the WSGI server for SECONDS=60, reproducibly by SEED=…
	$(BIN)/python -m tests.wsgi.fuzz --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

traffic: $(VENV)/developer ## reload, scale and recycle under every kind of client for MINUTES=10: no request or call may be lost
	$(BIN)/python -m tests.traffic --minutes $(MINUTES)

coverage: $(VENV)/developer ## prove that the tests of the core reach each of its branches
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --quiet tests/core
	$(BIN)/coverage report

bench: $(VENV)/bench ## measure forkd beside its peers and print the figures (ARGS="respawn status")
	$(BIN)/python -m bench $(ARGS)

wheel: $(VENV)/developer ## build a compiled wheel for this Python and this platform into dist/
	rm -rf build/lib.*
	FORKD_COMPILE=1 $(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

compiled: $(COMPILED)/stamp

system-packages: ## as root on Debian: install what the tests need beyond Python: systemd, servers, a browser
	@PYTHON=$(PYTHON) .ci/system-packages tests

clean: ## remove the virtual environment and everything built
	rm -rf $(VENV) $(VENV)-3.* build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find forkd -name '*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp per depth of installation; each is made anew when what it was made from changes.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "forkd needs Python 3.11 or later: make PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/installed: setup.py pyproject.toml | $(BIN)/python
	$(INSTALL) $(EDITABLE) .
	@touch $@

$(VENV)/developer: setup.py pyproject.toml | $(BIN)/python
	$(INSTALL) $(EDITABLE) '.[dev]'
	@touch $@ $(VENV)/installed

$(COMPILED)/stamp: setup.py pyproject.toml $(shell find forkd -name '*.py') | $(VENV)/developer
	rm -rf $(COMPILED) build/lib.*
	FORKD_COMPILE=1 $(INSTALL) --no-deps --no-build-isolation --target $(COMPILED) .
	@touch $@

$(VENV)/bench: setup.py pyproject.toml | $(BIN)/python
	@PYTHON=$(BIN)/python .ci/system-packages bench
	$(INSTALL) $(EDITABLE) '.[bench]'
	@touch $@ $(VENV)/installed
