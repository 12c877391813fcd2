# `make report` and `make test` work on a machine with Python 3.10 or newer and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export MPLBACKEND := Agg

# What runs without any extra; the rest compares with other packages, or makes pages.
CORE := tests/_masks tests/_fusion tests/_live tests/_twin tests/_engine tests/_tasks tests/layers \
	tests/test_errors.py tests/test_exact_answers.py tests/test_promises.py tests/test_wrapper.py

.PHONY: report test lint types unit slow zoo statements oldest newest docs notebooks format clean

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

# Models of other packages against their own train mode, in an environment of their own; goes on
# where the last run stopped, for as many minutes as are given, and writes docs/data/zoo.json.
MINUTES ?= 25
zoo: .venv-zoo/installed
	OMP_NUM_THREADS=1 .venv-zoo/bin/python -m tests.zoo_packages.run --minutes $(MINUTES)
	.venv-zoo/bin/python -m tests.zoo > docs/what-is-live.md

.venv-zoo/installed: constraints-zoo.txt
	test -x .venv-zoo/bin/python || $(PYTHON) -m venv .venv-zoo
	.venv-zoo/bin/python -m pip install -q -c constraints-zoo.txt . pytest diffusers fastai monai peft \
		sentence-transformers timm torch-geometric torchvision transformers x-transformers
	touch $@

# The documentation site, into site/: built from docs/ and the docstrings with warnings as errors,
# then checked for what Sphinx does not see. Nothing is loaded from the network when it is read.
docs: .venv-docs/installed
	.venv-docs/bin/python -m sphinx -W --keep-going -q -b html -d build/doctrees docs site
	.venv-docs/bin/python docs/_sphinx/check_site.py site

# Writes examples/notebooks from the pages, runs them, and keeps what they print; with CHECK=--check
# it only runs them.
notebooks: .venv-docs/installed
	OMP_NUM_THREADS=1 .venv-docs/bin/python docs/_sphinx/notebooks.py $(CHECK)

.venv-docs/installed: pyproject.toml constraints.txt constraints-docs.txt
	test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install -q -c constraints.txt -c constraints-docs.txt -e '.[docs]'
	touch $@

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
	rm -rf $(VENV) .venv-oldest .venv-newest .venv-zoo .venv-docs build dist site docs/_generated .mypy_cache .ruff_cache .hypothesis
