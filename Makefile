# Everything runs in .venv, which is made on first use; nothing else on the machine is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Pythons that pyenv keeps are found too, beside those of the machine.
empty :=
space := $(empty) $(empty)
export PATH := $(PATH):$(subst $(space),:,$(wildcard $(HOME)/.pyenv/versions/3.*/bin))

.PHONY: demo test lint types docs bench speed clean

# The main job against the embedded sandbox: heatmap pages of 200 websites.
demo: $(VENV)/.cli
	@$(BIN)/zenovay-async heatmaps pages --sandbox 200 --limit 5

# Style, types, and the tests under each supported Python that is installed.
test: $(VENV)/.dev
	@$(BIN)/tox run

lint: $(VENV)/.dev
	@$(BIN)/tox run -e lint

types: $(VENV)/.dev
	@$(BIN)/tox run -e types

docs: $(VENV)/.dev
	@$(BIN)/tox run -e docs

# How well the client keeps to a rate limit; what a call costs, side by side with what others would write.
bench: $(VENV)/.dev
	@$(BIN)/python tests/benchmarks/pacing.py

speed: $(VENV)/.peers
	@$(BIN)/python -m tests.benchmarks.speed

clean:
	rm -rf $(VENV) .tox dist site

$(VENV)/bin/python:
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --upgrade pip

$(VENV)/.cli: pyproject.toml | $(VENV)/bin/python
	@$(BIN)/pip install --quiet --editable '.[cli]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	@$(BIN)/pip install --quiet --editable '.[cli]' --group dev
	@touch $@

$(VENV)/.peers: pyproject.toml | $(VENV)/bin/python
	@$(BIN)/pip install --quiet --editable . --group peers
	@touch $@
