"""The worth of a control variate, as a number of independent passes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mcdrop._engine.record import Run
from mcdrop._tasks.worth import equivalent_passes, with_worth
from mcdrop.prediction.classification import ClassificationPrediction
from mcdrop.prediction.regression import RegressionPrediction


def prediction(mean_error: float, std_error: float, noise: float = 0.0) -> RegressionPrediction:
    one = torch.ones(3, 1)
    return RegressionPrediction(
        mean=one,
        epistemic_variance=4 * one,
        aleatoric_variance=noise * one,
        mcse=mean_error * one,
        std_mcse=std_error * one,
        n_samples=16,
    )


def run(*, controlled: bool) -> Run:
    return Run(
        "vectorized", "why", 16, 0, "independent", True, (), None, 16, "cpu", "float32", 0.1,
        control_variate="linearized network as control variate", controlled=controlled,
    )  # fmt: skip


def test_independent_passes_are_worth_themselves() -> None:
    # sigma = 2: errors sigma / sqrt(S) of the mean and sigma / sqrt(2 S) of the std at S = 50.
    assert equivalent_passes(prediction(2 / 50**0.5, 2 / 100**0.5)) == pytest.approx((50, 50))


def test_noise_makes_the_error_of_the_std_smaller_but_not_the_passes_more() -> None:
    # std = sqrt(4 + 12) = 4, and d std = d variance / (2 std), half of what it is without noise.
    _, for_std = equivalent_passes(prediction(1.0, 1 / 100**0.5, noise=12.0))
    assert for_std == pytest.approx(50)


def test_the_record_tells_the_worth_in_a_sentence() -> None:
    told = with_worth(run(controlled=True), prediction(2 / 123**0.5, 0.0)).control_variate
    assert told == (
        "linearized network as control variate; 16 passes are about as precise as 120 independent"
        " ones for the mean and 100,000 or more for the standard deviation (by their standard"
        " errors, median over values)"
    )


def test_without_a_control_variate_the_record_stays() -> None:
    plain = run(controlled=False)
    assert with_worth(plain, prediction(1.0, 1.0)) is plain


def test_probabilities_are_compared_by_their_own_errors() -> None:
    half = torch.full((3, 2), 0.5)
    # Var = 0.04: errors 0.2 / sqrt(S) of the mean and 0.2 / sqrt(2 S) of the std at S = 50.
    found = ClassificationPrediction(
        probs=half,
        probs_std=0.4 * half,
        expected_entropy=torch.ones(3),
        variation_ratio=torch.ones(3),
        mcse=0.2 / 50**0.5 * torch.ones(3, 2),
        probs_std_mcse=0.2 / 100**0.5 * torch.ones(3, 2),
        n_samples=16,
    )
    assert equivalent_passes(found) == pytest.approx((50, 50))
    told = with_worth(run(controlled=True), found).control_variate
    assert "as precise as 50 independent ones for the probabilities and 50 for the" in told
    unknown = replace(found, probs_std_mcse=torch.full((3, 2), torch.nan))
    assert with_worth(run(controlled=True), unknown) == run(controlled=True)
