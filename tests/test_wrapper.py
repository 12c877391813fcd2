"""The public entry: what it hands on, what it keeps of the model, and what it refuses."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from tests.passes import plans

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


class Noise(nn.Module):
    """Draws random numbers of its own where its flag says so."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x) if self.training else x


class Writes(nn.Module):
    """Writes into a view, which vmap cannot batch."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        view = out[:, :1]
        view += self.drop(x)[:, :1]
        return out


class Returns(nn.Module):
    """Returns what a function makes of its dropped-out input."""

    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.make, self.drop = make, nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Any:
        return self.make(self.drop(x))


def net(n_out: int = 3) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, n_out)).eval()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"p": 0.1},
        {"p": {"2": 0.2}},
        {"masks": "shared"},
        {"stratified": False},
        {"masks": "shared", "p": 0.3, "stratified": False},
    ],
)
@pytest.mark.parametrize("task", ["regression", "classification", "multilabel"])
def test_one_call_is_wrapping_and_predicting(task: Any, options: dict[str, Any]) -> None:
    model = net()
    found: Any = mcdrop.predict_with_uncertainty(model, X, task=task, seed=0, **options)
    expected: Any = mcdrop.wrap(model, **options).predict_with_uncertainty(X, task=task, seed=0)
    assert type(found) is type(expected)
    name = "mean" if task == "regression" else "probs"
    assert torch.equal(getattr(found, name), getattr(expected, name))
    assert found.run is not None
    assert found.run.masks == options.get("masks", "independent")
    assert found.run.stratified == options.get("stratified", True)


def test_one_call_opens_the_modules_that_are_named() -> None:
    model = nn.Sequential(net(), Noise())
    found = mcdrop.predict_with_uncertainty(
        model, X, stochastic=(Noise,), seed=0, task="regression"
    )
    assert found.run is not None
    assert [site.name for site in found.run.sites] == ["0.2", "1"]


def test_masks_shared_by_rows_make_them_one_function() -> None:
    x = X[:1].expand(6, 4)
    for masks, same in (("shared", True), ("independent", False)):
        passes = mcdrop.wrap(net(), masks=masks).sample(x, 16, seed=0)  # type: ignore[arg-type]
        assert torch.equal(passes, passes[:, :1].expand_as(passes)) == same


def test_independent_passes_are_asked_for_by_name() -> None:
    drop = nn.Dropout(0.5)
    x = torch.ones(1, 400)
    counts = {
        stratified: (mcdrop.wrap(drop, stratified=stratified).sample(x, 16, seed=0) == 0).sum(dim=0)
        for stratified in (True, False)
    }
    # A Latin hypercube drops each unit in half of 16 passes; else the number is binomial.
    assert bool((counts[True] == 8).all())
    assert counts[False].double().var().item() == pytest.approx(16 * 0.25, rel=0.4)


@pytest.mark.parametrize("call", ["sample", "predict_with_uncertainty"])
def test_a_strategy_may_be_asked_for(call: str) -> None:
    def draw(model: nn.Module, strategy: str) -> Any:
        method = getattr(mcdrop.wrap(model), call)
        task = {} if call == "sample" else {"task": "regression"}
        found = method(X, n_samples=20, seed=0, strategy=strategy, **task)
        return found if call == "sample" else found.mean

    for strategy in ("vectorized", "sequential"):
        torch.testing.assert_close(draw(net(), strategy), draw(net(), "auto"))
    torch.testing.assert_close(draw(Writes(), "sequential"), draw(Writes(), "auto"))
    with pytest.raises(
        mcdrop.UnsupportedError,
        match=rf"{call}: expected `strategy` to be 'auto' or 'sequential' for this model, but got "
        "'vectorized': the model cannot be batched over passes: .* Leave it out",
    ):
        draw(Writes(), "vectorized")
    with pytest.raises(mcdrop.RangeError, match=f"{call}: expected `strategy` to be one of"):
        draw(net(), "fast")


REMAKES: list[Callable[[Any], Any]] = [copy.deepcopy, lambda mc: pickle.loads(pickle.dumps(mc))]


@pytest.mark.parametrize("remake", REMAKES)
def test_a_copy_keeps_the_options_and_remembers_nothing(remake: Callable[[Any], Any]) -> None:
    model = nn.Sequential(net(), Noise())
    mc = mcdrop.wrap(model, {"0.2": 0.3}, "shared", ("1",), stratified=False)
    expected = mc.sample(X, 5, seed=0)
    assert len(plans(mc._memory)) == 1
    other = remake(mc)
    assert (other.rates, other.masks, other.stochastic, other.stratified) == (
        {"0.2": 0.3}, "shared", ("1",), False,
    )  # fmt: skip
    assert len(plans(other._memory)) == 0
    assert torch.equal(other.sample(X, 5, seed=0), expected)
    assert other.model is not mc.model
    weight = "0.0.weight"
    assert other.model.get_parameter(weight) is not mc.model.get_parameter(weight)


def test_a_wrapper_is_a_module_around_the_weights_of_the_model() -> None:
    model = net()
    mc = mcdrop.wrap(model)
    assert mc.model is model
    assert list(mc.parameters()) == list(model.parameters())
    assert list(mc.state_dict()) == [f"model.{name}" for name in model.state_dict()]
    before = mc.sample(X, 5, seed=0)
    state = {name: 2 * value for name, value in mc.state_dict().items()}
    mc.load_state_dict(state)
    assert torch.equal(model.get_parameter("3.bias"), state["model.3.bias"])
    assert not torch.equal(mc.sample(X, 5, seed=0), before)
    # The model's own attributes are the model's.
    with pytest.raises(AttributeError, match="'MCDropout' object has no attribute 'in_features'"):
        mc.in_features  # noqa: B018


def test_training_mode_of_wrapper_and_model_makes_no_difference() -> None:
    model = net()
    mc = mcdrop.wrap(model)
    before = mc.sample(X, 5, seed=0)
    mc.train()
    assert model.training
    assert torch.equal(mc.sample(X, 5, seed=0), before)
    assert model[2].training


def test_one_pass_has_the_structure_of_the_output_and_new_masks_each_time() -> None:
    mc = mcdrop.wrap(Returns(lambda x: {"a": (x, [x + 1]), "b": "text"}))
    x = torch.ones(4, 100)
    first, second = mc(x), mc(x)
    assert list(first) == ["a", "b"]
    assert first["b"] == "text"
    assert torch.equal(first["a"][1][0], first["a"][0] + 1)
    assert set(first["a"][0].unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(first["a"][0], second["a"][0])


def test_keyword_arguments_reach_the_model() -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor, *, scale: float = 1.0) -> Tensor:
            return nn.functional.dropout(x, 0.5) * scale

    out = mcdrop.wrap(Scaled())(torch.ones(4, 100), scale=3.0)
    assert set(out.unique().tolist()) == {0.0, 6.0}


def test_without_a_seed_predictions_differ_and_with_one_they_do_not() -> None:
    mc = mcdrop.wrap(net())
    assert not torch.equal(mc.sample(X, 5), mc.sample(X, 5))
    assert torch.equal(mc.sample(X, 5, seed=1), mc.sample(X, 5, seed=1))
    assert not torch.equal(mc.sample(X, 5, seed=1), mc.sample(X, 5, seed=2))


@pytest.mark.parametrize(("stratified", "few"), [(False, 5), (True, 32)])
def test_fewer_passes_of_a_seed_are_the_first_of_more(stratified: bool, few: int) -> None:
    mc = mcdrop.wrap(net(), stratified=stratified)
    torch.testing.assert_close(mc.sample(X, few, seed=1), mc.sample(X, 50, seed=1)[:few])


def test_below_two_strata_passes_of_a_seed_are_others() -> None:
    mc = mcdrop.wrap(net())
    torch.testing.assert_close(mc.sample(X, 5, seed=1), mc.sample(X, 31, seed=1)[:5])
    assert not torch.equal(mc.sample(X, 31, seed=1), mc.sample(X, 32, seed=1)[:31])


@pytest.mark.parametrize(
    ("task", "kind", "shape"),
    [
        ("regression", mcdrop.RegressionPrediction, (6, 3)),
        ("classification", mcdrop.ClassificationPrediction, (6, 3)),
        ("multilabel", mcdrop.ClassificationPrediction, (6, 2, 3)),
    ],
)
def test_the_task_decides_what_comes_out(task: Any, kind: Any, shape: tuple[int, ...]) -> None:
    found: Any = mcdrop.wrap(net()).predict_with_uncertainty(X, task=task)
    assert isinstance(found, kind)
    assert (found.mean if task == "regression" else found.probs).shape == shape
    assert found.n_samples == 100


def test_options_of_a_prediction_are_handed_on() -> None:
    found = mcdrop.wrap(Returns(lambda x: (x, -x))).predict_with_uncertainty(
        X, n_samples=8, select=1, noise_std=0.5, keep_samples=True, batch_size=4, sample_chunk=2,
        device="cpu", dtype=torch.float64, seed=3,
    )  # fmt: skip
    assert found.samples is not None
    assert found.samples.shape == (8, 6, 4)
    assert bool((found.aleatoric_variance == 0.25).all())
    run = found.run
    assert run is not None
    assert (run.seed, run.batch_size, run.sample_chunk, run.dtype) == (3, 4, 2, "float64")
    kept = found.samples[found.samples != 0]
    torch.testing.assert_close(kept, -2 * X.double().expand(8, 6, 4)[found.samples != 0])


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: mcdrop.wrap(net(), masks="same"), r"wrap: expected `masks` to be one of"),  # type: ignore[arg-type]
        (lambda: mcdrop.wrap(net(), p=1.0), r"wrap: expected `p` to lie in \[0, 1\)"),
        (lambda: mcdrop.wrap(net()).sample(X, 0), r"sample: expected `n_samples` to be an integer"),
        (
            lambda: mcdrop.wrap(net()).predict_with_uncertainty(X, n_samples=1),
            r"predict_with_uncertainty: expected `n_samples` to be an integer of at least 2",
        ),
        (lambda: mcdrop.wrap(net()).sample(X, seed=-1), r"sample: expected `seed` to be"),
    ],
)
def test_nonsense_is_refused_by_the_function_that_was_called(
    call: Callable[[], Any], text: str
) -> None:
    with pytest.raises(mcdrop.RangeError, match=text):
        call()


def test_what_can_be_iterated_once_names_the_modules_for_good() -> None:
    mc = mcdrop.wrap(nn.Sequential(net(), Noise()), stochastic=iter([Noise]))
    assert mc.stochastic == (Noise,)
    assert len(mc.sites(X)) == len(mc.sites(X)) == 2


def test_the_task_is_never_read_off_the_output() -> None:
    wide = mcdrop.wrap(nn.Sequential(nn.Dropout(0.5), nn.Linear(X.shape[1], 10)))
    text = r"`task` to be named .*shape \(6, 10\)\. Say task='classification' for scores of class"
    with pytest.raises(mcdrop.RangeError, match=text):
        wide.predict_with_uncertainty(X)
    # Observation noise and a dropout in closed form are said of regressions alone.
    assert wide.predict_with_uncertainty(X, noise_std=0.1).mean.shape == (6, 10)
    assert wide.predict_with_uncertainty(X, exact_last=True).mean.shape == (6, 10)
    assert wide.predict_with_uncertainty(X, task="classification").probs.shape == (6, 10)
    with pytest.raises(mcdrop.RangeError, match=r"`task` to be one of \"regression\""):
        wide.predict_with_uncertainty(X, task="")  # type: ignore[call-overload]


@pytest.mark.parametrize("kind", [nn.Dropout, nn.AlphaDropout])
@pytest.mark.parametrize("p", [0.3, 0.5])
def test_gradients_of_one_pass_see_the_masks_of_every_site(kind: Any, p: float) -> None:
    torch.manual_seed(0)
    layers = [[nn.Linear(8, 8, bias=False), kind(p)] for _ in range(4)]
    net = nn.Sequential(*(layer for pair in layers for layer in pair)).double()
    x = torch.randn(5, 8, dtype=torch.float64, requires_grad=True)
    y = mcdrop.wrap(net)(x)
    # A pass is affine in x, so that with t along x the derivative is the difference to t = 0.
    (gradient,) = torch.autograd.grad(y.sum(), x)
    f = mcdrop.wrap(net).function(seed=0)
    start, end = f(0 * x), f(x)
    (slope,) = torch.autograd.grad(end.sum(), x)
    torch.testing.assert_close((slope * x).sum(), (end - start).sum())
    if kind is nn.Dropout:
        torch.testing.assert_close((gradient * x).sum(), y.sum())
