# `make demo` and `make test` are all that a fresh machine needs; each makes .venv itself.
SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -eu -o pipefail -c
PY ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# No model hub at test or demo time; times are UTC everywhere (Feast's SQLite store follows TZ).
export TZ := UTC
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
export RAY_USAGE_STATS_ENABLED := 0
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test test-slow lint type proto proto-check bench eval clean
help:  ## What can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.ready: pyproject.toml constraints.txt clients/python/pyproject.toml
	@echo "making $(VENV) (some minutes, once)"
	start=$$(date +%s)
	$(PY) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade 'pip>=25'
	$(BIN)/pip install -q -c constraints.txt -e clients/python -e '.[compute,demo,dev]'
	echo $$(( $$(date +%s) - start )) > $(VENV)/install_seconds
	touch $@
	echo "made $(VENV) in $$(cat $(VENV)/install_seconds) s"

.venv-proto/.ready: protos/requirements.txt
	$(PY) -m venv .venv-proto
	.venv-proto/bin/pip install -q -r protos/requirements.txt
	touch $@

demo: $(VENV)/.ready  ## A year of real purchases, end to end; KEEP=1 leaves it up
	$(BIN)/driftline demo --out build/demo $(if $(KEEP),--keep)

test: $(VENV)/.ready  ## The whole test suite but what takes minutes
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m 'not slow'

test-slow: $(VENV)/.ready  ## Load, soak and crash suites
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.ready  ## Style and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: $(VENV)/.ready  ## Static types
	$(BIN)/mypy

proto: .venv-proto/.ready  ## Lint the contracts and generate stubs
	.venv-proto/bin/python protos/generate.py

proto-check: .venv-proto/.ready  ## Fail where generated code is stale or a change breaks the wire
	.venv-proto/bin/python protos/generate.py --check
	base=$$(git rev-parse -q --verify origin/main || git rev-parse -q --verify main || true)
	if [ -n "$$base" ] && git cat-file -e "$$base:protos/driftline/v1" 2>/dev/null; then
	  rm -rf build/proto-base && mkdir -p build/proto-base
	  git archive "$$base" protos | tar -x -C build/proto-base
	  .venv-proto/bin/python build/proto-base/protos/generate.py --image-only build/proto-base/image.binpb
	  .venv-proto/bin/python protos/generate.py --check --against build/proto-base/image.binpb
	fi

eval: $(VENV)/.ready  ## Evaluate on Complete Journey: build/eval/report.html
	$(BIN)/driftline evaluate --complete-journey --granularity week --origins 8 --horizons 1,4 --out build/eval

bench: $(VENV)/.ready  ## Benchmarks against named peers: build/bench/*.json
	$(BIN)/python -m tests.bench.read

clean:  ## Remove what was built
	rm -rf build
