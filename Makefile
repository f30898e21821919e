# Everything runs in a virtual environment of its own, from pinned and hashed dependencies.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=
RUNS   ?= 6
FAULTS ?= 52
SEED   ?= 1
BROKERS ?= 1
SECONDS ?= 300
NAME   ?=
# A file's tests share topics, models and browsers, so that they go to one process.
PARALLEL ?= --numprocesses 2 --dist loadfile
LOWEST  ?= tests/client tests/contract tests/core tests/detector tests/formats tests/model tests/producer

.DEFAULT_GOAL := help
.PHONY: help demo test verify lowest lint format model schemas docs site venv fuzz sbom audit screenshots chaos bench bench-check study lock clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.run ## Simulated sessions through a real Kafka broker, block alerts in the terminal
	@$(BIN)/python -m demo $(ARGS)

test: lint ## Lint, types, and the tests but for the long ones, on a real broker
	$(BIN)/python -m pytest -m "not long" $(PARALLEL) $(ARGS)

verify: $(VENV)/.test $(VENV)/.docs lowest ## What is long by nature: chaos, pages' commands, browsers, trainings, the wheel, lowest versions
	$(BIN)/python -m pytest -m long $(PARALLEL) $(ARGS)

lowest: .venv-lowest/.done ## The tests of what meets the libraries, with the lowest versions that pyproject.toml allows
	.venv-lowest/bin/python -m pytest -m "not long" $(PARALLEL) $(LOWEST)

lint: $(VENV)/.test ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.test ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

model: $(VENV)/.test ## Train the packaged models again, in minutes: the default, that of histories, and the notebook's
	$(BIN)/python -m trainer train --preset realistic --sessions 450000 --window 20 --version 1 --out detector/model/default.onnx $(ARGS)
	$(BIN)/python -m trainer train --preset lives --sessions 700000 --window 20 --units 48 --embedding-units 64 --steps 8000 --idle-timeout-ms 43200000 --version 1 --no-report --out detector/model/history.onnx $(ARGS)
	$(BIN)/python -m trainer train --preset seed --no-report --out detector/model/seed.onnx

schemas: $(VENV)/.run ## Write the JSON Schemas of the contract again
	$(BIN)/python -m detector schemas docs/schemas

docs: $(VENV)/.run ## Write the reference of settings and commands again
	$(BIN)/python -m docs.generate

site: $(VENV)/.docs ## Build the documentation's pages into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

venv: $(VENV)/.test ## Install everything into .venv, the trainer included

fuzz: $(VENV)/.test ## Hostile records on the decoder and batches on their reader, each for SECONDS=300
	$(BIN)/python -m tests.fuzzing --seconds $(SECONDS) --seed $(SEED)

sbom: .venv-audit/.done ## Write the bill of materials of what runs (CycloneDX) to build/sbom.json
	@mkdir -p build
	.venv-audit/bin/cyclonedx-py requirements requirements/run.txt --pyproject pyproject.toml --output-reproducible --output-file build/sbom.json

audit: .venv-audit/.done ## Hold what runs and what tests against known vulnerabilities; needs the index's advisories
	.venv-audit/bin/pip-audit --strict --require-hashes --disable-pip -r requirements/run.txt -r requirements/test.txt

screenshots: $(VENV)/.test ## Take the console's pictures again; needs Chromium and its driver
	$(BIN)/python -m tests.console.screenshots

chaos: $(VENV)/.test ## Faults on a real cluster, alerts held against the oracle: RUNS=6 FAULTS=52 SEED=1 BROKERS=1
	$(BIN)/python -m tests.chaos --runs $(RUNS) --faults $(FAULTS) --seed $(SEED) --brokers $(BROKERS)

bench: $(VENV)/.test .venv-peers/.done ## Benchmarks side by side, into docs/performance.md; ARGS="--quick" or names of some
	$(BIN)/python -m benchmarks $(ARGS)

study: $(VENV)/.test ## What a claim on accuracy rests on: NAME=clocks ARGS=…; NAME left out lists them
	@$(BIN)/python -m benchmarks.studies $(or $(NAME),--help) $(ARGS)

bench-check: $(VENV)/.test .venv-peers/.done ## Measure again and fail where a ratio has fallen beyond noise
	$(BIN)/python -m benchmarks --check $(ARGS)

lock: ## Pin the newest dependencies that pyproject.toml allows
	sh requirements/lock.sh $(VENV)

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python %d.%d was found, 3.11 or newer is needed: make PYTHON=/path/to/python3" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements/run.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.venv-peers/.done: requirements/peers.txt | $(BIN)/python
	$(BIN)/python -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.venv-lowest/.done: requirements/lowest.txt
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --require-hashes -r $<
	@touch $@

.venv-audit/.done: requirements/audit.txt
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(VENV)/.docs: requirements/docs.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

# Of TensorFlow's thousands of modules few are imported: those are compiled then.
$(VENV)/.test: requirements/test.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --require-hashes -r $<
	@touch $@ $(VENV)/.run # whose packages are among them
