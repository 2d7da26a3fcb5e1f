# Every target sets up what it needs in .venv: Python 3.11 and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DUCKDB_1 := build/duckdb-1
WORKERS ?= 2

.PHONY: help demo test lab check bench docs format clean

help:
	@echo "make demo    load the flights, ask ten questions in SQL and ibis, reopen, ask again"
	@echo "make test    all tests and notebooks (WORKERS=0 for one process)"
	@echo "make lab     JupyterLab on the notebooks"
	@echo "make check   ruff, types, floors, file lengths"
	@echo "make bench   measure against peers, write benchmarks/results"
	@echo "make docs    build the documentation into site/, strictly"
	@echo "make format  let ruff format and fix"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("KalamDB Lab needs Python 3.11 or newer." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

# One stamp per set of extras: make installs again when pyproject.toml changes, and only then.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

# ibis' own DuckDB backend runs with DuckDB below 2 only: that peer is measured in a place of its own.
$(DUCKDB_1)/.installed-bench: pyproject.toml
	$(PYTHON) -m venv $(DUCKDB_1)
	$(DUCKDB_1)/bin/python -m pip install --quiet --disable-pip-version-check \
		--editable '.[bench]' 'duckdb<2'
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/python -m kalamdb_lab.demo

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope \
		--nbval-lax --nbval-current-env --nbval-cell-timeout=60 tests benchmarks notebooks

lab: $(VENV)/.installed-notebook
	JUPYTER_PATH="$(CURDIR)/kalamdb_lab/notebook$${JUPYTER_PATH:+:$$JUPYTER_PATH}" $(BIN)/jupyter lab notebooks

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python .ci/check_file_lengths.py

bench: $(VENV)/.installed-bench $(VENV)/.installed-notebook $(DUCKDB_1)/.installed-bench
	$(BIN)/python -m benchmarks
	$(DUCKDB_1)/bin/python -m benchmarks --only ibis_statement

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build site
