"""Classifications whose linear part is a control variate: right against every mask."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop.prediction.classification import entropy

X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
NAMES = ("probs", "probs_std", "predictive_entropy", "mutual_information")


class Classes(nn.Module):
    """Dropout of 4 and of 4 units; the second feeds the output layer."""

    def __init__(self, p: float, n_out: int = 3, scale: float = 2.0) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.drops = nn.ModuleList([nn.Dropout(p), nn.Dropout(p)])
        self.layers = nn.ModuleList([nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, n_out)])
        self.scale = scale
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        x = self.drops[0](torch.tanh(self.layers[0](x)))
        x = self.drops[1](self.scale * torch.tanh(2 * self.layers[1](x)))
        out: Tensor = self.layers[2](x)
        return out


def exact(net: Classes, x: Tensor) -> dict[str, Tensor]:
    """The quantities over all 2^8 masks, from the formula of the network."""
    p = float(net.drops[0].p)  # type: ignore[arg-type]
    weights, passes = [], []
    with torch.no_grad():
        for bits in itertools.product((0.0, 1.0), repeat=8):
            kept = torch.tensor(bits).double()
            weights.append(torch.where(kept == 1, 1 - p, p).prod())
            h = torch.tanh(net.layers[0](x)) * kept[:4] / (1 - p)
            h = net.scale * torch.tanh(2 * net.layers[1](h)) * kept[4:] / (1 - p)
            passes.append(net.layers[2](h).softmax(dim=1))
    probs, weight = torch.stack(passes), torch.stack(weights).view(-1, 1, 1)
    mean = (weight * probs).sum(dim=0)
    total = entropy(mean)
    return {
        "probs": mean,
        "probs_std": (weight * (probs - mean).square()).sum(dim=0).sqrt(),
        "predictive_entropy": total,
        "mutual_information": total - (weight[..., 0] * entropy(probs, dim=2)).sum(dim=0),
    }


def predicted(net: nn.Module, x: Tensor, n_samples: Any = 16, **options: Any) -> Any:
    wrapping = {name: options.pop(name) for name in ("masks", "stratified") if name in options}
    options = {"seed": 0, "control_variate": True, "task": "classification", **options}
    return mcdrop.wrap(net, **wrapping).predict_with_uncertainty(x, n_samples=n_samples, **options)


def errors_of(found: Any) -> dict[str, Tensor]:
    names = ("mcse", *(f"{name}_mcse" for name in NAMES[1:]))
    return {name: getattr(found, error) for name, error in zip(NAMES, names, strict=True)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("masks", "stratified"), [("independent", True), ("independent", False), ("shared", True)]
)
@pytest.mark.parametrize(
    "options", [{}, {"keep_samples": True}, {"strategy": "sequential", "sample_chunk": 7}]
)
def test_all_quantities_are_those_of_all_masks(
    masks: Any, stratified: bool, options: dict[str, Any]
) -> None:
    net = Classes(0.25)
    expected = exact(net, X)
    repeats = 12 if "strategy" in options else 40
    options = {"masks": masks, "stratified": stratified, **options}
    found = [predicted(net, X, 32, seed=seed, **options) for seed in range(repeats)]
    for name in NAMES:
        values = torch.stack([getattr(each, name) for each in found])
        off = values - expected[name]
        # Averages over rows and classes of a seed are independent among seeds.
        bias = (off / expected[name]).flatten(1).mean(dim=1)
        allowed = 3.5 * float(bias.std()) / repeats**0.5 + 5e-3
        assert abs(float(bias.mean())) < allowed, name
        errors = torch.stack([errors_of(each)[name] for each in found])
        assert float((off.abs() <= 1.96 * errors).double().mean()) > 0.9, name


def test_the_law_tells_the_spread_where_no_pass_dropped_a_unit() -> None:
    torch.manual_seed(1)
    x, net = torch.randn(2, 4), nn.Sequential(nn.Dropout(0.02), nn.Linear(4, 3)).eval()
    options: dict[str, Any] = {"masks": "shared", "stratified": False, "seed": 5}
    with pytest.warns(UserWarning, match="all 8 passes are alike"):
        plain = predicted(net, x, 8, control_variate=False, **options)
    assert float(plain.probs_std.max()) < 1e-6
    found = predicted(net, x, 8, **options)
    weights, passes = [], []
    for bits in itertools.product((0.0, 1.0), repeat=4):
        kept = torch.tensor(bits)
        weights.append(torch.where(kept == 1, 0.98, 0.02).prod())
        passes.append(net(x * kept / 0.98).detach().softmax(dim=1))
    probs, weight = torch.stack(passes), torch.stack(weights).view(-1, 1, 1)
    mean = (weight * probs).sum(dim=0)
    std = (weight * (probs - mean).square()).sum(dim=0).sqrt()
    torch.testing.assert_close(found.probs, mean, rtol=0.02, atol=0)
    torch.testing.assert_close(found.probs_std, std, rtol=0.2, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_errors_hold_for_more_units_and_classes_than_are_followed_alone(p: float) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(3, 150), nn.ReLU(), nn.Dropout(p), nn.Linear(150, 80), nn.ReLU(), nn.Dropout(p),
        nn.Linear(80, 8),
    ).double().eval()  # fmt: skip
    head = net[-1]
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        head.weight.mul_(8)
    long = predicted(net, X, 40_000, seed=10**6, stratified=False, control_variate=False)
    for n_samples in (16, 256):
        found = [predicted(net, X, n_samples, seed=seed) for seed in range(40)]
        for name in NAMES:
            off = torch.stack([getattr(each, name) for each in found]) - getattr(long, name)
            errors = torch.stack([errors_of(each)[name] for each in found])
            allowed = torch.hypot(1.96 * errors, 1.96 * errors_of(long)[name])
            assert float((off.abs() <= allowed).double().mean()) > 0.92, (n_samples, name)


@pytest.mark.parametrize("p", [pytest.param(0.1, marks=pytest.mark.slow), 0.5])
def test_it_is_more_precise_than_the_passes_alone(p: float) -> None:
    net = Classes(p, scale=1.0)
    expected = exact(net, X)
    squares: dict[Any, list[float]] = {}
    for control in (True, False):
        found = [predicted(net, X, seed=seed, control_variate=control) for seed in range(8)]
        squares[control] = [
            float(torch.stack([getattr(f, name) - expected[name] for f in found]).square().mean())
            for name in NAMES
        ]
    assert all(ours < plain / 2 for ours, plain in zip(squares[True], squares[False], strict=True))


def test_what_is_linear_in_its_masks_is_answered_without_noise_of_the_passes() -> None:
    net = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Dropout(0.4), nn.Linear(6, 3)).double()
    found = [predicted(net.eval(), X, seed=seed) for seed in range(2)]
    few = predicted(net, X, 8, seed=0)
    # The surrogate is the network: only the masks without a pass are left, the same for any S.
    for name in NAMES:
        torch.testing.assert_close(getattr(found[0], name), getattr(few, name))
        assert not torch.equal(getattr(found[0], name), getattr(found[1], name))


@pytest.mark.parametrize("scale", [0.0, pytest.param(0.1, marks=pytest.mark.slow), 30.0])
@pytest.mark.parametrize("n_rows", [1, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("task", "n_out", "output_type"),
    [
        ("classification", 2, "logits"),
        ("classification", 40, "log_probs"),
        ("classification", 3, "probs"),
        ("binary", 1, "logits"),
        ("binary", 1, "probs"),
        ("multilabel", 4, "logits"),
        ("multilabel", 20, "log_probs"),
    ],
)
def test_probabilities_stay_probabilities(
    task: Any, n_out: int, output_type: Any, n_rows: int, scale: float
) -> None:
    body = Classes(0.3, n_out, scale)
    last: dict[Any, nn.Module] = {
        "logits": nn.Identity(),
        "probs": nn.Softmax(dim=1) if task == "classification" else nn.Sigmoid(),
        "log_probs": nn.LogSoftmax(dim=1) if task == "classification" else nn.LogSigmoid(),
    }
    net = nn.Sequential(body, last[output_type]).eval()
    x = torch.randn(n_rows, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = predicted(net, x, task=task, output_type=output_type) if scale else None
    if found is None:
        with pytest.warns(UserWarning, match="all 16 passes are alike"):
            found = predicted(net, x, task=task, output_type=output_type)
    torch.testing.assert_close(found.probs.sum(dim=1), torch.ones_like(found.probs[:, 0]))
    assert bool(((found.probs >= 0) & (found.probs <= 1)).all())
    for name in (*NAMES[1:], "expected_entropy"):
        value = getattr(found, name)
        assert bool(value.isfinite().all())
        assert bool((value >= 0).all())
    assert all(bool((error >= 0).all()) for error in errors_of(found).values())
    assert bool((found.mutual_information <= found.predictive_entropy + 1e-9).all())
    total = found.expected_entropy + found.mutual_information
    torch.testing.assert_close(total, found.predictive_entropy, rtol=1e-6, atol=1e-9)
    if scale == 0.1:
        options: dict[str, Any] = {"output_type": output_type, "control_variate": False}
        long = predicted(net, x, 1000, task=task, **options)
        off = (found.probs_std - long.probs_std).square().mean().sqrt()
        assert float(off) < 0.2 * float(long.probs_std.square().mean().sqrt())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_types(dtype: torch.dtype) -> None:
    net = Classes(0.25)
    found = predicted(net, X.to(dtype), 32, dtype=dtype)
    assert found.probs.dtype == torch.float32
    off = (found.probs - exact(net, X)["probs"]).square().mean().sqrt()
    assert float(off) < 0.05


@pytest.mark.parametrize("masks", ["independent", "shared"])
def test_a_row_does_not_depend_on_batches_chunks_and_strategies(masks: Any) -> None:
    net = Classes(0.25)
    whole = predicted(net, X, 40, masks=masks)
    assert whole.run.depends_on_batches == ""
    for options in ({"batch_size": 4}, {"sample_chunk": 5}, {"strategy": "sequential"}):
        other = predicted(net, X, 40, masks=masks, **options)
        for name in NAMES:
            torch.testing.assert_close(getattr(other, name), getattr(whole, name))
        for name, error in errors_of(whole).items():
            torch.testing.assert_close(errors_of(other)[name], error)


def test_large_outputs_are_kept_in_fewer_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Classes(0.25)
    whole = predicted(net, X, 40)
    monkeypatch.setattr("mcdrop._engine.moments._LARGE", 12)
    found = predicted(net, X, 40)
    for name in NAMES:
        torch.testing.assert_close(getattr(found, name), getattr(whole, name))
    for error in errors_of(found).values():
        assert bool(error.isfinite().all())


def test_kept_samples_are_plain_passes() -> None:
    net = Classes(0.25)
    found = predicted(net, X, keep_samples=True)
    plain = mcdrop.wrap(net).sample(X, 16, seed=0).softmax(dim=2)
    torch.testing.assert_close(found.samples, plain)
    assert found.run.control_variate.startswith("linearized network as control variate; 16")
    assert not torch.allclose(found.probs, plain.mean(dim=0), rtol=1e-3)


def test_the_record_says_what_was_done_and_what_it_is_worth() -> None:
    told = predicted(Classes(0.25), X).run.control_variate
    assert told.startswith("last dropout (drops.1) drawn 16 times a pass, linearized network as")
    assert "16 passes are about as precise as " in told
    assert "independent ones for the probabilities and " in told


@pytest.mark.parametrize("n_out", [3, 9])
def test_stopping_takes_fewer_passes(n_out: int) -> None:
    net = Classes(0.25, n_out)
    counts = {}
    for control in (True, False):
        found = predicted(net, X, "auto", tolerance=0.006, control_variate=control)
        assert all(float(error.max()) <= 0.006 for error in errors_of(found).values())
        counts[control] = float(found.passes_per_row.double().mean())
        assert float((found.probs - exact(net, X)["probs"]).abs().max()) < 0.02
    assert counts[True] < counts[False] / 2


class NoGradients(nn.Module):
    """Its forward pass runs without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Classes(0.25)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x).sin()
        return out


def test_a_model_without_gradients_is_left_to_its_passes_and_says_so() -> None:
    mc = mcdrop.wrap(NoGradients())
    options: dict[str, Any] = {"n_samples": 16, "seed": 0, "task": "classification"}
    for _ in range(2):
        found = mc.predict_with_uncertainty(X, control_variate=True, **options)
        assert found.run is not None
        assert found.run.control_variate.startswith("no linearized network: the output has no")
        plain = mc.predict_with_uncertainty(X, control_variate=False, **options)
        assert torch.equal(found.probs, plain.probs)


def test_slopes_whose_squares_overflow_are_left_to_the_passes() -> None:
    # Not every network changes its mind where scores are so far apart.
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 9), nn.ReLU(), nn.Dropout(0.3), nn.Linear(9, 3), nn.Tanh())
    net.append(nn.Linear(3, 3))
    head = net[5]
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        head.weight.mul_(1e25)
    found = predicted(net.eval(), X.float())
    assert "beyond the range of torch.float32" in found.run.control_variate
    assert bool(found.probs_std.isfinite().all())


def test_too_few_passes_are_left_alone() -> None:
    run = predicted(Classes(0.25), X, 7, keep_samples=True).run
    assert run.control_variate == "no linearized network: 7 passes are too few"


def test_rows_that_are_not_finite_are_named() -> None:
    x = X.clone()
    x[4] = torch.nan
    with pytest.raises(mcdrop.NonFiniteError, match="NaN or infinity in 1 row\\(s\\): 4"):
        predicted(Classes(0.25), x)
