# The commands of this project; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
KEEP ?=
CHAT ?=
# Workers that share the tests, each with servers of its own; a gateway under test is eight processes by itself.
WORKERS ?= 2
SUDO := $(shell test "$$(id -u)" = 0 || echo sudo)

.DEFAULT_GOAL := help
.PHONY: help setup demo test torture nightly nightly-properties retest check bench browser conformance proxies surge show pages screenshots locust format lock clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## the project's own .venv with the locked dependencies; quick when nothing changed

$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || (echo "Python 3.11 or newer is needed" && exit 1)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## the whole gateway on this machine sells 10,000 units; KEEP=1 goes on with a show, CHAT=FILE plays that chat
	$(BIN)/peakgate demo $(if $(KEEP),--keep) $(if $(CHAT),--chat "$(CHAT)")

test: setup ## all tests, on real Valkeys and PostgreSQLs started by the tests; WORKERS=2
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

torture: setup ## kill, stop, cut and fill everything under load, and check every promise; SEED= ROUNDS= (300), writes torture.json
	$(BIN)/python -m tests.faults.torture --rounds $(or $(ROUNDS),300) $(if $(SEED),--seed $(SEED)) --json torture.json

nightly: nightly-properties ## what is long by nature: the properties in large, every kind of fault once
	PEAKGATE_PROFILE=nightly $(BIN)/python -m pytest tests/faults

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

conformance: setup ## RFC 6455 by the Autobahn suite, which needs a CPython 2.7 (PYTHON27=); ARGS="--beside" for picows and aiohttp too
	$(BIN)/python -m loadtests.conformance $(ARGS)

browser: ## Debian's Chromium, in which the tests look at the pages
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	  || { $(SUDO) apt-get update --quiet && $(SUDO) apt-get install --yes --quiet --no-install-recommends chromium; }

proxies: setup ## the gateway behind nginx and HAProxy as in deploy/proxies; installs both on Debian
	@command -v nginx >/dev/null && command -v haproxy >/dev/null || apt-get install --yes nginx haproxy
	PEAKGATE_PROXIES_WANTED=1 $(BIN)/python -m pytest tests/e2e/test_sockets_proxies.py

surge: setup ## the peak second: 10,000 viewers, 1,000 units, bad networks; checks every answer
	$(BIN)/python loadtests/surge.py --up $(ARGS)

show: setup ## a whole show: booked, watched, sold out, paid, collected, reported, checked; ARGS="--scale 0.1 --speed 40 --seed 7"
	$(BIN)/python -m loadtests.show $(ARGS)

pages: setup ## the room's page on a slow phone: weight, time to interactive, frames under many comments; ARGS=, writes pages.json
	$(BIN)/python -m loadtests.pages $(ARGS)

screenshots: setup ## the pictures of the two pages in deploy/pictures, taken from a show that runs
	$(BIN)/python -m deploy.pictures.take $(ARGS)

locust: setup ## shoppers: ARGS="-u 200 -r 50 -t 30s"; or viewers of a whole show: PROFILE=p1|p2 SCALE=0.1 SPEED=60
	$(BIN)/locust -f loadtests/locustfile.py --headless $(or $(ARGS),$(if $(PROFILE),,-u 100 -r 50 -t 20s))

format: setup ## write the format and the safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: ## make requirements.lock anew (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --extra embedded --extra load --extra dev -o requirements.lock pyproject.toml

clean: ## remove what the commands made
	rm -rf $(VENV) .venv-conformance .peakgate .mypy_cache .ruff_cache .pytest_cache .hypothesis
