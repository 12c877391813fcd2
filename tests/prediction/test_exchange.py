"""Predictions reach other programs whole: Arrow readers and ArviZ."""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from torch import nn

import mcdrop

NET = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.2), nn.Linear(8, 2))
TABLE = pd.DataFrame(np.eye(4, 3), index=pd.Index(list("abcd"), name="id"))


def predicted(inputs: Any) -> mcdrop.ClassificationPrediction:
    return mcdrop.predict_with_uncertainty(
        NET, inputs, task="classification", keep_samples=True, seed=0
    )


def test_arrow_readers_see_the_table_with_its_labels() -> None:
    prediction = predicted(TABLE)
    table = pa.table(prediction)
    expected = prediction.to_pandas()
    assert table.column_names == ["id", *expected.columns]
    pd.testing.assert_frame_equal(table.to_pandas().set_index("id"), expected)
    assert pa.table(predicted(torch.eye(4, 3))).column_names == list(expected.columns)


def test_unnamed_and_nested_labels_get_columns_as_well() -> None:
    index = pd.MultiIndex.from_tuples([("x", 1), ("x", 2), ("y", 1), ("y", 2)], names=["k", None])
    table = pa.table(predicted(TABLE.set_index(index)))
    assert table.column_names[:2] == ["k", "index_1"]
    assert table["index_1"].to_pylist() == [1, 2, 1, 2]


@pytest.mark.parametrize("old", [True, False])
def test_arviz_is_handed_one_chain_with_a_draw_per_pass(
    old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    module: Any = types.ModuleType("arviz")

    def from_dict(data: Any, *, dims: Any, coords: Any) -> str:
        asked.update({**data, "dims": dims, "coords": coords})
        return "tree"

    def from_dict_of_old(
        posterior: Any = None, *, posterior_predictive: Any = None, dims: Any, coords: Any
    ) -> str:
        return from_dict({"posterior_predictive": posterior_predictive}, dims=dims, coords=coords)

    module.from_dict = from_dict_of_old if old else from_dict
    module.InferenceData = object  # also in the new version, for what it once was
    monkeypatch.setitem(sys.modules, "arviz", module)
    prediction = predicted(TABLE)
    assert prediction.to_inference_data("class") == "tree"
    assert prediction.samples is not None
    values = asked["posterior_predictive"]["class"]
    assert values.shape == (1, 100, 4, 2)
    np.testing.assert_array_equal(values[0], prediction.samples)
    assert asked["dims"] == {"class": ["row", "dim_0"]}
    assert list(asked["coords"]["row"]) == list("abcd")


def test_arviz_reads_what_it_is_handed() -> None:
    pytest.importorskip("arviz")
    tree = predicted(TABLE).to_inference_data()
    assert tree.posterior_predictive["y"].shape == (1, 100, 4, 2)


@pytest.mark.parametrize(
    ("name", "call", "text"),
    [
        ("arviz", lambda p: p.to_inference_data(), r'pip install "mcdrop\[arviz\]"'),
        ("pyarrow", lambda p: p.__arrow_c_stream__(), r'pip install "mcdrop\[files\]"'),
    ],
)
def test_without_the_package_the_extra_is_named(
    name: str, call: Any, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prediction = predicted(TABLE)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(mcdrop.UnsupportedError, match=text):
        call(prediction)


def test_passes_that_were_not_kept_cannot_be_handed_over() -> None:
    prediction = mcdrop.predict_with_uncertainty(NET, TABLE, task="classification")
    with pytest.raises(mcdrop.OutputError, match="Predict with keep_samples=True"):
        prediction.to_inference_data()
