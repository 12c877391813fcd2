"""A model, rows with ids of several kinds, and the answer of one call in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

import mcdrop

N_ROWS = 100
INPUTS = ["a", "b", "c"]
IDS = ["name", "when", "number"]


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 1)).eval()


def rows(n_rows: int = N_ROWS) -> pd.DataFrame:
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(n_rows, 3)), columns=INPUTS)
    # Among the inputs, with all that CSV has to quote.
    table.insert(1, "name", [f'row "{i}",\nline' if i % 9 == 0 else f"00{i}" for i in table.index])
    table["when"] = pd.date_range("2020-01-01", periods=n_rows, freq="37h")
    table["number"] = np.arange(n_rows) * 7 - 3
    return table


def write(table: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        table.to_parquet(path, row_group_size=17)
    else:
        arrays = {name: table[name].to_numpy() for name in ("when", "number")}
        names = table["name"].to_numpy(dtype="U")
        # allow_pickle=False refuses objects.
        np.savez(path, allow_pickle=False, x=table[INPUTS].to_numpy(), name=names, **arrays)
    return path


def columns(path: Path) -> list[str] | None:
    return None if path.suffix == ".npz" else INPUTS


def whole(model: nn.Module, table: pd.DataFrame) -> pd.DataFrame:
    return mcdrop.predict_with_uncertainty(model, table[INPUTS], seed=0).to_pandas()


def read(path: Path) -> pd.DataFrame:
    if path.suffix == ".csv":
        return pd.read_csv(path, dtype={"name": str}, parse_dates=["when"])
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    with np.load(path, allow_pickle=False) as archive:
        return pd.DataFrame({name: archive[name].reshape(-1) for name in archive.files})


def check(found: pd.DataFrame, table: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Every row once and in order, ids beside them, numbers equal to rounding."""
    assert list(found.columns) == [*IDS, *expected.columns]
    assert found["name"].tolist() == table["name"].tolist()
    assert pd.to_datetime(found["when"]).tolist() == table["when"].tolist()
    assert found["number"].astype(int).tolist() == table["number"].tolist()
    for name in expected.columns:
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-4, atol=1e-5)


class Breaks(nn.Module):
    """Raises, or returns NaN, for rows whose first input is beyond a limit."""

    def __init__(self, how: str = "raise") -> None:
        super().__init__()
        self.net = network()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        beyond = x[..., :1] > 1e6
        if self.how == "raise" and bool(beyond.any()):
            raise ArithmeticError("beyond the limit.\nMore about it.")
        y: Tensor = self.net(x)
        return torch.where(beyond, torch.nan, y) if self.how == "nan" else y
