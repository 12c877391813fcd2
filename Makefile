# `make report` and `make test` work on a machine with Python 3.10 or newer and nothing else.
.DEFAULT_GOAL := report
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export MPLBACKEND := Agg

# What runs without any extra; the rest compares with other packages, or makes pages.
CORE := tests/_disk tests/_masks tests/_fusion tests/_live tests/_twin tests/_engine tests/_tasks tests/layers \
	tests/test_errors.py tests/test_exact_answers.py tests/test_promises.py tests/test_wrapper.py

.PHONY: core report test lint types unit documents slow gpu zoo integrations frameworks statements oldest newest \
	coverage mutants audit release-check docs notebooks format clean

core:
	@echo $(CORE)

report: $(VENV)/runtime
	$(BIN)/python examples/calibration_report.py

# Tests start many processes, each of which would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

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

# Every block of README and docs, and the links between them.
documents: $(VENV)/development
	$(BIN)/python -m pytest -n auto tests/test_documents.py

# Tests, speed, race, memory and time to accuracy on a CUDA device, each at most eight minutes, to
# docs/data. It needs a build of torch with CUDA, which another environment may have:
# make gpu GPU_PYTHON=...
GPU_PYTHON ?= $(BIN)/python
gpu: $(VENV)/development
	$(GPU_PYTHON) examples/benchmarks/gpu.py

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

# Lines of the package that the default suite runs, in an environment of its own; fails below the
# share in pyproject.toml, and writes docs/data/coverage.json.
JOBS ?= auto
coverage: .venv-coverage/installed
	mkdir -p build
	.venv-coverage/bin/python -m coverage erase
	.venv-coverage/bin/python -m coverage run -m pytest -n $(JOBS) -m "not slow"
	.venv-coverage/bin/python -m coverage combine -q
	.venv-coverage/bin/python -m coverage json -q --fail-under=0 -o build/coverage.json
	.venv-coverage/bin/python -m tests.quality.coverage_record build/coverage.json
	.venv-coverage/bin/python -m tests.quality.page
	.venv-coverage/bin/python -m coverage report --skip-covered --show-missing

.venv-coverage/installed: pyproject.toml constraints.txt
	test -x .venv-coverage/bin/python || $(PYTHON) -m venv .venv-coverage
	.venv-coverage/bin/python -m pip install -q -c constraints.txt -e '.[test]' 'coverage>=7.10'
	touch $@

# Faults put into masks, moments, metrics and recalibration: which ones no test notices. A run that was
# stopped goes on; the survivors then meet the tests around their modules. All 3,600 (SAMPLE=0) take
# hours.
SAMPLE ?= 300
MUTATION := OMP_NUM_THREADS=1 $(BIN)/python -m tests.quality.mutation --json docs/data/mutants.json
mutants: $(VENV)/development
	$(MUTATION) --sample $(SAMPLE)
	$(MUTATION) --again
	$(BIN)/python -m tests.quality.page

# Known holes in what is installed, from PyPI's database. It fails too where the database cannot be
# asked or does not know a package: an audit without data must not pass.
audit: $(VENV)/development
	test -x .venv-audit/bin/python || $(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install -q pip-audit
	mkdir -p build
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+[a-z0-9]*$$//' > build/installed.txt
	.venv-audit/bin/pip-audit --strict --disable-pip --no-deps -r build/installed.txt

# Builds wheel and sdist, installs the wheel alone, and runs the README with it.
release-check:
	rm -rf dist .venv-release .venv-release-clean
	$(PYTHON) -m venv .venv-release
	.venv-release/bin/python -m pip install -q build twine
	.venv-release/bin/python -m build -q --outdir dist .
	.venv-release/bin/python -m twine check --strict dist/*
	$(PYTHON) -m venv .venv-release-clean
	.venv-release-clean/bin/python -m pip install -q -c constraints.txt \
		"$$(ls dist/*.whl)[fast,report]"
	.venv-release-clean/bin/python -m pip check
	.venv-release/bin/python -m tests.quality.release dist .venv-release-clean/bin/python

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

# MLflow with its scoring server and Spark (which needs Java), Ray with a node that is killed, and
# the example server, in an environment of their own; everything runs on this machine.
INTEGRATIONS := tests/test_mlflow.py tests/test_ray.py tests/_files/test_workers.py \
	tests/test_serving.py tests/test_deployment_page.py
integrations: .venv-integrations/installed
	MLFLOW_DISABLE_TELEMETRY=true RAY_USAGE_STATS_ENABLED=0 RAY_worker_niceness=0 \
		OMP_NUM_THREADS=1 .venv-integrations/bin/python -m pytest $(INTEGRATIONS)

.venv-integrations/installed: constraints-integrations.txt pyproject.toml
	test -x .venv-integrations/bin/python || $(PYTHON) -m venv .venv-integrations
	.venv-integrations/bin/python -m pip install -q -c constraints-integrations.txt \
		-e '.[mlflow,onnx,ray,report]' pytest hypothesis pyspark fastapi uvicorn
	touch $@

# The recipes of docs/frameworks.md with the packages they are for, in an environment of their own.
frameworks: .venv-frameworks/installed
	OMP_NUM_THREADS=1 .venv-frameworks/bin/python tests/quality/blocks.py docs/frameworks.md
	OMP_NUM_THREADS=1 MCDROP_FRAMEWORKS=all \
		.venv-frameworks/bin/python -m pytest tests/test_frameworks.py

.venv-frameworks/installed: constraints-frameworks.txt pyproject.toml
	test -x .venv-frameworks/bin/python || $(PYTHON) -m venv .venv-frameworks
	.venv-frameworks/bin/python -m pip install -q -c constraints-frameworks.txt -e '.[arviz,files]' \
		pytest accelerate botorch duckdb lightning monai peft polars scikit-activeml skorch \
		torch-geometric torchmetrics transformers
	touch $@

# The documentation site, into site/: built from docs/ and the docstrings with warnings as errors,
# then checked for what Sphinx does not see. Nothing is loaded from the network when it is read.
DOCS ?= .venv-docs
docs: $(DOCS)/installed
	$(DOCS)/bin/python -m sphinx -W --keep-going -q -b html -d build/doctrees docs site
	$(DOCS)/bin/python docs/_sphinx/check_site.py site

# Writes examples/notebooks from the pages, runs them, and keeps what they print; with CHECK=--check
# it only runs them.
notebooks: $(DOCS)/installed
	OMP_NUM_THREADS=1 $(DOCS)/bin/python docs/_sphinx/notebooks.py $(CHECK)

$(DOCS)/installed: pyproject.toml constraints.txt constraints-docs.txt
	test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install -q -c constraints.txt -c constraints-docs.txt -e '.[docs]'
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
	rm -rf $(VENV) .venv-oldest .venv-newest .venv-zoo .venv-coverage .venv-audit .venv-docs \
		.venv-integrations .venv-frameworks .venv-release .venv-release-clean build dist site \
		docs/_generated .mypy_cache .ruff_cache .hypothesis
