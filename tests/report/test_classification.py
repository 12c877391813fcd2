import math

import numpy as np
import pytest
import torch

from mcdrop.prediction import ClassificationPrediction
from mcdrop.report import calibration_report


def certain(probs):
    """A closed-form prediction from probabilities."""
    zero = torch.zeros_like(probs)
    return ClassificationPrediction(
        probs=probs,
        probs_std=zero,
        expected_entropy=-torch.special.xlogy(probs, probs).sum(1),
        variation_ratio=zero[:, 0],
        mcse=zero,
        n_samples=0,
    )


def test_scores_equal_their_definitions(class_prediction):
    prediction, y = class_prediction()
    metrics = calibration_report(prediction, y, n_resamples=20).metrics
    probs, labels = prediction.probs.numpy(), y.numpy()
    outcome = np.eye(3)[labels]
    assert metrics["accuracy"].value == np.mean(probs.argmax(1) == labels)
    nll = -np.log(probs[np.arange(len(labels)), labels]).mean()
    assert metrics["nll"].value == pytest.approx(nll, rel=1e-12)
    assert metrics["brier"].value == pytest.approx(
        ((probs - outcome) ** 2).sum(1).mean(), rel=1e-12
    )
    assert metrics["confidence"].value == pytest.approx(probs.max(1).mean(), rel=1e-12)
    entropy = -(probs * np.log(probs)).sum(1).mean()
    assert metrics["predictive_entropy"].value == pytest.approx(entropy, rel=1e-12)
    assert metrics["ece"].low >= 0


@pytest.mark.parametrize(
    ("sharpen", "said"),
    [
        (1.0, "Stated confidence agrees with accuracy."),
        (4.0, "Predictions are overconfident."),
        (0.3, "Predictions are underconfident."),
    ],
)
def test_confidence_is_judged_by_accuracy(class_prediction, sharpen, said):
    prediction, y = class_prediction(n=1500, sharpen=sharpen)
    report = calibration_report(prediction, y, n_resamples=200)
    assert report.headline == said
    assert "Errors gather where the predictive entropy is high" in report.findings[1]


def test_overconfident_baseline_is_worse_by_likelihood_and_equal_by_accuracy(class_prediction):
    calibrated, y = class_prediction(n=600)
    sharpened, _ = class_prediction(n=600, sharpen=4.0)
    report = calibration_report(calibrated, y, baselines={"Off": sharpened}, n_resamples=100)
    assert report.headline.endswith("By NLL, MC dropout is better than Off.")
    difference = report.differences["Off"]["accuracy"]
    # No row differs, which does not rule out that one row in hundreds would.
    assert difference.value == 0
    assert -0.01 < difference.low < 0 < difference.high < 0.01
    assert "undecided by accuracy +0.0" in report.findings[2]


def test_mutual_information_needs_passes(class_prediction):
    closed, y = class_prediction()
    passes, _ = class_prediction(n_samples=20)
    report = calibration_report(passes, y, baselines={"Closed": closed}, n_resamples=20)
    assert report.metrics["mutual_information"].value > 0
    assert report.notes["Closed"]["mutual_information"] == "one fixed set of weights has none"
    assert "mutual_information" not in report.differences["Closed"]
    assert any("of the predictive entropy is epistemic" in finding for finding in report.findings)
    assert "Monte Carlo error of the confidence" in report.findings[-1]


def test_an_impossible_label_makes_the_likelihood_missing_with_the_reason():
    probs = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.2, 0.8]] * 10, dtype=torch.float64)
    y = torch.tensor([1, 0, 1] * 10)
    report = calibration_report(certain(probs), y, n_resamples=20)
    assert "nll" not in report.metrics
    expected = "infinite: the true class of 10 rows was given probability 0"
    assert report.notes["MC dropout"]["nll"] == expected


def test_without_errors_nothing_is_claimed_about_them():
    probs = torch.tensor([[0.9, 0.1], [0.3, 0.7]] * 20, dtype=torch.float64)
    report = calibration_report(certain(probs), torch.tensor([0, 1] * 20), n_resamples=20)
    assert report.findings[1] == (
        "None of the 40 rows was misclassified: nothing can be said about errors."
    )


def test_entropy_that_is_highest_on_every_error_removes_them_all_by_referral():
    # The 10 wrong rows of 100 are the most uncertain: referring 10 % leaves none.
    sure = torch.tensor([[0.95, 0.05]] * 90, dtype=torch.float64)
    unsure = torch.tensor([[0.55, 0.45]] * 10, dtype=torch.float64)
    y = torch.tensor([0] * 90 + [1] * 10)
    report = calibration_report(certain(torch.cat([sure, unsure])), y, n_resamples=100)
    (curve,) = report.curves["referral"]
    assert curve.x == pytest.approx((0.0, 0.1))
    assert curve.y == pytest.approx((0.1, 0.0))
    assert curve.count == (100, 90)
    assert "leaves an error rate of 0 %" in report.findings[1].replace("0.00 %", "0 %")


def test_entropy_without_a_link_to_errors_is_said_to_be_no_guide(class_prediction):
    prediction, _ = class_prediction(n=600)
    wrong = torch.rand(600, generator=torch.Generator().manual_seed(1)) < 0.3
    y = torch.where(wrong, (prediction.labels + 1) % 3, prediction.labels)
    findings = calibration_report(prediction, y, n_resamples=200).findings
    assert findings[1].startswith("No clear link between errors and predictive entropy")


def test_reliability_points_hold_every_row_once_and_agree_with_the_ece(class_prediction):
    prediction, y = class_prediction(sharpen=2.0)
    report = calibration_report(prediction, y, n_resamples=20)
    (curve,) = report.curves["reliability"]
    assert sum(curve.count) == len(y)
    gaps = np.abs(np.subtract(curve.x, curve.y))
    ece = float(np.average(gaps, weights=curve.count))
    assert report.metrics["ece"].value == pytest.approx(ece, rel=1e-9)


def test_error_by_entropy_averages_to_the_error_rate(class_prediction):
    prediction, y = class_prediction()
    report = calibration_report(prediction, y, n_resamples=20)
    (curve,) = report.curves["error_by_entropy"]
    overall = float(np.average(curve.y, weights=curve.count))
    assert overall == pytest.approx(1 - report.metrics["accuracy"].value, rel=1e-9)
    assert list(curve.x) == sorted(curve.x)
    assert max(curve.x) <= math.log(3)
