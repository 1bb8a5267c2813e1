# Every target works from nothing: it makes its own virtual environment, installs the pinned versions and runs.
# PYTHON names the interpreter to start from; TORCH_INDEX a package index for another build of torch (see README.md).

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
DEMO_OUT ?= out/demo

BIN := $(VENV)/bin
# Comparisons of samplers, of training runs and of methods take hours, and so do faults; mutated files and many clips take half an hour.
QUICK := $(filter-out benchmarks/ablations.py benchmarks/samplers.py benchmarks/faults.py benchmarks/fuzz.py benchmarks/methods.py benchmarks/paper_preset.py benchmarks/real_clips.py benchmarks/scale.py,$(wildcard benchmarks/[a-z]*.py))
INSTALLED := $(VENV)/.installed

.PHONY: help install demo test test-slow check bench docs

help:
	@echo "make demo       complete a partly hidden object in a generated clip; pictures in $(DEMO_OUT)"
	@echo "make test       run the tests"
	@echo "make test-slow  run the tests that take longer"
	@echo "make check      lint, format, types, layers"
	@echo "make bench      measure speed and memory"
	@echo "make docs       write docs/cli.md and docs/python.md anew"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	@echo "Installing PyTorch and what else is needed; this takes minutes."
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt --index-url $(TORCH_INDEX) torch)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/amodal-diffusion demo --out $(DEMO_OUT) --overwrite

test: $(INSTALLED)
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED)
	@set -e; for script in $(QUICK); do echo "== $$script"; $(BIN)/python $$script; done

docs: $(INSTALLED)
	$(BIN)/python docs/generate.py
