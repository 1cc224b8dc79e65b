# Everything a developer or an operator trying it out needs. `make demo` and `make test` are the two to know.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Processes of the tests: more than cores, because many of them wait. Browsers do not share a core well.
WORKERS ?= 4
BROWSER_WORKERS ?= 2
FUZZ_SECONDS ?= 600
SOAK_SECONDS ?= 600
# make bench BENCH=quick GO_RELAY=/path/to/program UPDATE=1 BENCH_NICE=-10
BENCH_OPTIONS := $(if $(filter quick,$(BENCH)),--quick) $(if $(GO_RELAY),--go "$(GO_RELAY)") $(if $(UPDATE),--update) \
	$(if $(BENCH_NICE),--nice $(BENCH_NICE))

.PHONY: demo run test browsers network stores contract long operations monitoring deployment check static bench bench-events bench-network soak fuzz format \
	clean help

help:
	@echo "make demo    install, start the relay with the embedded stand-in for Azure, print the page to open"
	@echo "             (make demo PORT=0: on any free port; 8080 unless given)"
	@echo "make test    install, run every test that is quick: five minutes on two cores"
	@echo "make browsers   drive every page in real browsers"
	@echo "make network run sessions through networks that block, lose, delay and translate (needs root)"
	@echo "make stores  run what keeps things on a real PostgreSQL and Redis"
	@echo "make contract   ask the admin API whatever its description allows"
	@echo "make long    many sessions one after the other, and every benchmark for a moment"
	@echo "make operations   test alerts and dashboards on a running deployment (needs prometheus and root)"
	@echo "make monitoring   write rules, their tests and dashboards from deploy/monitoring"
	@echo "make deployment  check image, compose file, manifests and unit with tools that are installed for it"
	@echo "make run     start the relay with your settings (relay.yaml or RELAY_... in the environment)"
	@echo "make check   static and test: format, lint, types, import contracts, tests"
	@echo "make static  the first four of these"
	@echo "make format  put the code into form; make clean   remove what was installed and cached"
	@echo "make fuzz    look for events that break parser or filter (FUZZ_SECONDS=600)"
	@echo "make bench   measure the relay beside the stock aiortc way (BENCH=quick, GO_RELAY=program, UPDATE=1)"
	@echo "make soak    see whether the relay grows while sessions come and go (SOAK_SECONDS=600)"
	@echo "make bench-events, bench-network   what judging and carrying events costs; a thousand idle sessions, an attack"

$(STAMP): pyproject.toml hatch_build.py $(wildcard relay/rtc/forwarding_c/*.[ch])
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/relay demo $(if $(PORT),--port $(PORT))

run: $(STAMP)
	$(BIN)/relay serve

test: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not browser and not network and not operations and not stores and not contract and not long"
	$(BIN)/python -m pytest -n $(BROWSER_WORKERS) --dist loadfile -m smoke

browsers: $(STAMP)
	$(BIN)/python -m pytest -n $(BROWSER_WORKERS) --dist loadfile --no-loadscope-reorder -m "browser and not network"

network: $(STAMP)
	$(BIN)/python -m pytest -m network

stores: $(STAMP)
	$(BIN)/python -m pytest -m stores

contract: $(STAMP)
	$(BIN)/python -m pytest -m contract

long: $(STAMP)
	$(BIN)/python -m pytest -m long

operations: $(STAMP)
	$(BIN)/python -m pytest -m operations

monitoring: $(STAMP)
	$(BIN)/python -m deploy.monitoring

deployment: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[deploy]'
	$(BIN)/python -m pytest tests/deploy

check: static test

static: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python -m benchmarks $(BENCH_OPTIONS)

bench-events: $(STAMP)
	$(BIN)/python -m benchmarks.policy
	$(BIN)/python -m benchmarks.event_path

bench-network: $(STAMP)
	$(BIN)/python -m benchmarks.idle --sessions 1000
	$(BIN)/python -m benchmarks.hostile

soak: $(STAMP)
	$(BIN)/python -m benchmarks.soak --seconds $(SOAK_SECONDS)

fuzz: $(STAMP)
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	FUZZ_SECONDS=$(FUZZ_SECONDS) PYTHONPATH=.:tests $(BIN)/python -m fuzz

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
