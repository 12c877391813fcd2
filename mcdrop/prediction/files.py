"""Reading back a saved prediction of any type."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from mcdrop.errors import UnsupportedError
from mcdrop.prediction.base import Prediction, saved_type
from mcdrop.prediction.classification import ClassificationPrediction
from mcdrop.prediction.regression import RegressionPrediction
from mcdrop.prediction.tables import require_no_table

__all__ = ["load_prediction"]

# Where the types of the package are defined that nothing has imported yet.
_MODULES = {
    "ConformalClassificationPrediction": "mcdrop.recalibration.conformal_classification",
    "ConformalRegressionPrediction": "mcdrop.recalibration.conformal_regression",
    "CrossConformalPrediction": "mcdrop.recalibration.cross_conformal",
    "QuantileRecalibratedPrediction": "mcdrop.recalibration.quantile_prediction",
    "WeightedConformalPrediction": "mcdrop.recalibration.weighted",
}


def load_prediction(path: str | Path) -> RegressionPrediction | ClassificationPrediction:
    """Read a prediction written by its ``save`` method, onto the CPU.

    Args:
        path: File to read. Nothing in it is executed.

    Returns:
        A prediction of the type that was saved: any type of mcdrop, or a subclass of your own
        whose module has been imported.

    Raises:
        UnsupportedError: If the file holds something else.

    Example:
        >>> import tempfile, torch
        >>> zero = torch.zeros(2, 1)
        >>> p = RegressionPrediction(
        ...     mean=zero, epistemic_variance=zero, aleatoric_variance=zero + 1, mcse=zero,
        ...     n_samples=0, family="normal")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     p.save(f"{folder}/p.pt")
        ...     load_prediction(f"{folder}/p.pt")
        RegressionPrediction((2, 1), no passes, epistemic std 0, aleatoric std 1)
    """
    require_no_table("load_prediction", path)
    found = saved_type(path)
    if found in _MODULES:
        import_module(_MODULES[found])
    for kind in _types(Prediction):
        if kind.__name__ == found and issubclass(
            kind, RegressionPrediction | ClassificationPrediction
        ):
            return kind.load(path)
    raise UnsupportedError.of(
        "load_prediction",
        "path",
        "hold a saved prediction",
        found if Path(path).name in found else f"{found} in {Path(path).name}",
        "Pass a file that `save` has written; import the module of a type of your own first",
    )


def _types(kind: type[Prediction]) -> Iterator[type[Prediction]]:
    """Yield the types of predictions that are defined so far."""
    for derived in kind.__subclasses__():
        yield derived
        yield from _types(derived)
