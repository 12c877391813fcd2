# `make report` and `make test` work on a machine with Python 3.10 or newer and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export MPLBACKEND := Agg

# What runs without any extra; the rest compares with other packages, or makes pages.
CORE := tests/_masks tests/_fusion tests/_live tests/_twin tests/_engine tests/_tasks tests/layers \
	tests/test_errors.py tests/test_exact_answers.py tests/test_promises.py tests/test_wrapper.py

.PHONY: report test lint types unit slow zoo integrations statements oldest newest format clean

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
	rm -rf $(VENV) .venv-oldest .venv-newest .venv-zoo .venv-integrations build dist .mypy_cache .ruff_cache .hypothesis
