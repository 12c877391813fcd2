"""Which tensor is the prediction: picked as told, known again by what was told."""

from __future__ import annotations

import functools
import warnings
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop._engine.outputs import Selection, check_rows_finite, select_tensor
from mcdrop.errors import NonFiniteError, OutputError, RangeError, ShapeError

X = torch.ones(3, 2)
Pair = namedtuple("Pair", ["mean", "spread"])


@dataclass
class Output:
    logits: Tensor


class Picker:
    """A callable without code of its own."""

    def __call__(self, output: Any) -> Any:
        return output[0]


def closing_over(value: Any) -> Callable[[Any], Any]:
    return lambda output: output[value]


def with_default(value: Any) -> Callable[..., Any]:
    return lambda output, place=value: output[place]


@pytest.mark.parametrize(
    ("output", "select"),
    [
        (X, None),
        ((X + 1, X), 1),
        ([X + 1, X], -1),
        ({"a": X + 1, "b": X}, "b"),
        (OrderedDict(b=X), "b"),
        ({3: X}, 3),
        (Pair(X, X + 1), "mean"),
        (Output(X), "logits"),
        ((X - 1,), lambda output: output[0] + 1),
    ],
)
def test_the_tensor_that_was_named_is_picked(output: Any, select: Any) -> None:
    assert torch.equal(select_tensor("sample", output, select), X)


@pytest.mark.parametrize(
    ("output", "select", "found"),
    [
        ((X, X), 2, r"tuple of 2 .*, from which select=2 picks NoneType"),
        ({"a": X}, "b", r"dict with keys \['a'\], from which select='b' picks NoneType"),
        (Output(X), "hidden", r"Output with fields \['logits'\], from which"),
        ({"a": {"b": X}}, "a", r"picks dict with keys \['b'\]"),
        (X, "logits", "a tensor \\(3, 2\\), from which select='logits' picks NoneType"),
        ((X,), None, r"tuple of 1 \(a tensor \(3, 2\)\)\. Say which tensor"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(output: Any, select: Any, found: str) -> None:
    with pytest.raises(
        OutputError, match="sample: expected `model` to return one tensor, .*" + found
    ):
        select_tensor("sample", output, select)


def test_labels_and_losses_are_no_predictions() -> None:
    with pytest.raises(OutputError, match=r"return real numbers, but got .* torch.int64"):
        select_tensor("sample", X.long(), None)
    with pytest.raises(ShapeError, match="return one row per input row"):
        select_tensor("sample", X.sum(), None)


def test_a_prediction_is_dense_and_not_empty() -> None:
    text = r"return a dense tensor, but got one of layout torch\.sparse_coo\. Convert it: select="
    with pytest.raises(OutputError, match=text):
        select_tensor("sample", X.to_sparse(), None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # nested tensors are a prototype
        nested = torch.nested.nested_tensor([X, X])
    with pytest.raises(OutputError, match="return a dense tensor, but got a nested one"):
        select_tensor("sample", nested, None)
    with pytest.raises(ShapeError, match=r"at least one value per row, but got shape \(3, 0\)"):
        select_tensor("sample", X[:, :0], None)


def test_rows_of_another_shape_in_another_batch_are_named() -> None:
    # As those of sequences that are padded batch by batch.
    net = nn.Sequential(nn.Unflatten(1, (-1, 1)), nn.Linear(1, 4), nn.Dropout(0.5))
    text = r"rows of one shape for all batches, but got \(5, 4\) for batch 0 and \(7, 4\) for ba"
    inputs = [torch.ones(2, 5), torch.ones(3, 7)]
    mc = mcdrop.wrap(net)
    with pytest.raises(ShapeError, match=text):
        mc.predict_with_uncertainty(inputs, task="regression")
    with pytest.raises(ShapeError, match=text + r"tch 1\. Pad the inputs to one"):
        mc.sample(inputs)


def test_a_pair_lies_side_by_side() -> None:
    for output in ((X, -X), [X, -X], Pair(X, -X)):
        found = Selection(is_pair=True).pick("predict_with_uncertainty", output)
        assert torch.equal(found[..., 0], X)
        assert torch.equal(found[..., 1], -X)
    nested = Selection("both", is_pair=True).pick("f", {"both": (X, -X)})
    assert nested.shape == (3, 2, 2)


@pytest.mark.parametrize("output", [X, (X,), (X, X, X), (X, X[:1]), (X, X.long()), {"a": X}])
def test_what_is_no_pair_is_refused(output: Any) -> None:
    with pytest.raises(OutputError, match=r"\(mean, log_variance\) of one shape for task="):
        Selection(is_pair=True).pick("predict_with_uncertainty", output)


def same(a: Any, b: Any) -> bool:
    one, other = Selection(a).identity(), Selection(b).identity()
    return one == other and hash(one) == hash(other)


def test_lambdas_of_the_same_code_and_values_are_the_same() -> None:
    thing = object()
    assert same(closing_over(1), closing_over(1))
    assert same(closing_over("a"), closing_over("a"))
    assert same(closing_over(thing), closing_over(thing))
    assert same(with_default(1), with_default(1))
    assert same("logits", "logits")
    assert same(None, None)


@pytest.mark.parametrize("make", [closing_over, with_default])
def test_lambdas_of_the_same_code_and_other_values_are_not(make: Callable[[Any], Any]) -> None:
    assert not same(make(0), make(1))
    assert not same(make(1), make(1.0))
    assert not same(make(1), make(True))
    # Equal objects may come to differ: only plain values are compared by value.
    assert not same(make([1]), make([1]))


def test_other_code_and_other_callables_are_told_apart() -> None:
    assert not same(lambda output: output[0], lambda output: output[1])
    assert not same(Picker(), Picker())
    picker = Picker()
    assert same(picker, picker)
    assert not same(functools.partial(closing_over, 1), functools.partial(closing_over, 1))
    assert not same(0, 1)
    assert not same("a", None)


def test_a_pair_is_not_a_tensor() -> None:
    for select in ("a", closing_over(1), Picker()):
        assert Selection(select).identity() != Selection(select, is_pair=True).identity()


def test_what_is_compared_by_identity_stays_alive() -> None:
    # Were it freed, another object could take its place in memory and its identity.
    key = Selection(closing_over([1])).identity()
    others = [Selection(closing_over([1])).identity() for _ in range(100)]
    assert key not in others


def test_rows_that_are_not_finite_are_numbered_among_all_inputs() -> None:
    values = torch.zeros(5, 2)
    check_rows_finite("sample", values, 0)
    values[1, 0], values[4, 1] = float("nan"), float("-inf")
    with pytest.raises(NonFiniteError, match=r"in 2 row\(s\): 101, 104\."):
        check_rows_finite("sample", values, 100)
    with pytest.raises(NonFiniteError, match=r"in 2 row\(s\): 7, 3\."):
        check_rows_finite("sample", values, torch.tensor([9, 7, 8, 5, 3]))


def test_only_the_first_ten_rows_are_named() -> None:
    with pytest.raises(NonFiniteError, match=r"in 12 row\(s\): 0, 1, .*, 9, \.\.\.\."):
        check_rows_finite("sample", torch.full((12,), float("nan")), 0)


@pytest.mark.parametrize("shape", [(5,), (5, 1), (5, 1, 1), (1,), (1, 1)])
def test_one_value_per_row_needs_no_name_of_the_task(shape: tuple[int, ...]) -> None:
    assert Selection(is_single=True).pick("f", torch.ones(shape)).shape == shape


@pytest.mark.parametrize("shape", [(5, 2), (1, 10), (5, 1, 3)])
def test_several_values_per_row_need_the_name_of_the_task(shape: tuple[int, ...]) -> None:
    text = rf"f: expected `task` to be named .*, but got none for an output of shape \({shape[0]}, "
    with pytest.raises(RangeError, match=text):
        Selection(is_single=True).pick("f", torch.ones(shape))
    assert Selection().pick("f", torch.ones(shape)).shape == shape
    assert Selection(is_single=True).identity() != Selection().identity()
