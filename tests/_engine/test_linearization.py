"""The linear part of passes: exact for networks that are linear in their masks, its law always."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mcdrop._engine.batch import Batch
from mcdrop._engine.control import MOST_SCORES, linearize, row_dims
from mcdrop._engine.linearization import Linearization, NoSlopesError, row_dim
from mcdrop._engine.passes import Passes
from mcdrop._engine.planner import Planner
from mcdrop._engine.settings import Settings
from mcdrop._masks.rows import RowDim
from mcdrop._masks.source import Span


class TimeFirst(nn.Module):
    """Drops units of (time, rows, units), as many times as rows."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        steps: Tensor = self.head(self.drop(x.transpose(0, 1)))
        return steps.sum(dim=0)


class Attends(nn.Module):
    """Linear in the dropped-out attention weights."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return out.mean(dim=1)


class Channels(nn.Module):
    """Linear in the dropped-out channels."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout2d(0.3)
        self.head = nn.Linear(3 * 4 * 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.drop(x).flatten(1))
        return out


class Twice(nn.Module):
    """Two sites whose parts add up; one output per row, without a dimension for it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Dropout(0.2), nn.Dropout(0.5)
        self.head = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.first(x) - 2 * self.second(x.sin()))
        return out.squeeze(1)


LINEAR: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "one site": (lambda: nn.Sequential(nn.Dropout(0.3), nn.Linear(6, 2)), (7, 6)),
    "two sites": (Twice, (7, 6)),
    "one row": (Twice, (1, 6)),
    "time first": (TimeFirst, (4, 4, 5)),
    "attention": (Attends, (3, 5, 8)),
    "channels": (Channels, (5, 3, 4, 4)),
}


def linearization(model: nn.Module, x: Tensor, **options: Any) -> tuple[Linearization, Tensor]:
    """Return the network at open masks, and the outputs of 40 passes less the open one."""
    settings = Settings("f", model.eval(), {}, seed=3, control_variate=True, **options)
    passes, batch = Passes(settings, 3, torch.device("cpu")), Batch((x,), {}, len(x))
    with torch.no_grad():
        plan = Planner(settings, passes).plan(batch, 40, rows_split=False)
        plan = replace(plan, linear=row_dims(settings, passes, plan, batch))
        found = linearize(settings, passes, plan, batch, Span(2))
        run = passes.vectorized if plan.strategy == "vectorized" else passes.sequential
        return found, run(plan, batch, Span(2, 0, 40)) - model(x)


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("masks", ["independent", "shared"])
@pytest.mark.parametrize("stratified", [True, False])
@pytest.mark.parametrize("strategy", ["auto", "sequential"])
def test_a_network_that_is_linear_in_its_masks_is_its_linear_part(
    name: str, masks: Any, stratified: bool, strategy: Any
) -> None:
    torch.manual_seed(0)
    build, shape = LINEAR[name]
    x = torch.randn(shape)
    found, passes = linearization(build(), x, masks=masks, stratified=stratified, strategy=strategy)
    torch.testing.assert_close(found.part(0, 40).values, passes, rtol=1e-4, atol=1e-5)
    # Passes may come in parts of any size.
    torch.testing.assert_close(found.part(13, 9).values, passes[13:22], rtol=1e-4, atol=1e-5)


def test_its_variance_is_the_closed_form() -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 6)
    model = nn.Sequential(nn.Dropout(0.25), nn.Linear(6, 2)).double()
    found, _ = linearization(model, x.double())
    weight = model[1].weight
    assert isinstance(weight, Tensor)
    # y = W (m x) + b, so Var[y] = p / (1 - p) W^2 x^2.
    expected = x.double().square() @ weight.detach().square().T / 3
    torch.testing.assert_close(found.variance, expected)
    assert found.variance.dtype == torch.float64


def test_slopes_of_half_precision_are_summed_in_float32() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(0.25), nn.Linear(6, 2)).to(torch.bfloat16)
    found, passes = linearization(model, torch.randn(7, 6, dtype=torch.bfloat16))
    part = found.part(0, 40)
    assert part.values.dtype == part.variance.dtype == torch.float32
    torch.testing.assert_close(part.values, passes.float(), rtol=0.1, atol=0.1)


class Detached(nn.Module):
    """Half of the output has no gradient, which makes the slopes wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(x)
        out: Tensor = self.head(x) + self.head(x).detach()
        return out


def test_the_law_of_the_linear_part_holds_for_wrong_slopes() -> None:
    torch.manual_seed(0)
    found, passes = linearization(Detached(), torch.randn(9, 6))
    part = found.part(0, 4096)
    # The linear part is half of the truth, and its variance is its own.
    torch.testing.assert_close(2 * found.part(0, 40).values, passes, rtol=1e-4, atol=1e-5)
    error = (part.variance / 4096).sqrt()
    assert bool((part.values.mean(dim=0).abs() < 4 * error).all())
    torch.testing.assert_close(part.values.var(dim=0), part.variance, rtol=0.1, atol=1e-6)


class Ungraded(nn.Module):
    """Runs without gradients whatever the caller's mode."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6, 1)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.drop(x))
        return out


class Constant(nn.Module):
    """Its output depends on what is dropped out by rank alone, which has no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x).sign().sum(dim=1, keepdim=True) * self.scale


@pytest.mark.parametrize("build", [Ungraded, Constant])
def test_an_output_without_gradients_is_refused(build: Callable[[], nn.Module]) -> None:
    with pytest.raises(NoSlopesError, match="the output has no gradient with respect to what"):
        linearization(build(), torch.randn(9, 6))


def test_slopes_that_are_not_finite_count_as_zero() -> None:
    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            return self.drop(x).clamp_min(0).sqrt().sum(dim=1)

    # d sqrt(m x) / dm is infinite, or NaN, at x = 0.
    found, _ = linearization(Root(), torch.tensor([[0.0, 4.0], [0.0, 9.0], [1.0, 1.0]]))
    # sqrt(4 m) has the slope 1 at m = 1; p / (1 - p) = 1.
    torch.testing.assert_close(found.variance, torch.tensor([1.0, 2.25, 0.5]))


@pytest.mark.parametrize(
    ("shape", "n_rows", "expected"),
    [
        ((7, 6), 7, RowDim(0, 1)),
        ((5, 7, 6), 7, RowDim(1, 1)),
        ((1, 6), 1, RowDim(0, 1)),
        ((7, 7), 7, None),
        ((14, 5), 7, None),
        ((14, 7), 7, None),
        ((5, 6), 7, None),
    ],
)
def test_a_shape_tells_its_rows_only_where_it_is_unambiguous(
    shape: tuple[int, ...], n_rows: int, expected: RowDim | None
) -> None:
    assert row_dim(shape, n_rows) == expected


def test_nothing_of_the_callers_is_touched() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2)).eval()
    x = torch.randn(9, 6, requires_grad=True)
    hooked: list[Tensor] = []
    next(model.parameters()).register_hook(hooked.append)
    versions = [parameter._version for parameter in model.parameters()]
    with torch.inference_mode():
        found, _ = linearization(model, x)
        assert torch.is_inference_mode_enabled()
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()
    assert not found.variance.requires_grad
    assert x.grad is None
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [parameter._version for parameter in model.parameters()] == versions
    assert not hooked


def test_masks_without_a_pass_have_the_law_of_the_linear_part() -> None:
    torch.manual_seed(0)
    found, _ = linearization(Twice(), torch.randn(7, 6))
    fresh = found.part(0, 1).fresh
    assert fresh is not None
    values = fresh(0, 6400).double()
    # Strata are balanced: the mean vanishes but for rates that are no sixteenths.
    scale = found.variance.double().sqrt()
    assert bool((values.mean(dim=0).abs() < 0.02 * scale).all())
    torch.testing.assert_close(values.var(dim=0), found.variance.double(), rtol=0.08, atol=0)
    torch.testing.assert_close(fresh(100, 8), values[100:108].float())
    # They are those of no pass.
    assert float((fresh(0, 40) - found.part(0, 40).values).abs().max()) > 0.1


@pytest.mark.parametrize("n_out", [2, 3, 5])
def test_scores_of_classes_are_linearized_less_their_mean(n_out: int) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Dropout(0.3), nn.Linear(6, n_out)), torch.randn(7, 6)
    found, passes = linearization(model, x, scores=lambda values: values, exclusive=True)
    part, probs = found.part(0, 40), model(x).softmax(dim=1)
    assert part.weights is not None
    torch.testing.assert_close(part.weights, probs)
    expected = passes - (passes * probs).sum(dim=2, keepdim=True)
    torch.testing.assert_close(part.values, expected, rtol=1e-4, atol=1e-5)
    assert len(found.sites) == 1


def test_of_many_classes_the_most_probable_of_every_row_are_linearized() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Dropout(0.3), nn.Linear(6, 40)), torch.randn(7, 6)
    few: dict[str, Any] = {"exclusive": True, "n_samples": 40}
    found, passes = linearization(model, x, scores=lambda values: values, **few)
    part = found.part(0, 40)
    assert part.weights is not None
    likely = torch.zeros(7, 40, dtype=torch.bool)
    likely.scatter_(1, model(x).topk(5, dim=1).indices, True)
    assert torch.equal(part.weights > 0, likely)
    torch.testing.assert_close(part.weights.sum(dim=1), torch.ones(7))
    expected = passes - (passes * part.weights).sum(dim=2, keepdim=True)
    torch.testing.assert_close(part.values[:, likely], expected[:, likely], rtol=1e-4, atol=1e-5)
    assert not part.values[:, ~likely].any()


def test_of_many_outputs_the_largest_of_every_row_are_linearized() -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 6)
    model = nn.Sequential(nn.Dropout(0.3), nn.Linear(6, 40))
    found, passes = linearization(model, x, scores=lambda values: values)
    part = found.part(0, 40)
    largest = model(x).topk(MOST_SCORES, dim=1).indices
    linear = torch.zeros(7, 40, dtype=torch.bool).scatter_(1, largest, True)
    torch.testing.assert_close(part.values[:, linear], passes[:, linear], rtol=1e-4, atol=1e-5)
    assert not part.values[:, ~linear].any()
    assert not found.variance[~linear].any()
    assert part.fresh is not None
    assert part.fresh(0, 16).shape == (16, 7, 40)
