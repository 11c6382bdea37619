# `make demo` and `make test` set up everything they need in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
RUN ?= runs/demo
export PYTHONDONTWRITEBYTECODE = 1

.PHONY: help demo test lint bench clean

help:
	@echo "make demo   train Z-Forcing on handwritten digits, evaluate it, write its report"
	@echo "make test   run the tests"
	@echo "make lint   check style"
	@echo "make bench  time a training step against its peers (jax: pip install jax)"
	@echo "make clean  remove the virtual environment; runs are kept"

# The stamp depends on what is installed, so that a new dependency is installed on the next call.
$(VENV)/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(VENV)/installed
	$(BIN)/zforcing train --config experiments/digits.yaml --out $(RUN) --resume
	@echo
	$(BIN)/zforcing evaluate $(RUN) --split test --bound elbo
	@echo
	$(BIN)/zforcing evaluate $(RUN) --split test --bound iwae --particles 25
	@echo
	$(BIN)/zforcing sample $(RUN)
	@echo
	$(BIN)/zforcing report $(RUN)

test: $(VENV)/installed
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(VENV)/installed
	-$(BIN)/zforcing build
	$(BIN)/python -m experiments.benchmarks

clean:
	rm -rf $(VENV)
