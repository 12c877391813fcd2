"""Predictions from files of any method: means and deviations, samples, or probabilities."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mcdrop.cli.reading import read_arrays, wrong
from mcdrop.errors import NonFiniteError, RangeError, ShapeError
from mcdrop.prediction import ClassificationPrediction, RegressionPrediction, load_prediction
from mcdrop.prediction.base import Prediction

__all__ = ["Found", "read_column", "read_prediction"]

_WANTED = (
    "hold `mean` (and `std`), `samples` or `probs`, in tables numbered as `sample_0`, `prob_0`, ..."
)
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Found:
    """A prediction with whatever else its file holds."""

    prediction: Prediction
    columns: Mapping[str, npt.NDArray[Any]]


def read_prediction(path: Path) -> Found:
    """Read a prediction written by `save`, or arrays of another method.

    Args:
        path: A .pt file, or .npz, .csv or .parquet with `mean` and `std`, `samples` (S, N, ...) or
            `probs` (N, C); in a table `sample_0`, ..., `prob_0` or `probs_0`, ..., or `mean_0`, ...
            and `std_0`, ..., one column each. So `save` writes them.

    Raises:
        UnsupportedError: If a column is missing, not numeric, not finite, or of another length; the
            text names file and column.
        OSError: If the file cannot be opened.
    """
    if path.suffix == ".pt":
        return Found(load_prediction(path), {})
    columns = read_arrays(path)
    try:
        return Found(_prediction(path, columns), columns)
    except (NonFiniteError, RangeError, ShapeError) as error:
        # These come from the prediction, which knows of no file.
        raise wrong(path, "hold a prediction", error, "Correct it") from error


def _prediction(path: Path, columns: Mapping[str, npt.NDArray[Any]]) -> Prediction:
    """Return the prediction that the columns are."""
    samples = _numbered(columns, "sample", path)
    probs = _numbered(columns, "prob", path)
    if probs is None:
        probs = _numbered(columns, "probs", path)
    if probs is not None:
        return _classes(path, probs)
    if samples is not None:
        return _passes(path, samples.T if samples.ndim == 2 else samples)
    if "probs" in columns:
        return _classes_of(path, columns)
    if "samples" in columns:
        passes = _numeric(path, "samples", columns["samples"])
        return _passes(path, passes, _noise(path, columns))
    mean = _moment(columns, "mean", path)
    if mean is not None:
        std = _moment(columns, "std", path)
        return _normal(path, mean, np.zeros_like(mean) if std is None else std)
    remedy = "Name the columns so"
    raise wrong(path, _WANTED, f"columns {', '.join(map(repr, columns)) or 'none'}", remedy)


def read_column(
    path: Path, columns: Mapping[str, npt.NDArray[Any]], name: str, n_rows: int, option: str
) -> npt.NDArray[Any]:
    """Return one column of a file, with one value per row."""
    if name not in columns:
        found = f"columns {', '.join(map(repr, columns)) or 'none'}"
        raise wrong(path, f"have the column {name!r} of {option}", found, "Name one of its columns")
    values = columns[name]
    if len(values) != n_rows:
        condition = f"have {n_rows} rows in {name!r}, as the prediction has"
        raise wrong(path, condition, f"{len(values)} rows", "Pass the same rows in the same order")
    return values


def _moment(
    columns: Mapping[str, npt.NDArray[Any]], name: str, path: Path
) -> npt.NDArray[np.float64] | None:
    """Return a column, or those of several outputs, (N, D); None if there is neither."""
    if name in columns:
        return _numeric(path, name, columns[name])
    return _numbered(columns, name, path)


def _noise(path: Path, columns: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float64] | float:
    """Return the standard deviation of the noise beside the passes that `save` wrote."""
    for name in ("sample_variances", "aleatoric_variance"):
        if name in columns:
            return np.sqrt(_numeric(path, name, columns[name]))
    return 0.0


def _numbered(
    columns: Mapping[str, npt.NDArray[Any]], stem: str, path: Path
) -> npt.NDArray[np.float64] | None:
    """Return the columns `stem_0`, `stem_1`, ... side by side, (N, K); None if there are none."""
    numbers = sorted(int(m[1]) for name in columns if (m := re.fullmatch(rf"{stem}_(\d+)", name)))
    if not numbers:
        return None
    if numbers != list(range(len(numbers))):
        missing = next(i for i in range(len(numbers) + 1) if i not in numbers)
        condition = f"number its columns {stem}_0, {stem}_1, ..."
        raise wrong(path, condition, f"no {stem}_{missing}", "Add it, or number them anew")
    parts = [_numeric(path, f"{stem}_{i}", columns[f"{stem}_{i}"]) for i in numbers]
    return np.stack(parts, axis=1)


def _numeric(path: Path, name: str, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return a column as float64; refuse text, NaN, infinity and no rows by its name."""
    if not len(values):
        raise wrong(path, "hold rows", f"none in {name!r}", "Write the predictions first")
    if values.dtype.kind not in "buif":
        raise wrong(path, f"hold numbers in {name!r}", f"dtype {values.dtype}", "Write numbers")
    found = values.astype(np.float64)
    bad = np.argwhere(~np.isfinite(found))
    if len(bad):
        place = int(bad[0][-1 if name == "samples" and found.ndim == 2 else 0])
        condition = f"hold finite numbers in {name!r}"
        raise wrong(path, condition, f"{found[tuple(bad[0])]} in row {place}", "Drop or repair it")
    return found


def _normal(
    path: Path, mean: npt.NDArray[np.float64], std: npt.NDArray[np.float64]
) -> RegressionPrediction:
    """Return a normal prediction; all of its variance counts as noise."""
    if mean.shape != std.shape:
        found = f"shapes {mean.shape} and {std.shape}"
        raise wrong(path, "have `mean` and `std` of equal length", found, "Write one of each a row")
    if (std < 0).any():
        row = int(np.argwhere(std < 0)[0][0])
        raise wrong(path, "hold `std` of at least 0", f"{std.min():g} in row {row}", "Correct it")
    return RegressionPrediction.from_mean_std(mean, std)


def _passes(
    path: Path, samples: npt.NDArray[np.float64], noise: npt.NDArray[np.float64] | float = 0.0
) -> RegressionPrediction:
    """Return a mixture of samples (S, N, ...), which hold the observation noise unless given."""
    if samples.ndim < 2 or len(samples) < 2:
        found = f"shape {samples.shape}"
        raise wrong(path, "hold `samples` of shape (S, N, ...), S >= 2", found, "Put samples first")
    return RegressionPrediction.from_samples(np.ascontiguousarray(samples), noise_std=noise)


def _classes_of(path: Path, columns: Mapping[str, npt.NDArray[Any]]) -> ClassificationPrediction:
    """Return the mixture of the passes that `save` wrote, or class probabilities alone."""
    probs = _classes(path, _numeric(path, "probs", columns["probs"]))
    passes = columns.get("samples")
    if passes is None or passes.shape[1:] != tuple(probs.probs.shape) or len(passes) < 2:
        return probs
    return ClassificationPrediction.from_samples(_numeric(path, "samples", passes))


def _classes(path: Path, probs: npt.NDArray[np.float64]) -> ClassificationPrediction:
    """Return class probabilities (N, C, ...), each row of which sums to 1."""
    if probs.ndim < 2:
        raise wrong(path, "hold `probs` of shape (N, C)", f"shape {probs.shape}", "Add the classes")
    off = (np.abs(probs.sum(axis=1) - 1) > _TOLERANCE) | (probs < 0).any(axis=1)
    if off.any():
        row = int(np.argwhere(off)[0][0])
        found = f"{probs[row].tolist() if probs.ndim == 2 else 'others'} in row {row}"
        raise wrong(
            path, "hold probabilities that sum to 1", found, "Apply softmax to logits first"
        )
    # Rounding in the file is undone, so that rows sum to 1 in float64.
    return ClassificationPrediction.from_probs(probs / probs.sum(axis=1, keepdims=True))
