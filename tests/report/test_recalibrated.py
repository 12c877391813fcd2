"""Reports of recalibrated predictions use the recalibrated intervals."""

import torch
from torch import Tensor

from mcdrop.prediction import RegressionPrediction
from mcdrop.recalibration import ConformalRegressor, QuantileRecalibration, StdScaling
from mcdrop.report import calibration_report


def overconfident(n_rows: int, seed: int) -> tuple[RegressionPrediction, Tensor]:
    """A normal forecast whose stated spread is a third of the real one."""
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(n_rows, 1, generator=generator, dtype=torch.float64)
    y = mean + torch.randn(n_rows, 1, generator=generator, dtype=torch.float64)
    prediction = RegressionPrediction(
        mean=mean,
        epistemic_variance=torch.zeros_like(mean),
        aleatoric_variance=torch.full_like(mean, 1 / 9),
        mcse=torch.zeros_like(mean),
        n_samples=0,
        family="normal",
    )
    return prediction, y


def test_coverage_is_that_of_the_recalibrated_intervals() -> None:
    held_out, y_held_out = overconfident(600, 0)
    plain, y = overconfident(900, 1)
    for recalibrator in (
        ConformalRegressor("absolute"),
        ConformalRegressor("normalized"),
        QuantileRecalibration(),
        StdScaling(),
    ):
        if isinstance(recalibrator, QuantileRecalibration):
            better = StdScaling().fit(held_out, y_held_out)
            fitted: RegressionPrediction = recalibrator.fit(better(held_out), y_held_out)(
                better(plain)
            )
        else:
            fitted = recalibrator.fit(held_out, y_held_out)(plain)
        report = calibration_report(fitted, y, baselines={"plain": plain}, n_resamples=50)
        # 900 rows: binomial standard error 1 %; 600 calibration rows add as much again.
        assert abs(report.metrics["coverage_90"].value - 0.9) < 0.04
        assert report.baseline_metrics["plain"]["coverage_90"].value < 0.6


def test_levels_that_calibration_rows_cannot_serve_are_missing_with_the_reason() -> None:
    held_out, y_held_out = overconfident(12, 0)
    plain, y = overconfident(50, 1)
    fitted = ConformalRegressor("absolute").fit(held_out, y_held_out)(plain)
    report = calibration_report(fitted, y, n_resamples=20)
    assert "coverage_95" not in report.metrics
    assert "too few calibration rows" in report.to_markdown()


def test_without_90_percent_intervals_the_headline_says_so() -> None:
    # Of 6 calibration rows the widest interval holds 6 / 7 = 86 %.
    held_out, y_held_out = overconfident(6, 0)
    plain, y = overconfident(50, 1)
    fitted = ConformalRegressor("absolute", level=0.8).fit(held_out, y_held_out)(plain)
    report = calibration_report(fitted, y, n_resamples=20)
    assert report.headline == "There are no 90 % intervals to judge."
    assert "coverage_90" not in report.verdicts
