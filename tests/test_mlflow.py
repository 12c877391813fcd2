"""Models in MLflow: saved without a pickle, the same numbers in any batch, server and worker.

`make integrations` runs these where mlflow and pyspark are installed; elsewhere they are skipped,
except those of what is said without mlflow.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import mcdrop
from mcdrop.mlflow import load_model, log_model, save_model

# Other packages' warnings are not ours.
pytestmark = pytest.mark.filterwarnings("default")
ROWS = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)), columns=list("abc"))


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return pytest.importorskip("mlflow", reason="`make integrations` installs mlflow")


def network(n_outputs: int = 1) -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Linear(3, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 16), nn.ReLU())
    return nn.Sequential(*layers, nn.Dropout(0.3), nn.Linear(16, n_outputs)).eval()


def expected(model: nn.Module, **options: Any) -> pd.DataFrame:
    given = {"n_samples": 100, "seed": 0, **options}
    return mcdrop.predict_with_uncertainty(model, ROWS, masks="shared", **given).to_pandas()


def check(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    assert list(found.columns) == list(wanted.columns)
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("function", [save_model, log_model])
def test_without_mlflow_the_extra_is_named(
    function: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    text = (
        rf'{function.__name__}: expected `mlflow` to be installed.*pip install "mcdrop\[mlflow\]"'
    )
    with pytest.raises(mcdrop.UnsupportedError, match=text):
        function(network(), str(tmp_path / "m"), input_example=ROWS)
    with pytest.raises(mcdrop.UnsupportedError, match=r"^load_model: expected `mlflow`"):
        load_model(str(tmp_path))


def test_a_saved_model_predicts_and_is_not_pickled(mlflow: Any, tmp_path: Path) -> None:
    model = network()
    save_model(model, tmp_path / "m", input_example=ROWS[:5])
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "m"))
    check(loaded.predict(ROWS), expected(model))
    # In any batch, at any place in it.
    check(loaded.predict(ROWS[31:]), expected(model)[31:])
    check(loaded.predict(ROWS[::-1]), expected(model)[::-1])
    check(
        loaded.predict(ROWS, params={"n_samples": 20, "seed": 3}),
        expected(model, n_samples=20, seed=3),
    )
    assert not [p.name for p in (tmp_path / "m").rglob("*") if p.suffix in (".pkl", ".pickle")]
    names = {each.name for each in loaded.metadata.signature.inputs}
    assert names == {"a", "b", "c"}
    again = load_model(str(tmp_path / "m"))
    assert again.masks == "shared"
    found = again.predict_with_uncertainty(ROWS, seed=0).to_pandas()
    check(found, expected(model))
    with pytest.raises(mlflow.exceptions.MlflowException, match="missing inputs"):
        loaded.predict(ROWS[["a", "b"]])


def test_task_is_a_parameter_and_settings_of_a_wrapper_hold(mlflow: Any, tmp_path: Path) -> None:
    model = network(3)
    mc = mcdrop.wrap(model, p=0.5, stratified=False)
    save_model(mc, tmp_path / "m", input_example=ROWS, task="classification", n_samples=30)
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "m"))
    shared = mcdrop.wrap(model, p=0.5, masks="shared", stratified=False)
    options: dict[str, Any] = {"n_samples": 30, "seed": 0}
    wanted = shared.predict_with_uncertainty(ROWS, task="classification", **options)
    check(loaded.predict(ROWS), wanted.to_pandas())
    numbers = shared.predict_with_uncertainty(ROWS, task="regression", **options)
    found = loaded.unwrap_python_model().predict(None, ROWS, {"task": "regression"})
    check(found, numbers.to_pandas())


def test_arrays_and_tensors_are_examples_too(mlflow: Any, tmp_path: Path) -> None:
    model, x = network(), ROWS.to_numpy(np.float32)
    for number, example in enumerate((x, torch.from_numpy(x))):
        save_model(model, tmp_path / f"m{number}", input_example=example)
        loaded = mlflow.pyfunc.load_model(str(tmp_path / f"m{number}"))
        check(loaded.predict(x), expected(model))


class Encoder(nn.Module):
    """Attention whose fused path in eval mode leaves dropout out of the export."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = nn.Linear(1, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.encoder(self.inputs(x.unsqueeze(-1))).mean(dim=1))
        return y


def test_dropout_of_attention_is_kept(mlflow: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Encoder().eval()
    save_model(model, tmp_path / "m", input_example=ROWS, n_samples=20)
    found = mlflow.pyfunc.load_model(str(tmp_path / "m")).predict(ROWS)
    check(found, expected(model, n_samples=20, control_variate=False))


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.net(x)
        return y if float(x.sum()) > -1e9 else -y


def test_what_has_no_program_is_refused(mlflow: Any, tmp_path: Path) -> None:
    text = r"save_model: expected `model` to be one that torch\.export writes with its dropout"
    with pytest.raises(mcdrop.UnsupportedError, match=text):
        save_model(Branches().eval(), tmp_path / "m", input_example=ROWS)
    with pytest.raises(mcdrop.NoDropoutError):
        save_model(nn.Linear(3, 1), tmp_path / "m", input_example=ROWS)
    with pytest.raises(mcdrop.RangeError, match="`n_samples` to be an integer of at least 2"):
        save_model(network(), tmp_path / "m", input_example=ROWS, n_samples=1)


def test_fixed_passes_are_served_as_they_are(mlflow: Any, tmp_path: Path) -> None:
    model, x = network(), torch.tensor(ROWS.to_numpy(np.float32))
    mcdrop.export(model, x, tmp_path / "net.pt2", n_samples=16, noise_std=0.5)
    save_model(tmp_path / "net.pt2", tmp_path / "m", input_example=ROWS)
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "m"))
    wanted = expected(model, n_samples=16, noise_std=0.5, control_variate=False)
    check(loaded.predict(ROWS), wanted[["mean", "std", "epistemic_std"]])
    assert loaded.metadata.signature.params is None
    with pytest.raises(mcdrop.UnsupportedError, match="a model whose dropout is alive"):
        load_model(str(tmp_path / "m"))


@pytest.fixture
def store(mlflow: Any, tmp_path: Path) -> Iterator[Any]:
    """A tracking store of its own, in a file."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'store.db'}")
    mlflow.create_experiment("mcdrop", artifact_location=(tmp_path / "artifacts").as_uri())
    mlflow.set_experiment("mcdrop")
    yield mlflow
    mlflow.set_tracking_uri(before)


def test_a_model_is_logged_registered_and_found_again(store: Any) -> None:
    model = network()
    with store.start_run():
        info = log_model(
            model, "net", input_example=ROWS, registered_model_name="net", task="regression"
        )
    for uri in (info.model_uri, "models:/net/1"):
        check(store.pyfunc.load_model(uri).predict(ROWS), expected(model))
        check(load_model(uri).predict_with_uncertainty(ROWS, seed=0).to_pandas(), expected(model))
    with store.start_run():
        other = store.sklearn.log_model(_linear(), name="other")
    with pytest.raises(
        mcdrop.UnsupportedError, match=r"name a model of mcdrop\.mlflow\.save_model"
    ):
        load_model(other.model_uri)


def _linear() -> Any:
    from sklearn.linear_model import LinearRegression

    return LinearRegression().fit(ROWS, ROWS["a"])


def _post(port: int, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return json.load(answer)


def test_the_scoring_server_returns_the_same_numbers_for_any_batch(
    mlflow: Any, tmp_path: Path
) -> None:
    model = network()
    save_model(model, tmp_path / "m", input_example=ROWS)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(tmp_path / "m")]
    command += ["--env-manager", "local", "-h", "127.0.0.1", "-p", str(port)]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        for _ in range(240):
            try:
                first = _post(port, {"dataframe_split": ROWS.to_dict(orient="split")})
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.5)
        check(pd.DataFrame(first["predictions"]), expected(model))
        part = {"dataframe_split": ROWS[7:9].to_dict(orient="split"), "params": {"n_samples": 50}}
        found = pd.DataFrame(_post(port, part)["predictions"])
        check(found, expected(model, n_samples=50)[7:9])
    finally:
        server.terminate()
        server.wait(30)


def test_spark_returns_the_same_numbers_for_any_partitions(
    mlflow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql = pytest.importorskip("pyspark.sql", reason="`make integrations` installs pyspark")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    model = network()
    save_model(model, tmp_path / "m", input_example=ROWS)
    builder = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    spark = builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", 7).getOrCreate()
    try:
        predict = mlflow.pyfunc.spark_udf(spark, str(tmp_path / "m"), env_manager="local")
        for parts in (1, 3):
            rows = spark.createDataFrame(ROWS.reset_index()).repartition(parts)
            answer = rows.withColumn("answer", predict(*"abc")).select("index", "answer.*")
            found = answer.toPandas().set_index("index").sort_index()
            check(found, expected(model))
    finally:
        spark.stop()
