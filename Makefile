# `make` alone lists the targets. Works with GNU make 4 and with macOS's 3.81.

DIR ?= demo
tools := .tools/bin
run := $(tools)/uv run --no-sync
in_demo = PATH="$(CURDIR)/$(tools):$$PATH" $(MAKE) --no-print-directory -C "$(DIR)"

# Hundreds of processes start from the same environments: what the first compiles, the next ones read.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo setup test test-full lint format typecheck docs clean

help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z][a-z-]*:.*## / { printf "%-12s %s\n", $$1, $$2 }' Makefile

demo: $(tools)/copier ## render a service into DIR (default: demo), with made-up notes, and start it
	@if [ -e "$(DIR)" ]; then echo "$(DIR) is there already: starting it as it is."; \
	else $(tools)/copier copy --quiet --defaults --vcs-ref HEAD "$(CURDIR)" "$(DIR)" && \
	echo "ENABLED_EXTENSIONS=_example" > "$(DIR)/.env" && echo "Rendered a service into $(DIR)." && \
	$(in_demo) seed; fi
	@trap : INT; $(in_demo) dev || [ $$? -eq 130 ]

setup: $(tools)/copier ## install what the tests and checks need into .venv
	$(tools)/uv sync --quiet

test: setup ## run the tests of under five minutes; all of them with CI=true
	PATH="$(CURDIR)/$(tools):$$PATH" $(run) pytest --numprocesses auto $(args)

test-full: ## run all tests
	CI=true $(MAKE) test

lint typecheck docs: setup ## check this repository and the service in place (nox)
	PATH="$(CURDIR)/$(tools):$$PATH" $(run) nox --session $@

format: setup ## format the code
	$(run) ruff format .; $(run) ruff check --fix-only --silent .; $(run) ruff format --silent .; $(run) ruff check .

clean: ## remove what the targets above made
	rm -rf .cache .mypy_cache .nox .pytest_cache .ruff_cache .tools .venv site

$(tools)/copier:
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: python3 has to be Python 3.11 or newer." >&2; exit 1; }
	@python3 -m venv .tools || { rm -rf .tools; echo "error: python3 cannot make a virtual environment: install its module venv (Debian: apt install python3-venv)." >&2; exit 1; }
	@$(tools)/python -m pip install --quiet --disable-pip-version-check "uv>=0.13.9" "copier>=9.19.1,<10"
