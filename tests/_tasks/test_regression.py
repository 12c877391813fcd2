"""Regressions whose linear part is exact: right against every mask, and the model untouched."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop._engine.groups import PassGroups
from mcdrop._tasks.regression import RegressionAccumulator

X = torch.randn(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class TwoLayers(nn.Module):
    """Dropout of 4 and of 4 units with a Tanh between: not linear in the first four."""

    def __init__(self, p: float) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.drops = nn.ModuleList([nn.Dropout(p), nn.Dropout(p)])
        self.layers = nn.ModuleList([nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)])
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        x = self.drops[0](torch.tanh(self.layers[0](x)))
        x = self.drops[1](torch.tanh(2 * self.layers[1](x)))
        out: Tensor = self.layers[2](x)
        return out


def exact(net: TwoLayers, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance over all 2^8 masks, from the formula of the network."""
    p = float(net.drops[0].p)  # type: ignore[arg-type]
    total, square = torch.zeros(len(x), 2).double(), torch.zeros(len(x), 2).double()
    with torch.no_grad():
        for bits in itertools.product((0.0, 1.0), repeat=8):
            kept = torch.tensor(bits).double()
            probability = float(torch.where(kept == 1, 1 - p, p).prod())
            h = torch.tanh(net.layers[0](x)) * kept[:4] / (1 - p)
            h = torch.tanh(2 * net.layers[1](h)) * kept[4:] / (1 - p)
            out = net.layers[2](h)
            total += probability * out
            square += probability * out.square()
    return total, square - total.square()


def predicted(net: nn.Module, x: Tensor, n_samples: Any = 16, **options: Any) -> Any:
    wrapping = {name: options.pop(name) for name in ("masks", "stratified") if name in options}
    options = {"seed": 0, "control_variate": True, **options}
    options = {"task": "regression", **options}
    return mcdrop.wrap(net, **wrapping).predict_with_uncertainty(x, n_samples=n_samples, **options)


@pytest.mark.parametrize("masks", ["independent", "shared"])
@pytest.mark.parametrize("stratified", [True, False])
@pytest.mark.parametrize("keep_samples", [True, False])
def test_mean_and_std_are_those_of_all_masks(
    masks: Any, stratified: bool, keep_samples: bool
) -> None:
    net = TwoLayers(0.25)
    mean, variance = exact(net, X)
    options = {"masks": masks, "stratified": stratified, "keep_samples": keep_samples}
    found = [predicted(net, X, seed=seed, **options) for seed in range(60)]
    means = torch.stack([each.mean for each in found])
    variances = torch.stack([each.epistemic_variance for each in found])
    scale = variance.sqrt()
    # Averages over rows and outputs of a seed are independent among seeds.
    bias = ((means - mean) / scale).mean(dim=(1, 2))
    assert abs(float(bias.mean())) < 3 * float(bias.std()) / 60**0.5 + 1e-3
    bias = (variances / variance - 1).mean(dim=(1, 2))
    # Slopes shrunk towards their mean are biased, well inside the reported error.
    shrunk = 0.06 if masks == "independent" else 0.0
    assert abs(float(bias.mean())) < 3 * float(bias.std()) / 60**0.5 + shrunk + 2e-3
    errors = torch.stack([each.mcse for each in found])
    assert float(((means - mean).abs() <= 1.96 * errors).double().mean()) > 0.88
    errors = torch.stack([each.std_mcse for each in found])
    assert float(((variances.sqrt() - scale).abs() <= 1.96 * errors).double().mean()) > 0.88


def half_dead(seed: int, p: float) -> nn.Sequential:
    """A narrow network of which many units do not reach the output, so that few passes vary."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(4, 8), nn.ReLU(), nn.Dropout(p), nn.Linear(8, 8), nn.Tanh(), nn.Dropout(p),
        nn.Linear(8, 2),
    ).double().eval()  # fmt: skip


def std_of_half_dead(net: nn.Sequential, x: Tensor, p: float) -> Tensor:
    """Over all 2^8 masks of the first dropout; that of the second adds its closed form."""
    first, second, last = (net[i] for i in (0, 3, 6))
    kept = torch.tensor(list(itertools.product((0.0, 1.0), repeat=8))).double()
    weight = torch.where(kept == 1, 1 - p, p).prod(dim=1).view(-1, 1, 1)
    with torch.no_grad():
        h = torch.tanh(second(torch.relu(first(x)) * kept.unsqueeze(1) / (1 - p)))
        means, w = last(h), last.weight
        assert isinstance(w, Tensor)
        within = h.square() @ w.square().T * p / (1 - p)
    mean = (weight * means).sum(dim=0)
    return (weight * ((means - mean).square() + within)).sum(dim=0).sqrt()


@pytest.mark.parametrize("p", [0.0625, 0.25])
@pytest.mark.parametrize("n_samples", [8, 16, 100])
def test_rows_in_which_few_passes_vary_do_not_spoil_slopes(p: float, n_samples: int) -> None:
    # Rows that are linear to rounding beside others, and units that no pass has dropped.
    x = torch.rand(6, 4, generator=torch.Generator().manual_seed(0)).double()
    for seed in (36, *range(85, 97)):
        net = half_dead(seed, p)
        found = predicted(net, x, n_samples)
        expected = std_of_half_dead(net, x, p)
        assert float((found.std / expected - 1).abs().max()) < (0.6 if n_samples < 100 else 0.06)
        assert float((found.std_mcse / expected).max()) < 2
        assert float((found.mcse / expected).max()) < 1


def test_it_is_more_precise_than_the_passes_alone() -> None:
    net = TwoLayers(0.25)
    mean, variance = exact(net, X)
    errors = {}
    for control in (True, False):
        found = [predicted(net, X, seed=seed, control_variate=control) for seed in range(60)]
        stds = torch.stack([each.std for each in found]) / variance.sqrt()
        means = (torch.stack([each.mean for each in found]) - mean) / variance.sqrt()
        errors[control] = means.square().mean(), (stds - 1).square().mean()
    assert float(errors[True][0]) < float(errors[False][0])
    assert float(errors[True][1]) < float(errors[False][1]) / 4


def test_without_it_predictions_are_the_moments_of_the_passes_to_the_last_bit() -> None:
    net = TwoLayers(0.25)
    mc = mcdrop.wrap(net)
    passes = mc.sample(X, 48, seed=5, sample_chunk=48)
    accumulator = RegressionAccumulator("f", 0, False, PassGroups(48, stratified=True))
    accumulator.update(passes)
    expected = accumulator.result()
    # By itself, a network as small as this is left to its passes but for the last dropout.
    each: tuple[dict[str, Any], ...] = ({"control_variate": False}, {"keep_samples": True})
    for options in each:
        found: Any = mc.predict_with_uncertainty(
            X, n_samples=48, seed=5, sample_chunk=48, task="regression", **options
        )
        for name in ("mean", "epistemic_variance", "mcse", "std_mcse"):
            assert torch.equal(getattr(found, name), getattr(expected, name))


def test_kept_samples_are_plain_passes() -> None:
    net = TwoLayers(0.25)
    found = predicted(net, X, keep_samples=True)
    assert torch.equal(found.samples, mcdrop.wrap(net).sample(X, 16, seed=0))
    assert "closed form" not in found.run.control_variate
    assert not torch.allclose(found.std, found.samples.std(dim=0), rtol=0.01)


@pytest.mark.parametrize("strategy", ["vectorized", "sequential"])
@pytest.mark.parametrize("sample_chunk", [1, 5, 32])
def test_chunks_and_strategies_give_the_same_numbers(strategy: Any, sample_chunk: int) -> None:
    net = TwoLayers(0.25)
    whole = predicted(net, X, 32)
    other = predicted(net, X, 32, strategy=strategy, sample_chunk=sample_chunk)
    torch.testing.assert_close(other.mean, whole.mean)
    torch.testing.assert_close(other.std, whole.std)
    torch.testing.assert_close(other.std_mcse, whole.std_mcse)


def test_with_shared_masks_a_row_is_the_same_in_any_batch() -> None:
    net = TwoLayers(0.25)
    whole = predicted(net, X, masks="shared")
    few = predicted(net, X[3:5], masks="shared")
    torch.testing.assert_close(few.mean, whole.mean[3:5])
    torch.testing.assert_close(few.std, whole.std[3:5])
    torch.testing.assert_close(few.std_mcse, whole.std_mcse[3:5])


def test_a_network_with_only_a_last_dropout_is_answered_exactly() -> None:
    net = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Dropout(0.4), nn.Linear(6, 2)).double()
    found = predicted(net, X, 2)
    hidden, weight = torch.tanh(net[0](X)).detach(), net[3].weight
    assert isinstance(weight, Tensor)
    torch.testing.assert_close(found.mean, net[3](hidden).detach())
    # The rate is realized to 2^-16.
    variance = hidden.square() @ weight.detach().square().T * (0.4 / 0.6)
    torch.testing.assert_close(found.epistemic_variance, variance, rtol=1e-4, atol=0)
    assert found.run.control_variate.startswith("last dropout (2) in closed form, no linearized")


class Heteroscedastic(nn.Module):
    """Mean and log variance, both random."""

    def __init__(self) -> None:
        super().__init__()
        self.body = TwoLayers(0.25)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out = self.body(x)
        return out[:, :1], out[:, 1:]


def test_predicted_noise_is_added_and_is_in_the_error() -> None:
    net = Heteroscedastic().eval()
    _, variance = exact(net.body, X)
    options = {"task": "heteroscedastic", "output_type": "log_variance"}
    found = [predicted(net, X, 32, seed=seed, **options) for seed in range(30)]
    many = predicted(net, X, 20_000, control_variate=False, **options)
    ratios = torch.stack([each.epistemic_variance for each in found]) / variance[:, :1]
    assert abs(float(ratios.mean()) - 1) < 0.05
    stds, errors = (torch.stack([getattr(f, n) for f in found]) for n in ("std", "std_mcse"))
    assert float(((stds - many.std).abs() <= 1.96 * errors).double().mean()) > 0.9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("n_rows", [1, 1000])
def test_types_and_sizes(dtype: torch.dtype, n_rows: int) -> None:
    net = TwoLayers(0.25)
    x = torch.randn(n_rows, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = predicted(net, x.to(dtype), 64, dtype=dtype)
    mean, variance = exact(net, x)
    assert found.mean.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert bool((found.epistemic_variance > 0).all())
    off = ((found.mean - mean) / variance.sqrt()).square().mean().sqrt()
    assert float(off) < 0.25
    off = (found.std / variance.sqrt() - 1).square().mean().sqrt()
    assert float(off) < 0.2


def test_stopping_takes_fewer_passes() -> None:
    net = TwoLayers(0.25)
    counts = {}
    for control in (True, False):
        found = predicted(net, X, "auto", tolerance=0.05, control_variate=control, stratified=False)
        assert float((found.std_mcse / found.std).max()) <= 0.05
        counts[control] = float(found.passes_per_row.double().mean())
    assert counts[True] < counts[False] / 2


class NoGradients(nn.Module):
    """Its forward pass runs without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.body = TwoLayers(0.25)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x).sin()
        return out


class Rounded(nn.Module):
    """Goes through NumPy, which gradients cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.body = TwoLayers(0.25)

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(np.sin(self.body(x).numpy()))


@pytest.mark.parametrize(
    ("build", "reason"),
    [(NoGradients, "the output has no gradient"), (Rounded, "Can't call numpy")],
)
def test_a_model_without_gradients_says_so(build: Callable[[], nn.Module], reason: str) -> None:
    with pytest.raises(
        mcdrop.UnsupportedError,
        match=f"expected `control_variate` to be 'auto' or False here, but got True: {reason}",
    ):
        predicted(build(), X)


def test_beside_a_last_dropout_in_closed_form_it_may_be_missing() -> None:
    net = nn.Sequential(
        nn.Linear(3, 64), nn.Dropout(0.3), Ungraded(), nn.Linear(64, 64), nn.Dropout(0.3),
        nn.Linear(64, 1),
    )  # fmt: skip
    mc = mcdrop.wrap(net.eval().to(X.dtype))
    for _ in range(2):
        found = mc.predict_with_uncertainty(X, n_samples=16, seed=0, control_variate=True)
        assert found.run is not None
        assert "(4) in closed form, no linearized network: " in found.run.control_variate


def test_by_itself_a_single_dropout_is_integrated_and_no_other() -> None:
    head = nn.Sequential(nn.Linear(3, 64), nn.Dropout(0.3), nn.Linear(64, 1)).to(X.dtype).eval()
    mc = mcdrop.wrap(head)
    alone = mc.predict_with_uncertainty(X, n_samples=16, seed=0)
    assert alone.run is not None
    assert alone.run.control_variate.startswith("last dropout (1) in closed form")
    assert "linearized" not in alone.run.control_variate
    exact = mc.predict_with_uncertainty(X, n_samples=16, seed=0, exact_last=True)
    assert torch.equal(alone.std, exact.std)
    more = mcdrop.wrap(nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.2), head).to(X.dtype).eval())
    by_itself = more.predict_with_uncertainty(X, n_samples=16, seed=0)
    plain = more.predict_with_uncertainty(X, n_samples=16, seed=0, control_variate=False)
    assert torch.equal(by_itself.std, plain.std)
    assert by_itself.run is not None
    assert by_itself.run.control_variate == ""


class Ungraded(nn.Module):
    """Cuts gradients off."""

    def forward(self, x: Tensor) -> Tensor:
        return x.detach().sin()


@pytest.mark.parametrize("given", ["always", 2, None, "True"])
def test_other_words_are_refused(given: Any) -> None:
    with pytest.raises(mcdrop.RangeError, match="expected `control_variate` to be True, False or"):
        predicted(TwoLayers(0.25), X, control_variate=given)


def test_too_few_passes_are_refused() -> None:
    net = nn.Sequential(TwoLayers(0.25), nn.Tanh())
    with pytest.raises(mcdrop.UnsupportedError, match="True: 4 passes are too few. Leave it out"):
        predicted(net, X, 4)


def test_rows_that_are_not_finite_are_named() -> None:
    x = X.clone()
    x[4] = torch.nan
    with pytest.raises(mcdrop.NonFiniteError, match="NaN or infinity in 1 row\\(s\\): 4"):
        predicted(TwoLayers(0.25), x)


def test_gradients_and_modes_of_the_caller_stay() -> None:
    net = TwoLayers(0.25)
    for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with mode():
            before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
            found = predicted(net, X)
            assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
        assert not found.mean.requires_grad
    assert all(parameter.grad is None for parameter in net.parameters())
    net(X).sum().backward()
    held = [parameter.grad for parameter in net.parameters()]
    copies = [grad.clone() for grad in held if grad is not None]
    predicted(net, X)
    assert all(p.grad is grad for p, grad in zip(net.parameters(), held, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(held, copies, strict=True) if a is not None)


@pytest.mark.parametrize("masks", ["independent", "shared"])
def test_the_record_says_that_slopes_depend_on_the_batch(masks: Any) -> None:
    net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.3), nn.Tanh(), nn.Linear(8, 1)).to(X.dtype)
    run = predicted(net.eval(), X, masks=masks).run
    assert run is not None
    told = "the control variate: its slopes are shrunk towards those of the batch"
    assert run.depends_on_batches == (told if masks == "independent" else "")


@pytest.mark.parametrize(
    ("control", "error", "text"),
    [
        (
            False,
            mcdrop.NonFiniteError,
            "numbers whose variance torch.float32 can hold, but got .*e\\+2",
        ),
        (
            True,
            mcdrop.UnsupportedError,
            "squares of its slopes are beyond the range of torch.float32",
        ),
    ],
)
def test_variances_that_overflow_are_named(control: bool, error: Any, text: str) -> None:
    net = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    head = net[3]
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        head.weight.mul_(1e25)
    with pytest.raises(error, match=text):
        predicted(net.eval(), X.float(), control_variate=control)
    found = predicted(net, X, control_variate=control, dtype=torch.float64)
    assert bool(found.std.isfinite().all())
