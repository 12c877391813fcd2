from __future__ import annotations

import numpy as np
import pytest
import torch

from mcdrop.errors import NonFiniteError, RangeError, ShapeError, UnsupportedError
from mcdrop.report import calibration_report
from tests.report.made import class_prediction, normal_prediction


def test_what_is_no_prediction_is_refused() -> None:
    _, y = normal_prediction()
    with pytest.raises(
        UnsupportedError,
        match=r"calibration_report: expected `prediction` to be a RegressionPrediction or a "
        r"ClassificationPrediction, but got ndarray\. Pass what predict_with_uncertainty returns",
    ):
        calibration_report(y, y)  # type: ignore[arg-type]


def test_targets_of_other_length_or_kind_are_refused() -> None:
    prediction, y = normal_prediction(n=120)
    with pytest.raises(
        ShapeError, match=r"`y` to have shape \(120, 1\) to match `prediction`, but got \(100, 1\)"
    ):
        calibration_report(prediction, y[:100])
    with pytest.raises(UnsupportedError, match=r"expected `y` to hold numbers, but got dtype <U1"):
        calibration_report(prediction, ["a"] * 120)
    y[5] = np.nan
    with pytest.raises(NonFiniteError, match=r"expected `y` to hold finite .* row 5\. Drop"):
        calibration_report(prediction, y)
    probs, labels = class_prediction(n=50)
    with pytest.raises(ShapeError, match=r"expected `y` to have shape \(50,\) .* got \(50, 3\)"):
        calibration_report(probs, torch.eye(3)[labels])
    with pytest.raises(RangeError, match=r"class indices from 0 to 2, but got 3 in rows"):
        calibration_report(probs, labels + 1)


def test_baselines_of_another_type_length_or_name_are_refused() -> None:
    prediction, y = normal_prediction(n=120)
    probs, _ = class_prediction(n=120)
    with pytest.raises(
        UnsupportedError,
        match=r'expected `baselines\["L2"\]` to be a RegressionPrediction, .* but got '
        r"ClassificationPrediction\. Compare predictions of the same task",
    ):
        calibration_report(prediction, y, baselines={"L2": probs})
    with pytest.raises(
        ShapeError, match=r'`baselines\["Ridge"\]` to have shape \(120, 1\) .* got \(100, 1\)'
    ):
        calibration_report(prediction, y, baselines={"Ridge": prediction[:100]})
    with pytest.raises(RangeError, match=r"names other than the main method's, but got 'Ridge'"):
        calibration_report(prediction, y, name="Ridge", baselines={"Ridge": prediction})


def test_predictions_that_cannot_be_judged_are_refused() -> None:
    prediction, y = normal_prediction(n=50)
    with pytest.raises(
        ShapeError, match="expected `prediction` to hold at least 2 rows, but got 1"
    ):
        calibration_report(prediction[0], y[:1])
    prediction.mean[7] = float("inf")
    with pytest.raises(NonFiniteError, match=r"`mean of MC dropout` to hold finite .* row 7"):
        calibration_report(prediction, y)
    probs, labels = class_prediction(n=50)
    probs.probs[3] = float("nan")
    with pytest.raises(NonFiniteError, match=r"`probs of MC dropout` to hold finite .* row 3"):
        calibration_report(probs, labels)
