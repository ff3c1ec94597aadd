# Two commands to know: `make demo` and `make test`. Each sets up what it needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin

# No tool of ours phones home.
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true
export GX_ANALYTICS_ENABLED := false

.PHONY: install demo test test-long lint up down docs

install:
	@$(PYTHON) infra/install.py $(VENV)

demo: install  ## the whole loop on real data, in a few minutes
	@ATTUNE_DIE_WITH_PARENT=$$PPID exec $(BIN)/attune demo

up: install  ## the platform, in the background; `make down` stops it
	@$(BIN)/attune up

down: install
	@$(BIN)/attune down

test: install  ## every test that a change must pass; two files at a time
	@$(BIN)/python -m pytest -q -m "not long" -n 2 --dist loadfile --no-loadscope-reorder

test-long: install  ## kill loops, statistics, large profiles; minutes each
	@$(BIN)/python -m pytest -q -m long --timeout 1800 --results=docs/results/test-long.json

lint: install  ## ruff, mypy, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: install  ## these pages as a site under var/site, without a network
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -f infra/mkdocs.yml
	@echo "the documentation: $(CURDIR)/var/site/index.html"
