"""Gradients through dropout that `torch.utils.checkpoint` would run again without its mask."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import mcdrop
from mcdrop._live.checkpointing import is_checkpointed

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


class Checkpointed(nn.Module):
    def __init__(self, *, reentrant: bool, before: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.3))
        self.head, self.reentrant = nn.Linear(8, 1), reentrant
        self.before = nn.Dropout(0.3) if before else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.before, nn.Dropout):
            x = checkpoint(self.body[0], self.before(x), use_reentrant=self.reentrant)
        else:
            x = checkpoint(self.body, x, use_reentrant=self.reentrant)
        out: Tensor = self.head(x)
        return out


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
@pytest.mark.parametrize("reentrant", [False, True])
def test_a_backward_pass_that_would_leave_out_dropout_is_refused(reentrant: bool) -> None:
    mc = mcdrop.wrap(Checkpointed(reentrant=reentrant))
    text = r"drop units outside torch.utils.checkpoint .* got body.2 inside it, .* Switch checkp"
    with pytest.raises(mcdrop.UnsupportedError, match=text):
        mc(X.clone().requires_grad_()).sum().backward()
    with pytest.raises(mcdrop.UnsupportedError, match=text):
        mc.function(seed=0)(X).sum().backward()
    # Values need no second run.
    assert mc(X).std() > 0
    assert mc.sample(X, 4, seed=0).std() > 0
    prediction = mc.predict_with_uncertainty(X, n_samples=8, seed=0, control_variate=True)
    assert bool((prediction.std > 0).all())


@pytest.mark.parametrize("reentrant", [False, True])
def test_what_comes_after_dropout_may_be_run_again(reentrant: bool) -> None:
    model = Checkpointed(reentrant=reentrant, before=True)
    out = mcdrop.wrap(model)(X.clone().requires_grad_())
    out.sum().backward()
    # out = W h + b, so that W times its gradient is the sum of the outputs without biases.
    weight, bias = model.head.weight, model.head.bias
    assert weight.grad is not None
    torch.testing.assert_close((weight * weight.grad).sum() + len(X) * bias.sum(), out.sum())


def test_only_what_checkpoint_calls_is_checkpointed() -> None:
    assert not is_checkpointed()
    found: list[bool] = []

    def note(x: Tensor) -> Tensor:
        found.append(is_checkpointed())
        return x * 2

    checkpoint(note, X.clone().requires_grad_(), use_reentrant=False)
    assert found == [True]
