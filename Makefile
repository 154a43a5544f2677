# Two commands do everything on a fresh machine with Python 3.11 and make:
#   make demo    set up .venv, then train, evaluate and rank on the embedded radiographs
#   make test    set up .venv, then run the tests
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
LOWEST := build/lowest
# The Python of `make gpu`: its own, where packages are there and nothing can be installed
GPU_PYTHON ?=

.DEFAULT_GOAL := help
.PHONY: help baseline demo test unit gate check format lint types docs nightly gate-processors lowest wheel gpu gpu-study stress clean

help:            ## list the targets
	@grep -hE '^[a-z-]+: *.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 17

# The stamp is as new as the dependencies it was installed for: a second run installs nothing.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "g2dbench needs Python 3.11 or newer, this is %d.%d: run make PYTHON=python3.11" % v[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(STAMP)

demo: $(STAMP)   ## train, evaluate and rank on the embedded radiographs
	$(BIN)/g2dbench demo

test: $(STAMP)   ## run the tests, the gate among them (7 minutes on 2 idle cores)
	$(BIN)/python -m pytest -q -n auto --dist loadfile

unit: $(STAMP)   ## run what takes a minute: no end-to-end test, no gate
	$(BIN)/python -m pytest -q -n auto --dist loadfile -m 'not (slow or integration or gate)'

gate: $(STAMP)   ## compare the scores of the fixed suite with the committed baseline
	$(BIN)/python -m pytest -q -n auto --dist loadfile -m gate

check: format lint types test   ## everything a change must pass

format: $(STAMP) ## check the formatting
	$(BIN)/ruff format --check .

lint: $(STAMP)   ## lint
	$(BIN)/ruff check .

# Scripts of benchmarks/ import their neighbours by plain name, as `python benchmarks/x.py` finds
# them. For mypy these are other modules than benchmarks.x, so that each folder is a run of its own.
types: $(STAMP)  ## type-check the engine and the benchmarks, strictly
	$(BIN)/mypy
	for folder in benchmarks benchmarks/gpu benchmarks/stress; do \
	    MYPYPATH=$$folder:benchmarks:tests $(BIN)/mypy --explicit-package-bases $$folder/*.py || exit 1; \
	done

# An environment of its own, so that the packages of the site and of g2dbench do not meet.
docs:            ## build the documentation into build/site; a broken link is an error
	test -x build/docs/bin/mkdocs || $(PYTHON) -m venv build/docs
	build/docs/bin/python -m pip install --quiet $$($(PYTHON) -c 'import tomllib; \
	    print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"])')
	build/docs/bin/mkdocs build --strict --quiet

nightly: $(STAMP) ## every test, the site, the gate on imitated processors, the oldest dependencies
	$(BIN)/python -m pytest -q -n auto --dist loadfile -m 'slow or not slow'
	$(MAKE) docs
	$(MAKE) gate-processors
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

gate-processors: $(STAMP) ## run the gate's suite on imitated processors and print the band
	rm -rf build/processors
	$(BIN)/python tests/gate/processors.py build/processors

# GPU_PARTS="train loader" measures some parts, GPU_OPTIONS="--small --device cpu" tries the program.
gpu: $(if $(GPU_PYTHON),,$(STAMP)) ## correctness and speed on a CUDA device, under 9 minutes
	$(or $(GPU_PYTHON),$(BIN)/python) benchmarks/gpu $(if $(GPU_PARTS),--parts $(GPU_PARTS)) $(GPU_OPTIONS)

# STUDY holds options of the study: STUDY="--stage bench --minutes 5"; `--help` lists them.
gpu-study: $(if $(GPU_PYTHON),,$(STAMP)) ## can the bench tell, do pseudo masks pay? 9 minutes on a GPU
	PYTHONPATH="benchmarks/gpu/uninstalled:$$PYTHONPATH" OMP_NUM_THREADS=1 \
	    $(or $(GPU_PYTHON),$(BIN)/python) -m benchmarks.gpu_study $(STUDY)

clean:           ## remove what the build made (not runs, not results)
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache

baseline: $(STAMP) ## make the committed baseline of the project's own gate anew
	rm -rf tests/gate/baseline build/gate
	OMP_NUM_THREADS=1 $(BIN)/python tests/gate/suite.py tests/gate/baseline build/gate
	find tests/gate/baseline -type f ! -name result.json -delete

stress: $(STAMP) ## kills, writers, full disks, strangers' files: a table (25 minutes; STRESS=quick: 3)
	$(BIN)/python benchmarks/stress $(STRESS)
