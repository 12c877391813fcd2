"""Under another default device predictions, scores and reports are what they are without one.

Tensors made without a device would lie on `meta`, where they have no numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop import acquisition, metrics, recalibration

N = 40


def network(n_outputs: int) -> nn.Module:
    # A model of the caller's lies where the caller put it.
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _layers(n_outputs)


def _layers(n_outputs: int) -> nn.Module:
    hidden = [nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 16), nn.Tanh()]
    return nn.Sequential(*hidden, nn.Dropout(0.3), nn.Linear(16, n_outputs)).eval()


class Pair(nn.Module):
    """Returns a mean and the logarithm of a variance."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network(2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.net(x).split(1, dim=1)
        return mean, log_variance


def rows() -> Tensor:
    return torch.randn(N, 4, generator=torch.Generator("cpu").manual_seed(1), device="cpu")


def regression(**options: Any) -> mcdrop.RegressionPrediction:
    wrapped = mcdrop.wrap(network(1), **options.pop("wrap", {}))
    given = {"n_samples": 32, "seed": 0, "task": "regression", **options}
    found: mcdrop.RegressionPrediction = wrapped.predict_with_uncertainty(rows(), **given)
    return found


def classification(**options: Any) -> mcdrop.ClassificationPrediction:
    wrapped = mcdrop.wrap(network(3), **options.pop("wrap", {}))
    given = {"n_samples": 32, "seed": 0, "task": "classification", **options}
    found: mcdrop.ClassificationPrediction = wrapped.predict_with_uncertainty(rows(), **given)
    return found


def heteroscedastic() -> Any:
    return mcdrop.wrap(Pair()).predict_with_uncertainty(
        rows(), task="heteroscedastic", output_type="log_variance", seed=0
    )


def targets() -> Tensor:
    noise = torch.randn(N, 1, generator=torch.Generator("cpu").manual_seed(2), device="cpu")
    return rows()[:, :1] + 0.3 * noise


def labels() -> Tensor:
    return torch.arange(N, device="cpu") % 3


def values_of(prediction: Any) -> list[Any]:
    return list(prediction._tensors().values())


def of_regression() -> list[Any]:
    prediction, y = regression(keep_samples=True, noise_std=0.3), targets()
    assert prediction.samples is not None
    recalibrations = (
        recalibration.StdScaling(),
        recalibration.QuantileRecalibration(),
        recalibration.ConformalRegressor(level=0.8),
    )
    return [
        *values_of(prediction[[0, 3]]),
        *prediction.interval(0.9),
        *(x for each in recalibrations for x in values_of(each.fit(prediction, y)(prediction))),
        metrics.crps_ensemble(prediction.samples, y),
        metrics.crps_normal(prediction.mean, prediction.std, y),
        metrics.pit_uniformity_test(metrics.pit(prediction.samples, y, seed=0)).p_value,
        metrics.quantile_calibration_error(metrics.pit(prediction.samples, y, seed=0)),
        mcdrop.fit_noise_std(prediction, y),
        *acquisition.top_k(acquisition.max_variance(prediction), 3),
    ]


def of_classification() -> list[Any]:
    prediction, y = classification(keep_samples=True, wrap={"masks": "shared"}), labels()
    recalibrations = (
        recalibration.TemperatureScaling(),
        recalibration.VectorScaling(),
        recalibration.BetaScaling(),
        recalibration.IsotonicRecalibration(),
        recalibration.ConformalClassifier("aps", level=0.8, seed=0),
    )
    return [
        *(x for each in recalibrations for x in values_of(each.fit(prediction, y)(prediction))),
        metrics.expected_calibration_error(prediction.probs, y),
        metrics.nll_categorical(prediction.probs, y),
        metrics.brier_score(prediction.probs, y),
        metrics.calibrated_nll(prediction.probs, y),
        acquisition.bald(prediction),
        acquisition.batch_bald(prediction, 3, seed=0).rows,
        mcdrop.RejectionRule.fit(prediction, y, reject=0.1)(prediction),
    ]


def of_a_report() -> list[Any]:
    prediction, y = regression(keep_samples=True, noise_std=0.3), targets()
    probs = classification(keep_samples=True)
    return [
        mcdrop.calibration_report(prediction, y, baselines={"itself": prediction}).to_markdown(),
        mcdrop.calibration_report(probs, labels()).to_markdown(),
    ]


CASES: dict[str, Callable[[], list[Any]]] = {
    "default": lambda: [*values_of(regression()), *values_of(classification())],
    "few passes": lambda: [*values_of(regression(n_samples=7)), *values_of(classification())],
    "many passes": lambda: values_of(regression(n_samples=100)),
    "independent": lambda: values_of(regression(wrap={"stratified": False})),
    "shared": lambda: values_of(classification(wrap={"masks": "shared"})),
    "sequential": lambda: values_of(regression(strategy="sequential")),
    "until settled": lambda: values_of(regression(n_samples="auto", tolerance=0.5)),
    "controlled": lambda: values_of(regression(control_variate=True)),
    "controlled classes": lambda: values_of(classification(control_variate=True)),
    "last in closed form": lambda: values_of(regression(exact_last=True)),
    "in batches": lambda: values_of(regression(batch_size=7)),
    "heteroscedastic": lambda: values_of(heteroscedastic()),
    "of a regression": of_regression,
    "of a classification": of_classification,
    "of a report": of_a_report,
}


@pytest.mark.parametrize("name", CASES)
def test_another_default_device_changes_nothing(name: str) -> None:
    expected = CASES[name]()
    with torch.device("meta"):
        found = CASES[name]()
    for a, b in zip(found, expected, strict=True):
        if isinstance(a, str):
            assert a == b
        else:
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
