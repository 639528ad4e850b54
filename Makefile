# Everything a newcomer needs: `make demo`, `make test`, `make check`, `make bench`.
# Needs Python 3.11+, git and make; uv and all the rest is set up in .tools and .venv.
SHELL := /bin/bash
UV := .tools/bin/uv
RUN := $(UV) run --frozen --all-packages --all-extras
PYTEST := $(RUN) pytest
export UV_PROJECT_ENVIRONMENT := .venv

.PHONY: demo test check lint types imports fast bench matrix coexist mutants soak brokers screenshot clean
.DEFAULT_GOAL := check

demo: .venv/.ready  ## watch a DSPy program work: no key, no broker
	@$(UV) run --frozen --no-sync streamll demo

test: .venv/.ready brokers  ## all tests, with real brokers as child processes
	$(PYTEST) -n 2 --dist loadfile tests

check: lint types imports fast  ## lint, types, import contracts, fast tests

lint: .venv/.ready
	$(RUN) ruff check .
	$(RUN) ruff format --check .

types: .venv/.ready
	$(RUN) mypy

imports: .venv/.ready
	$(RUN) lint-imports

fast: .venv/.ready
	$(PYTEST) -n 2 --dist loadfile -m "not broker and not slow" tests

brokers:  ## redis-server and rabbitmq-server, where we may install them
	@scripts/install-brokers

matrix: .venv/.ready  ## Python 3.11-3.13 x the last patch of every dspy minor
	scripts/matrix

bench: .venv/.ready brokers  ## figures, side by side in one run
	scripts/bench

soak: .venv/.ready brokers  ## 20 million events through a Redis with faults; EVENTS=1000000 for fewer
	$(RUN) python benchmarks/redis_soak.py --events $(or $(EVENTS),20000000)

coexist: .venv/.ready  ## beside MLflow, OpenInference and Logfire, in an environment of its own
	scripts/coexist

mutants: .venv/.ready  ## put known mistakes in, one by one; each must turn a test red
	$(RUN) python scripts/mutants.py

screenshot: .venv/.ready
	$(RUN) streamll demo --svg docs/demo.svg

$(UV):
	@scripts/install-uv

.venv/.ready: $(UV) uv.lock pyproject.toml $(wildcard */pyproject.toml)
	@$(UV) sync --frozen --all-packages --all-extras --quiet
	@touch $@

clean:
	rm -rf .venv .tools .matrix .bench .coexist
