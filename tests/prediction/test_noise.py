"""The noise level: held-out likelihood against a direct search, weight decay by the formula."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize, stats

import mcdrop
from mcdrop import RegressionPrediction

GENERATOR = torch.Generator().manual_seed(0)
SAMPLES = torch.randn(20, 200, 2, generator=GENERATOR, dtype=torch.float64)
Y = torch.randn(200, 2, generator=GENERATOR, dtype=torch.float64) * torch.tensor([0.7, 2.0])


def prediction(samples: torch.Tensor) -> RegressionPrediction:
    mean = samples.mean(dim=0)
    zeros = torch.zeros_like(mean)
    return RegressionPrediction(
        mean=mean,
        epistemic_variance=samples.var(dim=0),
        aleatoric_variance=zeros,
        mcse=zeros,
        n_samples=len(samples),
        samples=samples,
    )


def test_fitted_noise_maximizes_the_mixture_likelihood_of_each_output() -> None:
    found = mcdrop.fit_noise_std(prediction(SAMPLES), Y)
    assert found.shape == (2,)
    for output in range(2):
        means, y = SAMPLES[:, :, output].numpy(), Y[:, output].numpy()

        def loss(log_std: float, means: Any = means, y: Any = y) -> float:
            densities = stats.norm.pdf(y, means, np.exp(log_std)).mean(axis=0)
            return -float(np.log(densities).sum())

        best = optimize.minimize_scalar(loss, bounds=(-3, 3), method="bounded")
        assert loss(np.log(found[output].item())) <= best.fun + 1e-9


def test_noise_scales_with_the_units_of_y() -> None:
    one = mcdrop.fit_noise_std(prediction(SAMPLES), Y)
    torch.testing.assert_close(
        mcdrop.fit_noise_std(prediction(10 * SAMPLES), 10 * Y), 10 * one, rtol=1e-6, atol=0
    )


def test_fitted_noise_goes_straight_into_a_prediction() -> None:
    net = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(3, 2))
    mc = mcdrop.wrap(net)
    x = torch.ones(6, 3)
    noise = mcdrop.fit_noise_std(
        mc.predict_with_uncertainty(x, keep_samples=True), torch.ones(6, 2)
    )
    found = mc.predict_with_uncertainty(x, noise_std=noise)
    torch.testing.assert_close(found.aleatoric_std[0], noise)
    with pytest.raises(mcdrop.ShapeError, match=r"a number or one per output, shape \(2,\)"):
        mc.predict_with_uncertainty(x, noise_std=torch.ones(3))


def test_noise_from_weight_decay_is_the_inverse_root_of_tau() -> None:
    # tau = (1 - 0.05) * 0.01 / (2 * 455 * 1e-4) by Gal & Ghahramani (2016), eq. 7.
    tau = 0.95 * 0.1**2 / (2 * 455 * 1e-4)
    found = mcdrop.noise_std_from_weight_decay(
        p=0.05, length_scale=0.1, n_rows=455, weight_decay=1e-4
    )
    assert found == pytest.approx(tau**-0.5, rel=1e-12)


@pytest.mark.parametrize("change", [{"p": 1.0}, {"length_scale": 0}, {"weight_decay": -1}])
def test_values_outside_their_range_are_refused(change: dict[str, float]) -> None:
    values = {"p": 0.1, "length_scale": 1.0, "n_rows": 10, "weight_decay": 0.1, **change}
    with pytest.raises(mcdrop.RangeError, match=f"`{next(iter(change))}` to"):
        mcdrop.noise_std_from_weight_decay(**values)  # type: ignore[arg-type]


def test_passes_that_hit_every_target_leave_no_noise_to_fit() -> None:
    with pytest.raises(mcdrop.RangeError, match="no residual at all"):
        mcdrop.fit_noise_std(prediction(SAMPLES[:1].repeat(2, 1, 1)), SAMPLES[0])
