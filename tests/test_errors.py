"""What a user reads after the obvious mistakes with a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import torch
from torch import nn

import mcdrop

X = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))


class Returns(nn.Module):
    """Drops out its input, then returns whatever a function makes of it."""

    def __init__(self, make: Callable[[torch.Tensor], Any], p: float = 0.5) -> None:
        super().__init__()
        self.make, self.drop = make, nn.Dropout(p)

    def forward(self, x: torch.Tensor) -> Any:
        return self.make(self.drop(x))


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@dataclass
class Output:
    loss: torch.Tensor
    logits: torch.Tensor


def nan_rows(x: torch.Tensor) -> torch.Tensor:
    out = x.sum(dim=1, keepdim=True)
    out = torch.where(torch.arange(len(x)).unsqueeze(1) == 7, float("nan"), out)
    return torch.where(torch.arange(len(x)).unsqueeze(1) == 3, float("inf"), out)


@pytest.mark.parametrize("model", [3, "model", lambda x: x, nn.Linear])
def test_only_modules_can_be_wrapped(model: Any) -> None:
    with pytest.raises(mcdrop.UnsupportedError, match=r"wrap: expected `model` to be a torch.nn"):
        mcdrop.wrap(model)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_torchscript_is_refused_by_name() -> None:
    scripted = torch.jit.trace(nn.Sequential(nn.Linear(3, 1), nn.Dropout(0.5)).eval(), X)
    with pytest.raises(mcdrop.UnsupportedError, match=r"TorchScript in 0\b.*Wrap the original"):
        mcdrop.wrap(nn.Sequential(scripted))


def test_weights_without_values_yet_are_refused() -> None:
    net = nn.Sequential(nn.LazyLinear(3), nn.Dropout(0.5)).eval()
    with pytest.raises(mcdrop.UnsupportedError, match=r"lazy or meta ones, such as 0.weight\. Run"):
        mcdrop.wrap(net)
    net(X)
    mcdrop.wrap(net).sample(X, 2)
    with pytest.raises(mcdrop.UnsupportedError, match="weights with values, but got lazy or meta"):
        mcdrop.wrap(net.to("meta"))


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (nn.Linear(3, 1), "`model` to call dropout in its forward pass, but got Linear without"),
        (Unused(), r"Unused without any \(has drop, but never called it\)"),
        (
            nn.Sequential(nn.Dropout(0.0), nn.Linear(3, 1)),
            r"a dropout with 0 < p < 1, but got Sequential with 0 \(p=0\).*p=0.1",
        ),
    ],
)
def test_a_model_in_which_nothing_is_random_is_an_error(model: nn.Module, text: str) -> None:
    with pytest.raises(mcdrop.NoDropoutError, match=text):
        mcdrop.wrap(model).predict_with_uncertainty(X, task="regression")
    with pytest.raises(mcdrop.NoDropoutError, match=text):
        mcdrop.wrap(model).sample(X)


def test_one_pass_of_a_model_without_dropout_is_an_error() -> None:
    with pytest.raises(mcdrop.NoDropoutError, match="MCDropout: expected `model` to call dropout"):
        mcdrop.wrap(nn.Linear(3, 1))(X)


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan"), "half", {"0": 2.0}])
def test_rates_outside_the_unit_interval_are_refused(p: Any) -> None:
    with pytest.raises(mcdrop.RangeError, match=r"wrap: expected `p` to lie in \[0, 1\), but got"):
        mcdrop.wrap(nn.Dropout(0.5), p=p)


def test_rates_for_unknown_sites_are_refused() -> None:
    mc = mcdrop.wrap(nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 1)), p={"drop": 0.1})
    for call in (mc, mc.sites, mc.sample, mc.predict_with_uncertainty):
        with pytest.raises(mcdrop.RangeError, match=r"sites among \['0'\], but got \['drop'\]"):
            call(X)


def test_rows_with_nan_or_infinity_are_named() -> None:
    mc = mcdrop.wrap(Returns(nan_rows))
    for call in (mc.sample, mc.predict_with_uncertainty):
        with pytest.raises(mcdrop.NonFiniteError, match=r"NaN or infinity in 2 row\(s\): 3, 7\."):
            call(X)


def test_rows_are_numbered_over_all_batches() -> None:
    x = X.clone()
    x[9] = float("nan")
    mc = mcdrop.wrap(nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 2)))
    for task in ("regression", "classification"):
        with pytest.raises(mcdrop.NonFiniteError, match=r"1 row\(s\): 9\."):
            mc.predict_with_uncertainty(x, batch_size=4, task=task)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda x: (x, x), r"got tuple of 2 \(a tensor \(12, 3\), a tensor \(12, 3\)\). Say which"),
        (lambda x: {"logits": x}, r"got dict with keys \['logits'\]"),
        (lambda x: Output(x.sum(), x), r"Output with fields \['loss', 'logits'\]"),
        (lambda x: None, "got NoneType"),
        (lambda x: x.argmax(dim=1), "return real numbers, but got a tensor of type torch.int64"),
        (lambda x: x.sum(), "a tensor without dimensions"),
    ],
)
def test_outputs_that_are_not_one_tensor_are_never_guessed(
    make: Callable[[torch.Tensor], Any], text: str
) -> None:
    with pytest.raises(mcdrop.McdropError, match=text):
        mcdrop.wrap(Returns(make)).predict_with_uncertainty(X)


@pytest.mark.parametrize(
    ("make", "select"),
    [
        (lambda x: (x.sum(), x), 1),
        (lambda x: {"loss": x.sum(), "logits": x}, "logits"),
        (lambda x: Output(x.sum(), x), "logits"),
        (lambda x: Output(x.sum(), x), lambda output: output.logits),
    ],
)
def test_select_picks_the_prediction(make: Callable[[torch.Tensor], Any], select: Any) -> None:
    found = mcdrop.wrap(Returns(make)).sample(X, 5, select=select, seed=0)
    expected = mcdrop.wrap(Returns(lambda x: x)).sample(X, 5, seed=0)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("select", ["hidden", 4])
def test_select_that_picks_nothing_is_an_error(select: Any) -> None:
    mc = mcdrop.wrap(Returns(lambda x: {"logits": x}))
    with pytest.raises(mcdrop.OutputError, match="select=.* picks NoneType"):
        mc.sample(X, 5, select=select)


@pytest.mark.parametrize(
    ("make", "options", "error", "text"),
    [
        (lambda x: x[:, 0], {}, mcdrop.ShapeError, r"\(N, C\) class scores .*got shape \(12,\)"),
        (lambda x: x[:, :1], {}, mcdrop.ShapeError, "use task='binary'"),
        (lambda x: x, {"task": "binary"}, mcdrop.ShapeError, r"one score per row.*\(12, 3\)"),
        (lambda x: x.softmax(1), {}, mcdrop.OutputError, "Pass output_type='probs'"),
        (lambda x: x, {"output_type": "probs"}, mcdrop.OutputError, "Pass output_type='logits'"),
        (lambda x: x, {"output_type": "log_probs"}, mcdrop.OutputError, "rows that sum to"),
        (
            lambda x: 2 + x[:, 0],
            {"task": "binary", "output_type": "probs"},
            mcdrop.OutputError,
            "Pass output_type='logits'",
        ),
    ],
)
def test_classification_scores_must_be_what_outputs_says(
    make: Callable[[torch.Tensor], Any],
    options: dict[str, Any],
    error: type[Exception],
    text: str,
) -> None:
    mc = mcdrop.wrap(Returns(make))
    with pytest.raises(error, match=text):
        mc.predict_with_uncertainty(X, **{"task": "classification", **options})


def test_the_three_kinds_of_class_scores_agree() -> None:
    kinds: dict[Literal["logits", "probs", "log_probs"], Callable[[torch.Tensor], torch.Tensor]]
    kinds = {
        "logits": lambda x: x,
        "probs": lambda x: x.softmax(dim=1),
        "log_probs": lambda x: x.log_softmax(dim=1),
    }
    found = [
        mcdrop.wrap(Returns(make)).predict_with_uncertainty(
            X, task="classification", output_type=kind, seed=0
        )
        for kind, make in kinds.items()
    ]
    for other in found[1:]:
        torch.testing.assert_close(other.probs, found[0].probs)
        torch.testing.assert_close(other.expected_entropy, found[0].expected_entropy)


@pytest.mark.parametrize("error", [RuntimeError, KeyError, ZeroDivisionError])
def test_an_error_inside_the_model_reaches_the_caller_unchanged(error: type[Exception]) -> None:
    def fail(x: torch.Tensor) -> torch.Tensor:
        raise error("my own")

    with pytest.raises(error, match="my own"):
        mcdrop.wrap(Returns(fail)).sample(X)


def test_outputs_with_other_rows_than_inputs_are_refused_when_split() -> None:
    mc = mcdrop.wrap(Returns(lambda x: x.T))
    assert mc.sample(X, 3).shape == (3, 3, 12)
    with pytest.raises(mcdrop.ShapeError, match=r"return 4 rows for 4 input rows"):
        mc.sample(X, 3, batch_size=4)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"device": "cuda:99"}, "`device` to be a device that torch can use"),
        ({"device": "auto"}, "`device` to be a device that torch can use"),
        ({"device": 1.5}, "`device` to be a device that torch can use"),
        ({"dtype": torch.int64}, "`dtype` to be a floating point type"),
        ({"dtype": "float32"}, "`dtype` to be a floating point type"),
        ({"strategy": "fast"}, '`strategy` to be one of "auto", "vectorized", "sequential"'),
    ],
)
def test_options_are_refused_at_the_door(options: dict[str, Any], match: str) -> None:
    net = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 1))
    with pytest.raises(mcdrop.RangeError, match=match):
        mcdrop.wrap(net).predict_with_uncertainty(torch.ones(2, 3), **options)


@pytest.mark.parametrize("stochastic", [(3,), (nn.Dropout(0.5),), (int,), (None,)])
def test_stochastic_names_modules(stochastic: Any) -> None:
    net = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 1))
    with pytest.raises(mcdrop.RangeError, match="`stochastic` to hold module types and names"):
        mcdrop.wrap(net, stochastic=stochastic).predict_with_uncertainty(torch.ones(2, 3))


def test_outputs_without_rows_and_of_changing_shape_are_refused() -> None:
    class Filters(nn.Module):
        def __init__(self, everything: bool) -> None:
            super().__init__()
            self.drop, self.everything = nn.Dropout(0.5), everything

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.drop(x)
            if self.everything:
                return h[:0]
            return h[h[:, 0] != 0]

    x = torch.ones(6, 3)
    with pytest.raises(mcdrop.ShapeError, match="return one row per input row.*without rows"):
        mcdrop.wrap(Filters(True)).predict_with_uncertainty(x, task="regression")
    with pytest.raises(mcdrop.ShapeError, match="return the same shape in every pass"):
        mcdrop.wrap(Filters(False)).predict_with_uncertainty(
            torch.ones(60, 3), seed=0, task="regression"
        )


def test_passes_that_are_all_alike_are_said() -> None:
    class Apart(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.head = nn.Dropout(0.5), nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.head(x), self.drop(x)

    mc = mcdrop.wrap(Apart())
    with pytest.warns(UserWarning, match="all 100 passes are alike, although dropout fired"):
        mc.predict_with_uncertainty(torch.ones(4, 3), select=0, task="regression")
    with pytest.warns(UserWarning, match="does not reach the output"):
        mc.predict_with_uncertainty(torch.ones(4, 3), select=0, task="classification")


def test_large_finite_outputs_are_not_called_infinite() -> None:
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            low = torch.full_like(x[:, :1], torch.finfo(x.dtype).min)
            return torch.cat([self.drop(x), low], dim=1)

    found = mcdrop.wrap(Large()).sample(torch.ones(4, 3), 64)
    assert bool(found.isfinite().all())
