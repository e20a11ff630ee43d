# Everything a person does with this repository. `make help` lists it.

# The first Python of 3.11 or newer that really runs here; choose another with `make PYTHON=python3.12 ...`.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
USABLE := $(VENV)/.installed
STAMP := $(VENV)/.installed-dev
# The suite runs on two workers; one thread each keeps them from fighting over two cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
# Each beside its peer. Those that ask for files of their own (data, messy, clean_training, large_input, suite) or hours (adapter_ladder)
# are run by name.
BENCHES := train_throughput decode byte_decode quality_per_minute rl_step adapter_step adapters_in_batch
# Where the evaluation sets are; without them `score` is left out, and that is said.
EVAL ?= ../shared/data/eval

.DEFAULT_GOAL := help
.PHONY: help setup quickstart check format test test-slow bench bench-quick bench-data docs gpu clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## install Smidgen and its tools into .venv (once; again only when pyproject.toml changes)

$(USABLE): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Smidgen needs Python 3.11 or newer. Name one: make PYTHON=/path/to/python3 setup"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing Smidgen into $(VENV): a minute or two the first time"
	$(BIN)/python -m pip install -qq --constraint constraints.txt --editable .
	@touch $@

$(STAMP): $(USABLE)
	@echo "Installing the tools of its developers into $(VENV): a few minutes the first time"
	$(BIN)/python -m pip install -qq --constraint constraints.txt --editable '.[dev]'
	@touch $@

quickstart: $(USABLE) ## train a small model on the embedded village, evaluate it, write its report (8 minutes at most)
	$(BIN)/smidgen train recipes/quickstart.toml --time 6m45s
	$(BIN)/smidgen generate runs/quickstart --samples 3

check: $(STAMP) ## format, lint, types and the order of the rooms
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

format: $(STAMP) ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: $(STAMP) ## the test suite: under five minutes on two cores
	$(PYTEST) -n 2

test-slow: $(STAMP) ## tests of minutes: kill -9 at twenty moments, real weights, whole journeys
	$(BIN)/python -m pytest -m slow

bench: $(STAMP) ## every benchmark beside its peer; run it alone on the machine
	for bench in $(BENCHES); do $(BIN)/python -m benchmarks.$$bench || exit; done
	@if test -d $(EVAL); then $(BIN)/python -m benchmarks.score --data $(EVAL); \
	else echo "score: left out, $(EVAL) is no folder; name the one of the evaluation sets: make bench EVAL=DIR"; fi

bench-quick: $(STAMP) ## the same, some minutes each
	for bench in $(BENCHES); do $(BIN)/python -m benchmarks.$$bench --quick || exit; done
	@if test -d $(EVAL); then $(BIN)/python -m benchmarks.score --quick --data $(EVAL); \
	else echo "score: left out, $(EVAL) is no folder; name the one of the evaluation sets: make bench-quick EVAL=DIR"; fi

bench-data: $(STAMP) ## cleaning 100 MB of text beside datatrove, which is installed for it: five minutes, alone on the machine
	$(BIN)/python -m pip install -qq --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m benchmarks.data --data $(or $(DATA),../shared/data/text)

docs: $(STAMP) ## check that every link and every command in README.md and docs/ holds
	$(BIN)/python -m pytest tests/test_structure_docs.py

gpu: $(STAMP) ## on a machine with a GPU: its tests, its throughput, one training study
	$(BIN)/python -m pytest -m gpu
	$(BIN)/python -m benchmarks.gpu
	$(BIN)/smidgen train --size 50M --time 5m --out runs/gpu --name study-50m

clean: ## remove everything that can be made again (never runs/)
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
