from __future__ import annotations

import numpy as np
import pytest

from mcdrop.errors import NonFiniteError, UnsupportedError
from mcdrop.metrics import ood_auroc
from mcdrop.report import calibration_report
from tests.report.made import class_prediction, normal_like, normal_prediction


def test_a_second_data_set_is_compared_by_its_uncertainty() -> None:
    prediction, y = normal_prediction(n=100)
    other = normal_like(prediction.mean[:40], 3 * prediction.aleatoric_variance[:40])
    shift = calibration_report(prediction, y, shifted={"winter": other}, n_resamples=20).shift
    assert shift is not None
    here, there = prediction.std[:, 0].numpy(), other.std[:, 0].numpy()
    expected = ood_auroc(np.concatenate([here, there]), [0] * 100 + [1] * 40)
    assert (shift.name, shift.n) == ("winter", 40)
    assert shift.auroc.value == pytest.approx(expected, rel=1e-12)
    assert shift.above.value == np.mean(there > np.quantile(here, 0.95))
    assert (shift.mean_here, shift.mean_there) == pytest.approx((here.mean(), there.mean()))


def test_it_must_be_of_the_same_type_and_finite() -> None:
    prediction, y = normal_prediction(n=60)
    probs, _ = class_prediction(n=60)
    with pytest.raises(
        UnsupportedError, match="`shifted` to be a RegressionPrediction, .* but got"
    ):
        calibration_report(prediction, y, shifted=probs)
    broken = normal_like(prediction.mean, prediction.variance * float("nan"))
    with pytest.raises(NonFiniteError, match="`uncertainty of shifted` to hold finite"):
        calibration_report(prediction, y, shifted=broken)
    assert calibration_report(prediction, y, n_resamples=20).shift is None
