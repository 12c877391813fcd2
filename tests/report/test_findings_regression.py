from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mcdrop.prediction import RegressionPrediction
from mcdrop.report import CalibrationReport, calibration_report
from tests.report.made import Array, normal_like, normal_prediction, passes_prediction


def report_of(made: tuple[RegressionPrediction, Array | Tensor]) -> CalibrationReport:
    prediction, y = made
    return calibration_report(prediction, y, n_resamples=50)


def constant(errors: Array, std: float = 1.0) -> CalibrationReport:
    """Report targets with these errors around 0, stated with one std."""
    zero = torch.zeros(len(errors), 1, dtype=torch.float64)
    return calibration_report(normal_like(zero, zero + std**2), errors, n_resamples=50)


def finding(report: CalibrationReport, text: str) -> str:
    (found,) = (sentence for sentence in report.findings if text in sentence)
    return found


def test_calibrated_intervals_are_said_to_hold() -> None:
    report = report_of(normal_prediction(n=1000))
    assert report.headline == "90 % intervals hold what they state."
    assert "which agrees with 90 %" in report.findings[0]
    assert report.findings[1].startswith("Error grows with the stated uncertainty: Spearman 0.")


def test_few_rows_are_said_to_be_too_few_and_how_many_would_do() -> None:
    report = report_of(normal_prediction(n=50))
    apart = "cannot be told apart from 90 % with 50 rows"
    told = "90 % intervals hold 94 % [83, 99] of the targets: 50 rows cannot tell that from 90 %."
    assert report.headline == told
    assert f"{apart}; about 570 rows would show a gap of 5 points" in report.findings[0]


@pytest.mark.parametrize(("stated", "word", "factor"), [(0.5, "narrow", 2.0), (2.0, "wide", 0.5)])
def test_misstated_spread_is_named_with_the_factor_that_mends_it(
    stated: float, word: str, factor: float
) -> None:
    report = report_of(normal_prediction(n=4000, stated=stated))
    assert report.headline == f"90 % intervals are too {word}."
    said = float(report.findings[0].split("Standard deviations ")[1].split(" times")[0])
    assert said == pytest.approx(factor, rel=0.06)


def test_a_small_set_that_coverage_cannot_judge_shows_its_spread_by_the_size_of_errors() -> None:
    # 20 of 20 inside agrees with 90 %: 0.9^20 = 0.12. Errors half as large do not.
    report = report_of(normal_prediction(n=20, stated=2.0))
    assert report.headline == "Stated standard deviations are too large."
    assert "around their mean, errors are 0.5" in report.findings[0]


def test_a_bias_is_named_before_any_advice_to_scale() -> None:
    # Every target lies one unit above the mean, stated with std 1.
    report = constant(np.ones((500, 1)))
    assert report.headline == "Predictions are biased: too low by 1 on average."
    said = finding(report, "too wide")
    assert said.endswith("Remove the bias: it is all of the error.")
    assert "times as large" not in said


@pytest.mark.parametrize(
    ("scale", "advice"),
    [
        (1.0, "Remove the bias and leave the standard deviations: they fit the errors around it."),
        (3.0, "Remove the bias first: after that, standard deviations 3"),
    ],
)
def test_advice_to_scale_speaks_of_the_errors_around_the_bias(scale: float, advice: str) -> None:
    errors = -1.0 + scale * np.random.default_rng(0).normal(size=(4000, 1))
    report = constant(errors)
    assert advice in finding(report, "90 % intervals hold")
    assert "Predictions are too high: targets lie 1" in finding(report, "Predictions are too")


def test_heavy_tails_against_a_normal_are_flagged_where_coverage_agrees() -> None:
    # t(2.2), scaled so that 90 % lie inside 1.645: coverage of 90 % intervals is right.
    from scipy.stats import t

    errors = np.random.default_rng(0).standard_t(2.2, size=(2000, 1)) * 1.6449 / t.ppf(0.95, 2.2)
    report = constant(errors)
    assert not report.verdicts["coverage_90"].rejected
    assert report.headline == "Errors have heavier tails than stated."
    assert "no factor on the standard deviation mends this" in report.findings[0]


def test_lighter_tails_and_skewed_errors_are_told_apart() -> None:
    draw = np.random.default_rng(1)
    uniform = draw.uniform(-(3**0.5), 3**0.5, size=(3000, 1))
    assert finding(constant(uniform), "Errors have lighter tails than stated")
    exponential = draw.exponential(size=(3000, 1)) - 1
    assert finding(constant(exponential), "Errors are skewed where the stated distribution is not")


@pytest.mark.parametrize(
    ("stated", "true", "said"),
    [
        ((0.5, 2.0), (1.2, 1.2), "varies too much between rows: against it, errors are larger"),
        ((0.9, 1.1), (0.5, 1.5), "varies too little between rows: against it, errors are smaller"),
    ],
)
def test_a_spread_that_is_right_only_on_average_is_said(
    stated: tuple[float, float], true: tuple[float, float], said: str
) -> None:
    odd = np.arange(2000)[:, None] % 2 == 1
    std = torch.from_numpy(np.where(odd, *stated))
    errors = np.where(odd, *true) * np.random.default_rng(2).normal(size=(2000, 1))
    report = calibration_report(normal_like(0 * std, std.square()), errors, n_resamples=50)
    assert finding(report, f"The stated standard deviation {said} where it is small")


def test_uncertainty_shuffled_among_rows_is_said_to_be_no_guide() -> None:
    prediction, y = normal_prediction(n=500)
    order = torch.randperm(500, generator=torch.Generator().manual_seed(3))
    shuffled = normal_like(prediction.mean, prediction.aleatoric_variance[order])
    assert finding(report_of((shuffled, y)), "No clear link between error and stated uncertainty")


def test_uncertainty_that_runs_against_the_errors_is_said_to_mislead() -> None:
    prediction, y = normal_prediction(n=500)
    reversed_ = normal_like(prediction.mean, 1 / prediction.aleatoric_variance)
    report = report_of((reversed_, y))
    assert "it misleads" in finding(report, "Error falls as the stated uncertainty grows")


def test_constant_spread_is_said_to_rank_nothing() -> None:
    report = constant(np.random.default_rng(0).normal(size=(200, 1)))
    assert finding(report, "same for all rows")
    assert {"ranking", "by_row"}.isdisjoint(report.verdicts)
    assert [len(curve.x) for curve in report.curves["error_by_uncertainty"]] == [1]


def test_the_output_at_fault_is_named() -> None:
    errors = np.random.default_rng(0).normal(size=(400, 3)) + np.array([0.0, 0.0, 1.0])
    zero = torch.zeros(400, 3, dtype=torch.float64)
    report = calibration_report(normal_like(zero, zero + 1), errors, n_resamples=20)
    assert finding(report, "Predictions are too low in output 2")


def test_a_biased_baseline_is_worse_and_swapping_sides_flips_every_sign() -> None:
    good, y = normal_prediction()
    biased, _ = normal_prediction(bias=2.0)
    one = calibration_report(good, y, baselines={"B": biased}, n_resamples=50)
    other = calibration_report(biased, y, baselines={"B": good}, n_resamples=50)
    assert one.headline.endswith(". MC dropout beats B.")
    assert other.headline.endswith(". MC dropout is beaten by B.")
    for key, difference in one.differences["B"].items():
        mirrored = other.differences["B"][key]
        assert difference.value == pytest.approx(-mirrored.value, abs=1e-12)
    assert one.differences["B"]["rmse"].high < 0


def test_a_baseline_equal_to_the_prediction_is_identical() -> None:
    prediction, y = normal_prediction()
    report = calibration_report(prediction, y, baselines={"Twin": prediction}, n_resamples=50)
    assert set(report.outcomes["Twin"].values()) == {"identical"}
    assert report.headline.endswith(". MC dropout is identical to Twin.")
    assert "MC dropout against Twin: identical by NLL; identical by RMSE." in report.findings
    assert not any("Twin" in key for key in report.verdicts)


def test_passes_that_disagree_little_are_said_to_be_enough() -> None:
    enough = report_of(passes_prediction(n_samples=200))
    few = report_of(passes_prediction(n_samples=4))
    assert "more passes would change little" in enough.findings[-1]
    assert "predict with more passes" in few.findings[-1]
    assert "20 % of the predictive variance is epistemic" in enough.findings[-2]  # 0.25 / 1.25


def test_without_noise_the_advice_is_to_state_it() -> None:
    report = report_of(passes_prediction(noise=0.0))
    assert "No observation noise was given" in finding(report, "90 % intervals")


@pytest.mark.parametrize("n", [2, 8, 60])
def test_predictions_without_any_error_are_told_so(n: int) -> None:
    zero = torch.zeros(n, 1, dtype=torch.float64)
    report = calibration_report(normal_like(zero, zero + 1), zero, n_resamples=20)
    assert report.metrics["rmse"].value == 0
    if report.verdicts["dispersion"].rejected and not report.verdicts["coverage_90"].rejected:
        assert "errors are 0 times as large" in finding(report, "Stated standard deviations are")
