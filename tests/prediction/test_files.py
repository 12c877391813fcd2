"""Files of every type of prediction, read back without knowing the type."""

from __future__ import annotations

import pickle
import pkgutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest
import torch

import mcdrop
from mcdrop.prediction import files
from mcdrop.prediction.base import Prediction
from mcdrop.recalibration import ConformalRegressor, QuantileRecalibration

HALF = torch.ones(4, 1)
NORMAL = mcdrop.RegressionPrediction(
    mean=0 * HALF,
    epistemic_variance=0 * HALF,
    aleatoric_variance=HALF,
    mcse=0 * HALF,
    n_samples=0,
    family="normal",
)


def test_a_fresh_process_reads_types_of_recalibration(tmp_path: Path) -> None:
    y = [0.0, 1.0, -1.0, 2.0]
    QuantileRecalibration(2).fit(NORMAL, y)(NORMAL).save(tmp_path / "quantile.pt")
    ConformalRegressor(level=0.5).fit(NORMAL, y)(NORMAL).save(tmp_path / "conformal.pt")
    code = (
        "import mcdrop, sys\n"
        "first = mcdrop.load_prediction(sys.argv[1])\n"
        "print(type(first).__name__, type(mcdrop.load_prediction(sys.argv[2])).__name__)"
    )
    command = [sys.executable, "-c", code, *(str(p) for p in sorted(tmp_path.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        "ConformalRegressionPrediction",
        "QuantileRecalibratedPrediction",
    ]


def test_every_type_of_the_package_can_be_found() -> None:
    for module in pkgutil.walk_packages(mcdrop.__path__, "mcdrop."):
        if "numba" not in module.name:
            import_module(module.name)
    derived = {kind for kind in files._types(Prediction) if kind.__module__.startswith("mcdrop.")}
    eager = {mcdrop.RegressionPrediction, mcdrop.ClassificationPrediction}
    found = {kind.__name__: kind.__module__ for kind in derived - eager}
    assert found == files._MODULES


def test_a_type_of_your_own_is_found_once_it_is_defined(tmp_path: Path) -> None:
    @dataclass(frozen=True, eq=False, repr=False, kw_only=True)
    class Mine(mcdrop.RegressionPrediction):
        extra: int = 0

    plain = {name: getattr(NORMAL, name) for name in ("mcse", "n_samples", "family")}
    mine = Mine(mean=HALF, epistemic_variance=HALF, aleatoric_variance=HALF, extra=3, **plain)
    mine.save(tmp_path / "mine.pt")
    back = mcdrop.load_prediction(tmp_path / "mine.pt")
    assert isinstance(back, Mine)
    assert back.extra == 3


def test_other_files_are_named_for_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(mcdrop.UnsupportedError, match="but got other.pt, which torch.save did not"):
        mcdrop.load_prediction(path)
    path.write_bytes(pickle.dumps({"format": "mcdrop/1/RegressionPrediction"}))
    with pytest.raises(mcdrop.UnsupportedError, match="but got other.pt, which torch.save did not"):
        mcdrop.load_prediction(path)
    torch.save(torch.nn.Linear(1, 1), path)
    with pytest.raises(mcdrop.UnsupportedError, match="objects are not plain tensors"):
        mcdrop.load_prediction(path)
    torch.save({"format": "mcdrop/1/Unheard"}, path)
    with pytest.raises(
        mcdrop.UnsupportedError, match="but got Unheard in other.pt. Pass a file that `save`"
    ):
        mcdrop.load_prediction(path)


def test_a_missing_file_is_pythons_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        mcdrop.load_prediction(tmp_path / "nowhere.pt")


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_tables_for_other_programs_are_refused_by_their_suffix(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"p{suffix}"
    mcdrop.RegressionPrediction.from_mean_std([1.0, 2.0], 1.0).save(path)
    text = rf"`path` to be a .pt file, .*, but got p\{suffix}\. Save it with save\(\"prediction.pt"
    for read in (mcdrop.load_prediction, mcdrop.RegressionPrediction.load):
        with pytest.raises(mcdrop.UnsupportedError, match=text):
            read(path)
