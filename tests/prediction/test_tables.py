"""Tables of predictions: columns named by place, rows by the caller's index, files by suffix."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import mcdrop
from mcdrop.prediction.tables import columns_of, index_from, index_to_plain

NET = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.2), nn.Linear(8, 2))


def predicted(inputs: Any, **options: Any) -> mcdrop.RegressionPrediction:
    return mcdrop.wrap(NET).predict_with_uncertainty(inputs, task="regression", seed=0, **options)


def test_columns_are_named_by_their_place_in_the_row() -> None:
    arrays = {"a": np.arange(12).reshape(2, 3, 2), "b": np.zeros((2, 1)), "c": np.ones(2)}
    columns = columns_of(arrays)
    assert list(columns) == ["a_0_0", "a_0_1", "a_1_0", "a_1_1", "a_2_0", "a_2_1", "b", "c"]
    assert columns["a_2_0"].tolist() == [4, 10]
    assert list(columns_of({"a": np.zeros((2, 3, 1))})) == ["a_0", "a_1", "a_2"]


@pytest.mark.parametrize(
    "index",
    [
        pd.Index(list("abcd"), name="id"),
        pd.Index([7, 5, 3, 1]),
        pd.MultiIndex.from_tuples([("x", 1), ("x", 2), ("y", 1), ("y", 2)], names=["k", "n"]),
        pd.date_range("2020-01-01", periods=4),
    ],
)
def test_rows_keep_the_index_of_the_table_that_was_predicted(
    index: pd.Index, tmp_path: Path
) -> None:
    table = pd.DataFrame(np.eye(4, 3), index=index)
    prediction = predicted(table, batch_size=3)
    assert prediction.to_pandas().index.equals(index)
    assert prediction[[2, 0]].to_pandas().index.equals(index[[2, 0]])
    assert prediction[torch.tensor([True, False, False, True])].index.equals(index[[0, 3]])
    assert prediction[1].index.equals(index[1:2])
    prediction.save(tmp_path / "p.pt")
    loaded = mcdrop.load_prediction(tmp_path / "p.pt").index
    assert loaded.equals(index)
    assert list(loaded.names) == list(index.names)


LABELS: dict[str, pd.Index] = {
    "times": pd.date_range("2024-01-01 12:30", periods=3, tz="Asia/Tokyo"),
    "durations": pd.to_timedelta([1, 2, 90], unit="min"),
    "periods": pd.period_range("2024-01", periods=3, freq="M"),
    "days": pd.Index([date(2024, 1, each) for each in (1, 2, 3)]),
    "bytes": pd.Index([b"a", b"b", b"c"]),
    "missing": pd.Index([1, 2, None], dtype="Int64"),
    "times and text": pd.MultiIndex.from_arrays([pd.date_range("2024", periods=3), list("abc")]),
    # What os.listdir returns for a file whose name is not Unicode.
    "names of files": pd.Index(["a", "b", "\udcff"], dtype=object),
    "named by a tuple": pd.Index([7, 8, 9], name=("id", 1)),
}


@pytest.mark.parametrize("kind", LABELS)
def test_a_loaded_prediction_takes_the_targets_of_the_saved_one(kind: str, tmp_path: Path) -> None:
    index = LABELS[kind]
    prediction = predicted(pd.DataFrame(np.eye(3), index=index), noise_std=1.0).as_normal()
    prediction.save(tmp_path / "p.pt")
    loaded = mcdrop.load_prediction(tmp_path / "p.pt")
    y = pd.DataFrame(np.eye(3, 2), index=index)
    assert torch.equal(loaded.log_prob(y), prediction.log_prob(y))
    with pytest.raises(mcdrop.RangeError, match="the same labels in another order"):
        loaded.log_prob(y[::-1])
    assert list(loaded.index.names) == list(index.names)
    is_of_times = kind in ("times", "durations", "periods", "times and text")
    assert not is_of_times or loaded.index.equals(index)


@pytest.mark.parametrize(
    ("suffix", "index"),
    [
        ("csv", LABELS["names of files"]),
        ("parquet", LABELS["names of files"]),
        ("parquet", pd.Index([1, "a", 2])),
    ],
)
def test_labels_that_a_table_cannot_hold_are_named(
    suffix: str, index: pd.Index, tmp_path: Path
) -> None:
    prediction = predicted(pd.DataFrame(np.eye(3), index=index))
    text = (
        rf"save: expected `index` to have labels that \.{suffix} can hold, but got object \(.* text"
    )
    with pytest.raises(mcdrop.UnsupportedError, match=text):
        prediction.save(tmp_path / f"p.{suffix}")
    assert not list(tmp_path.iterdir())


def test_other_inputs_have_no_index() -> None:
    prediction = predicted(torch.eye(4, 3))
    assert prediction.index is None
    assert prediction[1:].index is None
    assert list(prediction.to_pandas().index) == [0, 1, 2, 3]
    assert index_from(index_to_plain(None)) is None


def test_the_suffix_decides_what_a_file_holds(tmp_path: Path) -> None:
    table = pd.DataFrame(np.eye(4, 3), index=pd.Index(list("abcd"), name="id"))
    prediction = predicted(table, keep_samples=True)
    for suffix in ("csv", "parquet", "npz", "pt", "CSV"):
        prediction.save(tmp_path / f"p.{suffix}")
    expected = prediction.to_pandas()
    found = pd.read_csv(tmp_path / "p.csv", index_col="id")
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, check_exact=False)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "p.parquet"), expected)
    with np.load(tmp_path / "p.npz") as arrays:
        assert set(arrays) == set(prediction.to_numpy())
        np.testing.assert_array_equal(arrays["samples"], prediction.to_numpy()["samples"])
    again = mcdrop.RegressionPrediction.load(tmp_path / "p.pt")
    assert torch.equal(again.mean, prediction.mean)
    assert (tmp_path / "p.csv").read_text() == (tmp_path / "p.CSV").read_text()


def test_rows_that_are_only_counted_need_no_column(tmp_path: Path) -> None:
    predicted(torch.eye(4, 3)).save(tmp_path / "p.csv")
    assert list(pd.read_csv(tmp_path / "p.csv").columns)[:2] == ["mean_0", "mean_1"]


@pytest.mark.parametrize("name", ["p", "p.json", "p.pkl", "p.tar.gz"])
def test_other_suffixes_are_refused_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    text = r"RegressionPrediction.save: expected `path` to end in one of \.pt, \.npz, \.csv, \.par"
    with pytest.raises(mcdrop.UnsupportedError, match=text):
        predicted(torch.eye(4, 3)).save(tmp_path / name)
    assert not list(tmp_path.iterdir())
