from __future__ import annotations

import pytest
import torch

from mcdrop.report import CalibrationReport, calibration_report
from tests.report.made import class_prediction
from tests.report.test_findings_classification import blocks


def calibration(report: CalibrationReport) -> tuple[str, str, str]:
    answer = report.answers[0]
    return answer.grade, answer.word, answer.number


def test_overconfidence_is_answered_with_accuracy_against_confidence() -> None:
    report = blocks((0.9, 1000, 700))
    # Clopper & Pearson for 700 of 1000.
    assert calibration(report) == ("no", "No: too high", "70.0 % [67.1, 72.8], stated 90.0 %")
    assert report.answers[0].reference == pytest.approx(0.9)
    assert report.decision == "Not as they are"
    assert calibration(blocks((0.7, 1000, 900)))[1] == "No: too low"


def test_confidence_that_is_right_on_average_only_is_not_right() -> None:
    assert calibration(blocks((0.6, 500, 450), (0.9, 500, 300)))[1] == "No: right on average only"


def test_ten_rows_tell_nothing_and_it_says_how_many_would() -> None:
    report = blocks((0.95, 10, 10))
    assert calibration(report)[:2] == ("undecided", "10 rows cannot tell")
    assert report.decision == "Not yet: too few rows to tell"
    assert report.actions[0].startswith("Collect labels for about 260 rows in all")
    assert report.answers[1].text == "No row is wrong."


def test_many_calibrated_rows_may_be_acted_on() -> None:
    prediction, y = class_prediction(n=4000)
    report = calibration_report(prediction, y, n_resamples=20)
    assert report.decision == "Yes, as far as these rows show"
    assert [answer.grade for answer in report.answers] == ["yes", "yes", "missing"]


def test_an_overconfident_model_is_told_what_a_temperature_would_bring() -> None:
    prediction, y = class_prediction(n=600, sharpen=4.0)
    report = calibration_report(prediction, y, n_resamples=20)
    assert report.actions[0].startswith("Recalibrate with ")
    assert "the ECE (mean gap between confidence and accuracy) from" in report.actions[0]
    few = calibration_report(prediction[:40], y[:40], n_resamples=20)
    assert few.actions[0] == "Collect at least 50 rows with labels to recalibrate on."
    # Right in all 200 rows: the likelihood grows with the probabilities, whatever the temperature.
    right = blocks((0.8, 200, 200))
    assert not right.repairs
    assert right.actions[0].endswith("these rows hold too few errors to fit to.")


def test_what_referring_saves_is_counted() -> None:
    # The 10 wrong rows of 100 are the least sure: referring 10 % leaves none, 5 % half of them.
    report = blocks((0.95, 90, 90), (0.55, 10, 0))
    (said,) = (action for action in report.actions if action.startswith("Refer"))
    assert "from 10.0 % to 0.0 % [0.0, 4.1] on the rest" in said


def test_an_uncertainty_without_a_link_is_not_to_choose_rows_by() -> None:
    prediction, _ = class_prediction(n=600)
    wrong = torch.rand(600, generator=torch.Generator().manual_seed(1)) < 0.3
    y = torch.where(wrong, (prediction.labels + 1) % 3, prediction.labels)
    report = calibration_report(prediction, y, n_resamples=20)
    assert report.answers[1].word == "No"
    assert "Do not choose rows for review by this uncertainty." in report.actions
