from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mcdrop.prediction import RegressionPrediction
from mcdrop.report import CalibrationReport, calibration_report
from tests.report.made import Array, normal_like, normal_prediction, passes_prediction


def report_of(made: tuple[RegressionPrediction, Array | Tensor]) -> CalibrationReport:
    prediction, y = made
    return calibration_report(prediction, y, n_resamples=200)


def test_scores_equal_their_definitions() -> None:
    prediction, y = normal_prediction()
    metrics = calibration_report(prediction, y, n_resamples=50).metrics
    error = y - prediction.mean.numpy()
    z = error / prediction.std.numpy()
    # Standard normal quantiles at 0.75, 0.95 and 0.975.
    for key, quantile in {"50": 0.67449, "90": 1.64485, "95": 1.95996}.items():
        assert metrics[f"coverage_{key}"].value == np.mean(np.abs(z) <= quantile)
    nll = 0.5 * z**2 + np.log(prediction.std.numpy()) + 0.5 * math.log(2 * math.pi)
    assert metrics["nll"].value == pytest.approx(nll.mean(), rel=1e-12)
    assert metrics["rmse"].value == pytest.approx(np.sqrt((error**2).mean()), rel=1e-12)
    width = 2 * 1.6448536 * prediction.std.mean().item()
    assert metrics["interval_width_90"].value == pytest.approx(width, rel=1e-7)
    rms = prediction.variance.mean().sqrt().item()
    assert metrics["sharpness"].value == pytest.approx(rms, rel=1e-12)


def test_likelihood_is_the_mixture_only_where_passes_and_noise_are_there() -> None:
    with_all = report_of(passes_prediction())
    without_samples = report_of(passes_prediction(keep=False))
    without_noise = report_of(passes_prediction(noise=0.0))
    name = "MC dropout"
    assert with_all.notes[name]["nll"] == "mixture over 50 passes"
    prediction, y = passes_prediction()
    mixture = -prediction.log_prob(y).mean().item()
    assert with_all.metrics["nll"].value == pytest.approx(mixture, rel=1e-12)
    assert "passes were not kept" in without_samples.notes[name]["nll"]
    normal = -prediction.as_normal().log_prob(y).mean().item()
    assert without_samples.metrics["nll"].value == pytest.approx(normal, rel=1e-12)
    assert "nll" not in without_noise.metrics
    assert without_noise.notes[name]["nll"] == "needs observation noise; predict with noise_std="


def test_intervals_without_noise_are_said_to_speak_of_the_mean_function() -> None:
    report = report_of(passes_prediction(noise=0.0))
    assert "No observation noise was given" in report.findings[0]
    assert "describe the mean function" in report.remarks[0]
    assert report.notes["MC dropout"]["crps"] == "50 passes without observation noise"


def test_a_point_forecast_is_scored_where_it_can_be() -> None:
    prediction, y = passes_prediction()
    point = normal_like(prediction.mean, 0 * prediction.mean)
    report = calibration_report(point, y, baselines={"Passes": prediction}, n_resamples=50)
    assert set(report.metrics) == {"rmse", "crps"}
    error = (y - prediction.mean).abs().mean().item()
    assert report.metrics["crps"].value == pytest.approx(error, rel=1e-12)
    assert report.notes["MC dropout"]["nll"] == "a point forecast states no uncertainty"
    assert set(report.differences["Passes"]) == {"rmse", "crps"}
    assert report.headline == "MC dropout states no uncertainty. MC dropout is beaten by Passes."
    assert [curve.method for curve in report.curves["coverage"]] == ["Passes"]


def test_one_row_without_spread_leaves_the_likelihood_missing() -> None:
    prediction, y = normal_prediction()
    prediction.aleatoric_variance[3] = 0.0
    report = calibration_report(prediction, y, n_resamples=50)
    assert report.notes["MC dropout"]["nll"] == "some rows state no uncertainty"
    assert "coverage_90" in report.metrics


def test_scaling_targets_and_predictions_scales_errors_and_leaves_coverage() -> None:
    prediction, y = passes_prediction()
    assert prediction.samples is not None
    scaled = RegressionPrediction(
        mean=10 * prediction.mean,
        epistemic_variance=100 * prediction.epistemic_variance,
        aleatoric_variance=100 * prediction.aleatoric_variance,
        mcse=10 * prediction.mcse,
        n_samples=prediction.n_samples,
        samples=10 * prediction.samples,
    )
    one = calibration_report(prediction, y, n_resamples=50).metrics
    ten = calibration_report(scaled, 10 * y, n_resamples=50).metrics
    for key in ("rmse", "crps", "interval_width_90", "sharpness"):
        assert ten[key].value == pytest.approx(10 * one[key].value, rel=1e-6)
    assert ten["coverage_90"].value == one["coverage_90"].value
    assert ten["nll"].value == pytest.approx(one["nll"].value + math.log(10), rel=1e-9)


def test_the_order_of_rows_does_not_change_a_value() -> None:
    prediction, y = passes_prediction()
    order = np.random.default_rng(0).permutation(len(y))
    one = calibration_report(prediction, y, n_resamples=20).metrics
    two = calibration_report(prediction[order], y[order], n_resamples=20).metrics
    for key, estimate in one.items():
        assert two[key].value == pytest.approx(estimate.value, rel=1e-12)


def test_several_outputs_are_averaged_by_row_and_it_says_so() -> None:
    prediction, y = normal_prediction(d=3)
    report = calibration_report(prediction, y, n_resamples=50)
    single = []
    for i in range(3):
        column = RegressionPrediction(
            mean=prediction.mean[:, i],
            epistemic_variance=prediction.epistemic_variance[:, i],
            aleatoric_variance=prediction.aleatoric_variance[:, i],
            mcse=prediction.mcse[:, i],
            n_samples=0,
            family="normal",
        )
        single.append(calibration_report(column, y[:, i], n_resamples=50).metrics)
    for key in ("nll", "crps", "coverage_90", "interval_width_90"):
        average = np.mean([metrics[key].value for metrics in single])
        assert report.metrics[key].value == pytest.approx(average, rel=1e-12)
    assert report.metrics["coverage_90"].n == 300
    assert "averaged over the 3 outputs of a row" in report.remarks[0]


def test_a_column_of_targets_may_stand_for_a_vector() -> None:
    prediction, y = normal_prediction()
    column = calibration_report(prediction, y, n_resamples=50)
    vector = calibration_report(prediction, y[:, 0], n_resamples=50)
    assert column.metrics == vector.metrics


@pytest.mark.parametrize("family", ["mixture", "normal"])
def test_coverage_by_pit_is_coverage_by_interval(family: str) -> None:
    prediction, y = passes_prediction()
    prediction = prediction if family == "mixture" else prediction.as_normal()
    metrics = calibration_report(prediction, y, n_resamples=10).metrics
    for key, level in {"coverage_50": 0.5, "coverage_90": 0.9, "coverage_95": 0.95}.items():
        low, high = prediction.interval(level)
        assert metrics[key].value == ((low <= y) & (y <= high)).double().mean().item()


def test_the_coverage_curve_passes_through_the_coverage_in_the_table() -> None:
    report = report_of(passes_prediction())
    (curve,) = report.curves["coverage"]
    for key, level in {"coverage_50": 0.5, "coverage_90": 0.9, "coverage_95": 0.95}.items():
        assert curve.y[curve.x.index(level)] == report.metrics[key].value
    assert list(curve.y) == sorted(curve.y)
    assert all(
        low <= y <= high for low, y, high in zip(curve.low, curve.y, curve.high, strict=True)
    )


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_pit_shares_add_up_and_are_flat_for_draws_from_the_prediction(noise: float) -> None:
    prediction, _ = passes_prediction(n=1000, n_samples=99, noise=noise)
    draw = torch.Generator().manual_seed(5)
    y = prediction.mean + prediction.std * torch.randn(1000, 1, generator=draw, dtype=torch.float64)
    (curve,) = calibration_report(prediction, y, n_resamples=10).curves["pit"]
    assert sum(curve.y) == pytest.approx(1)
    assert sum(curve.count) == 1000
    # Ten bins of 100 expected rows: four standard errors are 4 * sqrt(90) rows.
    assert max(abs(share - 0.1) for share in curve.y) < 4 * math.sqrt(90) / 1000
