# Everything is two commands: `make up` runs Switchboard, `make test` proves it. `make` lists the rest.

PYTHON ?= python3
ARGS ?=
# Test files that run side by side. Most tests wait for servers, so more than there are cores.
JOBS ?= 4
BIN := .venv/bin
APPS := controlplane chat agents ops

# Where an image forbids keeping compiled modules, every start would compile all of them anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help up test lint types contracts bench clean environment environment-dev

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  Settings come from the environment, from .env, or from here: make up PORT=9000'
	@echo '  Options of the command go into ARGS:  make up ARGS=--no-homeserver'

up: environment ## start everything on this machine (Ctrl-C stops it)
	@exec $(BIN)/python manage.py up $(ARGS)

test: environment-dev ## run all tests, against real servers (one file: ARGS=tests/up)
	@$(BIN)/python -m tests.peers install all || test -z "$$CI"
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: environment-dev ## check style
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .

types: environment-dev ## check types
	@$(BIN)/mypy $(APPS)

contracts: environment-dev ## check that apps import downwards only
	@$(BIN)/lint-imports

bench: environment-dev ## run the benchmarks (one: ARGS=start; a list: ARGS=list)
	@$(BIN)/python -m bench $(or $(ARGS),all)

clean: ## remove the virtual environment and caches; data in var/ stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	@find . -name __pycache__ -type d -not -path './var/*' -prune -exec rm -rf {} +

environment:
	@PYTHON='$(PYTHON)' scripts/environment.sh

environment-dev:
	@PYTHON='$(PYTHON)' scripts/environment.sh dev
