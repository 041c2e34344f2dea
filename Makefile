# Needs git, make and Python 3.10 or newer; all else goes into .venv. `make help` lists what there is.

PYTHON ?= python3
UV ?= uv
# Tests run on all cores, but on no more than this many.
WORKERS ?= 4
# More words for pytest or the benchmark: make test ARGS='-k pop'
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
WHEEL_VENV := .venv-wheel
PYTEST_OPTIONS := -n logical --maxprocesses $(WORKERS) --dist worksteal
# What the tests read beside the packages: the wheel's run gets a copy of it, without the packages.
TEST_FILES := tests pyproject.toml $(wildcard *.md) $(wildcard docs) LICENSE Makefile

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo demo-outage test test-tree test-wheel test-live check lint types contracts coverage format bench wheel requirements clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.ready ## an encrypted conversation: stopped, started again, rotated, expired
	@$(BIN)/encrypted-sessions demo $(ARGS)

demo-outage: $(VENV)/.ready ## a key server stopped, continued and killed under a running agent
	@PYTHONPATH=tests/support $(BIN)/python -m encrypted_sessions_tests.outage_demo

test: test-tree test-wheel ## the whole suite, on the tree and on the built wheel

test-tree: $(VENV)/.ready ## the suite on the tree
	$(BIN)/pytest $(PYTEST_OPTIONS) --cov --cov-report= --cov-fail-under=0 $(ARGS)

test-live: $(VENV)/.ready ## what needs a real Vault or OpenBao: bao or vault on PATH
	$(BIN)/pytest $(PYTEST_OPTIONS) -m live_vault $(ARGS)

# The packages of the tree are out of reach here: what the wheel lacks is missing. Rounds of kills, races and load are
# left out: they show nothing of a wheel that other tests do not, and take as long as all of these.
test-wheel: wheel $(WHEEL_VENV)/.requirements ## the suite on the built wheel, from another folder
	$(WHEEL_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall dist/*.whl
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && cp -R $(TEST_FILES) "$$folder" && \
	wheel=$$(echo "$(CURDIR)"/dist/*.whl) && cd "$$folder" && set -x && \
	env -u PYTHONPATH ENCRYPTED_SESSIONS_WHEEL="$$wheel" "$(CURDIR)/$(WHEEL_VENV)/bin/pytest" $(PYTEST_OPTIONS) -m "not soak" $(ARGS)

check: lint types contracts coverage ## style, types, import contracts, and the suite with coverage

lint: $(VENV)/.ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.ready
	$(BIN)/mypy

contracts: $(VENV)/.ready
	$(BIN)/lint-imports --no-logo

coverage: test-tree
	$(BIN)/coverage report

format: $(VENV)/.ready ## rewrite the code in the project's style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.ready ## measure the speed, side by side with the SDK's class and the bare store
	$(BIN)/python tests/bench/run.py $(ARGS)

wheel: $(VENV)/.ready ## build dist/*.whl
	rm -rf dist
	$(BIN)/python -m build --wheel --no-isolation --outdir dist

requirements: ## write requirements-dev.txt anew from requirements-dev.in and pyproject.toml (needs uv)
	$(UV) pip compile --quiet --universal --python-version 3.10 --generate-hashes \
		--extra agents --extra aws --extra cli --extra redis --extra sql --extra vault \
		--custom-compile-command "make requirements" --output-file requirements-dev.txt \
		pyproject.toml requirements-dev.in

clean: ## remove everything that make has made
	rm -rf $(VENV) $(WHEEL_VENV) dist .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find src keyproviders tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.ready: $(VENV)/.requirements pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.requirements $(WHEEL_VENV)/.requirements: requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "This needs Python 3.10 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
		echo "$(PYTHON) cannot make virtual environments. On Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes --requirement requirements-dev.txt
	$(@D)/bin/python -m pip check --disable-pip-version-check
	@touch $@
