# One line a target; a bare `make` prints them.
# Everything is installed into $(VENV); a second call installs nothing.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo
#: Real images with masks for the extra checks; used when the folder is there.
DATA ?= ../shared/data
#: Seconds for each parser of `make fuzz`.
FUZZ_S ?= 60
#: Test processes at once; each takes up to 2 GB and a core.
TEST_PROCESSES ?= 2
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt

#: Version 2 of compose is a plugin, version 1 a program of its own.
COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

.DEFAULT_GOAL := help
.PHONY: help demo demo-kinds demo-text demo-sequence demo-graph demo-table demo-trail test test-data soak fuzz lint types imports format bench bench-engine bench-run bench-pipeline up down clean soak-faults soak-items bench-paper

help: ## Print this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name it with: make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing Affidavit and the demo's network into $(VENV); this takes a few minutes once."
	$(PIP_INSTALL) -e '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing Affidavit, its tests and tools into $(VENV); this takes a few minutes once."
	$(PIP_INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo ## Audit a pretrained network over real photographs, ending with a report.
	$(BIN)/python examples/photos/prepare.py $(DEMO)
	$(BIN)/affidavit run $(DEMO)/audit.yaml --home $(DEMO)/home
	$(BIN)/affidavit verify latest --home $(DEMO)/home
	$(BIN)/affidavit report latest --home $(DEMO)/home --out $(DEMO)

#: The same for items that are no images; `make demo-table` and so on.
KIND_DEMOS := demo-text demo-sequence demo-graph demo-table

demo-kinds: $(KIND_DEMOS) ## Audit networks of texts, sequences, graphs and tables (each alone: demo-text ...).

$(KIND_DEMOS): demo-%: $(BIN)/python
	@echo "Installing Affidavit and what the demo of this kind needs into $(VENV)."
	$(PIP_INSTALL) -e '.[$*-demo]'
	$(BIN)/python examples/$*/prepare.py $(DEMO)-$*
	$(BIN)/affidavit run $(DEMO)-$*/audit.yaml --home $(DEMO)-$*/home
	$(BIN)/affidavit verify latest --home $(DEMO)-$*/home
	$(BIN)/affidavit report latest --home $(DEMO)-$*/home --out $(DEMO)-$*

demo-trail: $(VENV)/.demo ## Show the audit trail at work: evidence, a stranger's check, an erasure.
	$(BIN)/python examples/trail/demo.py $(DEMO)-trail

test: $(VENV)/.dev ## Run all tests on servers that they start and stop themselves.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_PROCESSES)

test-data: $(VENV)/.dev ## Run the extra checks on the real images with masks in $(DATA).
	AFFIDAVIT_TEST_DATA=$(DATA) $(BIN)/python -m pytest -m data tests/data

soak: soak-faults soak-items ## Hours: each fault three times on 500 shards, and a million items.

soak-faults: $(VENV)/.dev
	$(BIN)/python -m tests.support.soak_record $(SOAK)

soak-items: $(VENV)/.dev
	$(BIN)/python benchmarks/scale.py --items 1000000

fuzz: $(VENV)/.dev ## Fuzz each parser of what strangers send for FUZZ_S (60) seconds, with atheris.
	$(PIP_INSTALL) -e '.[fuzz]'
	set -e; for target in checkpoint entry tiles zip bundle spec csv parquet; do \
	  echo "== $$target"; $(BIN)/python -m tests.fuzz $$target -max_total_time=$(FUZZ_S) -verbosity=0 -print_final_stats=1; \
	done

lint: $(VENV)/.dev ## Check style and formatting.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## Check types (mypy, strict).
	$(BIN)/mypy

imports: $(VENV)/.dev ## Check that imports run downward only.
	$(BIN)/lint-imports

format: $(VENV)/.dev ## Rewrite the code in the house style.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: bench-engine bench-run bench-pipeline ## Print the engine's and the run's speed beside their peers'.

bench-engine: $(VENV)/.dev
	$(BIN)/python benchmarks/engine.py

bench-run: $(VENV)/.dev
	$(BIN)/python benchmarks/end_to_end.py

bench-pipeline: $(VENV)/.dev
	$(BIN)/python benchmarks/pipeline.py $(BENCH)

#: Rows are kept here as they are measured; a second call goes on where one stopped.
PAPER ?= paper-tables.json
bench-paper: $(VENV)/.dev ## Measure the tables of the paper anew, on $(DATA) where it is there.
	$(BIN)/python benchmarks/paper.py --data $(DATA) --json $(PAPER) --curve $(PAPER:.json=.svg)

up: .env ## Start Redis, PostgreSQL, S3 and workers in containers.
	mkdir -p data out
	$(COMPOSE) up -d --build

down: ## Stop the containers; their data stays.
	$(COMPOSE) down

.env:
	cp .env.example .env
	@echo "Wrote .env with development values; change the passwords before anyone else can reach it."

clean: ## Remove what the targets above made, but not results.
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
