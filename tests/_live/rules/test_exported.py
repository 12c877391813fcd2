"""Programs exported in train mode: batch normalization uses its statistics and leaves them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mcdrop
from mcdrop._live.mode import LiveDropout
from mcdrop._live.rules import PLAIN, live_rules
from tests._live.rules.calls import call_of

X = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)) + 2


def batch_norm(x: Tensor, mean: Tensor | None, variance: Tensor | None) -> Any:
    """Call the operator as it stands in a program that was exported in train mode."""
    return torch.ops.aten.batch_norm.default(
        x, torch.full((3,), 2.0), torch.ones(3), mean, variance, True, 0.1, 1e-5, False
    )


@pytest.mark.parametrize("rules", [PLAIN, live_rules()], ids=["plain", "live"])
def test_running_statistics_are_used_and_left_alone(rules: Any) -> None:
    mean, variance = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 1.0, 0.25])
    before = mean.clone(), variance.clone()
    with LiveDropout(call_of(opened=False, rules=rules)):
        found = batch_norm(X, mean, variance)
    expected = 2 * (X - before[0]) / (before[1] + 1e-5).sqrt() + 1
    torch.testing.assert_close(found, expected)
    assert torch.equal(mean, before[0])
    assert torch.equal(variance, before[1])


def test_without_running_statistics_the_batch_has_to_do() -> None:
    with LiveDropout(call_of(opened=False)):
        found = batch_norm(X, None, None)
    expected = 2 * (X - X.mean(dim=0)) / (X.var(dim=0, correction=0) + 1e-5).sqrt() + 1
    torch.testing.assert_close(found, expected)


@pytest.mark.filterwarnings("ignore:(?s).*were assigned during export:UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_program_exported_in_train_mode_predicts_as_in_inference() -> None:
    module = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5)).train()
    program = torch.export.export(module, (X,))
    before = {name: value.clone() for name, value in program.state_dict.items()}
    found = mcdrop.wrap(program).sample(X, 32, seed=0)
    normalized = F.batch_norm(X, torch.zeros(3), torch.ones(3))
    torch.testing.assert_close(found, torch.where(found == 0, 0, 2 * normalized))
    assert bool(((found == 0).sum(dim=0) == 16).all())
    assert all(torch.equal(value, before[name]) for name, value in program.state_dict.items())
