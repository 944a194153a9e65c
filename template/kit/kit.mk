# The targets of the kit; the Makefile above includes it. Works with GNU make 4 and with macOS's 3.81.

.DEFAULT_GOAL := help

# Alembic takes % for the beginning of a variable, and PostgreSQL's initdb does not quote ".
$(if $(findstring %,$(CURDIR))$(findstring ",$(CURDIR)),$(error move the service to a folder without % or " in its path: $(CURDIR)))

# uv runs everything. Where the machine has none, one is installed into .tools, which git ignores.
uv := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
own_uv := $(if $(in),,$(filter .tools/bin/uv,$(uv)))
run := "$(uv)" run

# What operates a service: with in=compose it runs in a container of the image; any other value is the command before it,
# as in="kubectl exec -it deploy/api --". On a machine of production it installs no tools of development.
production = $(filter staging production,$(or $(ENVIRONMENT),$(shell sed -n 's/^ENVIRONMENT=[^a-z]*\([a-z]*\).*/\1/p' .env 2>/dev/null)))
operate = $(if $(in),$(if $(filter compose,$(in)),docker compose run --rm --no-deps api,$(in)),$(run)$(if $(production), --no-dev))
celery = $(operate) celery --app app.core.celery:celery_app

# Arguments such as name="…" reach the recipes as environment variables: in them, quotes and spaces
# are safe.
need = @test -n "$$$(1)" || { echo 'usage: make $@ $(1)=$(2)' >&2; exit 2; }

# For what runs until Ctrl-C: without the trap, make would report the interrupt as an error.
until_ctrl_c = @trap : INT; $(1) || [ $$? -eq 130 ]

# The usual reasons for which uv and pre-commit fail in containers and CI.
help_with_downloads = echo 'Without a network, set UV_OFFLINE=1 to use earlier downloads. Without a writable home, set \
XDG_CACHE_HOME=/some/folder for downloads.' >&2; exit 1

.PHONY: help setup dev test test-all lint format typecheck upgrade audit audit-image sbom \
	doctor connections rehearse extension resource seed \
	openapi routes db-migrate db-lint db-rehearse db-upgrade db-downgrade db-merge db-reset db-status db-stamp \
	db-forget worker beat flower dead-letters up down logs deploy token token-list token-revoke admin-password \
	admin-revoke

help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z][a-z-]*:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(own_uv) ## install the dependencies and the commit hooks
	@"$(uv)" sync || { $(help_with_downloads); }
	@if [ -e .git ]; then $(run) pre-commit install || { $(help_with_downloads); }; \
	elif git rev-parse --git-dir >/dev/null 2>&1; then \
	echo "No commit hooks: the repository begins at $$(git rev-parse --show-toplevel). A .pre-commit-config.yaml there" \
	"can name those of this folder, with $$(git rev-parse --show-prefix) before .venv."; fi

dev: $(own_uv) ## start API, worker, beat, Flower and their servers; Ctrl-C stops them
	$(call until_ctrl_c,$(run) python -m kit.commands.dev)

test: $(own_uv) ## run the quick tests; args="-k orders" passes options to pytest
	$(run) pytest --numprocesses auto -m "not slow" $(args)

test-all: $(own_uv) ## run all tests, including those that start processes of the service
	$(run) pytest --numprocesses auto $(args)

lint: $(own_uv) ## check style and common mistakes
	$(run) ruff check .
	$(run) ruff format --check .

format: $(own_uv) ## format the code and fix what can be fixed automatically
	@# Formatted first, since that shortens lines; and whatever one step leaves, the next ones run.
	@$(run) ruff format .; $(run) ruff check --fix-only --silent .; $(run) ruff format --silent .; $(run) ruff check .

typecheck: $(own_uv) ## check the types
	$(run) mypy app kit tests alembic/env.py flowerconfig.py

upgrade: $(own_uv) ## upgrade the dependencies to their newest versions of today
	sed "s/^exclude-newer = .*/exclude-newer = \"$$(date -u +%Y-%m-%dT%H:%M:%SZ)\"/" pyproject.toml > pyproject.toml.new
	mv pyproject.toml.new pyproject.toml
	"$(uv)" lock --upgrade
	"$(uv)" sync

audit: $(own_uv) ## look for known vulnerabilities in the dependencies (asks osv.dev; needs uv 0.13.9)
	"$(uv)" audit --preview-features audit-command $(args)

# Pinned by digest, as others had their tags moved to malicious images
# (https://github.com/aquasecurity/trivy/security/advisories/GHSA-69fq-xp46-6x23). It reaches the network, so of this
# machine it gets the image and the list of what is accepted, and nothing else.
scanner := anchore/grype:v0.120.1@sha256:e4a44ef45d285b829ce6efe2642980329661bd2d18eab5fc539138d4adaebbbe

audit-image: ## build the image and look for known vulnerabilities in it that have a fix (needs Docker)
	@over=$$(grep -o 'until [^ ,"]*' .grype.yaml 2>/dev/null | awk -v today="$$(date -u +%F)" \
	'$$2 < today || $$2 !~ /^20[0-9][0-9]-[0-1][0-9]-[0-3][0-9]$$/ { printf "%s ", $$2 }'); [ -z "$$over" ] || { \
	echo "error: remove or renew in .grype.yaml what is accepted until $${over% }: expected is a day to come, as 2027-01-31." >&2; exit 1; }
	@rm -rf .tools/audit && mkdir -p .tools/audit && { [ ! -e .grype.yaml ] || cp .grype.yaml .tools/audit; }
	docker build --pull --tag service-audit .
	docker save --output .tools/audit/image.tar service-audit
	@chmod -R a+rX .tools/audit
	docker run --rm --cap-drop=ALL --security-opt=no-new-privileges --volume "$(CURDIR)/.tools/audit:/audit:ro" \
	--workdir /audit $(scanner) docker-archive:image.tar --only-fixed --fail-on high --by-cve || \
	{ status=$$?; rm -rf .tools/audit; exit $$status; }
	@rm -rf .tools/audit

sbom: $(own_uv) ## write what a deployed service is made of to sbom.json (CycloneDX; without development's tools)
	"$(uv)" export --quiet --preview-features sbom-export --format cyclonedx1.5 --no-dev --output-file sbom.json

doctor: $(own_uv) ## check settings, database, Redis and migrations; args="--production" what production needs
	@$(operate) python -m kit.commands.doctor$(if $(args), $(args))

connections: $(own_uv) ## show which processes hold connections to Redis and PostgreSQL; json=1 for programs
	@$(operate) python -m kit.commands.connections$(if $(json), --json)

rehearse: $(own_uv) ## raise the load on a copy of the service until a limit ends: args="--route 'POST /api/orders {}'"
	$(call until_ctrl_c,$(run) python -m kit.commands.rehearse$(if $(args), $(args)))

extension: $(own_uv) ## begin an extension of your own, a copy of _example: name=loyalty
	$(call need,name,loyalty)
	@$(run) python -m kit.commands.extension "$$name"

resource: $(own_uv) ## write a resource, from model to tests: name=Invoice fields="number:str(20)! due:date?" (without: explained)
	@$(run) python -m kit.commands.resource --name "$$name" --fields "$$fields" --model "$$model" --plural "$$plural" --extension "$$extension"$(if $(filter-out 0,$(page)), --page)$(if $(filter-out 0,$(dry)), --dry-run)

seed: $(own_uv) ## fill a development database with made-up rows, by the factories of the tests: rows=20
	@$(run) python -m kit.commands.seed$(if $(rows), --rows "$$rows")

openapi: $(own_uv) ## write the API's OpenAPI schema to openapi.json
	@$(run) python -m kit.commands.openapi

routes: $(own_uv) ## show whom each route serves, as a table in Markdown
	@$(run) python -m kit.commands.openapi routes

db-migrate: $(own_uv) ## write a migration: message="add orders", extension=hotel for one of an extension
	$(call need,message,"add orders")
	$(run) alembic $(if $(extension),-x extension=$(extension)) revision --autogenerate --message "$$message"

db-lint: $(own_uv) ## find what new migrations would block or break: since=COMMIT or since=base, else origin's main
	@$(run) python -m kit.commands.db lint --since "$$since"

db-rehearse: $(own_uv) ## apply pending migrations to tables of made-up rows, in use: rows=10000, after=REVISION
	@$(run) python -m kit.testing.rehearsal$(if $(rows), --rows "$$rows")$(if $(after), --after "$$after")

db-upgrade: $(own_uv) ## apply all migrations
	$(operate) alembic upgrade heads

db-downgrade: $(own_uv) ## revert the service's last migration; to=… down to one; extension=hotel all of an extension's
	$(operate) alembic $(if $(yes),-x yes )downgrade $(or $(to),$(if $(extension),$(extension)@base,service@-1))

db-merge: $(own_uv) ## join two heads of a branch, as after a merge in git: extension=hotel for one of an extension
	$(run) alembic merge --message "$${message:-join}" $(or $(extension),service)@heads

db-reset: $(own_uv) ## empty the database and apply all migrations; asks first
	@$(operate) python -m kit.commands.db reset

db-status: $(own_uv) ## show which migrations are applied and which are missing
	@$(operate) python -m kit.commands.db status

db-stamp: $(own_uv) ## record migrations as applied, and run none: to=heads; purge=1 deletes the record before
	$(call need,to,heads)
	$(operate) alembic stamp $(if $(purge),--purge )$$to

db-forget: $(own_uv) ## forget a removed extension, and keep its tables: extension=hotel
	$(call need,extension,hotel)
	@$(operate) python -m kit.commands.db forget "$$extension"

worker: $(own_uv) ## start a worker alone
	$(call until_ctrl_c,$(celery) worker --pool solo --concurrency 1 --task-events)

beat: $(own_uv) ## start the scheduler alone
	$(call until_ctrl_c,$(celery) beat)

flower: $(own_uv) ## start Flower, which shows tasks and workers, alone
	$(call until_ctrl_c,$(celery) flower --conf=flowerconfig.py)

dead-letters: $(own_uv) ## list the tasks that were given up; send=ID puts one back, drop=ID deletes it, `all` all
	@$(operate) python -m kit.commands.dead_letters$(if $(send), --send "$$send")$(if $(drop), --drop "$$drop")

# By itself Compose stops what runs before it migrates; so it runs meanwhile, and goes on if that fails.
up: ## build the image, migrate, and start everything in containers, as in production
	docker compose build
	docker compose run --rm migrate
	docker compose up --detach

down: ## stop the containers
	docker compose down

logs: ## follow the containers' logs
	docker compose logs --follow

deploy: ## release the last commit on a Debian server that is set up for it: host=api.example.com
	$(call need,host,api.example.com)
	@changed=$$(git status --porcelain .) && [ -z "$$changed" ] || { printf '%s\n%s\n' "$$changed" \
	'error: these changes would not be released, as they are in no commit: commit them, or put them aside with git stash -u.' >&2; exit 2; }
	@git cat-file -e HEAD:./uv.lock 2>/dev/null || { \
	echo 'error: the last commit has no uv.lock, which names the versions to install: make setup writes it. Commit it.' >&2; exit 2; }
	git archive HEAD | ssh "root@$$host" release "$$(git rev-parse --short HEAD)"

token: $(own_uv) ## make an API token: name=billing-job, expires=90d, scopes=orders:read,orders:write
	$(call need,name,billing-job)
	@$(operate) python -m kit.commands.token create --expires "$$expires" --scopes "$$scopes" "$$name"

token-list: $(own_uv) ## list the API tokens
	@$(operate) python -m kit.commands.token list

token-revoke: $(own_uv) ## revoke an API token: name=billing-job
	$(call need,name,billing-job)
	@$(operate) python -m kit.commands.token revoke "$$name"

admin-password: $(own_uv) ## set an administrator's password, or make the account: username=ada role=reader
	$(call need,username,ada)
	@$(operate) python -m kit.commands.admin_password set "$$username" --role "$$role"

admin-revoke: $(own_uv) ## disable an administrator's account: username=ada
	$(call need,username,ada)
	@$(operate) python -m kit.commands.admin_password revoke "$$username"

.tools/bin/uv:
	@python3 -m venv .tools || { rm -rf .tools; echo "error: python3 cannot make a virtual environment: install its module venv (Debian: apt install python3-venv), or uv." >&2; exit 1; }
	@.tools/bin/python -m pip install --quiet --disable-pip-version-check "uv>=0.13.9"
