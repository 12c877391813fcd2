"""Moments with a control variate: exact where all is linear, unbiased, and never much worse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mcdrop._engine.controlled import Controlled, ControlledMoments
from mcdrop._engine.linearization import LinearPart


def of(values: Tensor, part: Tensor, variance: Tensor, *, pools_rows: bool = False) -> Controlled:
    moments = ControlledMoments(pools_rows=pools_rows)
    for rows in (slice(0, 5), slice(5, None)):
        moments.update(values[rows], LinearPart(part[rows], variance))
    return moments.result()


def drawn(n_passes: int, n_rows: int, seed: int, rest: float = 0.5) -> tuple[Tensor, Tensor]:
    """Return passes 3 + b l + r with slopes of about 0.9 and r = rest * (l'^2 - 1) / sqrt(2)."""
    generator = torch.Generator().manual_seed(seed)
    part, other = torch.randn((2, n_passes, n_rows), generator=generator, dtype=torch.float64)
    return 3 + slopes(n_rows) * part + rest * (other.square() - 1) / 2**0.5, part


def slopes(n_rows: int) -> Tensor:
    return torch.linspace(0.8, 1, n_rows, dtype=torch.float64)


@pytest.mark.parametrize("pools_rows", [True, False])
def test_passes_that_are_linear_are_answered_exactly(pools_rows: bool) -> None:
    _, part = drawn(16, 6, 0)
    variance = torch.linspace(0.5, 2, 6, dtype=torch.float64)
    found = of(3 + 1.5 * part, part, variance, pools_rows=pools_rows)
    torch.testing.assert_close(found.mean, torch.full((6,), 3.0, dtype=torch.float64))
    torch.testing.assert_close(found.variance, 2.25 * variance)
    # Rounding of squares in float64 leaves its root.
    assert float(found.mean_error.max()) < 1e-7
    assert float(found.variance_error.max()) < 1e-7


def test_the_slope_of_a_row_alone_is_that_of_least_squares() -> None:
    values, part = drawn(16, 3, 1)
    found = of(values, part, torch.ones(3, dtype=torch.float64))
    for row in range(3):
        slope, intercept = np.polyfit(part[:, row].numpy(), values[:, row].numpy(), 1)
        assert float(found.slope[row]) == pytest.approx(slope)
        # The mean is the value of the line where the linear part is 0, its mean.
        assert float(found.mean[row]) == pytest.approx(intercept)


def test_rows_do_not_depend_on_one_another_unless_they_pool() -> None:
    values, part = drawn(16, 5, 2)
    ones = torch.ones(5, dtype=torch.float64)
    whole, alone = of(values, part, ones), of(values[:, 2:3], part[:, 2:3], ones[:1])
    torch.testing.assert_close(whole.variance[2:3], alone.variance)
    torch.testing.assert_close(whole.variance_error[2:3], alone.variance_error)
    # A single row has nothing to pool.
    pooled = of(values[:, 2:3], part[:, 2:3], ones[:1], pools_rows=True)
    torch.testing.assert_close(pooled.variance, alone.variance)


def test_pooled_slopes_lie_between_those_of_the_rows_and_their_mean() -> None:
    values, part = drawn(16, 8, 3)
    ones = torch.ones(8, dtype=torch.float64)
    alone, pooled = (of(values, part, ones, pools_rows=pool).slope for pool in (False, True))
    assert float(pooled.std()) < float(alone.std())
    assert float(alone.min()) <= float(pooled.min()) <= float(pooled.max()) <= float(alone.max())


@pytest.mark.parametrize("pools_rows", [True, False])
@pytest.mark.parametrize("n_passes", [16, 64])
def test_mean_and_variance_are_unbiased_and_their_errors_hold(
    n_passes: int, pools_rows: bool
) -> None:
    n_rows, repeats = 8, 400
    ones = torch.ones(n_rows, dtype=torch.float64)
    found = [
        of(*drawn(n_passes, n_rows, seed), ones, pools_rows=pools_rows) for seed in range(repeats)
    ]
    means = torch.stack([each.mean for each in found])
    variances = torch.stack([each.variance for each in found])
    # Var[y] = b^2 + 1/4, as (l'^2 - 1) / sqrt(2) has variance 1.
    exact = slopes(n_rows).square() + 0.25
    standard = variances.mean(dim=1).std() / repeats**0.5
    assert abs(float((variances - exact).mean())) < 3 * float(standard)
    assert abs(float((means - 3).mean())) < 3 * float(means.std()) / (n_rows * repeats) ** 0.5
    errors = torch.stack([each.variance_error for each in found])
    covered = ((variances - exact).abs() <= 1.96 * errors).double().mean()
    # Skewed residuals; the accumulator also bounds what rare passes would add.
    assert 0.8 < float(covered) < 0.995
    of_means = torch.stack([each.mean_error for each in found])
    assert 0.86 < float(((means - 3).abs() <= 1.96 * of_means).double().mean()) < 0.98


def test_what_is_not_correlated_costs_little() -> None:
    # The control variate is noise: the variance then scatters as that of the passes alone.
    ratios = []
    for pools_rows in (False, True):
        controlled, plain = [], []
        for seed in range(600):
            generator = torch.Generator().manual_seed(seed)
            values, part = torch.randn((2, 16, 4), generator=generator, dtype=torch.float64)
            found = of(values, part, torch.ones(4, dtype=torch.float64), pools_rows=pools_rows)
            controlled.append(found.variance - 1)
            plain.append(values.var(dim=0) - 1)
        squares = [torch.stack(each).square().mean() for each in (controlled, plain)]
        ratios.append(float(squares[0] / squares[1]))
    assert max(ratios) < 1.1


def test_values_without_slopes_have_the_variance_of_their_passes() -> None:
    values, part = drawn(32, 4, 5)
    part, variance = part.clone(), torch.ones(4, dtype=torch.float64)
    part[:, 1], variance[1] = 0, 0
    for pools_rows in (True, False):
        found = of(values, part, variance, pools_rows=pools_rows)
        torch.testing.assert_close(found.variance[1], values[:, 1].var())
        torch.testing.assert_close(found.mean[1], values[:, 1].mean())
        assert bool(found.variance_error.isfinite().all())


def test_constant_passes_have_no_variance() -> None:
    _, part = drawn(16, 4, 6)
    found = of(
        torch.full_like(part, 2.0), part, torch.ones(4, dtype=torch.float64), pools_rows=True
    )
    assert float(found.variance.abs().max()) < 1e-20
    assert bool((found.mean == 2).all())


def test_rows_taken_out_keep_their_passes() -> None:
    values, part = drawn(16, 5, 7)
    variance = torch.linspace(1, 2, 5, dtype=torch.float64)
    moments = ControlledMoments(pools_rows=False)
    moments.update(values, LinearPart(part, variance))
    rows = torch.tensor([3, 1])
    few = moments.rows(rows)
    torch.testing.assert_close(few.result().variance, moments.result().variance[rows])
    more, more_part = drawn(16, 5, 8)
    few.update(more[:, rows], LinearPart(more_part[:, rows], variance[rows]))
    assert (few.count, moments.count) == (32, 16)


def test_what_varies_with_the_passes_is_in_the_error() -> None:
    values, part = drawn(64, 3, 9)
    ones = torch.ones(3, dtype=torch.float64)
    errors = []
    for scale in (0.0, 10.0):
        moments = ControlledMoments(pools_rows=False)
        beside = scale * torch.rand(values.shape, generator=torch.Generator().manual_seed(0))
        moments.update(values, LinearPart(part, ones), beside)
        errors.append(moments.result().variance_error)
    # A uniform variable on (0, 10) has the standard deviation 10 / sqrt(12).
    extra = (errors[1].square() - errors[0].square()).mean().sqrt()
    assert float(extra) == pytest.approx(10 / (12 * 64) ** 0.5, rel=0.35)
