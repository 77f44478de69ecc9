# Everything runs in .venv, which is made on first use; nothing else on the machine is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Pythons that pyenv keeps are found too, beside those of the machine.
empty :=
space := $(empty) $(empty)
export PATH := $(PATH):$(subst $(space),:,$(wildcard $(HOME)/.pyenv/versions/3.*/bin))

# Files in dist/ have the time of the commit, or outside a repository that of hatchling: two builds have the same bytes.
SOURCE_DATE_EPOCH ?= $(or $(shell git log -1 --format=%ct 2>/dev/null),1580601600)

.DEFAULT_GOAL := help
.PHONY: help demo test quick tox fix lint types docs docs-serve pictures build sbom bench bench-minute bench-dashboard bench-nightly bench-real bench-sharing speed snapshot hooks clean

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.cli ## Fetch the heatmap pages of 200 websites from the embedded sandbox, the visitors of 10, and retention.
	@for command in 'heatmaps pages --sandbox 200 --limit 5' 'analytics overview --sandbox 10 --range 30d' \
	'retention cohorts --sandbox 1 --range 90d'; do \
		printf '\n$$ zenovay-async %s\n' "$$command"; $(BIN)/zenovay-async $$command || exit; \
	done

test: $(VENV)/.tox ## Run all checks: style, types, docs, speed, and the tests under each Python that is installed.
	@$(BIN)/tox run-parallel --parallel 2 --parallel-no-spinner -e lint,types,docs,packaging
	@$(BIN)/tox run --skip-env '^(lint|types|docs|packaging)$$'

quick: $(VENV)/.dev ## Run the tests once, on the tree, with the Python of .venv.
	@$(BIN)/pytest --numprocesses=auto --dist=worksteal

fix: $(VENV)/.dev ## Correct style where that can be done automatically.
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

tox: $(VENV)/.tox ## Run one environment of tox: make tox ENV=3.12.
	@$(BIN)/tox run --skip-missing-interpreters=false -e $(ENV)

lint: $(VENV)/.tox ## Check style.
	@$(BIN)/tox run -e lint

types: $(VENV)/.tox ## Check types with mypy and pyright.
	@$(BIN)/tox run -e types

docs: $(VENV)/.tox ## Build the documentation into site/, check its links, run every block of it.
	@$(BIN)/tox run -e docs,blocks

pictures: $(VENV)/.dev ## Draw the pictures of the terminal in docs/assets/ anew.
	@$(BIN)/python docs/tools/pictures.py

docs-serve: $(VENV)/.dev ## Serve the documentation, rebuilt on each change.
	@$(BIN)/zensical serve

build: $(VENV)/.build ## Build the source distribution and the wheel into dist/, and check them.
	@rm -rf dist
	@SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) $(BIN)/python -m build
	@$(BIN)/twine check --strict dist/*

sbom: $(VENV)/.build ## List what the wheel in dist/ is installed with, as CycloneDX in sbom/.
	@rm -rf sbom $(VENV)/sbom && mkdir sbom
	@$(PYTHON) -m venv --without-pip $(VENV)/sbom
	@$(BIN)/pip --python $(VENV)/sbom/bin/python install --quiet dist/*.whl
	@$(BIN)/cyclonedx-py environment --output-reproducible --output-file sbom/zenovay_async.cdx.json \
		$(VENV)/sbom/bin/python

bench: $(VENV)/.dev ## Measure how well the client keeps to a rate limit (two minutes).
	@$(BIN)/python -m tests.benchmarks.pacing --write

bench-minute: $(VENV)/.dev ## The same at the lowest plan's minute as it is (five minutes).
	@$(BIN)/python -m tests.benchmarks.pacing --minute --write

bench-dashboard: $(VENV)/.dashboard ## Measure what a dashboard with many visitors costs, with and without a cache (eight minutes).
	@$(BIN)/python -m tests.benchmarks.dashboard --write

bench-nightly: $(VENV)/.nightly ## End runs over 500 websites in every way and format, and resume them (three minutes).
	@$(BIN)/python -m tests.benchmarks.nightly --write

bench-real: $(VENV)/.servers ## Run the client against real rate limiters, servers that go away and connections that die (ten minutes).
	@$(BIN)/python -m tests.benchmarks.real --long --write

bench-sharing: $(VENV)/.dev ## Measure how well several processes share the budget of one key (half an hour).
	@$(BIN)/python -m tests.benchmarks.sharing --write
	@$(BIN)/python -m tests.benchmarks.sharing --real-minute --write

speed: $(VENV)/.peers ## Measure what a call costs, beside httpx, pydantic, openai and aiometer, and what listeners add (six minutes).
	@$(BIN)/python -m tests.benchmarks.speed --write

snapshot: $(VENV)/.dev ## Write the public API into tests/unit/public_api.txt.
	@$(BIN)/python tests/unit/test_public_api.py

hooks: $(VENV)/.hooks ## Check each commit before it is made.
	@$(BIN)/pre-commit install

clean: ## Remove everything that was made here.
	rm -rf $(VENV) .tox dist sbom site .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache

$(VENV)/bin/python:
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --upgrade pip

$(VENV)/.cli: pyproject.toml | $(VENV)/bin/python
	@$(BIN)/pip install --quiet --editable '.[cli]'
	@touch $@

# tox makes environments of its own.
$(VENV)/.tox: pyproject.toml | $(VENV)/bin/python
	@$(BIN)/pip install --quiet 'tox>=4.24'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	@$(BIN)/pip install --quiet --editable '.[cli]' --group dev
	@touch $@

$(VENV)/.build: pyproject.toml | $(VENV)/bin/python
	@$(BIN)/pip install --quiet --group build
	@touch $@

$(VENV)/.hooks: pyproject.toml | $(VENV)/.dev
	@$(BIN)/pip install --quiet --group hooks
	@touch $@

$(VENV)/.peers: pyproject.toml | $(VENV)/bin/python
	@$(BIN)/pip install --quiet --editable . --group peers
	@touch $@

$(VENV)/.dashboard: pyproject.toml | $(VENV)/bin/python
	@$(BIN)/pip install --quiet --editable . --group dashboard
	@touch $@

$(VENV)/.nightly: pyproject.toml | $(VENV)/bin/python
	@$(BIN)/pip install --quiet --editable '.[cli,parquet]' --group test
	@touch $@

$(VENV)/.servers: pyproject.toml | $(VENV)/bin/python
	@$(BIN)/pip install --quiet --editable . --group servers
	@touch $@
