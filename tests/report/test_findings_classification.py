from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mcdrop.report import CalibrationReport, calibration_report
from tests.report.made import certain, class_prediction


def blocks(*parts: tuple[float, int, int]) -> CalibrationReport:
    """Report two classes from (confidence, rows, right rows)."""
    confidence = torch.tensor([c for c, n, _ in parts for _ in range(n)], dtype=torch.float64)
    y = torch.tensor([int(i >= right) for _, n, right in parts for i in range(n)])
    probs = torch.stack([confidence, 1 - confidence], dim=1)
    return calibration_report(certain(probs), y, n_resamples=50)


def finding(report: CalibrationReport, text: str) -> str:
    (found,) = (sentence for sentence in report.findings if text in sentence)
    return found


@pytest.mark.parametrize(
    ("sharpen", "said"),
    [
        (1.0, "Stated confidence agrees with accuracy."),
        (4.0, "Predictions are overconfident."),
        (0.3, "Predictions are underconfident."),
    ],
)
def test_confidence_is_judged_by_accuracy(sharpen: float, said: str) -> None:
    prediction, y = class_prediction(n=1500, sharpen=sharpen)
    report = calibration_report(prediction, y, n_resamples=50)
    assert report.headline == said
    assert finding(report, "Errors gather where the predictive entropy is high")


def test_ten_rows_that_are_all_right_are_too_few_to_tell() -> None:
    report = blocks((0.95, 10, 10))
    told = "Mean confidence is 95.0 %, accuracy 100 % [69, 100]: 10 rows cannot tell them apart."
    assert report.headline == told
    said = finding(report, "Mean confidence is 95.0 %")
    # Clopper & Pearson: 0.025^(1 / 10) = 0.69.
    assert "accuracy 100 % [69, 100], a gap of -5.0 points" in said
    # Binomial with share 0.95 against 0.90, at 2.5 % (two verdicts): about 250 rows.
    assert "cannot be told from none with 10 rows; about 260 rows would show a gap of" in said


def test_wrong_confidence_that_is_right_on_average_is_said() -> None:
    # Stated .6 where right .9, stated .9 where right .6: no gap on average, and an ECE of .3.
    report = blocks((0.6, 500, 450), (0.9, 500, 300))
    assert report.headline.startswith("Confidence is wrong in parts of its range")
    said = report.findings[0]
    assert "500 rows stated at 90 % are right in 60 %" in said
    assert "500 rows stated at 60 % are right in 90 %" in said
    assert "the ECE is 30 %" in said
    assert not report.verdicts["confidence"].rejected


def test_an_ece_that_the_average_gap_explains_is_no_second_fault() -> None:
    report = blocks((0.9, 1000, 700))
    assert report.headline == "Predictions are overconfident."
    assert report.findings[1].startswith("The ECE is 20 %, where a calibrated model would have")


def test_errors_where_the_model_is_most_certain_are_said() -> None:
    # Right on average in each half to within the ranking: more errors at low entropy.
    report = blocks((0.7, 500, 475), (0.8, 500, 350))
    said = finding(report, "Errors gather where the predictive entropy is low: Spearman -0.3")
    assert "Row by row it misleads" in said


def test_the_worst_finding_is_the_headline_not_the_first() -> None:
    # 4 points too confident on average, 34 points off in each half.
    report = blocks((0.6, 1000, 900), (0.9, 1000, 520))
    assert report.verdicts["confidence"].rejected
    assert report.headline.startswith("Confidence is wrong in parts of its range")
    assert "Mean confidence" in "".join(report.findings[1:])


def test_a_calibrated_model_is_told_its_ece_is_not_above_what_chance_gives() -> None:
    prediction, y = class_prediction(n=50)
    report = calibration_report(prediction, y, n_resamples=50)
    said = finding(report, "The ECE is")
    assert "on 50 rows: it cannot be told apart from a calibrated one." in said


def test_overconfident_baseline_is_worse_by_likelihood_and_identical_by_accuracy() -> None:
    calibrated, y = class_prediction(n=600)
    sharpened, _ = class_prediction(n=600, sharpen=4.0)
    report = calibration_report(calibrated, y, baselines={"Off": sharpened}, n_resamples=50)
    assert report.headline.endswith(". MC dropout beats Off.")
    assert report.outcomes["Off"]["accuracy"] == "identical"
    assert "accuracy against Off" not in report.verdicts
    assert finding(report, "against Off").endswith("; identical by accuracy.")


def test_without_errors_nothing_is_claimed_about_them() -> None:
    report = blocks((0.9, 40, 40))
    assert finding(report, "None of the 40 rows was misclassified").endswith(
        "nothing can be said about which rows are wrong."
    )
    assert "ranking" not in report.verdicts


def test_with_nothing_but_errors_nothing_is_claimed_about_ranks() -> None:
    report = blocks((0.9, 40, 0))
    assert "All 40 rows were misclassified." in report.findings
    assert report.headline == "Predictions are overconfident."


def test_entropy_that_is_highest_on_every_error_removes_them_all_by_referral() -> None:
    # The 10 wrong rows of 100 are the most uncertain: referring 10 % leaves none of 90, and a
    # Wilson interval up to z^2 / (90 + z^2) = 4.1 %.
    report = blocks((0.95, 90, 90), (0.55, 10, 0))
    assert "leaves an error rate of 0.0 % [0.0, 4.1] on the rest" in finding(report, "Referring")


def test_entropy_without_a_link_to_errors_is_said_to_be_no_guide() -> None:
    prediction, _ = class_prediction(n=600)
    wrong = torch.rand(600, generator=torch.Generator().manual_seed(1)) < 0.3
    y: Tensor = torch.where(wrong, (prediction.labels + 1) % 3, prediction.labels)
    report = calibration_report(prediction, y, n_resamples=50)
    said = finding(report, "No clear link between errors and predictive entropy")
    # Four verdicts: 3 + 1.06 ((2.498 + 0.842) / atanh(0.2))^2 = 290.7, rounded up.
    assert "where 300 rows would show 0.2. Do not use it" in said


def test_epistemic_share_and_monte_carlo_error_are_said_of_passes() -> None:
    prediction, y = class_prediction(n_samples=20)
    report = calibration_report(prediction, y, n_resamples=20)
    said = finding(report, "of the predictive entropy is epistemic")
    assert "spread of the dropout posterior" in said
    assert "need not shrink as the training set grows" in said
    assert "Monte Carlo error of the confidence" in report.findings[-1]
