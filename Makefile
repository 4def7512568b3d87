# Every command of this project. `make` and Python 3.11 or newer are all it needs.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Batchyard alone is in it, without the tools of its development.
USABLE := $(VENV)/.usable
LOCK   := deploy/requirements.lock
# Handed on to pytest: make test ARGS="-k lifecycle"
ARGS   ?=
# Processes that share the tests, file by file, so that what a file shares is made once; 0: one
# after the other, as plain pytest runs them. Most tests wait more than they compute, so two a
# core; more than 16 have nothing to do at the end.
WORKERS ?= $(shell n=$$((2 * $$(nproc))); echo $$((n < 16 ? n : 16)))
# What mypy checks.
TYPED  := client controller agent gateway examples bench tests/conftest.py tests/cli tests/clients/conftest.py tests/clients/image.py tests/clients/test_snakemake.py tests/clients/test_tools.py tests/clients/test_workflows.py tests/clients/tools.py tests/console tests/contract tests/e2e tests/faults tests/functions tests/gateway tests/house tests/kubernetes tests/ports.py tests/processes.py tests/providers tests/sdk tests/services tests/wheels.py

# No setting of Batchyard's, which would refuse it: for scripts/with-services.sh alone.
unexport BATCHYARD_DOCKERD_FLAGS
# Images of Python set it; tests start programs hundreds of times, which each would compile again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-again test-core sim lint types proto fmt bench build lock release wheel-check clean faults man

help: ## Say what each target does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## Make .venv and install everything into it (once)

$(READY): pyproject.toml scripts/setup.sh
	@bash scripts/setup.sh "$(PYTHON)" "$(VENV)" dev
	@touch $@ $(USABLE)

$(USABLE): pyproject.toml scripts/setup.sh
	@bash scripts/setup.sh "$(PYTHON)" "$(VENV)" all
	@touch $@

demo: $(USABLE) ## Run 21 jobs on two agents on this machine
	$(BIN)/python examples/demo.py

test: $(READY) ## All tests, with real etcd, Docker and Kubernetes where they may be installed
	@bash scripts/kubernetes.sh build >/dev/null || true
	@BATCHYARD_DOCKERD_FLAGS="$(BATCHYARD_DOCKERD_FLAGS)" bash scripts/with-services.sh $(BIN)/pytest --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder $(ARGS)

test-again: $(READY) ## The few tests that failed in the last run, one after the other and alone
	@BATCHYARD_DOCKERD_FLAGS="$(BATCHYARD_DOCKERD_FLAGS)" bash scripts/with-services.sh $(BIN)/python scripts/second-chance.py

test-core: $(READY) ## The pure tests only; seconds
	$(BIN)/pytest tests/core tests/scenarios tests/agent/core $(ARGS)

sim: $(READY) ## Simulate a yard with faults: SEED=7 tells one, SEEDS=2000 counts many, BUGS=1 plants bugs (docs/reliability.md)
	@PYTHONHASHSEED=0 $(BIN)/python -m tests.sim $(if $(SEED),--seed $(SEED)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(BUG),--bug $(BUG)) $(if $(BUGS),--bugs) $(ARGS)

faults: $(READY) ## Break yards of real processes under load: FAULTS=1000 SEED=1 YARDS=2; as root (docs/reliability.md)
	@bash scripts/with-services.sh $(BIN)/python -m tests.faults $(if $(FAULTS),--faults $(FAULTS)) $(if $(SEED),--seed $(SEED)) $(if $(YARDS),--yards $(YARDS)) $(ARGS)

lint: $(READY) ## Style, import rules, types, contract, fresh stubs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory types
	$(BIN)/buf lint protos
	$(BIN)/buf format -d --exit-code protos
	bash scripts/stubs.sh check $(BIN)

types: $(READY) ## mypy, strict (of the tests: those that are written in full types)
	$(BIN)/mypy $(TYPED)

proto: $(READY) ## Generate the gRPC stubs again
	bash scripts/stubs.sh generate $(BIN)

fmt: $(READY) ## Format code and protos
	$(BIN)/ruff check --fix-only --exit-zero --quiet .
	$(BIN)/ruff format .
	$(BIN)/buf format -w protos

bench: $(READY) ## Measure, each number beside a baseline of the same run
	$(BIN)/python bench/run.py

man: $(READY) ## Write the man pages; in the virtual environment `man batchyard-submit` finds them
	rm -rf build/man $(VENV)/share/man/man1/batchyard*
	$(BIN)/python -m batchyard.cli.man build/man/man1
	mkdir -p $(VENV)/share/man/man1 && cp build/man/man1/* $(VENV)/share/man/man1/

build: man ## Build the wheel, with its man pages, into dist/
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet --no-deps --retries 10 --wheel-dir dist .

lock: $(READY) ## Resolve what deploys install, with hashes, into deploy/requirements.lock
	$(BIN)/pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe --no-annotate --no-header \
		--no-emit-index-url --no-emit-find-links --extra controller --extra agent --extra gateway --output-file $(LOCK).new pyproject.toml
	(head -n 1 $(LOCK); cat $(LOCK).new) > $(LOCK).whole && mv $(LOCK).whole $(LOCK) && rm $(LOCK).new

release: build ## Build the wheel, and beside it what its programs are made of (CycloneDX)
	cp $(LOCK) dist/
	$(BIN)/cyclonedx-py requirements $(LOCK) --pyproject pyproject.toml --output-reproducible \
		--output-file dist/batchyard.cdx.json

wheel-check: build ## Prove that the bare wheel is a working thin client
	bash scripts/bare-wheel.sh $(BIN)/python dist/batchyard-*.whl

clean: ## Remove what these targets made
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
