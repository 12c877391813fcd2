"""Predictions inside Ray Data: masks by row number, or shared, in any batch.

`make integrations` runs the tests with Ray; elsewhere they are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

import mcdrop
from mcdrop.ray import RowPredictor
from tests.ray_cluster import started

pytestmark = pytest.mark.filterwarnings("default")
N_ROWS = 120
X = np.random.default_rng(0).normal(size=(N_ROWS, 2)).astype(np.float32)
BATCH: dict[str, npt.NDArray[Any]] = {"row": np.arange(N_ROWS), "u": X[:, 0], "v": X[:, 1]}


def network() -> nn.Module:
    torch.manual_seed(0)
    hidden = (nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 8), nn.Dropout(0.2))
    return nn.Sequential(*hidden, nn.Linear(8, 1)).eval()


def cut(rows: Any) -> dict[str, npt.NDArray[Any]]:
    return {name: values[rows] for name, values in BATCH.items()}


@pytest.mark.parametrize(("row_column", "masks"), [("row", "independent"), (None, "shared")])
def test_any_batch_in_any_order_gives_the_numbers_of_one_call(
    row_column: str | None, masks: Any
) -> None:
    predict = RowPredictor(network(), ["u", "v"], row_column=row_column, n_samples=20, seed=3)
    whole = mcdrop.predict_with_uncertainty(network(), X, n_samples=20, seed=3, masks=masks)
    shuffled = np.random.default_rng(1).permutation(N_ROWS)
    for rows in (slice(None), slice(100, 107), shuffled[:50], [7], [119, 3, 3]):
        found = predict(cut(rows))
        assert list(found)[:4] == ["row", "u", "v", "mean"]
        np.testing.assert_allclose(found["std"], whole.std[rows, 0], rtol=2e-4, atol=1e-6)
    assert predict(cut(slice(0, 0))).keys() == BATCH.keys()


def test_numbers_of_rows_may_be_any_whole_numbers() -> None:
    predict = RowPredictor(network(), ["u", "v"], row_column="row", n_samples=16)
    one = {"row": np.array([2**40, 12, 2**33 + 1]), "u": np.zeros(3), "v": np.zeros(3)}
    found = predict(one)["mean"]
    # The same inputs, three masks.
    assert len(set(found.tolist())) == 3
    again = predict({name: values[1:] for name, values in one.items()})
    np.testing.assert_allclose(again["mean"], found[1:], rtol=1e-5)


def test_a_program_is_given_as_bytes_and_arrays_as_one_column(tmp_path: Path) -> None:
    free = torch.export.Dim("rows", min=2)
    program = torch.export.export(network(), (torch.randn(6, 2),), dynamic_shapes=({0: free},))
    torch.export.save(program, tmp_path / "net.pt2")
    data = (tmp_path / "net.pt2").read_bytes()
    predict = RowPredictor(data, ["x"], task="regression", noise_std=0.5)
    found = predict({"x": X})
    options: dict[str, Any] = {"task": "regression", "noise_std": 0.5, "seed": 0}
    wanted = mcdrop.predict_with_uncertainty(program, X, masks="shared", **options)
    np.testing.assert_allclose(found["std"], wanted.std[:, 0], rtol=1e-5)


class DropsWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = nn.functional.dropout(self.layer.weight, 0.5, self.training)
        return nn.functional.linear(x, weight, self.layer.bias)


@pytest.mark.parametrize(
    ("options", "batch", "kind", "text"),
    [
        ({}, {"u": X[:, 0]}, mcdrop.RangeError, r"but got \['u'\], without \['v', 'row'\]"),
        ({}, {**BATCH, "mean": X[:, 0]}, mcdrop.RangeError, r"but got \['mean'\]. Rename"),
        ({}, {**BATCH, "row": X[:, 0]}, mcdrop.UnsupportedError, "whole numbers from 0 to 2"),
        ({}, {**BATCH, "row": -BATCH["row"]}, mcdrop.UnsupportedError, "int64 from -119 to 0"),
        (
            {"model": DropsWeights().eval()},
            BATCH,
            mcdrop.UnsupportedError,
            "the same numbers in any batch, but got .*Leave row_column out",
        ),
        (
            {"model": mcdrop.wrap(network(), masks="shared")},
            BATCH,
            mcdrop.RangeError,
            "be None for masks that all rows share",
        ),
        ({"n_samples": 1}, BATCH, mcdrop.RangeError, "`n_samples` to be an integer of at least 2"),
        ({"seed": -1}, BATCH, mcdrop.RangeError, "`seed` to be an integer of at least 0"),
    ],
)
def test_mistakes_are_named(
    options: dict[str, Any], batch: Any, kind: type[Exception], text: str
) -> None:
    given = {"model": network(), "row_column": "row", **options}
    with pytest.raises(kind, match=f"^RowPredictor: expected .*{text}"):
        RowPredictor(given.pop("model"), ["u", "v"], **given)(batch)


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Ray, which tells nobody that it is used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
        pytest.importorskip("ray.data", reason="`make integrations` installs ray")
        yield pytest.importorskip("ray")


def test_actors_of_ray_data_give_the_numbers_of_one_call(ray: Any) -> None:
    whole = mcdrop.predict_with_uncertainty(network(), X, n_samples=20, seed=0)
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
    try:
        rows = ray.data.from_numpy(np.arange(N_ROWS)).rename_columns({"data": "row"})
        rows = rows.map_batches(_with_inputs)
        for size, batch_size in ((1, 50), (2, 7)):
            predicted = rows.random_shuffle(seed=size).map_batches(
                RowPredictor,
                fn_constructor_args=[network(), ["u", "v"]],
                fn_constructor_kwargs={"row_column": "row", "n_samples": 20},
                batch_size=batch_size,
                compute=ray.data.ActorPoolStrategy(size=size),
            )
            found = predicted.to_pandas().sort_values("row", ignore_index=True)
            assert found["row"].tolist() == list(range(N_ROWS))
            np.testing.assert_allclose(found["std"], whole.std[:, 0], rtol=2e-4, atol=1e-6)
    finally:
        ray.shutdown()


def _with_inputs(batch: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    return {**batch, "u": X[batch["row"], 0], "v": X[batch["row"], 1]}


def test_actors_on_a_node_that_is_killed_leave_every_row_once(ray: Any) -> None:
    cluster, other = started(3, 2)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        n_rows = 4000
        numbers = ray.data.range(n_rows, override_num_blocks=40)
        inputs = numbers.map_batches(_inputs_of_ids)
        predicted = inputs.map_batches(
            RowPredictor,
            fn_constructor_args=[network(), ["u", "v"]],
            fn_constructor_kwargs={"row_column": "id", "n_samples": 200},
            batch_size=25,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=3),
        )
        found: list[int] = []
        std: list[float] = []
        for batch in predicted.iter_batches(batch_size=100):
            if len(found) == 500:
                cluster.remove_node(other, allow_graceful=False)
            found += batch["id"].tolist()
            std += batch["std"].tolist()
        assert sorted(found) == list(range(n_rows))
        x = np.stack([np.sin(np.arange(n_rows)), np.cos(np.arange(n_rows))], axis=1)
        whole = mcdrop.predict_with_uncertainty(network(), x, n_samples=200, seed=0)
        np.testing.assert_allclose(std, whole.std[found, 0], rtol=2e-4, atol=1e-6)
    finally:
        ray.shutdown()
        cluster.shutdown()


def _inputs_of_ids(batch: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    return {**batch, "u": np.sin(batch["id"]), "v": np.cos(batch["id"])}
