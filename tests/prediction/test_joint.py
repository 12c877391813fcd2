"""Joint statements about rows: covariance in closed form, and refusal where rows are unrelated."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mcdrop

X = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
LINEAR = nn.Linear(4, 2)
NET = nn.Sequential(nn.Dropout(0.3), LINEAR)


@pytest.mark.parametrize("stratified", [False, True])
def test_covariance_of_a_linear_model_is_the_closed_form(stratified: bool) -> None:
    mc = mcdrop.wrap(NET, masks="shared", stratified=stratified)
    p = mc.predict_with_uncertainty(X, n_samples=20_000, seed=0, keep_samples=True, noise_std=0.5)
    # y = W (z * x) / (1 - p): Cov(y_n, y_m) = p / (1 - p) sum_j W_j^2 x_nj x_mj.
    weight = LINEAR.weight.detach()
    exact = 0.3 / 0.7 * torch.einsum("dj,nj,mj->dnm", weight.square(), X, X)
    exact = exact + 0.25 * torch.eye(5)
    found = p.covariance()
    assert found.shape == (2, 5, 5)
    scale = exact.diagonal(dim1=1, dim2=2).sqrt()
    gap = (found - exact) / (scale.unsqueeze(1) * scale.unsqueeze(2))
    assert gap.abs().max() < 0.04
    torch.testing.assert_close(found.diagonal(dim1=1, dim2=2), p.variance.T)
    totals = p.joint_samples().sum(dim=1)
    expected = (exact - 0.25 * torch.eye(5)).sum(dim=(1, 2))
    torch.testing.assert_close(totals.var(dim=0), expected, rtol=0.05, atol=0)


def test_one_output_without_a_dimension_of_its_own() -> None:
    class Flat(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = nn.Sequential.forward(self, x)  # type: ignore[no-untyped-call]
            return out[:, 0]

    p = mcdrop.wrap(Flat(*NET), masks="shared").predict_with_uncertainty(X, keep_samples=True)
    assert p.covariance().shape == (5, 5)


def test_rows_that_do_not_share_masks_have_no_joint_samples() -> None:
    p = mcdrop.wrap(NET).predict_with_uncertainty(X, keep_samples=True, task="regression")
    with pytest.raises(mcdrop.OutputError, match="`run.masks` to be 'shared'"):
        p.covariance()
    shared = mcdrop.wrap(NET, masks="shared").predict_with_uncertainty(X, task="regression")
    with pytest.raises(mcdrop.OutputError, match=r"Predict with keep_samples=True\.?$"):
        shared.joint_samples()
