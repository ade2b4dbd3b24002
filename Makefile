# `make` alone lists the targets. The first one that needs it creates a virtual environment in $(VENV).

SHELL := /bin/sh
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
# URL of an index that offers torch as a CPU build (PyTorch's install page names one); empty: pip's own.
TORCH_INDEX ?=
# What `make demo` hands to `thinwire demo`, for example ARGS='--rounds 20 --clients 4'.
ARGS ?=
# What `make chaos` disturbs, how often; ARGS are further options, for example ARGS='--seed 1'.
METHOD ?= fedavg feddkd progfed sparse_masks feddlr fd_alu
KILLS ?= 100
# More than one: so many coordinators over one PostgreSQL, killed, frozen and cut off KILLS times; ARGS, for example, '--frozen 30 --proxy nginx'.
REPLICAS ?= 1
# What the test targets run, for example TESTS=tests/codecs.
TESTS ?= tests
# Processes that run the tests, each whole files: one more than there are processors, since many tests wait.
JOBS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
# How long `make fuzz` goes on.
FUZZ_SECONDS ?= 600

BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: help
help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/installed-demo ## one coordinator and eight clients train a model over HTTP on this machine
	$(BIN)/thinwire demo $(ARGS)

.PHONY: test
test: $(VENV)/installed-dev ## the tests
	$(BIN)/python -m pytest -m "not long" -n $(JOBS) --dist loadfile --no-loadscope-reorder $(TESTS)

.PHONY: test-long
test-long: $(VENV)/installed-dev ## the tests that take minutes
	$(BIN)/python -m pytest -m long $(TESTS)

.PHONY: fuzz
fuzz: $(VENV)/installed-fuzz ## coverage-guided fuzzing of every decoder, for ten minutes; FUZZ_SECONDS=N
	$(BIN)/python -m tests.codecs.fuzz.decoders $(FUZZ_SECONDS)

.PHONY: properties
properties: $(VENV)/installed-dev ## the property tests, each with fifty times as many examples
	$(BIN)/python -m pytest -m hypothesis --hypothesis-profile=fuzz --timeout=3600 $(TESTS)

.PHONY: chaos
chaos: $(VENV)/installed-dev ## kill coordinators and clients at random instants, KILLS times for each METHOD
	$(if $(filter 1,$(REPLICAS)),\
		$(BIN)/python -m tests.chaos --method $(METHOD) --kills $(KILLS) $(ARGS),\
		$(BIN)/python -m tests.chaos.replicas --replicas $(REPLICAS) --disturbances $(KILLS) $(ARGS))

.PHONY: check
check: $(VENV)/installed-dev ## style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

.PHONY: format
format: $(VENV)/installed-dev ## rewrite the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: wheel
wheel: $(VENV)/installed-dev ## the source distribution and, from it, the wheel, in dist/
	$(BIN)/python -m build --no-isolation

.PHONY: docs
docs: $(VENV)/installed-docs ## the documentation as a site that needs no internet, in build/site
	$(BIN)/python -m website.build

.PHONY: clean
clean: ## remove the virtual environment, caches and built files
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Python 3.11 or newer is needed; name it: make PYTHON=python3.12 ...' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed-demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing into $(VENV); the first time this takes a few minutes.'
	$(INSTALL) -e '.[demo]'
	@touch $@

# dev includes demo, so that `make demo` after `make test` installs nothing.
$(VENV)/installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing into $(VENV); the first time this takes a few minutes.'
	$(INSTALL) -e '.[dev]'
	@touch $(VENV)/installed-demo $@

$(VENV)/installed-docs: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[docs]'
	@touch $@

$(VENV)/installed-fuzz: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[fuzz]'
	@touch $(VENV)/installed-demo $(VENV)/installed-dev $@
