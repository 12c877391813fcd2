"""Reading back a saved prediction of either type."""

from __future__ import annotations

from pathlib import Path

from mcdrop.prediction.base import saved_type
from mcdrop.prediction.classification import ClassificationPrediction
from mcdrop.prediction.regression import RegressionPrediction

__all__ = ["load_prediction"]


def load_prediction(path: str | Path) -> RegressionPrediction | ClassificationPrediction:
    """Read a prediction written by its ``save`` method, onto the CPU.

    Args:
        path: File to read. Nothing in it is executed.

    Returns:
        A prediction of the type that was saved.

    Raises:
        UnsupportedError: If the file holds something else.
    """
    if saved_type(path) == ClassificationPrediction.__name__:
        return ClassificationPrediction.load(path)
    return RegressionPrediction.load(path)
