"""Metrics made of a reduction: typed, documented and streamed as one function."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

from mcdrop.metrics import ReliabilityCurve, reliability_curve, rmse
from mcdrop.metrics._reduction import Reduction, finished, mean_of, reduction_of


@finished
def largest(values: list[float], *, plus: float = 0.0) -> Reduction[float]:
    """Largest value."""
    return Reduction(np.array([values]), lambda kept: float(kept.max()) + plus, additive=False)


def test_result_is_finished_and_the_signature_kept() -> None:
    value: float = largest([1.0, 3.0], plus=1.0)
    assert value == 4.0
    assert largest.__name__ == "largest"
    assert inspect.getdoc(largest) == "Largest value."
    assert str(inspect.signature(largest)) == (
        "(values: 'list[float]', *, plus: 'float' = 0.0) -> 'float'"
    )
    with pytest.raises(TypeError, match="unexpected keyword argument 'minus'"):
        largest([1.0], minus=2.0)  # type: ignore[call-arg]


def test_type_checkers_see_the_result_and_the_arguments() -> None:
    number: float = rmse([1.0], [0.0])
    curve: ReliabilityCurve = reliability_curve([0.5], [1], kind="binary")
    assert (number, curve.count.sum()) == (1.0, 1)
    with pytest.raises(TypeError, match="positional argument"):
        rmse([1.0], [0.0], [1.0])  # type: ignore[call-arg]


def test_means_are_weighted_and_roots_are_taken_of_them() -> None:
    squares, weights = torch.tensor([4.0, 64.0]), torch.tensor([3.0, 2.0])
    # (3 * 4 + 2 * 64) / 5 = 28, and with equal weights (4 + 64) / 2 = 34.
    assert mean_of(squares, weights).result() == 28
    assert mean_of(squares, weights, "root").result() == pytest.approx(28**0.5)
    equal = mean_of(squares, torch.ones(2), "root")
    assert equal.result() == pytest.approx(34**0.5)
    assert equal.row_mean is not None
    assert (equal.row_mean.rows.tolist(), equal.row_mean.kind) == ([4, 64], "root")
    assert mean_of(squares, weights).row_mean is None


def test_reductions_are_found_by_metric_and_join_where_they_fit() -> None:
    reduce = reduction_of(largest)
    assert reduce is not None
    first, second = reduce([1.0, 2.0]), reduce([5.0])
    assert first.fits(second.kept)
    assert first.finish(np.concatenate([first.kept, second.kept], axis=-1)) == 5.0
    assert reduction_of(max) is None
    sums = Reduction(np.zeros(2), float)
    assert sums.fits(np.ones(2))
    assert not sums.fits(np.ones(3))
