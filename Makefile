# Everything below makes what it needs in .venv and is quick when nothing changed.
#
#   make PYTHON=python3.12 ...   another interpreter (3.10 or newer)
#   make USE_UV=1 ...            install with uv (0: with pip; default: see scripts/install.py)
#   make test PYTEST_ARGS="-k strength"
#
# torch is pinned in constraints.txt. Which build of it is installed, CPU or CUDA, is up to your
# pip configuration (PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS, ...), as for any other package.

PYTHON ?= python3
VENV ?= .venv
USE_UV ?= auto
WORKERS ?= 2
PYTEST_ARGS ?=
DEMO_OUT ?= out/demo
DEMO_ARGS ?= --rules decoupled,independent --seeds 8 --confirm 16
BENCH_ARGS ?=
DEVICE ?= cuda
GPU_MODELS ?= resnet18,gpt2
# Reads pyproject.toml, as Python can since 3.11; the tests run on PYTHON.
COMPAT_PYTHON ?= python3

INSTALLER := $(patsubst 0,pip,$(patsubst 1,uv,$(USE_UV)))
BIN := $(VENV)/bin
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev
CLUSTER := $(VENV)/.installed-cluster
# One thread a process: the tests already keep the cores busy, and results repeat exactly.
export NO_MKDOCS_2_WARNING := 1
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.PHONY: help demo test test-slow test-cluster test-recipes test-gpu check docs bench compat install clean
.DEFAULT_GOAL := help

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
	  || sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1: \2/p' $(MAKEFILE_LIST)

demo: $(RUN) ## ask what weight decay is worth to a small network, and write the report to out/demo
	$(BIN)/halflife landscape $(DEMO_ARGS) --out $(DEMO_OUT) --resume

test: $(DEV) ## run the tests and the examples in docstrings
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) -m "not slow and not cluster and not recipes" $(PYTEST_ARGS)

test-slow: $(DEV) ## run what starts processes, kills them, compiles or measures: minutes more
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) -m "slow and not cluster" tests $(PYTEST_ARGS)

test-cluster: $(CLUSTER) ## run the lab on Ray and PostgreSQL, which must be installed (Debian: apt-get install postgresql)
	$(BIN)/python -c "import optuna_dashboard, psycopg, ray"
	$(ONE_THREAD) $(BIN)/python -m pytest -m cluster tests/lab $(PYTEST_ARGS)

test-recipes: $(DEV) ## train every recipe some steps by two processes, and an epoch of Fashion-MNIST that is killed: ten minutes
	$(ONE_THREAD) $(BIN)/python -m pytest -m recipes tests/lab $(PYTEST_ARGS)

test-gpu: $(DEV) ## run tests/gpu on a GPU, and measure there for the benchmarks page: DEVICE=cuda [GPU_MODELS=resnet18]
	$(BIN)/python -m pytest tests/gpu --device $(DEVICE) $(PYTEST_ARGS)
	$(BIN)/python -m benchmarks accelerator --device $(DEVICE) --models $(GPU_MODELS) --json benchmarks/accelerator.json
	$(BIN)/python scripts/benchmarks_page.py

check: $(DEV) ## lint, format, types, import direction, documentation, public names
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo
	$(BIN)/python scripts/check_source.py
	$(BIN)/mkdocs build --strict
	$(ONE_THREAD) $(BIN)/python -m pytest -q -k "not import_cost" tests/test_public_api.py

docs: $(DEV) ## build the documentation into site/
	$(BIN)/mkdocs build --strict
	@echo "open site/index.html"

bench: $(DEV) ## measure what a decay rule costs, against torch in the same run
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

compat: ## run the tests with another torch: TORCH=2.6.0 [PYTHON=python3.10] [OLDEST=1 | NEWEST=1] [SMOKE=1] [AGAIN=1]
	$(COMPAT_PYTHON) scripts/compat.py --python $(PYTHON) --workers $(WORKERS) $(if $(TORCH),--torch $(TORCH)) \
	  $(if $(OLDEST),--oldest) $(if $(NEWEST),--newest) $(if $(SMOKE),--smoke) $(if $(AGAIN),--again) $(if $(PYTEST_ARGS),-- $(PYTEST_ARGS))

install: $(DEV) ## install everything into .venv without running anything

clean: ## remove what the targets made, .venv included
	rm -rf $(VENV) out site build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN): pyproject.toml constraints.txt scripts/install.py
	$(PYTHON) scripts/install.py --venv $(VENV) --installer $(INSTALLER) --extras lab
	@touch $@

$(DEV): pyproject.toml constraints.txt scripts/install.py
	$(PYTHON) scripts/install.py --venv $(VENV) --installer $(INSTALLER) --extras lab,plot,images,docs,dev,third-party,lightning,hf
	@touch $(RUN) $@

$(CLUSTER): $(DEV)
	$(PYTHON) scripts/install.py --venv $(VENV) --installer $(INSTALLER) --extras lab,ray,postgres,dashboard
	@touch $@
