# `make help` lists the targets, from the comments behind ##. Everything else is a command of estate: estate --help.
.DEFAULT_GOAL := help
SHELL := /bin/bash
MAKEFLAGS += --no-print-directory

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/estate
UV_VERSION := 0.13.9
UV := $(or $(shell command -v uv 2>/dev/null),$(CACHE)/uv-$(UV_VERSION)/bin/uv)
RUN := $(UV) run --quiet --frozen
# Python is the machine's, and so are the authorities it trusts.
export UV_PYTHON_DOWNLOADS := never
export UV_SYSTEM_CERTS := true
# Any other variable that the caller sets for Python changes what our programs and tests do (PYTHONOPTIMIZE takes their assertions away); those of its caches stay.
unexport $(filter-out PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX,$(filter PYTHON%,$(.VARIABLES)))

# A misspelt variable would leave the right one at its default. Its value reaches the command through the environment: make expands no $(…) in it.
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command line,$(origin $(name))),$(name)))
UNKNOWN := $(strip $(filter-out STACK,$(GIVEN)))
$(if $(UNKNOWN),$(error make takes no $(UNKNOWN), but STACK=<stack>; the options of a command: estate up --help))
ifeq ($(origin STACK),command line)
$(if $(filter 1,$(words $(value STACK))),,$(error STACK='$(value STACK)': the name of a stack is one word of lower-case letters, digits and -, such as STACK=dev))
export override ESTATE_STACK := $(value STACK)
endif

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: ## Install the command estate into .venv, and uv, if it is not on PATH, into a cache of the user
	@command -v $(UV) >/dev/null || { \
	  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "error: Python 3.11 or newer with venv is needed: apt-get install python3-venv" >&2; exit 1; }; \
	  echo "  installing uv $(UV_VERSION) into $(CACHE)" >&2; \
	  python3 -m venv $(CACHE)/uv-$(UV_VERSION) && $(CACHE)/uv-$(UV_VERSION)/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); }
	@$(UV) sync --quiet --frozen

.PHONY: up
up: install ## Bring the estate up (cluster, images, everything), and print its URLs; STACK=dev for another stack
	@$(RUN) python -m estate up

.PHONY: test
test: test-fast ## Run all tests but the drills, as CI does, on the running estate; bring it up first
	@$(RUN) python -m tests.lanes test

.PHONY: test-all
test-all: test ## Run make test, then the drills: stacks of other stages, promotion, another service, every alert
	@$(RUN) python -m tests.lanes drills

.PHONY: test-fast
test-fast: lint ## Run everything that needs no cluster: lint, types, unit tests, the program with mocks, the gateway on sockets
	@$(RUN) python -m tests.lanes fast

.PHONY: lint
lint: install ## Check format, lint, types and imports between packages
	@$(RUN) ruff format --check . && $(RUN) ruff check . && $(RUN) basedpyright && $(RUN) lint-imports --no-logo --no-cache

.PHONY: format
format: install ## Format the code
	@$(RUN) ruff format . && $(RUN) ruff check --fix .
