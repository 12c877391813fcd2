"""As many passes as the tolerance asks for: when rows stop, in which order they come back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mcdrop
from tests.oracles import TinyNet, exact_classification, exact_mean_and_variance

X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
NET = TinyNet(3, 10, 1, 0.3, seed=3)


class AcrossRows(nn.Module):
    """Every row depends on all rows, so none may leave the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.linear = nn.Dropout(0.3), nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.linear(self.drop(x - x.mean(dim=0)))
        return out


@pytest.mark.parametrize("masks", ["independent", "shared"])
@pytest.mark.parametrize("batch_size", [None, 7])
def test_every_row_meets_the_tolerance_and_is_right(masks: Any, batch_size: int | None) -> None:
    mc = mcdrop.wrap(NET, masks=masks, stratified=False)
    p = mc.predict_with_uncertainty(
        X, n_samples="auto", tolerance=0.05, seed=0, batch_size=batch_size, control_variate=False
    )
    assert p.std_mcse is not None
    assert p.passes_per_row is not None
    assert bool((p.mcse <= 0.05 * p.std).all())
    assert bool((p.std_mcse <= 0.05 * p.std).all())
    mean, variance = exact_mean_and_variance(NET, X)
    assert np.max(np.abs(p.mean.numpy() - mean) / np.sqrt(variance)) < 0.05 * 4
    assert np.max(np.abs(p.std.numpy() / np.sqrt(variance) - 1)) < 0.05 * 4
    assert p.passes_per_row.shape == (40,)
    assert p.n_samples == p.passes_per_row.max() == p.run.n_samples  # type: ignore[union-attr]
    # 5 % of the standard deviation takes 1 / 0.05^2 independent passes.
    assert 400 <= p.passes_per_row.min() <= p.n_samples < 2000


def test_stratified_passes_take_fewer() -> None:
    counts = [
        mcdrop.wrap(NET, stratified=stratified)
        .predict_with_uncertainty(
            X, n_samples="auto", tolerance={"mean": 0.05}, seed=0, control_variate=False
        )
        .passes_per_row
        for stratified in (False, True)
    ]
    independent, stratified = (count.double().mean() for count in counts if count is not None)
    assert stratified < independent / 3


def test_rows_that_are_settled_leave() -> None:
    x = X.clone()
    x[::2] = 0
    net = nn.Sequential(nn.Linear(3, 10, bias=False), nn.Dropout(0.3), nn.Tanh(), nn.Linear(10, 1))
    p = mcdrop.wrap(net).predict_with_uncertainty(
        x, n_samples="auto", tolerance={"mean": 0.002}, seed=1
    )
    assert p.passes_per_row is not None
    assert p.passes_per_row[::2].tolist() == [64] * 20
    assert (p.passes_per_row[1::2] > 64).double().mean() > 0.5
    assert bool((p.epistemic_variance[::2] < 1e-12).all())
    again = mcdrop.wrap(net).predict_with_uncertainty(
        x, n_samples="auto", tolerance={"mean": 0.002}, seed=1
    )
    assert torch.equal(again.mean, p.mean)
    assert torch.equal(again.passes_per_row, p.passes_per_row)  # type: ignore[arg-type]
    assert p[3:5].passes_per_row.tolist() == p.passes_per_row[3:5].tolist()  # type: ignore[union-attr]


def test_no_row_leaves_a_model_that_looks_across_rows() -> None:
    p = mcdrop.wrap(AcrossRows(), stratified=False).predict_with_uncertainty(
        X, n_samples="auto", tolerance=0.1, seed=0
    )
    assert p.passes_per_row is not None
    assert len(p.passes_per_row.unique()) == 1


def test_entropies_meet_their_tolerance() -> None:
    net = TinyNet(3, 8, 3, 0.3, seed=5)
    limits = {"mutual_information": 0.004, "predictive_entropy": 0.01}
    p = mcdrop.wrap(net).predict_with_uncertainty(
        X, task="classification", n_samples="auto", tolerance=limits, seed=0
    )
    exact = exact_classification(net, X)
    for name, limit in limits.items():
        assert bool((getattr(p, f"{name}_mcse") <= limit).all())
    gap = np.abs(p.mutual_information.numpy() - exact["mutual_information"])
    # A row that looks certain in its first passes stops, whatever rare masks would say of it.
    assert np.mean(gap < 1.96 * 0.004) > 0.85


def test_what_cannot_be_reached_is_said() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Tanh(), nn.Linear(4, 1))
    with pytest.warns(UserWarning, match=r"2 of 2 rows did not reach `tolerance` in 10000 passes"):
        p = mcdrop.predict_with_uncertainty(net, X[:2], n_samples="auto", tolerance=1e-6, seed=0)
    assert p.n_samples == 10_000


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"n_samples": "many"}, "`n_samples` to be an integer of at least 2, or 'auto'"),
        ({"tolerance": 0.1}, "`tolerance` to be None for a given number of passes"),
        ({"n_samples": "auto", "keep_samples": True}, "`keep_samples` to be False"),
        ({"n_samples": "auto", "tolerance": 0.0}, "`tolerance` to be positive, but got 0.0"),
        ({"n_samples": "auto", "tolerance": True}, "`tolerance` to be positive, but got True"),
        ({"n_samples": "auto", "tolerance": {}}, "`tolerance` to name quantities"),
        (
            {"n_samples": "auto", "tolerance": {"entropy": 0.1}},
            r"`tolerance` to name quantities among \['mean', 'std'\], but got \['entropy'\]",
        ),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(mcdrop.RangeError, match=text):
        mcdrop.wrap(NET).predict_with_uncertainty(X, **options)


def test_rates_too_rare_for_the_passes_are_warned_of() -> None:
    net = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Dropout(0.005), nn.Linear(16, 1))
    mc = mcdrop.wrap(net)
    # 64 stratified passes drop a unit with probability 64 * 0.005 = 0.32; ln(0.05) / 0.005 = -599.
    text = (
        r"with probability 0\.68 a unit of 2 \(p=0\.005\) is not dropped in any of 64 passes, and"
        r" standard errors cannot show its influence\. Pass n_samples=600 or more\."
    )
    with pytest.warns(UserWarning, match=text):
        mc.predict_with_uncertainty(X, n_samples="auto", tolerance={"mean": 100.0}, seed=0)
    # 64 * 0.02 > 1, so every unit is dropped once.
    often = mcdrop.wrap(net, p=0.02)
    often.predict_with_uncertainty(X, n_samples="auto", tolerance={"mean": 100.0}, seed=0)
