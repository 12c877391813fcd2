"""Bayesian uncertainty for any PyTorch model with dropout.

    mc = mcdrop.wrap(model)
    prediction = mc.predict_with_uncertainty(x, task="classification")

Names are imported when they are first used, so that ``import mcdrop`` costs no more than torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcdrop import (
        acquisition,
        baselines,
        comparison,
        displays,
        errors,
        estimators,
        layers,
        metrics,
        mlflow,
        prediction,
        ray,
        recalibration,
        report,
    )
    from mcdrop._export.export import export
    from mcdrop._files.predict_file import predict_file
    from mcdrop._live.rules.registry import register_rule
    from mcdrop._live.sites import DropoutSite
    from mcdrop.baselines.dropout_rate import tune_dropout_rate
    from mcdrop.comparison import Comparison, compare
    from mcdrop.errors import (
        McdropError,
        NoDropoutError,
        NonFiniteError,
        OutputError,
        RangeError,
        ShapeError,
        UnsupportedError,
    )
    from mcdrop.one_call import predict_with_uncertainty
    from mcdrop.prediction import (
        ClassificationPrediction,
        RegressionPrediction,
        fit_noise_std,
        load_prediction,
        noise_std_from_weight_decay,
    )
    from mcdrop.rejection import RejectionRule
    from mcdrop.report import CalibrationReport, calibration_report
    from mcdrop.wrapper import MCDropout, wrap

__version__ = "0.2.0"

_HOMES = {
    "CalibrationReport": "report",
    "ClassificationPrediction": "prediction",
    "Comparison": "comparison",
    "DropoutSite": "_live.sites",
    "MCDropout": "wrapper",
    "McdropError": "errors",
    "NoDropoutError": "errors",
    "NonFiniteError": "errors",
    "OutputError": "errors",
    "RangeError": "errors",
    "RegressionPrediction": "prediction",
    "RejectionRule": "rejection",
    "ShapeError": "errors",
    "UnsupportedError": "errors",
    "calibration_report": "report",
    "compare": "comparison",
    "export": "_export.export",
    "fit_noise_std": "prediction",
    "load_prediction": "prediction",
    "noise_std_from_weight_decay": "prediction",
    "predict_file": "_files.predict_file",
    "predict_with_uncertainty": "one_call",
    "register_rule": "_live.rules.registry",
    "tune_dropout_rate": "baselines.dropout_rate",
    "wrap": "wrapper",
}
_MODULES = (
    "acquisition",
    "baselines",
    "comparison",
    "displays",
    "errors",
    "estimators",
    "layers",
    "metrics",
    "mlflow",
    "prediction",
    "ray",
    "recalibration",
    "report",
)

__all__ = [
    "CalibrationReport",
    "ClassificationPrediction",
    "Comparison",
    "DropoutSite",
    "MCDropout",
    "McdropError",
    "NoDropoutError",
    "NonFiniteError",
    "OutputError",
    "RangeError",
    "RegressionPrediction",
    "RejectionRule",
    "ShapeError",
    "UnsupportedError",
    "acquisition",
    "baselines",
    "calibration_report",
    "compare",
    "comparison",
    "displays",
    "errors",
    "estimators",
    "export",
    "fit_noise_std",
    "layers",
    "load_prediction",
    "metrics",
    "mlflow",
    "noise_std_from_weight_decay",
    "predict_file",
    "predict_with_uncertainty",
    "prediction",
    "ray",
    "recalibration",
    "register_rule",
    "report",
    "tune_dropout_rate",
    "wrap",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name in _MODULES:
        return import_module(f"mcdrop.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'mcdrop' has no attribute {name!r}")
    return getattr(import_module(f"mcdrop.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*__all__, "__version__"])
