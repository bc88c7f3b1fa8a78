# The commands of this project; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
KEEP ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test torture nightly-properties retest check bench surge locust format lock clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## the project's own .venv with the locked dependencies; quick when nothing changed

$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || (echo "Python 3.11 or newer is needed" && exit 1)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## the whole gateway on this machine sells 10,000 units; KEEP=1 leaves it running
	$(BIN)/peakgate demo $(if $(KEEP),--keep)

test: setup ## all tests, on a real Valkey and a real PostgreSQL started by the tests
	$(BIN)/python -m pytest

torture: setup ## kill, stop, cut and fill everything under load, and check every promise; SEED= ROUNDS= (300), writes torture.json
	$(BIN)/python -m tests.faults.torture --rounds $(or $(ROUNDS),300) $(if $(SEED),--seed $(SEED)) --json torture.json

nightly-properties: setup ## every script in 100,000 operations, and larger small worlds; SEED=
	PEAKGATE_PROFILE=nightly $(if $(SEED),PEAKGATE_SEED=$(SEED)) $(BIN)/python -m pytest tests/properties

retest: setup ## the tests that failed last, alone
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures=none

check: setup ## format, lint, types, import rule
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup ## ours beside the other ways, on the same servers; ARGS="--quick" for a short look, writes bench.json
	$(BIN)/python -m loadtests.bench --json bench.json $(ARGS)

surge: setup ## the peak second: 10,000 viewers, 1,000 units, bad networks; checks every answer
	$(BIN)/python loadtests/surge.py --up $(ARGS)

locust: setup ## shoppers with locust, without its page: ARGS="-u 200 -r 50 -t 30s"
	$(BIN)/locust -f loadtests/locustfile.py --headless $(or $(ARGS),-u 100 -r 50 -t 20s)

format: setup ## write the format and the safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: ## make requirements.lock anew (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --extra embedded --extra load --extra dev -o requirements.lock pyproject.toml

clean: ## remove what the commands made
	rm -rf $(VENV) .peakgate .mypy_cache .ruff_cache .pytest_cache .hypothesis
