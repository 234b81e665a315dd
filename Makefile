# Everything a fresh machine needs: Python 3.11+, pip, git and make. Each target sets itself up.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests run side by side; each is single-threaded, and some train networks or start a cluster of their own.
TEST_WORKERS ?= 2
# They start many processes: each would compile every module anew where an image forbids keeping what was compiled.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test test-faults lint bench docs lock clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP) ## Run the whole chain on a small built-in corpus (under 10 minutes on 2 cores)
	$(BIN)/ssiforge demo

test: lint ## Run the linters and all but the long tests (9 minutes on 2 cores)
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal

test-faults: $(STAMP) ## Run the long tests with real kills, clusters and servers; those with clusters one after the other
	$(BIN)/python -m pytest -m faults -n $(TEST_WORKERS) --dist loadgroup --durations=12

lint: $(STAMP) ## ruff, mypy --strict and the import rule
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP) ## Measure speed against the targets
	$(BIN)/python benchmarks/render.py
	$(BIN)/python benchmarks/stream.py
	$(BIN)/python benchmarks/train_step.py
	$(BIN)/python benchmarks/streaming.py

docs: $(STAMP) ## Write docs/degradations.md and its pictures anew, after a change to any degradation
	$(BIN)/python -m pipelines.stages.catalogue_page

lock: $(STAMP) ## Write the versions of this environment into constraints.txt
	@{ sed -n '/^#/p' constraints.txt; $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//'; } > constraints.new
	@mv constraints.new constraints.txt

clean: ## Remove what the targets made, but not corpora and runs
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
