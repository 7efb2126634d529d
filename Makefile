# make book    set everything up and build the book into _build/html
# make test    set everything up and run every check: lint, types, book, notebooks, tests
# make results  measure every number of the book again (hours; QUICK=1: minutes, into _build/results)
# make setup   only the environment: .venv with requirements.txt and the package, editable
# make clean   remove what was built (not .venv)

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# the first interpreter of a version that CompressAI runs on
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
  $$p -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' >/dev/null 2>&1 \
  && echo $$p && break; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# two processes on two cores are faster than one process on two threads
export OMP_NUM_THREADS ?= 1
WORKERS ?= 2

.PHONY: setup book test lint types notebooks results clean

setup: $(READY)

$(READY): requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or 3.12 found; install one, or name it: make setup PYTHON=/path/to/python3.12" >&2; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version): a few minutes, about 6 GB"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -r requirements.txt
	$(PIP) install --no-deps -e .
	@touch $@

book: $(READY)
	$(BIN)/jupyter-book build -W --keep-going --all .
	@test -f _build/html/index.html
	@echo "The book is in _build/html/index.html"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

# cells tagged nbval-check-output must print what the notebook holds: see tests/store_outputs.py
notebooks: $(READY)
	$(BIN)/python -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=300 \
	  --nbval-kernel-startup-timeout=120 -n $(WORKERS) --dist loadscope book/*.ipynb

test: lint types book notebooks
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope tests

results: $(READY)
	$(BIN)/python results/measure.py $(if $(QUICK),--quick)

clean:
	rm -rf _build .pytest_cache .mypy_cache .ruff_cache .hypothesis
