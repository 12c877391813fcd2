from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chi2, norm, ttest_1samp

from mcdrop.displays._matching import matched_regression
from mcdrop.displays._regression import Regression
from mcdrop.report.hypotheses_regression import regression_hypotheses
from mcdrop.report.measures import Resampling
from tests.report.made import Array, normal_like, passes_prediction


def regression(errors: Array) -> Regression:
    """Targets with these errors, stated with std 1."""
    zero = torch.zeros(errors.shape, dtype=torch.float64)
    made = matched_regression({"A": normal_like(zero, zero + 1)}, errors, Resampling(0.95, 10, 0))
    return made["A"]


def test_bias_is_the_t_test_and_dispersion_the_chi_squared_test() -> None:
    errors = np.random.default_rng(0).normal(0.3, 1.4, size=(25, 1))
    found = regression_hypotheses(regression(errors), 0)
    assert found["bias"].p_value == pytest.approx(ttest_1samp(errors[:, 0], 0.0).pvalue)
    squares = 24 * errors.var(ddof=1)
    tails = chi2.cdf(squares, 24), chi2.sf(squares, 24)
    assert found["dispersion"].p_value == pytest.approx(2 * min(tails))


def test_wrong_scale_alone_is_no_bias() -> None:
    # Std stated three times too small: a test of mean 0 with std 1 would reject half of the sets.
    draw = np.random.default_rng(0)
    found = [
        regression_hypotheses(regression(draw.normal(scale=3, size=(30, 1))), 0)["bias"].p_value
        for _ in range(400)
    ]
    # Binomial: mean 20, standard deviation 4.4.
    assert sum(p_value <= 0.05 for p_value in found) <= 20 + 3 * 4.4


@pytest.mark.parametrize(("level", "critical"), [(0.1, 0.631), (0.05, 0.752), (0.01, 1.035)])
def test_shape_rejects_at_the_tabulated_points(level: float, critical: float) -> None:
    # Stephens (1974): critical values of A^2 (1 + 0.75 / n + 2.25 / n^2).
    draw = np.random.default_rng(1)
    for _ in range(50):
        errors = draw.standard_t(4, size=(60, 1))
        w = np.sort((errors[:, 0] - errors.mean()) / errors.std(ddof=1))
        terms = [
            (2 * i - 1) * (norm.logcdf(w[i - 1]) + norm.logsf(w[60 - i])) for i in range(1, 61)
        ]
        adjusted = (-60 - sum(terms) / 60) * (1 + 0.75 / 60 + 2.25 / 60**2)
        p_value = regression_hypotheses(regression(errors), 0)["shape"].p_value
        # The p-value and the table agree to three digits, not at the point itself.
        if abs(adjusted - critical) > 0.005:
            assert (p_value < level) == (adjusted > critical)


def test_equal_errors_are_a_bias_and_nothing_about_shape() -> None:
    found = regression_hypotheses(regression(np.full((20, 1), 0.7)), 0)
    assert found["bias"].p_value == 0
    assert found["shape"].p_value == 1
    none = regression_hypotheses(regression(np.zeros((20, 1))), 0)
    assert none["bias"].p_value == 1


def test_under_eight_rows_say_nothing_about_shape() -> None:
    errors = np.random.default_rng(0).exponential(size=(7, 1))
    assert regression_hypotheses(regression(errors), 0)["shape"].p_value == 1


def test_a_point_forecast_states_nothing_to_test() -> None:
    prediction, y = passes_prediction(n=30)
    point = normal_like(prediction.mean, 0 * prediction.mean)
    made = matched_regression({"A": point}, y, Resampling(0.95, 10, 0))
    assert regression_hypotheses(made["A"], 0) == {}


def test_scores_are_standard_normal_for_a_mixture_and_for_ranks_of_passes() -> None:
    for noise in (1.0, 0.0):
        prediction, _ = passes_prediction(n=4000, n_samples=40, noise=noise, seed=3)
        draw = torch.Generator().manual_seed(4)
        assert prediction.samples is not None
        # One more draw from the same distribution as the passes.
        y = prediction.samples[0] + noise * torch.randn(4000, 1, generator=draw).double()
        rest = prediction.samples[1:]
        replaced = type(prediction)(
            mean=rest.mean(dim=0), epistemic_variance=rest.var(dim=0),
            aleatoric_variance=prediction.aleatoric_variance, mcse=prediction.mcse,
            n_samples=39, samples=rest,
        )  # fmt: skip
        made = matched_regression({"A": replaced}, y, Resampling(0.95, 10, 0))["A"]
        assert made.scores is not None
        # Standard errors of mean and std at 4000 rows: 0.016 and 0.011. A mixture over 39 passes
        # states a little too little spread: the mean of the passes has an error of its own.
        assert abs(float(made.scores.mean())) < 4 * 0.016
        assert float(made.scores.std()) == pytest.approx(1.0, abs=4 * 0.011 + 0.01)
