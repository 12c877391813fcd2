"""torch's compiler passes by what draws masks, whether it is inside the model or around it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop._live import compiler

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
X = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


def doubled(x: Tensor) -> Tensor:
    return torch.relu(x) * 2


class Calls(nn.Module):
    """Calls a function after dropout, or dropout in a function."""

    def __init__(self, *, compiled: bool, inside: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.drop, self.last = nn.Linear(4, 16), nn.Dropout(0.3), nn.Linear(16, 2)
        self.inside = inside
        function = self.both if inside else doubled
        made: Callable[..., Tensor] = torch.compile(function, backend="eager")
        self.function = made if compiled else function

    def both(self, x: Tensor) -> Tensor:
        return doubled(self.drop(x))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        out: Tensor = self.last(self.function(hidden if self.inside else self.drop(hidden)))
        return out


@pytest.mark.parametrize(
    ("inside", "strategy"),
    [
        (False, "vectorized"),
        (True, "sequential"),
        pytest.param(True, "vectorized", marks=pytest.mark.slow),
        pytest.param(False, "sequential", marks=pytest.mark.slow),
    ],
)
def test_a_function_that_a_model_compiles_draws_the_same_masks(inside: bool, strategy: str) -> None:
    # As many passes as have the compiler follow the kernels of masks, if it is let.
    plain, compiled = (
        mcdrop.wrap(Calls(compiled=each, inside=inside)).sample(
            X,
            20,
            seed=0,
            strategy=strategy,  # type: ignore[arg-type]
        )
        for each in (False, True)
    )
    torch.testing.assert_close(compiled, plain)


def test_a_sampler_in_compiled_code_is_not_compiled() -> None:
    mc = mcdrop.wrap(Calls(compiled=False, inside=False))

    @torch.compile(backend="eager")
    def predicted(x: Tensor) -> Tensor:
        return mc.predict_with_uncertainty(x, seed=0, n_samples=20, task="regression").std * 2

    plain = mc.predict_with_uncertainty(X, seed=0, n_samples=20, task="regression")
    torch.testing.assert_close(predicted(X), plain.std * 2)
    called: Tensor = torch.compile(mc, backend="eager")(X)
    assert called.shape == (5, 2)
    assert not torch.equal(called, mc(X))


def test_without_the_private_name_code_may_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "_compiles_now", lambda: None)
    assert compiler.uncompiled(doubled, X) is not None


def test_a_compiled_module_is_told_from_others() -> None:
    net = nn.Linear(2, 2)
    assert compiler.compiled_module(net) is None
    assert compiler.compiled_module(torch.compile(net)) is net  # type: ignore[arg-type]
