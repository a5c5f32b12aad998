# make demo    install into .venv and turn the wheel twice on the docstrings example
# make test    lint, types, layers, licences, generated docs, fast tests with the coverage gate
# make help    everything else

VENV        ?= .venv
PY          := $(VENV)/bin/python
# An index for torch alone, e.g. the CPU or CUDA builds that pytorch.org lists; empty: pip's own settings.
TORCH_INDEX ?=
STAMP       := $(VENV)/.installed
DEV_STAMP   := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.PHONY: help demo install dev test lint types test-slow soak bench docs clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(STAMP)  ## install, then run the docstrings example through all stages and a second turn
	$(VENV)/bin/volant demo

install: $(STAMP)  ## .venv with Volant and its pinned dependencies

dev: $(DEV_STAMP)  ## the same with what tests and lint need

$(VENV)/bin/python:
	@sh tools/venv.sh $(VENV)

$(STAMP): $(VENV)/bin/python pyproject.toml constraints.txt
	@sh tools/install.sh $(PY) "." "$(TORCH_INDEX)"
	@touch $@

$(DEV_STAMP): $(VENV)/bin/python pyproject.toml constraints.txt
	@sh tools/install.sh $(PY) ".[dev]" "$(TORCH_INDEX)"
	@touch $@ $(STAMP)

# One process a core, one thread each: two threads in each of two processes are slower than one after the other.
ONE_EACH     := OMP_NUM_THREADS=1
SIDE_BY_SIDE := -n $(shell nproc) --dist loadscope

test: lint types $(DEV_STAMP)  ## everything that has to hold before a commit lands
	$(ONE_EACH) $(PY) -m pytest -m "not slow and not soak" $(SIDE_BY_SIDE) --cov --cov-report=
	$(PY) -m coverage report --skip-covered --fail-under=95

lint: $(DEV_STAMP)  ## style, layers, licences, generated pages
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports
	$(PY) tools/licences.py
	$(PY) tools/docs.py --check

types: $(DEV_STAMP)  ## mypy --strict
	$(VENV)/bin/mypy

test-slow: $(DEV_STAMP)  ## kill tests, full disks, whole turns
	$(ONE_EACH) $(PY) -m pytest -m slow $(SIDE_BY_SIDE) --timeout=1800

soak: $(DEV_STAMP)  ## hours; results go, dated, into docs/LOG.md
	$(PY) -m pytest -m soak --timeout=0

bench: $(DEV_STAMP)  ## speed of the records, the store and the server
	@for file in bench/*.py; do echo "== $$file"; $(PY) $$file || exit 1; done

docs: $(DEV_STAMP)  ## write the generated pages anew
	$(PY) tools/docs.py

clean:  ## remove caches and builds; .venv and projects stay
	rm -rf build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage
	find src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
