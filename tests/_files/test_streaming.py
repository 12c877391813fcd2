"""The loop over blocks: what it refuses, and what it leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from mcdrop import OutputError, RangeError, ShapeError, UnsupportedError, predict_file
from mcdrop._files.archives import ArraySource
from mcdrop._files.streaming import open_source
from mcdrop._files.tables import CsvSource, ParquetSource
from tests._files import cases


def test_the_suffix_decides_how_a_file_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 2)))
    np.savez(tmp_path / "x.npz", x=np.ones((2, 2)))
    pd.DataFrame({"a": [1.0]}).to_csv(tmp_path / "x.CSV", index=False)
    pd.DataFrame({"a": [1.0]}).to_parquet(tmp_path / "x.parquet")
    kinds = {"x.npy": ArraySource, "x.npz": ArraySource, "x.CSV": CsvSource}
    for name, kind in {**kinds, "x.parquet": ParquetSource}.items():
        assert isinstance(open_source(tmp_path / name, None, []), kind)
    with pytest.raises(UnsupportedError, match=r"end in one of \.parquet, \.csv, \.npz, \.npy"):
        open_source(tmp_path / "x.pt", None, [])


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a,b,c\n")
    with pytest.raises(ShapeError, match="`data` to have at least one row"):
        predict_file(cases.network(), tmp_path / "in.csv", tmp_path / "out.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_ids_named_like_predictions_are_refused(tmp_path: Path) -> None:
    table = cases.rows().rename(columns={"number": "mean"})
    table.to_parquet(tmp_path / "in.parquet")
    options: dict[str, Any] = {"columns": cases.INPUTS, "id_columns": ["mean"]}
    with pytest.raises(RangeError, match=r"names of their own .* but got \['mean'\]"):
        predict_file(cases.network(), tmp_path / "in.parquet", tmp_path / "out.parquet", **options)


class Widens(nn.Module):
    """Returns as many columns as the batch has large rows."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.drop(x)
        return y if float(x.abs().max()) < 1e6 else torch.cat([y, y], dim=-1)


def test_predictions_that_change_their_shape_are_refused(tmp_path: Path) -> None:
    table = cases.rows()
    table.loc[40:, "a"] = 1e7
    data = cases.write(table, tmp_path / "in.csv")
    options: dict[str, Any] = {"columns": cases.INPUTS, "task": "regression", "batch_rows": 20}
    with pytest.raises(OutputError, match=r"return rows of one shape and type, but got .*_3"):
        predict_file(Widens().eval(), data, tmp_path / "out.csv", **options)


def test_an_existing_file_is_replaced_at_the_end_alone(tmp_path: Path) -> None:
    data, out = tmp_path / "in.csv", tmp_path / "out.csv"
    out.write_text("before")
    broken = cases.rows()
    broken.loc[50, "a"] = np.nan
    cases.write(broken, data)
    with pytest.raises(ValueError, match="nan in row 50"):
        predict_file(cases.network(), data, out, columns=cases.INPUTS, batch_rows=20)
    assert out.read_text() == "before"
    cases.write(cases.rows(), data)
    predict_file(cases.network(), data, out, columns=cases.INPUTS, batch_rows=20)
    assert len(pd.read_csv(out)) == cases.N_ROWS
