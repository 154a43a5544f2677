# Two commands do everything on a fresh machine with Python 3.11 and make:
#   make demo    set up .venv, then train, evaluate and rank on the embedded radiographs
#   make test    set up .venv, then run the tests
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
LOWEST := build/lowest

.DEFAULT_GOAL := help
.PHONY: help baseline demo test check format lint types nightly lowest wheel clean

help:            ## list the targets
	@grep -hE '^[a-z]+: *.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 12

# The stamp is as new as the dependencies it was installed for: a second run installs nothing.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "g2dbench needs Python 3.11 or newer, this is %d.%d: run make PYTHON=python3.11" % v[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(STAMP)

demo: $(STAMP)   ## train, evaluate and rank on the embedded radiographs
	$(BIN)/g2dbench demo

test: $(STAMP)   ## run the tests (under 10 minutes on 2 cores)
	$(BIN)/python -m pytest -q -n auto

check: format lint types test   ## everything a change must pass

format: $(STAMP) ## check the formatting
	$(BIN)/ruff format --check .

lint: $(STAMP)   ## lint
	$(BIN)/ruff check .

types: $(STAMP)  ## type-check the engine, strictly
	$(BIN)/mypy

nightly: $(STAMP) ## every test, the long ones too; then those of `make lowest`
	$(BIN)/python -m pytest -q -n auto -m 'slow or not slow'
	$(MAKE) lowest

# Oldest versions of what pyproject.toml names, newest of what those need: all have wheels for
# Python 3.11 and 3.12. The environment is made anew each time and takes 6 GB.
lowest:          ## run the tests with the oldest dependencies that pyproject.toml allows
	rm -rf $(LOWEST)
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet uv
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python \
	    --resolution lowest-direct --editable '.[dev,remote]'
	timeout --kill-after=60 45m $(LOWEST)/bin/python -m pytest -q -n auto

wheel: $(STAMP)  ## build the wheel into dist/
	$(BIN)/python -m build --wheel

clean:           ## remove what the build made (not runs, not results)
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache

baseline: $(STAMP) ## make the committed baseline of the project's own gate anew
	rm -rf tests/baseline/results build/gate
	OMP_NUM_THREADS=1 $(BIN)/python tests/baseline/suite.py tests/baseline/results build/gate
	find tests/baseline/results -type f ! -name result.json -delete
