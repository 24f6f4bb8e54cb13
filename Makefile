# `make demo` and `make test` set up everything they need on a fresh Debian or Ubuntu with Python 3.11 or newer.
# Nothing is installed outside .venv but nginx and memcached, through apt, and only where root or `sudo -n` allows it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OIDC := tests/e2e/oidc
PATH := $(PATH):/usr/sbin:/sbin
ARGS ?=
# PYTHON=/path/to/python make test: for another Python than the first good one that is found
PYTHON ?=

.PHONY: help demo test test-fast test-compiled lint types bench chaos flood coverage clean setup programs keycloak secret

help: ## say what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

demo: $(READY) programs ## run it all on loopback, with calls to paste; ARGS=--check makes them and compares
	@$(BIN)/authsvc demo $(ARGS)

test: $(READY) programs $(OIDC)/node_modules keycloak ## every test, with real nginx and memcached; ARGS goes to pytest
	@.ci/test $(BIN)/python $(ARGS)

test-fast: $(READY) ## the pure rules only
	$(BIN)/python -m pytest tests/core $(ARGS)

test-compiled: $(READY) programs $(OIDC)/node_modules keycloak ## the same tests of an authsvc that mypyc has compiled, but what measures time
	@.ci/compiled $(BIN)/python $(ARGS)

chaos: $(READY) programs ## every state of provider and memcached times every kind of token: 80 cells in a minute
	$(BIN)/python -m pytest tests/e2e/test_chaos.py $(ARGS)

flood: $(READY) programs ## what 1000 bad tokens a second do to good callers
	@.ci/have wrk=wrk
	$(BIN)/python tests/bench/flood.py

coverage: $(READY) ## tests/core must reach every branch of authsvc/core
	$(BIN)/python -m pytest tests/core --cov=authsvc/core --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100 $(ARGS)

lint: $(READY) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## mypy, strict
	$(BIN)/mypy --strict authsvc

bench: $(READY) programs ## requests a second and CPU a request, beside other gateways; ARGS="--write docs", "--only A,C"
	@.ci/have wrk=wrk
	@tests/bench/fetch
	$(BIN)/python tests/bench/bench.py $(ARGS)

setup: $(READY) programs ## only set up

SECRET := deploy/compose/secrets/authsvc
# Readable for all: Compose hands it into the container as it is, where another user reads it. The folder is shut.
secret: ## make the secret that docker-compose.yml wants, once
	@chmod 700 $(dir $(SECRET)); [ -s $(SECRET) ] || od -An -tx1 -N32 /dev/urandom | tr -d ' \n' > $(SECRET); chmod 444 $(SECRET)

clean: ## remove what the other targets made
	rm -rf $(VENV) $(OIDC)/node_modules build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# gunicorn_h1c, the HTTP parser in C, comes as source: it takes a compiler and Python's headers.
$(READY): pyproject.toml
	@python="$(PYTHON)"; \
	good() { "$$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }; \
	if [ -z "$$python" ]; then \
	  for found in python3.11 python3.12 python3.13 python3.14 python3; do \
	    if good "$$found"; then python="$$found"; break; fi; \
	  done; \
	fi; \
	if [ -z "$$python" ] || ! good "$$python"; then \
	  echo "authsvc needs Python 3.11 or newer; on Debian or Ubuntu: sudo apt-get install python3 python3-venv" >&2; exit 1; \
	fi; \
	version="$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"; \
	"$$python" -c 'import ensurepip' 2>/dev/null || .ci/have /nothing=python$$version-venv; \
	.ci/have cc=gcc,libc6-dev "$$("$$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')/Python.h=python$$version-dev"; \
	echo "setting up $(VENV) with Python $$version"; \
	"$$python" -m venv $(VENV)
	@AUTHSVC_COMPILE=0 $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

# nginx is needed, memcached is not by the demo; both say so themselves when they are missing.
programs:
	@.ci/have "$${AUTHSVC_NGINX:-nginx}=nginx-light" "$${AUTHSVC_MEMCACHED:-memcached}=memcached" || true

# A real OIDC issuer for one of the tests; without npm that test says that it was skipped.
$(OIDC)/node_modules: $(wildcard $(OIDC)/package.json $(OIDC)/package-lock.json)
	@if [ -f $(OIDC)/package.json ] && command -v npm >/dev/null; then \
	  cd $(OIDC) && { npm ci --silent --no-audit --no-fund || npm install --silent --no-audit --no-fund; } && touch node_modules; \
	fi

# Keycloak for the same test, in ~/.cache; without it the test says that it was skipped, and fetch has said why.
keycloak:
	@if command -v java >/dev/null && command -v mvn >/dev/null; then tests/e2e/keycloak/fetch || true; fi
