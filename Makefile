# Estate: `make help` lists what there is; the comments behind ## are that list.
.DEFAULT_GOAL := help
SHELL := /bin/bash
MAKEFLAGS += --no-print-directory

# What is given reaches programs through their environment, as it was typed: make expands no $(…) in it, and recipes name it to the shell alone ("$$OF").
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command line,$(origin $(name))),$(name)))
$(foreach name,$(GIVEN),$(eval export override $(name) := $$(value $(name))))

STACK ?= local
# embedded: tools and Kubernetes of this project. system: the pulumi, docker and kubectl on PATH, and KUBE_CONTEXT.
TOOLS ?= embedded
export STACK TOOLS
$(if $(filter 1,$(words $(value STACK))),,$(error STACK='$(value STACK)': the name of a stack is one word of lower-case letters, digits and -, such as STACK=dev))

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/estate
UV_VERSION := 0.13.9
UV := $(or $(shell command -v uv 2>/dev/null),$(CACHE)/uv-$(UV_VERSION)/bin/uv)
RUN := $(UV) run --quiet --frozen
# As a module: of the folder that make runs in, whatever environment uv uses.
ESTATE := $(RUN) python -m estate
# Python is the machine's, and so are the authorities it trusts.
export UV_PYTHON_DOWNLOADS := never
export UV_SYSTEM_CERTS := true
# Any other variable that the caller sets for Python changes what our programs and tests do (PYTHONOPTIMIZE takes their assertions away); those of its caches stay.
unexport $(filter-out PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX,$(filter PYTHON%,$(.VARIABLES)))

# The help as words: "goal:", and "goal:NAME=example" for each variable that the goal takes.
HASH := \#
HELP := $(shell awk -F: '/^[a-z-]+:.*$(HASH)$(HASH) / { print $$1 ":"; words = split($$0, word, " "); \
  for (i = 1; i <= words; i++) if (word[i] ~ /^[A-Z_]+=/) print $$1 ":" word[i] }' $(firstword $(MAKEFILE_LIST)))
examples = $(strip $(patsubst $(1):%,%,$(filter $(1):%,$(HELP))))
names = $(foreach example,$(examples),$(firstword $(subst =, ,$(example))))

# A misspelt variable would leave the right one at its default. A make within make has those of the outer one, which has checked them.
GOALS := $(or $(MAKECMDGOALS),$(.DEFAULT_GOAL))
TAKEN := $(foreach goal,$(GOALS),$(call names,$(goal))) TOOLS KUBE_CONTEXT BACKEND
UNKNOWN := $(strip $(filter-out $(TAKEN),$(GIVEN)))
UNDOCUMENTED := $(filter-out $(HELP),$(GOALS:%=%:))
ifeq ($(MAKELEVEL)$(UNDOCUMENTED),0)
$(if $(UNKNOWN),$(error make $(GOALS) does not take $(UNKNOWN), but $(strip $(TAKEN)); what is for the environment goes in front of make))
endif
EMPTY := $(strip $(foreach name,$(GIVEN),$(if $(strip $(value $(name))),,$(name))))
$(if $(EMPTY),$(error make $(GOALS) was given no value of $(EMPTY): write one, or leave $(EMPTY) out))
# Of a variable whose example is =1 any other value would be one more way to say that, or to say nothing.
UNCLEAR := $(strip $(foreach name,$(GIVEN),$(if $(filter %:$(name)=1,$(HELP)),$(if $(filter-out 1,$(value $(name))),$(name)))))
$(if $(UNCLEAR),$(error make $(GOALS) takes $(UNCLEAR:%=%=1), or no $(UNCLEAR) at all))

# Ends a recipe where a variable that it needs has no value.
missing = $(strip $(foreach name,$(1),$(if $(strip $(value $(name))),,$(name))))
require = $(if $(missing),$(error make $@ needs $(missing), as in make $@ $(call examples,$@)))

# An option of the command, with the value of a variable, where it has one; a switch, where its variable is 1.
option = $(if $(value $(2)),$(1) "$$$(2)")
switch = $(if $(filter 1,$(value $(2))),$(1))

.PHONY: help
help: ## What can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-24s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: uv
uv:
	@command -v $(UV) >/dev/null || { \
	  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "error: Python 3.11 or newer with venv is needed: apt-get install python3-venv" >&2; exit 1; }; \
	  echo "  installing uv $(UV_VERSION) into $(CACHE)" >&2; \
	  python3 -m venv $(CACHE)/uv-$(UV_VERSION) && $(CACHE)/uv-$(UV_VERSION)/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); }

.PHONY: up
up: uv ## Bring the estate up (cluster, images, everything) and print its URLs   FORCE=1 where protected data may go STACK=local
	@$(ESTATE) up --stack "$$STACK" $(call switch,--yes,FORCE)

.PHONY: down
down: uv ## Remove the estate's resources; the cluster stays   FORCE=1 where they are protected STACK=local
	@$(ESTATE) down --stack "$$STACK" $(call switch,--yes,FORCE)

.PHONY: rollback
rollback: uv ## Bring our services back to the release before the last one   STACK=local
	@$(ESTATE) rollback --stack "$$STACK"

.PHONY: promote
promote: uv ## Write what a stack runs into the file of another, by the same digests   FROM=dev TO=staging
	@$(call require,FROM TO)$(ESTATE) promote -- "$$FROM" "$$TO"

.PHONY: preview
preview: uv ## Show what `make up` would change   STACK=local
	@$(ESTATE) preview --stack "$$STACK"

.PHONY: preview-summary
preview-summary: uv ## The preview as a comment for a pull request, what may lose data first, in build/preview/STACK.md   STACK=local
	@$(ESTATE) preview --markdown --stack "$$STACK"

.PHONY: drift
drift: uv ## List what of the stack is no longer as make up left it; fails if anything, and leaves build/drift/STACK.md   STACK=local
	@$(ESTATE) drift --stack "$$STACK"

.PHONY: render
render: uv ## Write the manifests of a stack into build/manifests/STACK, without a cluster   STACK=local
	@$(ESTATE) render --stack "$$STACK"

.PHONY: policies
policies: uv ## What the policies say of a stack, without a cluster   STACK=local STATE=a file by pulumi stack export
	@$(ESTATE) policy check --stack "$$STACK" $(call option,--state,STATE)

.PHONY: render-diff
render-diff: uv ## What a change makes of the manifests of every stack, without a cluster, in build/render-diff.md   BASE=origin/main STACK=all
	@$(ESTATE) diff --base "$${BASE:-origin/main}" $(if $(filter STACK,$(GIVEN)),--stack "$$STACK")

.PHONY: review-stack
review-stack: uv ## Write the file of stack pr-PR, on which a pull request is reviewed   PR=12
	@$(call require,PR)$(ESTATE) review create -- "$$PR"

.PHONY: audit
audit: uv ## Known vulnerabilities of what the lock file names; asks the database OSV
	@$(UV) audit --frozen

.PHONY: sbom
sbom: uv ## What our code in each image stands on, as CycloneDX, in build/sbom
	@mkdir -p build/sbom && for app in $(notdir $(filter-out %servicekit,$(wildcard apps/*))); do \
	  $(UV) export --quiet --frozen --no-dev --package $$app --format cyclonedx1.5 --output-file build/sbom/$$app.json || exit 1; done; ls build/sbom

.PHONY: licences
licences: uv ## List the licences of what our images hold in docs/licences.md, which a test holds to the lock file
	@$(ESTATE) docs licences

.PHONY: status
status: uv ## What runs and how well, alerts, release, URLs; fails where something is not as it should be   JSON=1 STACK=local
	@$(ESTATE) status --stack "$$STACK" $(call switch,--json,JSON)

.PHONY: dashboard
dashboard: uv ## The last minutes as a page of pictures, without Grafana   MINUTES=30 PNG=file STACK=local
	@$(ESTATE) dashboard --stack "$$STACK" $(call option,--minutes,MINUTES) $(call option,--png,PNG)

.PHONY: url
url: uv ## Print one URL   OF=gateway|prometheus|consul|alertmanager STACK=local
	@$(ESTATE) urls --stack "$$STACK" -- "$${OF:-gateway}"

.PHONY: env
env: uv ## Print what makes kubectl and pulumi in a shell work on the estate: eval "$(make env)"
	@$(ESTATE) env

.PHONY: token
token: uv ## Print a token for the API, good for a day   STACK=local
	@$(ESTATE) token --stack "$$STACK"

.PHONY: operator-secret
operator-secret: uv ## Print the secret by which the client operator gets tokens   STACK=local
	@$(ESTATE) operator-secret --stack "$$STACK"

.PHONY: secret
secret: uv ## Store one of the stack's secrets: asks for it, or reads standard input   NAME=postgresPassword STACK=local
	@$(call require,NAME)$(ESTATE) secret set --stack "$$STACK" -- "$$NAME"

.PHONY: rotate-keys
rotate-keys: uv ## Sign tokens by a new key; the old one stays valid until retire-key   STACK=local
	@$(ESTATE) keys rotate --stack "$$STACK"

.PHONY: retire-key
retire-key: uv ## Accept tokens by the old key no more   STACK=local
	@$(ESTATE) keys retire --stack "$$STACK"

.PHONY: rotate-database-password
rotate-database-password: uv ## Another password for the services' logins at the database   STACK=local
	@$(ESTATE) db-password rotate --stack "$$STACK"

.PHONY: backup
backup: uv ## Dump the database now, in addition to the nightly dumps   STACK=local
	@$(ESTATE) backup create --stack "$$STACK"

.PHONY: restore
restore: uv ## Put a dump in the place of what the database holds   FROM=the newest FORCE=1 STACK=local
	@$(ESTATE) restore --stack "$$STACK" $(call switch,--yes,FORCE) -- "$${FROM:-}"

.PHONY: client
client: uv ## Make a secret for a program that asks for tokens   ID=billing USERNAME=billing USER_ID=7 STACK=local
	@$(call require,ID USERNAME USER_ID)$(ESTATE) client add --stack "$$STACK" --username "$$USERNAME" --user-id "$$USER_ID" -- "$$ID"

.PHONY: new-service
new-service: uv ## Make another service behind the gateway, with a table of its own, calling others   NAME=orders DATABASE=1 CALLS=user-service
	@$(call require,NAME)$(ESTATE) new service $(if $(filter DATABASE,$(GIVEN)),--database) $(if $(filter CALLS,$(GIVEN)),--calls "$$CALLS") -- "$$NAME"

.PHONY: architecture
architecture: uv ## Draw what the program makes into docs/architecture.md, which a test holds to it
	@$(ESTATE) docs architecture

.PHONY: logs
logs: uv ## Follow the logs of an app, or find a request in all of them   APP=user-service REQUEST=id STACK=local
	@$(ESTATE) logs --stack "$$STACK" $(call option,--request,REQUEST) -- "$${APP:-user-service}"

.PHONY: tools
tools: uv ## Build the tools that are missing, into a cache per user
	@$(ESTATE) tools build

.PHONY: cluster
cluster: uv ## Start the embedded Kubernetes, or find it running
	@$(ESTATE) cluster start

.PHONY: cluster-stop
cluster-stop: uv ## Stop the embedded Kubernetes; its data stays
	@$(ESTATE) cluster stop

.PHONY: cluster-reset
cluster-reset: uv ## Stop the embedded Kubernetes and delete its data   FORCE=1
	@$(ESTATE) cluster reset $(call switch,--yes,FORCE)

.PHONY: format
format: uv ## Format the code
	@$(RUN) ruff format . && $(RUN) ruff check --fix .

.PHONY: openapi
openapi: uv ## Write the OpenAPI documents of user-service, which a test holds it to
	@$(RUN) python -m user_service.documents apps/user-service/openapi

.PHONY: stack-schema
stack-schema: uv ## Write stacks/stack.schema.json from the model of the settings, which a test holds it to
	@$(ESTATE) docs stack-schema

.PHONY: lint
lint: uv ## Check format, lint, types and imports between packages
	@$(RUN) ruff format --check . && $(RUN) ruff check . && $(RUN) basedpyright && $(RUN) lint-imports --no-logo --no-cache

.PHONY: test-fast
test-fast: lint ## Everything that needs no cluster: lint, types, unit tests, the program with mocks, the gateway on sockets
	@$(RUN) pytest tests/unit tests/program tests/process/gateway

.PHONY: fuzz
fuzz: uv ## Fuzz the running API with its OpenAPI documents   EXAMPLES=300 (about six cases each) STACK=local
	@$(RUN) python -m tests.fuzz "$${EXAMPLES:-300}"

.PHONY: bench
bench: uv ## Measure user-service against an ORM and a Go peer; needs Go and a running estate on this machine   STACK=local
	@$(RUN) python -m bench

.PHONY: bench-gateway
bench-gateway: uv ## Compare api-gateway with nginx, haproxy, fabio and others; needs nginx, haproxy, Redis, wrk, curl and Go
	@$(RUN) python -m bench.gateway

.PHONY: bench-estate
bench-estate: uv ## Measure the program, previews, growth, and a rollout under load; needs Go and a stack that is up from this clone   STACK=local
	@$(RUN) python -m bench.estate "$$STACK"

.PHONY: browser
browser: uv
	@$(ESTATE) browser

# Lanes of processes on this machine, next to programs of Debian. They need no cluster.
ALONE := $(wildcard tests/process/coherence tests/process/users tests/process/differential)
# Drills, long by nature: they bring stacks of their own up.
OWN := $(addprefix tests/live/test_,new_service.py interruptions.py promotion.py two_machines.py)
STAGES := tests/stages $(addprefix tests/live/test_,promotion.py two_machines.py)
# One story, in its order: what an alert has cost goes on being reported for an hour.
STORY := -p no:randomly tests/alerts

# Run tests, each line of their output with the name of the lane in front.
define lane
@set -o pipefail; $(RUN) pytest $(2) --durations=15 2>&1 | sed --unbuffered 's/^/[$(1)] /'
endef

.PHONY: test
test: test-fast up browser ## All tests but the drills, as CI runs them; brings the estate up first   STACK=local
	@$(RUN) pytest tests/tools
	@$(RUN) pytest tests/process/strangers # looks at times, so that nothing else runs
	@$(MAKE) -j2 test-local test-alone # what ends the cluster comes last
	@$(RUN) pytest tests/faults/test_cluster.py

.PHONY: test-all
test-all: test ## make test, then the drills: stacks of other stages, promotion, another service, every alert   STACK=local
	@$(MAKE) -j2 test-stages test-own

.PHONY: test-local
test-local: uv
	$(call lane,local,tests/live $(OWN:%=--ignore %))
	$(call lane,local,tests/faults --ignore tests/faults/test_cluster.py)

.PHONY: test-alone
test-alone: uv
	$(if $(ALONE),$(call lane,alone,$(ALONE)))
	@if [ "$$TOOLS" = embedded ]; then set -o pipefail; $(MAKE) test-bare 2>&1 | sed --unbuffered 's/^/[bare] /'; fi

.PHONY: test-bare
test-bare: uv ## test-fast on Debian 12 and 13 with what the README asks for and nothing else; needs root
	@$(RUN) python -m tests.support.bare

.PHONY: test-stages
test-stages: uv
	$(call lane,stages,$(STAGES))

.PHONY: test-own
test-own: uv
	$(call lane,own,tests/live/test_new_service.py tests/live/test_interruptions.py)
	$(call lane,own,$(STORY))

.PHONY: test-staging
test-staging: uv ## Test a stack of stage staging: brings one up next to the running local, and removes it   STACK=local
	$(call lane,staging,tests/stages)
