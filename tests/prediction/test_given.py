"""Arrays from other methods as predictions: every kind of array, moments by hand, mistakes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from mcdrop import ClassificationPrediction, RegressionPrediction, calibration_report
from mcdrop.errors import NonFiniteError, RangeError, ShapeError, UnsupportedError

MEAN, STD = np.array([0.0, 1.0, -2.0]), np.array([1.0, 0.5, 2.0])
KINDS: list[Any] = [
    np.asarray,
    np.float32,
    torch.tensor,
    lambda a: torch.tensor(a).half().requires_grad_(),
    pd.Series,
    pd.DataFrame,
    list,
]


@pytest.mark.parametrize("kind", KINDS)
def test_mean_and_std_of_every_kind_are_that_normal(kind: Any) -> None:
    p = RegressionPrediction.from_mean_std(kind(MEAN), kind(STD))
    assert p.mean.dtype == torch.float64
    assert not p.mean.requires_grad
    y = np.array([0.5, 0.5, 0.5])
    expected = stats.norm(MEAN, STD)
    np.testing.assert_allclose(p.log_prob(y).flatten(), expected.logpdf(y), rtol=1e-12)
    low, high = p.interval(0.9)
    np.testing.assert_allclose(low.flatten(), expected.ppf(0.05), rtol=1e-12)
    np.testing.assert_allclose(high.flatten(), expected.ppf(0.95), rtol=1e-12)
    assert p.n_samples == 0


def test_the_epistemic_part_is_taken_off_the_whole() -> None:
    p = RegressionPrediction.from_mean_std(MEAN, 1.0, epistemic_std=[0.6, 0.0, 1.0])
    torch.testing.assert_close(p.aleatoric_std, torch.tensor([0.8, 1.0, 0.0]).double())
    torch.testing.assert_close(p.std, torch.ones(3).double())


def test_point_forecast_has_errors_but_no_density() -> None:
    p = RegressionPrediction.from_point(MEAN)
    assert not p.variance.any()
    with pytest.raises(RangeError, match="`variance` to be positive for a density"):
        p.log_prob(MEAN)


def test_moments_of_members_are_those_of_the_mixture() -> None:
    members = np.random.default_rng(0).normal(size=(5, 4, 2))
    noise = np.random.default_rng(1).uniform(0.5, 1, size=(5, 4, 2))
    p = RegressionPrediction.from_samples(members, noise_std=noise)
    np.testing.assert_allclose(p.mean, members.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(p.epistemic_variance, members.var(axis=0, ddof=1), rtol=1e-12)
    np.testing.assert_allclose(p.aleatoric_variance, (noise**2).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(p.mcse, members.std(axis=0, ddof=1) / math.sqrt(5), rtol=1e-12)
    y = np.zeros((4, 2))
    density = stats.norm.pdf(y, members, noise).mean(axis=0)
    np.testing.assert_allclose(p.log_prob(y), np.log(density), rtol=1e-12)
    assert "5 samples" in repr(p)


@pytest.mark.parametrize(
    ("noise", "variances"),
    [
        (2.0, [[4, 4], [4, 4], [4, 4]]),
        ([1.0, 2.0], [[1, 4], [1, 4], [1, 4]]),
        ([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [[1, 4], [9, 16], [25, 36]]),
    ],
)
def test_noise_is_for_all_per_output_or_per_row(noise: Any, variances: Any) -> None:
    p = RegressionPrediction.from_samples(np.zeros((2, 3, 2)), noise_std=noise)
    np.testing.assert_array_equal(p.aleatoric_variance, variances)


def test_one_noise_per_row_stands_for_one_output() -> None:
    p = RegressionPrediction.from_samples(np.zeros((2, 3, 1)), noise_std=[1.0, 2.0, 3.0])
    np.testing.assert_array_equal(p.aleatoric_std, [[1.0], [2.0], [3.0]])


def test_draws_of_y_are_their_own_distribution() -> None:
    draws = np.random.default_rng(0).normal(size=(2001, 2))
    p = RegressionPrediction.from_samples(draws)
    np.testing.assert_allclose(p.quantile(0.3), np.quantile(draws, 0.3, axis=0), rtol=1e-12)


def test_members_with_different_noise_are_saved_and_sliced(tmp_path: Path) -> None:
    p = RegressionPrediction.from_samples(np.eye(3)[:2], noise_std=np.eye(3)[:2])
    p[1:].save(tmp_path / "p.pt")
    loaded = RegressionPrediction.load(tmp_path / "p.pt")
    np.testing.assert_array_equal(loaded.aleatoric_variance, [0.5, 0.0])


@pytest.mark.parametrize("kind", KINDS[:5])
def test_one_column_of_probabilities_is_class_one(kind: Any) -> None:
    p = ClassificationPrediction.from_probs(kind(np.array([0.25, 1.0, 0.0])))
    np.testing.assert_array_equal(p.probs, [[0.75, 0.25], [0, 1], [1, 0]])
    assert p.labels.tolist() == [0, 1, 0]
    assert not p.mutual_information.any()
    column = ClassificationPrediction.from_probs(np.array([[0.25], [1.0], [0.0]]))
    assert torch.equal(column.probs, p.probs)


def test_members_of_a_classifier_by_hand() -> None:
    members = np.array([[[0.7, 0.2, 0.1]], [[0.1, 0.8, 0.1]], [[0.6, 0.4, 0.0]]])
    p = ClassificationPrediction.from_samples(members)
    mean = members.mean(axis=0)
    np.testing.assert_allclose(p.probs, mean, rtol=1e-12)
    np.testing.assert_allclose(p.probs_std, members.std(axis=0, ddof=1), rtol=1e-12)
    np.testing.assert_allclose(p.variation_ratio, [1 / 3], rtol=1e-12)  # one of three votes for 1
    each = [stats.entropy(member[0]) for member in members]
    np.testing.assert_allclose(p.expected_entropy, [np.mean(each)], rtol=1e-12)
    information = stats.entropy(mean[0]) - np.mean(each)
    np.testing.assert_allclose(p.mutual_information, [information], rtol=1e-12)
    # Plus sum_c Var(mean p_c) / (2 p_c).
    bias = (members.var(axis=0, ddof=1) / 3 / (2 * mean)).sum()
    np.testing.assert_allclose(p.mutual_information_corrected, [information + bias], rtol=1e-12)


def test_pixels_have_classes_along_dimension_one() -> None:
    probs = np.full((2, 3, 4, 5), 1 / 3)
    assert ClassificationPrediction.from_probs(probs).labels.shape == (2, 4, 5)
    assert ClassificationPrediction.from_samples([probs, probs]).variation_ratio.shape == (2, 4, 5)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda R, C: R.from_point([]), ShapeError, "from_point: expected `mean` to hold at least"),
        (lambda R, C: R.from_point(3.0), ShapeError, r"`mean` to have shape \(N,\)"),
        (lambda R, C: R.from_point(["a"]), UnsupportedError, "`mean` to hold numbers"),
        (lambda R, C: R.from_point([0, math.nan]), NonFiniteError, "NaN or infinity in row 1"),
        (
            lambda R, C: R.from_mean_std(MEAN, STD[:2]),
            ShapeError,
            r"from_mean_std: expected `std` to be one number or have shape \(3,\) to match `mean`",
        ),
        (lambda R, C: R.from_mean_std(MEAN, STD[:, None].T), ShapeError, r"got \(1, 3\)"),
        (lambda R, C: R.from_mean_std(MEAN, -STD), RangeError, "standard deviations, not log"),
        (lambda R, C: R.from_mean_std(MEAN, math.inf), NonFiniteError, "`std` to hold finite"),
        (
            lambda R, C: R.from_mean_std(MEAN, 1.0, epistemic_std=1.1),
            RangeError,
            "`epistemic_std` to be at most `std`",
        ),
        (lambda R, C: R.from_samples([[1.0, 2.0]]), ShapeError, "S >= 2 draws or members first"),
        (lambda R, C: R.from_samples([1.0, 2.0]), ShapeError, r"but got \(2,\)"),
        (
            lambda R, C: R.from_samples([[1.0, 2.0], [3.0, math.nan]]),
            NonFiniteError,
            "`samples` to hold finite numbers, but got NaN or infinity in row 1",
        ),
        (
            lambda R, C: R.from_samples(np.zeros((2, 3, 2)), noise_std=np.ones(3)),
            ShapeError,
            r"`noise_std` to be one number or have shape \(2,\), \(3, 2\), \(2, 3, 2\)",
        ),
        (
            lambda R, C: R.from_samples(np.zeros((2, 3)), noise_std=-1.0),
            RangeError,
            "`noise_std` to be a finite number of at least 0, but got -1",
        ),
        (
            lambda R, C: C.from_probs([[0.5, 0.6]]),
            RangeError,
            r"from_probs: expected `probs` to have rows that sum to one, but got a sum of 1.1 in",
        ),
        (lambda R, C: C.from_probs([[-1.0, 2.0]]), RangeError, "not logits: apply softmax"),
        (lambda R, C: C.from_probs([0.2, 1.5]), RangeError, r"`probs` to lie in \[0, 1\]"),
        (lambda R, C: C.from_probs([[math.nan, 1.0]]), NonFiniteError, "in row 0"),
        (lambda R, C: C.from_samples([[[0.5, 0.5]]]), ShapeError, "with S >= 2"),
        (
            lambda R, C: C.from_samples([[0.2, 0.8], [0.5, 0.5], [1.0, 0.0]]),
            ShapeError,
            r"members first, \(S, N, C\), but got \(3, 2\), whose rows sum to one.*from_probs",
        ),
        (
            lambda R, C: C.from_samples([[[0.5, 0.5], [1, 0]], [[0.5, 0.5], [0.5, 1.2]]]),
            RangeError,
            r"`samples` to lie in \[0, 1\], but got 1.2 in row 1",
        ),
        (
            lambda R, C: C.from_samples([[[0.5, 0.5], [1, 0]], [[0.5, 0.5], [0.5, 0.2]]]),
            RangeError,
            "a sum of 0.7 in row 1",
        ),
    ],
)
def test_mistakes_are_named(make: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make(RegressionPrediction, ClassificationPrediction)


def test_a_report_takes_bare_arrays() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=80)
    main = RegressionPrediction.from_mean_std(np.zeros(80), 1.0)
    members = RegressionPrediction.from_samples(rng.normal(size=(5, 80)) / 9, noise_std=1.0)
    report = calibration_report(
        main, y, baselines={"Zero": np.zeros(80), "Ensemble": members}, n_resamples=50
    )
    assert report.baseline_metrics["Zero"]["rmse"].value == report.metrics["rmse"].value
    assert "a point forecast states no uncertainty" in report.notes["Zero"]["nll"]
    assert report.notes["Ensemble"]["nll"] == "mixture over 5 samples"
    with pytest.raises(NonFiniteError, match=r'calibration_report: expected `baselines\["Zero"\]`'):
        calibration_report(main, y, baselines={"Zero": np.full(80, np.nan)})
    with pytest.raises(ShapeError, match=r'expected `baselines\["Zero"\]` to have shape \(80,\)'):
        calibration_report(main, y, baselines={"Zero": np.zeros(79)})


def test_a_report_of_classes_takes_bare_probabilities() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, size=80)
    main = ClassificationPrediction.from_probs(np.full((80, 2), 0.5))
    report = calibration_report(main, y, baselines={"0.6": np.full(80, 0.6)}, n_resamples=50)
    assert report.baseline_metrics["0.6"]["accuracy"].value == pytest.approx(y.mean())
    with pytest.raises(RangeError, match=r'`baselines\["labels"\]` to lie in \[0, 1\]'):
        calibration_report(main, y, baselines={"labels": y + 1})


def test_series_and_frames_give_their_index() -> None:
    names = ["a", "b"]
    mean = pd.Series([1.0, 2.0], index=names)
    probs = pd.DataFrame([[0.5, 0.5], [0.2, 0.8]], index=names)
    for prediction in (
        RegressionPrediction.from_mean_std(mean, 1.0),
        RegressionPrediction.from_point(mean),
        ClassificationPrediction.from_probs(probs),
    ):
        assert prediction.index.tolist() == names
    assert RegressionPrediction.from_point([1.0]).index is None
