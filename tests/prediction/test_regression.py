"""Predictive distributions of real values: mixture against SciPy, rows, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize, stats

import mcdrop
from mcdrop import RegressionPrediction
from mcdrop.prediction import load_prediction

S, N = 7, 5
SAMPLES = torch.randn(S, N, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def prediction(noise: float = 0.3, **changes: Any) -> RegressionPrediction:
    mean, variance = SAMPLES.mean(dim=0), SAMPLES.var(dim=0)
    values: dict[str, Any] = {
        "mean": mean,
        "epistemic_variance": variance,
        "aleatoric_variance": torch.full_like(mean, noise**2),
        "mcse": (variance / S).sqrt(),
        "n_samples": S,
        "samples": SAMPLES,
    }
    return RegressionPrediction(**{**values, **changes})


def test_variance_is_the_sum_of_its_parts() -> None:
    p = prediction()
    assert torch.equal(p.variance, p.epistemic_variance + p.aleatoric_variance)
    torch.testing.assert_close(p.std.square(), p.variance)
    torch.testing.assert_close(p.aleatoric_std, torch.full((N, 1), 0.3, dtype=torch.float64))
    torch.testing.assert_close(p.epistemic_std, SAMPLES.std(dim=0))


def test_log_prob_is_that_of_the_mixture_over_passes() -> None:
    y = np.linspace(-1, 1, N)
    # Gal & Ghahramani (2016), eq. 8, written as a plain average of densities.
    density = stats.norm.pdf(y[:, None], SAMPLES.numpy()[:, :, 0].T, 0.3).mean(axis=1)
    found = prediction().log_prob(y)
    assert found.shape == (N, 1)
    np.testing.assert_allclose(found[:, 0].numpy(), np.log(density), rtol=1e-12)


def test_log_prob_of_the_normal_is_another_number() -> None:
    y = torch.linspace(-1, 1, N, dtype=torch.float64)
    normal = prediction().as_normal()
    expected = stats.norm.logpdf(y, normal.mean[:, 0], normal.std[:, 0])
    np.testing.assert_allclose(normal.log_prob(y)[:, 0].numpy(), expected, rtol=1e-12)
    assert not torch.allclose(normal.log_prob(y), prediction().log_prob(y), atol=1e-3)


@pytest.mark.parametrize("q", [1e-6, 0.05, 0.5, 0.9, 1 - 1e-6])
@pytest.mark.parametrize("noise", [1e-3, 0.3, 10.0])
def test_mixture_quantile_inverts_the_mixture_distribution(q: float, noise: float) -> None:
    found = prediction(noise).quantile(q)
    for row in range(N):
        centers = SAMPLES[:, row, 0].numpy()

        def excess(t: float, centers: Any = centers) -> float:
            return float(stats.norm.cdf(t, centers, noise).mean() - q)

        exact = optimize.brentq(excess, -80, 80, xtol=1e-13, rtol=1e-14)
        assert found[row, 0].item() == pytest.approx(exact, abs=1e-6 * noise)


def test_quantile_of_one_component_is_that_of_the_normal() -> None:
    one = prediction(samples=SAMPLES[:1], epistemic_variance=torch.zeros(N, 1))
    expected = SAMPLES[0] + 0.3 * stats.norm.ppf(0.9)
    torch.testing.assert_close(one.quantile(0.9), expected)


def test_without_noise_quantiles_are_those_of_the_passes() -> None:
    p = prediction(aleatoric_variance=torch.zeros(N, 1, dtype=torch.float64))
    for q in (0.1, 0.37, 0.99):
        np.testing.assert_allclose(p.quantile(q), np.quantile(SAMPLES.numpy(), q, axis=0))


def test_several_quantiles_come_levels_first_and_increase() -> None:
    levels = prediction().quantile([0.1, 0.5, 0.9])
    assert levels.shape == (3, N, 1)
    assert bool((levels.diff(dim=0) > 0).all())


@pytest.mark.parametrize("level", [0.5, 0.9])
@pytest.mark.parametrize("normal", [False, True])
def test_interval_has_equal_tails(level: float, normal: bool) -> None:
    p = prediction().as_normal() if normal else prediction()
    lower, upper = p.interval(level)
    torch.testing.assert_close(lower, p.quantile((1 - level) / 2))
    torch.testing.assert_close(upper, p.quantile((1 + level) / 2))


def test_what_needs_samples_says_how_to_keep_them() -> None:
    p = prediction(samples=None)
    for call in (p.interval, lambda: p.quantile(0.5), lambda: p.log_prob(np.zeros(N))):
        with pytest.raises(mcdrop.OutputError, match=r"Predict with keep_samples=True, or .*as_n"):
            call()
    assert p.as_normal().interval(0.9)[0].shape == (N, 1)


def test_there_is_no_density_without_noise() -> None:
    p = prediction(aleatoric_variance=torch.zeros(N, 1, dtype=torch.float64))
    with pytest.raises(mcdrop.RangeError, match="Predict with noise_std="):
        p.log_prob(np.zeros(N))


@pytest.mark.parametrize("level", [0, 1, 1.5, -0.1])
def test_levels_outside_the_unit_interval_are_refused(level: float) -> None:
    with pytest.raises(mcdrop.RangeError, match=r"`level` to lie in \(0, 1\)"):
        prediction().interval(level)
    with pytest.raises(mcdrop.RangeError, match=r"`q` to lie in \(0, 1\)"):
        prediction().quantile(level)


def test_targets_of_another_shape_are_refused() -> None:
    with pytest.raises(mcdrop.ShapeError, match=r"shape \(5, 1\) to match `prediction`, but got"):
        prediction().log_prob(np.zeros(N + 1))


@pytest.mark.parametrize(
    "rows", [slice(1, 3), [0, 4], torch.tensor([2, 2]), np.array([True] * 2 + [False] * 3), 3, -1]
)
def test_rows_are_cut_from_every_field(rows: Any) -> None:
    p = prediction()
    part = p[rows]
    index = [rows] if isinstance(rows, int) else rows
    torch.testing.assert_close(part.mean, p.mean[index])
    assert part.samples is not None
    torch.testing.assert_close(part.samples, SAMPLES[:, index])
    assert len(part) == len(part.variance)


def test_a_row_that_does_not_exist_is_an_index_error() -> None:
    with pytest.raises(IndexError, match="row 5 is out of range for a prediction of 5 rows"):
        prediction()[5]


def test_tables_have_one_row_per_row_and_one_column_per_quantity() -> None:
    table = prediction().to_pandas()
    assert len(table) == N
    assert {"mean", "std", "epistemic_std", "aleatoric_std", "mcse"} <= set(table.columns)
    np.testing.assert_allclose(table["std"], prediction().std[:, 0])
    wide = prediction(mean=torch.zeros(N, 2)).to_pandas()
    assert {"mean_0", "mean_1"} <= set(wide.columns)


def test_saved_predictions_come_back_whole(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(3, 1))
    p = mcdrop.wrap(model).predict_with_uncertainty(torch.ones(4, 3), keep_samples=True)
    p.save(tmp_path / "p.pt")
    back = RegressionPrediction.load(tmp_path / "p.pt")
    assert back.run == p.run
    for name, value in p.to_numpy().items():
        np.testing.assert_array_equal(back.to_numpy()[name], value)
    assert isinstance(load_prediction(tmp_path / "p.pt"), RegressionPrediction)
    with pytest.raises(mcdrop.UnsupportedError, match="hold a saved ClassificationPrediction"):
        mcdrop.ClassificationPrediction.load(tmp_path / "p.pt")
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(
        mcdrop.UnsupportedError, match="got weights.pt, a OrderedDict from elsewhere"
    ):
        load_prediction(tmp_path / "weights.pt")


def test_repr_says_what_the_spread_is_made_of() -> None:
    assert "aleatoric std 0.3)" in repr(prediction())
    silent = prediction(aleatoric_variance=torch.zeros(N, 1))
    assert "no observation noise given" in repr(silent)


@pytest.mark.parametrize("family", ["mixture", "normal"])
@pytest.mark.parametrize(
    "several", [(0.1, 0.6), np.array([0.1, 0.6]), torch.tensor([0.1, 0.6], dtype=torch.float64)]
)
def test_levels_may_be_a_list_an_array_or_a_tensor(family: Any, several: Any) -> None:
    p = prediction(family=family)
    expected = torch.stack([p.quantile(0.1), p.quantile(0.6)])
    assert torch.equal(p.quantile(several), expected)
    assert torch.equal(p.quantile(several[0]), expected[0])


@pytest.mark.parametrize("wrong", [[], [[0.1, 0.2]], np.zeros((2, 2)) + 0.5])
def test_levels_have_at_most_one_dimension(wrong: Any) -> None:
    with pytest.raises(mcdrop.ShapeError, match="quantile: expected `q` to be one level or a list"):
        prediction().quantile(wrong)


def test_levels_that_are_no_probabilities_are_refused() -> None:
    with pytest.raises(mcdrop.RangeError, match=r"`q` to lie in \(0, 1\), but got nan"):
        prediction().quantile([0.5, float("nan")])
    with pytest.raises(mcdrop.UnsupportedError, match="`q` to hold numbers"):
        prediction().quantile(["0.5"])  # type: ignore[list-item]
    with pytest.raises(mcdrop.ShapeError, match="`level` to be one number, .* one interval at a t"):
        prediction().interval(np.array([0.5, 0.9]))  # type: ignore[arg-type]
