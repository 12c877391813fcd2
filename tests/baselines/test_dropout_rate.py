"""The rate of a trained network by held-out likelihood."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mcdrop
from mcdrop import tune_dropout_rate
from mcdrop.errors import NoDropoutError, RangeError, ShapeError
from mcdrop.prediction import fit_noise_std

torch.manual_seed(0)
NET = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 1)).eval()
X = torch.randn(400, 3, generator=torch.Generator().manual_seed(1))


def drawn(rate: float) -> torch.Tensor:
    """Targets that are passes of the network themselves, one for each row."""
    mc = mcdrop.wrap(NET, p=rate, stratified=False)
    noise = 0.01 * torch.randn(400, 1, generator=torch.Generator().manual_seed(2))
    return mc.sample(X, 1, seed=11)[0] + noise


@pytest.mark.parametrize("truth", [0.05, 0.2, 0.5])
def test_the_rate_that_made_the_targets_is_found(truth: float) -> None:
    found = tune_dropout_rate(NET, X, drawn(truth), task="regression", p=[0.05, 0.2, 0.5])
    assert found.p == truth
    assert truth in found.undecided
    assert [score.p for score in found.scores] == [0.05, 0.2, 0.5]
    assert found.best.above_best.value == 0


def test_scores_are_the_likelihood_at_the_best_noise() -> None:
    y = drawn(0.2)
    found = tune_dropout_rate(NET, X, y, task="regression", p=[0.1], n_samples=50, seed=3)
    p = mcdrop.wrap(NET, p=0.1).predict_with_uncertainty(X, n_samples=50, seed=3, keep_samples=True)
    noise = fit_noise_std(p, y)
    noisy = mcdrop.wrap(NET, p=0.1).predict_with_uncertainty(
        X, n_samples=50, seed=3, keep_samples=True, noise_std=noise
    )
    assert found.noise_std is not None
    torch.testing.assert_close(found.noise_std, noise)
    assert found.best.nll.value == pytest.approx(-noisy.log_prob(y).mean().item(), rel=1e-5)


def test_rates_that_do_not_matter_are_undecided() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(3, 2)
    with torch.no_grad():
        linear.weight.mul_(1e-3)
    net = nn.Sequential(nn.Dropout(0.5), linear).eval()
    y = torch.randint(0, 2, (400,), generator=torch.Generator().manual_seed(0))
    found = tune_dropout_rate(net, X, y, task="classification", p=[0.1, 0.3], n_samples=16)
    assert found.undecided == (0.1, 0.3)
    assert found.noise_std is None


def test_other_tasks_and_arrays() -> None:
    pair = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.2), nn.Linear(8, 2)).eval()

    class Split(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return pair(x).chunk(2, dim=-1)

    y = np.zeros(400)
    options: dict[str, Any] = {"p": [0.2], "n_samples": 16}
    found = tune_dropout_rate(
        Split(), X.numpy(), y, task="heteroscedastic", output_type="log_variance", **options
    )
    assert found.noise_std is None
    assert np.isfinite(found.best.nll.value)
    assert tune_dropout_rate(NET, X, y, task="binary", **options).p == 0.2


def test_mistakes_are_named() -> None:
    y = torch.zeros(400, 1)
    with pytest.raises(RangeError, match=r"`p` to be a number in \(0, 1\), or .*Determini"):
        tune_dropout_rate(NET, X, y, task="regression", p=[0.0, 0.1])
    with pytest.raises(RangeError, match=r"tune_dropout_rate: expected `p` to be a num.* \[10\]"):
        tune_dropout_rate(NET, X, y, task="regression", p=[10])
    with pytest.raises(RangeError, match="`noise_std` to be left out, as it is chosen"):
        tune_dropout_rate(NET, X, y, task="regression", noise_std=0.1)
    with pytest.raises(RangeError, match='`task` to be one of "regression"'):
        tune_dropout_rate(NET, X, y, task="ranking")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"`y` to have shape \(400, 1\)"):
        tune_dropout_rate(NET, X, y[:5], task="regression")
    with pytest.raises(NoDropoutError):
        tune_dropout_rate(nn.Linear(3, 1), X, y, task="regression")
