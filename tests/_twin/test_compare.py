"""Trees of tensors are compared up to rounding, and put in place of each other."""

from __future__ import annotations

import pytest
import torch

from mcdrop._twin.compare import agreement, dropped_out, kept, merged

X = torch.tensor([1.0, -2.0, float("nan")])


def test_agreement_is_equal_up_to_rounding_or_nothing() -> None:
    x = X.nan_to_num()
    assert agreement({"a": x, "b": 3}, {"a": x.clone(), "b": 4}) == "equal"
    assert agreement((x,), (x * (1 + 1e-6),)) == "close"
    assert agreement(X, X * (1 + 1e-6)) == "close"
    assert agreement(x, x + 0.1) == "differs"
    assert agreement(x, x[:2]) == "differs"
    assert agreement(x, x.double()) == "differs"
    assert agreement(x.long(), x.long() + 1) == "differs"
    assert agreement((x, x), x) == "differs"
    assert agreement(torch.ones(0), torch.ones(0)) == "equal"


def test_kept_trees_share_no_memory() -> None:
    x = X.clone()
    tree = {"a": [x], "b": "text"}
    copy = kept(tree)
    x.zero_()
    assert copy["a"][0][0] == 1
    assert copy["b"] == "text"


def test_merged_trees_keep_objects_and_take_tensors() -> None:
    cache = object()
    found = merged((torch.zeros(3), cache), (torch.ones(3), object()))
    assert found[0].sum() == 3
    assert found[1] is cache
    assert merged((X,), [X]) is None


@pytest.mark.parametrize(
    ("now", "found"),
    [
        ([2.0, 0.0, 6.0, 0.0], "thinned"),
        ([2.0, 4.0, 6.0, 0.0], "scaled"),
        ([1.0, 0.0, 3.0, 0.0], ""),  # not scaled, as a mask of inputs
        ([2.0, 4.1, 6.0, 0.0], ""),  # two factors
        ([2.0, 4.0, 6.0, 1.0], ""),  # a zero became something else
        ([0.0, 0.0, 0.0, 0.0], ""),
        ([0.5, 0.0, 1.5, 0.0], ""),  # shrunk
    ],
)
def test_dropped_out(now: list[float], found: str) -> None:
    expected = torch.tensor([1.0, 2.0, 3.0, 0.0])
    assert dropped_out((torch.tensor(now), "x"), (expected, "x")) == found


def test_dropped_out_ignores_what_it_cannot_compare() -> None:
    x = torch.ones(3)
    assert dropped_out(2 * x, torch.ones(2)) == ""
    assert dropped_out(torch.tensor([2, 0]), torch.tensor([1, 1])) == ""
    assert dropped_out((2 * x).to_sparse(), x.to_sparse()) == ""
