"""Good files of every kind that the package reads, and the readers of each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

import mcdrop
from mcdrop._files.parts import PartFolder
from mcdrop._files.programs import read_program
from mcdrop._files.streaming import open_source
from mcdrop.cli.predicting import read_rows
from mcdrop.cli.predictions import read_prediction
from mcdrop.cli.reading import read_array, read_arrays
from mcdrop.recalibration import ConformalRegressor

__all__ = ["KINDS", "Kind"]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: Its name on the disk; for parts of a folder, with the folder.
        write: Writes a good one.
        readers: What reads it; None of them may do more than raise.
        slow: Whether a reader takes tens of milliseconds.
    """

    name: str
    write: Callable[[Path], object]
    readers: tuple[Callable[[Path], object], ...]
    slow: bool = False

    def place(self, folder: Path) -> Path:
        path = folder / self.name
        path.parent.mkdir(exist_ok=True)
        return path


N_ROWS = 8


def _table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    columns = {"mean": rng.normal(size=N_ROWS), "std": rng.uniform(1, 2, N_ROWS)}
    return pd.DataFrame(columns | {"y": np.arange(N_ROWS), "b": np.arange(N_ROWS) % 2 == 0})


def _arrays() -> dict[str, Any]:
    table = _table()
    inputs = table[["mean", "std", "y"]].to_numpy(np.float32)
    return {"x": inputs, "mean": table["mean"].to_numpy(), "name": np.array(list("abcdefgh"))}


def _stream(ids: tuple[str, ...] = ()) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        source = open_source(path, None, ids)
        for piece in source.pieces():
            source.check(piece)

    return read


def _regression() -> mcdrop.RegressionPrediction:
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1)).eval()
    rows = pd.DataFrame(np.ones((N_ROWS, 3)), index=pd.Index(list("abcdefgh"), name="id"))
    return mcdrop.predict_with_uncertainty(
        net, rows, n_samples=4, seed=0, keep_samples=True, noise_std=0.5
    )


def _classes() -> mcdrop.ClassificationPrediction:
    probs = np.random.default_rng(0).dirichlet(np.ones(3), size=(4, N_ROWS))
    return mcdrop.ClassificationPrediction.from_samples(probs)


def _conformal() -> Any:
    prediction = mcdrop.RegressionPrediction.from_mean_std(np.zeros(40), 1.0)
    return ConformalRegressor(level=0.8).fit(prediction, np.linspace(-2, 2, 40))(prediction)


def _program(path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1)).eval()
    rows = torch.export.Dim("rows", min=2)
    torch.export.save(
        torch.export.export(net, (torch.randn(6, 3),), dynamic_shapes=({0: rows},)), path
    )


def _settings(path: Path) -> None:
    path.write_text(json.dumps({"format": "mcdrop.predict_file/1", "seed": 0, "p": {"": 0.5}}))


def _go_on(path: Path) -> None:
    """Read the settings of a run that was stopped."""
    (path.parent / "rows-000000000000000-000000000000008.parquet").touch()
    PartFolder(path.parent.with_suffix("")).begin({"seed": 0, "p": {"": 0.5}}, resume=True)


def _part(path: Path) -> None:
    import pyarrow as pa

    folder = PartFolder(path.parent.with_suffix(""))
    folder.add(
        0, pa.table({"mean": np.arange(8.0)}), {"rows": "0", "ids": [], "arrays": {}, "split": None}
    )


def _read_part(path: Path) -> None:
    (part,) = PartFolder(path.parent.with_suffix("")).parts()
    part.schema(), part.metadata(), part.table()


def _save(made: Callable[[], Any]) -> Callable[[Path], None]:
    return lambda path: made().save(path)


_ANY = (read_array, read_arrays, read_prediction)

KINDS = (
    Kind(
        "t.parquet",
        lambda path: _table().to_parquet(path, row_group_size=5),
        (_stream(), _stream(("b",)), *_ANY, lambda path: read_rows(path, "y")),
    ),
    Kind(
        "t.csv",
        lambda path: _table().to_csv(path, index=False),
        (_stream(), _stream(("b",)), *_ANY, lambda path: read_rows(path, "y")),
    ),
    Kind("a.npy", lambda path: np.save(path, _arrays()["x"]), (_stream(), read_array)),
    Kind(
        "columns.npy",
        lambda path: np.save(path, np.asfortranarray(_arrays()["x"])),
        (_stream(), read_array),
    ),
    Kind(
        "a.npz",
        lambda path: np.savez(path, **_arrays()),
        (_stream(("name",)), read_arrays, read_prediction),
    ),
    Kind(
        "small.npz",
        lambda path: np.savez_compressed(path, **_arrays()),
        (_stream(("name",)), read_arrays, read_prediction),
    ),
    Kind(
        "columns.npz",
        lambda path: np.savez_compressed(path, x=np.asfortranarray(_arrays()["x"])),
        (_stream(), read_arrays),
    ),
    Kind("p.npz", _save(_regression), (read_prediction,)),
    Kind("regression.pt", _save(_regression), (mcdrop.load_prediction, read_prediction)),
    Kind("classes.pt", _save(_classes), (mcdrop.load_prediction, read_array)),
    Kind("conformal.pt", _save(_conformal), (mcdrop.load_prediction,)),
    Kind("tensors.pt", lambda path: torch.save(torch.eye(3), path), (read_array,)),
    Kind("net.pt2", _program, (read_program,), slow=True),
    Kind("out.csv.parts/settings.json", _settings, (_go_on,)),
    Kind("out.csv.parts/rows-000000000000000-000000000000008.parquet", _part, (_read_part,)),
)
