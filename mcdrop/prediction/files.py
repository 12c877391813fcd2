"""Reading back a saved prediction of any type."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mcdrop.errors import UnsupportedError
from mcdrop.prediction.base import Prediction, saved_type
from mcdrop.prediction.classification import ClassificationPrediction
from mcdrop.prediction.regression import RegressionPrediction

__all__ = ["load_prediction"]


def load_prediction(path: str | Path) -> RegressionPrediction | ClassificationPrediction:
    """Read a prediction written by its ``save`` method, onto the CPU.

    Args:
        path: File to read. Nothing in it is executed.

    Returns:
        A prediction of the type that was saved; import `mcdrop.recalibration` first to read the
        types it defines.

    Raises:
        UnsupportedError: If the file holds something else.
    """
    found = saved_type(path)
    for kind in _types(Prediction):
        if kind.__name__ == found and issubclass(
            kind, RegressionPrediction | ClassificationPrediction
        ):
            return kind.load(path)
    raise UnsupportedError.of(
        "load_prediction",
        "path",
        "hold a saved prediction",
        found,
        "Import the module that defines its type, or pass another file",
    )


def _types(kind: type[Prediction]) -> Iterator[type[Prediction]]:
    """Yield the types of predictions that are defined so far."""
    for derived in kind.__subclasses__():
        yield derived
        yield from _types(derived)
