# Every target sets up what it needs in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
RUN ?= runs/demo
PYTEST = $(BIN)/python -m pytest -q -n 2 --dist loadgroup
export PYTHONDONTWRITEBYTECODE = 1

.PHONY: help demo docs results test test-all nightly gpu fuzz lowest lint bench clean

help:
	@echo "make demo      train three models on handwritten digits and write a page on them"
	@echo "make docs      build the site, site/index.html; a broken link is an error"
	@echo "make results   redraw figures and tables of experiments/collapse from its CSV files"
	@echo "make test      run the fast tests"
	@echo "make test-all  run the slow tests too"
	@echo "make nightly   run the tests that take minutes each"
	@echo "make gpu       run the tests and the benchmark of a GPU, and write its record to gpu.json"
	@echo "make fuzz      try hundreds of broken inputs, and kill runs a hundred times"
	@echo "make lowest    run a smoke test on the lowest versions that setup.cfg allows"
	@echo "make lint      check style and types"
	@echo "make bench     time a training step against its peers (jax: pip install jax)"
	@echo "make clean     remove the virtual environment; runs are kept"

# The stamp depends on what is installed, so that a new dependency is installed on the next call.
$(VENV)/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(VENV)/installed
	$(BIN)/python -m experiments.demo --out $(RUN)

docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

results: $(VENV)/installed
	$(BIN)/python -m experiments.collapse.results

test: $(VENV)/installed
	$(PYTEST) -m "not slow and not nightly"

test-all: $(VENV)/installed
	$(PYTEST) -m "not nightly"

nightly: $(VENV)/installed
	$(PYTEST) -m nightly

gpu: $(VENV)/installed
	$(BIN)/python -m pytest -q tests/gpu
	$(BIN)/python -m experiments.benchmarks --device cuda --json gpu.json

fuzz: $(VENV)/installed
	FUZZ_EXAMPLES=300 $(PYTEST) tests/app/test_fuzz.py tests/training/test_faults.py -k "not signal"

LOWEST = sed -n '/^install_requires/,/^$$/s/^ *\([^>]*\)>=\([^,]*\).*/\1==\2/p' setup.cfg
lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet $$($(LOWEST)) pytest -e .
	.venv-lowest/bin/python -m pytest -q -o filterwarnings= tests/test_project.py -k smoke

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/installed
	$(BIN)/python -m experiments.benchmarks

clean:
	rm -rf $(VENV) .venv-lowest site
