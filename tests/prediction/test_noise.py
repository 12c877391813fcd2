"""The noise level: held-out likelihood against a direct search, weight decay by the formula."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from torch import nn

import mcdrop
from mcdrop import RegressionPrediction
from mcdrop.layers import ConcreteDropout, concrete_regularizer

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
        mc.predict_with_uncertainty(x, keep_samples=True, task="regression"), torch.ones(6, 2)
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


@pytest.mark.parametrize(("p", "keep"), [(0.5, 0.5), (0.1, 0.9)])
def test_conventions_differ_by_known_factors(p: float, keep: float) -> None:
    values: Any = {"p": p, "length_scale": 1.0, "n_rows": 100, "weight_decay": 1e-3}
    paper = mcdrop.noise_std_from_weight_decay(**values)
    # The concrete-dropout penalty l^2 |W|^2 / (2 (1 - p) tau N) = lambda |W|^2 gives tau by itself.
    concrete = (1 / (2 * keep * 100 * 1e-3)) ** -0.5
    inverted = mcdrop.noise_std_from_weight_decay(**values, weights="inverted")
    assert inverted == pytest.approx(concrete)
    assert paper == pytest.approx(inverted / keep)
    whole = mcdrop.noise_std_from_weight_decay(**values, weights="inverted", loss="squared_error")
    assert whole == pytest.approx(inverted / 2**0.5)
    decay = mcdrop.noise_std_from_weight_decay(**values, penalty="optimizer")
    assert decay == pytest.approx(paper / 2**0.5)
    assert mcdrop.noise_std_from_weight_decay(**values, n_outputs=4) == pytest.approx(2 * paper)
    summed = mcdrop.noise_std_from_weight_decay(**values, reduction="sum", n_outputs=4)
    assert summed == pytest.approx(paper / 10)


RATE, LENGTH, ROWS, INPUTS, OUTPUTS = 0.3, 0.8, 30, 3, 2
INPUT = torch.randn(ROWS, INPUTS, generator=GENERATOR, dtype=torch.float64)
TARGET = INPUT @ torch.tensor([[1.0, -1.0], [0.5, 0.0], [0.0, 2.0]]).double()
TARGET = TARGET + 0.5 * torch.randn(ROWS, OUTPUTS, generator=GENERATOR, dtype=torch.float64)
MASKS = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * INPUTS)
CHANCES = torch.where(MASKS > 0, 1 - RATE, RATE).prod(dim=1)


def variational_optimum(tau: float) -> torch.Tensor:
    """Maximize -tau/2 sum_n E_z |y_n - M (z x_n)|^2 - (1 - p) l^2 / 2 |M|^2 in closed form.

    With k = 1 - p: E z_i z_j = k^2 for i != j and k for i = j, so the normal equations are
    (tau (k^2 X'X + k (1 - k) diag(X'X)) + k l^2 I) M = tau k X'y.
    """
    k, gram = 1 - RATE, INPUT.T @ INPUT
    left = tau * (k**2 * gram + k * (1 - k) * gram.diagonal().diag())
    left = left + k * LENGTH**2 * torch.eye(INPUTS)
    return torch.linalg.solve(left, tau * k * INPUT.T @ TARGET)


def trained(objective: Any, weight_decay: float = 0.0) -> torch.Tensor:
    """Minimize over W by torch's SGD to convergence."""
    W = torch.zeros(INPUTS, OUTPUTS, dtype=torch.float64, requires_grad=True)
    curvature = torch.autograd.functional.hessian(objective, W.detach())
    largest = torch.linalg.eigvalsh(curvature.reshape(W.numel(), W.numel()))[-1].item()
    step = 1 / (largest + weight_decay)
    optimizer = torch.optim.SGD([W], lr=step, momentum=0.8, weight_decay=weight_decay)
    for _ in range(600):
        optimizer.zero_grad()
        objective(W).backward()
        optimizer.step()
    return W.detach()


@pytest.mark.parametrize("weights", ["unscaled", "inverted"])
@pytest.mark.parametrize("penalty", ["explicit", "optimizer"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("loss", ["half_squared_error", "squared_error"])
def test_training_to_the_optimum_is_the_inference_that_tau_claims(
    loss: Any, reduction: Any, penalty: Any, weights: Any
) -> None:
    scale = 1 / (1 - RATE) if weights == "inverted" else 1.0
    factor = 0.5 if loss == "half_squared_error" else 1.0
    decay = 0.05 if reduction == "mean" else 3.0

    def objective(W: torch.Tensor) -> torch.Tensor:
        outputs = (INPUT * MASKS[:, None] * scale) @ W
        each = torch.stack([nn.MSELoss(reduction=reduction)(out, TARGET) for out in outputs])
        value = factor * (CHANCES * each).sum()
        return value + decay * W.square().sum() if penalty == "explicit" else value

    W = trained(objective, decay if penalty == "optimizer" else 0.0)
    noise = mcdrop.noise_std_from_weight_decay(
        p=RATE,
        length_scale=LENGTH,
        n_rows=ROWS,
        weight_decay=decay,
        loss=loss,
        reduction=reduction,
        n_outputs=OUTPUTS if reduction == "mean" else 1,
        penalty=penalty,
        weights=weights,
    )
    torch.testing.assert_close(W * scale, variational_optimum(noise**-2), rtol=1e-6, atol=1e-8)


class Penalty(nn.Module):
    """The package's own regularizer as a function of the weights."""

    def __init__(self, inner: ConcreteDropout, tau: float) -> None:
        super().__init__()
        self.inner, self.tau = inner, tau

    def forward(self) -> torch.Tensor:
        return concrete_regularizer(self.inner, ROWS, length_scale=LENGTH, precision=self.tau)


def test_the_regularizer_of_concrete_dropout_is_the_same_inference() -> None:
    tau = 1.7
    layer = ConcreteDropout(nn.Linear(INPUTS, OUTPUTS, bias=False).double(), p_init=RATE)

    def objective(W: torch.Tensor) -> torch.Tensor:
        outputs = (INPUT * MASKS[:, None] / (1 - RATE)) @ W
        half = ((outputs - TARGET).square().sum(dim=2) / 2).mean(dim=1)
        penalized = torch.func.functional_call(Penalty(layer, tau), {"inner.layer.weight": W.T}, ())
        return (CHANCES * half).sum() + penalized

    W = trained(objective)
    torch.testing.assert_close(W / (1 - RATE), variational_optimum(tau), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "change",
    [
        {"p": 1.0},
        {"length_scale": 0},
        {"weight_decay": -1},
        {"n_rows": 0},
        {"n_outputs": 0},
        {"loss": "mse"},
        {"reduction": "none"},
        {"penalty": "adamw"},
        {"weights": "scaled"},
    ],
)
def test_values_outside_their_range_are_refused(change: dict[str, Any]) -> None:
    plain: dict[str, Any] = {"p": 0.1, "length_scale": 1.0, "n_rows": 10, "weight_decay": 0.1}
    values = {**plain, **change}
    with pytest.raises(mcdrop.RangeError, match=f"`{next(iter(change))}` to"):
        mcdrop.noise_std_from_weight_decay(**values)


def test_passes_that_hit_every_target_leave_no_noise_to_fit() -> None:
    with pytest.raises(mcdrop.RangeError, match="no residual at all"):
        mcdrop.fit_noise_std(prediction(SAMPLES[:1].repeat(2, 1, 1)), SAMPLES[0])


def test_the_table_of_conventions_on_the_page_is_what_the_function_says() -> None:
    page = (Path(__file__).parents[2] / "docs" / "noise.md").read_text()
    squared = {"weights": "inverted", "loss": "squared_error"}
    rows: list[dict[str, Any]] = [
        {},
        {"weights": "inverted"},
        squared,
        {**squared, "penalty": "optimizer"},
    ]
    for row in rows:
        cells = [
            mcdrop.noise_std_from_weight_decay(
                p=p, length_scale=1.0, n_rows=100, weight_decay=1e-3, **row
            )
            for p in (0.5, 0.1)
        ]
        ending = f"| {row.get('weights', 'unscaled')} | {cells[0]:.3f} | {cells[1]:.3f} |"
        assert ending in page
