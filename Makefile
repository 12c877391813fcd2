# `make report` and `make test` work on a machine with Python 3.10 or newer and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export MPLBACKEND := Agg

# What runs without any extra; the rest compares with other packages, or makes pages.
CORE := tests/_masks tests/_fusion tests/_live tests/_twin tests/_engine tests/_tasks tests/layers \
	tests/test_errors.py tests/test_exact_answers.py tests/test_promises.py tests/test_wrapper.py

.PHONY: report test lint types unit slow statements oldest newest format clean

report: $(VENV)/runtime
	$(BIN)/python examples/calibration_report.py

test: lint types unit

lint: $(VENV)/development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/development
	$(BIN)/mypy

unit: $(VENV)/development
	$(BIN)/python -m pytest -n auto -m "not slow"

slow: $(VENV)/development
	$(BIN)/python -m pytest -n auto -m slow

# Simulates every guarantee and writes docs/statements.md; about half an hour.
SIMULATED := metrics recalibration report passes
statements: $(VENV)/development
	for part in $(SIMULATED); do $(BIN)/python examples/benchmarks/statements_$$part.py \
		--json docs/data/statements_$$part.json || exit 1; done
	$(BIN)/python examples/benchmarks/statements.py

# The oldest and the newest versions admitted, in environments of their own, without any extra.
oldest:
	test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install -q -c constraints-oldest.txt . pytest pytest-xdist hypothesis
	.venv-oldest/bin/python -m pytest -n auto -m "not slow" $(CORE)

newest:
	test -x .venv-newest/bin/python || $(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install -q --upgrade . pytest pytest-xdist hypothesis
	.venv-newest/bin/python -m pytest -n auto -m "not slow" $(CORE)

format: $(VENV)/development
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/runtime: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[report]'
	touch $@

$(VENV)/development: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[test]'
	touch $@ $(VENV)/runtime

clean:
	rm -rf $(VENV) .venv-oldest .venv-newest build dist .mypy_cache .ruff_cache .hypothesis
