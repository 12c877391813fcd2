from __future__ import annotations

import dataclasses

import pytest

from mcdrop.prediction import RegressionPrediction
from mcdrop.report import CalibrationReport, calibration_report
from tests.report.made import normal_like, normal_prediction, passes_prediction


def report_of(made: tuple[RegressionPrediction, object], **options: object) -> CalibrationReport:
    prediction, y = made
    return calibration_report(prediction, y, n_resamples=20, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("stated", "word"), [(0.4, "No: too narrow"), (2.5, "No: too wide")])
def test_a_wrong_width_is_answered_with_the_coverage(stated: float, word: str) -> None:
    report = report_of(normal_prediction(n=400, stated=stated))
    answer = report.answers[0]
    assert (answer.grade, answer.word) == ("no", word)
    assert answer.marks[0].value == report.metrics["coverage_90"].value
    assert answer.reference == 0.9
    assert report.decision == "Not as they are"
    assert report.actions[0].startswith("Recalibrate with StdScaling on held-out rows.")


def test_a_fault_that_coverage_does_not_show_is_named() -> None:
    biased = report_of(normal_prediction(n=300, bias=0.5, stated=1.1))
    assert biased.verdicts["bias"].rejected
    assert biased.answers[0].grade == "no"
    assert biased.answers[0].word in {"No: predictions are biased", "No: too narrow"}


def test_few_rows_tell_nothing_and_many_do() -> None:
    few, many = report_of(normal_prediction(n=10)), report_of(normal_prediction(n=2000))
    assert few.decision == "Not yet: too few rows to tell"
    assert few.actions[0].startswith("Collect targets for about 570 rows in all")
    assert many.decision == "Yes, as far as these rows show"
    assert many.answers[0].word == "Yes"
    (said,) = (action for action in many.actions if action.startswith("Review"))
    assert "the RMSE of the rest is" in said


def test_no_uncertainty_and_no_noise_are_said() -> None:
    prediction, y = normal_prediction(n=100)
    point = report_of((normal_like(prediction.mean, 0 * prediction.mean), y))
    assert point.decision == "Not on their uncertainty: there is none"
    assert [answer.grade for answer in point.answers] == ["missing"] * 3
    bare = report_of(passes_prediction(noise=0.0))
    assert bare.actions[0].startswith("Predict with noise_std=")
    constant = report_of((normal_like(prediction.mean, 0 * prediction.mean + 4), y))
    assert constant.answers[1].text.startswith("The stated uncertainty is the same for all rows")


def test_a_better_baseline_is_to_be_used_and_an_equal_one_preferred() -> None:
    good, y = normal_prediction()
    biased, _ = normal_prediction(bias=2.0)
    beaten = report_of((biased, y), baselines={"B": good})
    assert beaten.answers[2].word == "No: beaten by B"
    assert "Use B instead: it predicts these rows better." in beaten.actions
    twin = report_of((good, y), baselines={"Twin": good})
    assert any(
        action == "Prefer the simpler of MC dropout and Twin, as their losses agree."
        for action in twin.actions
    )


def test_draws_from_elsewhere_may_hold_the_noise_and_are_not_told_to_state_it() -> None:
    prediction, y = passes_prediction(noise=0.0)
    draws = dataclasses.replace(prediction, run=None)
    report = report_of((draws, y))
    assert report.answers[0].word == "No: too narrow"
    assert report.actions[0].startswith("Recalibrate with ")
    assert report.remarks == ()
    assert report.notes["MC dropout"]["crps"] == "50 samples without observation noise"
