"""Conformal intervals: ranks by hand, the finite-sample guarantee by simulation, invariances."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import mcdrop
from mcdrop.recalibration import ConformalRegressionPrediction, ConformalRegressor, StdScaling
from tests.recalibration.cases import averaged, mixture, mixture_targets, normal

Method = Literal["absolute", "normalized", "quantile"]
METHODS: tuple[Method, ...] = ("absolute", "normalized", "quantile")
NEW = 50


def bad_forecast(
    rng: np.random.Generator, n: int
) -> tuple[mcdrop.RegressionPrediction, np.ndarray]:
    """A forecast wrong in mean, spread and shape; rows are exchangeable all the same."""
    x = rng.uniform(size=n)
    return normal(0.5 + 0 * x, 0.2 + x), x + rng.exponential(size=n) * (0.5 + x)


def assert_coverage(inside: np.ndarray, n: int, level: float) -> None:
    """Compare covered counts per repetition with their exact law.

    With k = ceil((n + 1) level) the count of m new rows inside is Beta-Binomial(m, k, n + 1 - k)
    (Vovk 2012), of mean m k / (n + 1).
    """
    k = int(np.ceil(round((n + 1) * level, 9)))
    law = stats.betabinom(NEW, k, n + 1 - k)
    error = law.std() / np.sqrt(len(inside))
    assert abs(inside.mean() - law.mean()) < 4 * error
    assert level - 4 * error / NEW <= inside.mean() / NEW <= level + 1 / (n + 1) + 4 * error / NEW
    # The variance of the counts has a relative standard error of about sqrt(2 / repetitions).
    spread = np.sqrt((2 + max(0, law.stats(moments="k"))) / len(inside))
    assert abs(inside.var() / law.var() - 1) < 4 * spread


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "level"), [(19, 0.9), (30, 0.8), (9, 0.9)])
def test_coverage_has_its_exact_law(method: Method, n: int, level: float) -> None:
    rng = np.random.default_rng(0)
    inside = np.zeros(600)
    for i in range(len(inside)):
        p, y = bad_forecast(rng, n + NEW)
        lower, upper = ConformalRegressor(method, level).fit(p[:n], y[:n])(p[n:]).interval(level)
        inside[i] = ((lower.numpy() <= y[n:]) & (y[n:] <= upper.numpy())).sum()
    assert_coverage(inside, n, level)


@pytest.mark.parametrize("method", METHODS)
def test_coverage_holds_at_levels_asked_later(method: Method) -> None:
    rng = np.random.default_rng(1)
    inside = np.zeros(600)
    for i in range(len(inside)):
        p, y = bad_forecast(rng, 24 + NEW)
        lower, upper = ConformalRegressor(method, 0.9).fit(p[:24], y[:24])(p[24:]).interval(0.6)
        inside[i] = ((lower.numpy() <= y[24:]) & (y[24:] <= upper.numpy())).sum()
    assert_coverage(inside, 24, 0.6)


@pytest.mark.parametrize("method", METHODS)
def test_coverage_holds_in_each_group(method: Method) -> None:
    rng = np.random.default_rng(2)
    inside = {"calm": np.zeros(500), "wild": np.zeros(500)}
    group = np.array(["calm"] * 12 + ["wild"] * 29 + ["calm"] * NEW + ["wild"] * NEW)
    for i in range(500):
        p, y = bad_forecast(rng, len(group))
        y = np.where(group == "wild", 5 * y - 3, y)
        fit = ConformalRegressor(method, 0.8).fit(p[:41], y[:41], groups=group[:41])
        lower, upper = fit(p[41:], groups=group[41:]).interval(0.8)
        hit = (lower.numpy() <= y[41:]) & (y[41:] <= upper.numpy())
        inside["calm"][i], inside["wild"][i] = hit[:NEW].sum(), hit[NEW:].sum()
    assert_coverage(inside["calm"], 12, 0.8)
    assert_coverage(inside["wild"], 29, 0.8)


def test_ranks_by_hand() -> None:
    # Absolute errors 1, 2, 3, 4: at level 0.8 the rank is ceil(5 * 0.8) = 4, at 0.5 it is 3.
    p = normal(np.zeros(4), 1.0)
    c = ConformalRegressor("absolute", 0.8).fit(p, [2, -4, 1, -3])(normal([10.0], 1.0))
    assert [end.item() for end in c.interval(0.8)] == [6, 14]
    assert [end.item() for end in c.interval(0.5)] == [7, 13]
    assert (c.lower.item(), c.upper.item()) == (6, 14)
    # Divided by std 2, 4, 1, 1: scores 1, 1, 1, 3; rank 3 is 1 and the new std is 5.
    p = normal(np.zeros(4), [2.0, 4.0, 1.0, 1.0])
    c = ConformalRegressor("normalized", 0.5).fit(p, [2, -4, 1, -3])(normal([10.0], 5.0))
    assert [end.item() for end in c.interval(0.5)] == [5, 15]


def test_quantile_scores_by_hand() -> None:
    # The model's central half of N(0, 1) ends at -+0.6745. Targets 0, 0.1, 1, -2 score -0.6745,
    # -0.5745, 0.3255, 1.3255; rank ceil(5 / 2) = 3.
    z = stats.norm.ppf(0.75)
    c = ConformalRegressor("quantile", 0.5).fit(normal(np.zeros(4), 1.0), [0, 0.1, 1, -2])
    lower, upper = c(normal([10.0], 2.0)).interval(0.5)
    assert lower.item() == pytest.approx(10 - 2 * z - (1 - z))
    assert upper.item() == pytest.approx(10 + 2 * z + (1 - z))
    # At level 0.2 the rank is 1: ends move in by 0.6745, and for a narrow row they would cross.
    lower, upper = c(normal([10.0], 0.5)).interval(0.2)
    assert lower.item() == upper.item() == pytest.approx(10)


def test_levels_count_as_written() -> None:
    # 0.07 * 100 is 7.000000000000001 in floats, which would take rank 8.
    y = np.arange(1, 100)
    c = ConformalRegressor(level=0.07).fit(normal(np.zeros(99), 1.0), y)(normal([0.0], 1.0))
    assert c.interval(0.07)[1].item() == 7


@given(st.integers(0, 10**6), st.sampled_from(METHODS))
def test_intervals_are_nested(seed: int, method: Method) -> None:
    p, y = bad_forecast(np.random.default_rng(seed), 20)
    c = ConformalRegressor(method, 0.7).fit(p, y)(p)
    ends = [c.interval(level) for level in (0.2, 0.5, 0.7, 0.95)]
    for inner, outer in pairwise(ends):
        assert bool((outer[0] <= inner[0]).all())
        assert bool((inner[1] <= outer[1]).all())


@given(st.integers(0, 10**6), st.floats(0.1, 10), st.floats(-5, 5), st.sampled_from(METHODS))
def test_units_and_origin_of_y_change_nothing(
    seed: int, scale: float, shift: float, method: Method
) -> None:
    p, y = bad_forecast(np.random.default_rng(seed), 20)
    moved = normal(p.mean * scale + shift, p.std * scale)
    ends = ConformalRegressor(method).fit(p, y)(p).interval()
    again = ConformalRegressor(method).fit(moved, y * scale + shift)(moved).interval()
    for end, other in zip(ends, again, strict=True):
        torch.testing.assert_close(end * scale + shift, other)


def test_a_constant_factor_on_the_std_is_forgotten() -> None:
    p, y = bad_forecast(np.random.default_rng(3), 40)
    scaled = StdScaling().fit(p, y * 3)(p)
    methods: tuple[Method, Method] = ("absolute", "normalized")
    for method in methods:
        raw = ConformalRegressor(method).fit(p, y)(p).interval()
        after = ConformalRegressor(method).fit(scaled, y)(scaled).interval()
        torch.testing.assert_close(raw[0], after[0])
        torch.testing.assert_close(raw[1], after[1])


def test_order_of_rows_changes_nothing() -> None:
    p, y = bad_forecast(np.random.default_rng(4), 30)
    order = np.random.default_rng(5).permutation(30)
    first = ConformalRegressor().fit(p, y)(p).interval()[0]
    assert torch.equal(first, ConformalRegressor().fit(p[order], y[order])(p).interval()[0])


def test_ties_only_widen() -> None:
    p = normal(np.zeros(9), 1.0)
    c = ConformalRegressor().fit(p, np.ones(9))(p)
    assert c.lower[0].item() == -1
    assert c.upper[0].item() == 1


def test_each_output_is_covered_on_its_own() -> None:
    rng = np.random.default_rng(6)
    y = rng.normal(size=(25, 2)) * [1, 10]
    both = ConformalRegressor().fit(normal(np.zeros((25, 2)), 1.0), y)(normal([[0.0, 0.0]], 1.0))
    for d in range(2):
        one = ConformalRegressor().fit(normal(np.zeros(25), 1.0), y[:, d])(normal([0.0], 1.0))
        assert both.upper[0, d] == one.upper[0]


def test_passes_serve_quantiles_of_the_mixture() -> None:
    p = mixture(40, by_pass=True)
    y = mixture_targets(p)
    c = ConformalRegressor("quantile", 0.8).fit(p, y)(p)
    lower, upper = p.interval(0.8)
    torch.testing.assert_close(c.lower - lower, upper - c.upper)  # one shift for both ends
    assert ((c.lower[:, 0] <= y) & (y <= c.upper[:, 0])).double().mean() >= 0.8
    with pytest.raises(mcdrop.OutputError, match="keep_samples=True"):
        ConformalRegressor("quantile").fit(replace(p, samples=None), y)


def test_the_rest_of_the_prediction_is_the_models() -> None:
    p = mixture(20)
    c = ConformalRegressor().fit(p, mixture_targets(p))(p)
    assert isinstance(c, mcdrop.RegressionPrediction)
    for name, value in p.to_numpy().items():
        np.testing.assert_array_equal(c.to_numpy()[name], value)
    assert torch.equal(c.quantile(0.3), p.quantile(0.3))
    # What asks the moment-matched normal for intervals gets conformal ones too.
    assert torch.equal(c.as_normal().interval(0.9)[0], c.lower)


def test_rows_tables_and_files(tmp_path: Path) -> None:
    p, y = bad_forecast(np.random.default_rng(7), 30)
    group = np.arange(30) % 2
    c = ConformalRegressor("normalized").fit(p, y, groups=group)(p, groups=group)
    assert torch.equal(c[[3, 8]].upper, c.upper[[3, 8]])
    assert len(c[5]) == 1
    c.save(tmp_path / "c.pt")
    back = ConformalRegressionPrediction.load(tmp_path / "c.pt")
    assert torch.equal(back.interval(0.55)[0], c.interval(0.55)[0])
    assert back.method == "normalized"
    table = c.to_pandas()
    np.testing.assert_array_equal(table["upper"], c.upper)
    assert "normalized, 30 calibration rows, groups: 0, 1" in repr(c)


def test_shapes_follow_the_mean() -> None:
    p, y = bad_forecast(np.random.default_rng(8), 20)
    column = replace(
        ConformalRegressor().fit(p, y)(p), mean=p.mean[:, None].float()
    )  # as a report does
    assert column.interval()[0].shape == (20, 1)
    assert column.interval()[0].dtype == torch.float32


def test_too_few_rows_are_counted() -> None:
    p = normal(np.zeros(8), 1.0)
    with pytest.raises(mcdrop.RangeError, match="at least 9 calibration rows .* 0.9, but got 8"):
        ConformalRegressor().fit(p, np.zeros(8))
    c = ConformalRegressor(level=0.5).fit(p, np.zeros(8))(p)
    with pytest.raises(mcdrop.RangeError, match="at least 99 calibration rows .* level 0.99, but"):
        c.interval(0.99)
    with pytest.raises(mcdrop.RangeError, match="but got 3 in group 'b'"):
        ConformalRegressor(level=0.8).fit(p, np.zeros(8), groups=list("aaaaabbb"))
    assert ConformalRegressor(level=0.5).fit(p[:1], [3.0])(p).upper[0].item() == 3


def test_groups_must_be_known() -> None:
    p = normal(np.zeros(4), 1.0)
    fitted = ConformalRegressor(level=0.5).fit(p, np.zeros(4), groups=["a", "a", "b", "b"])
    with pytest.raises(mcdrop.RangeError, match=r"groups of the fit \('a', 'b'\), but got 'c'"):
        fitted(p, groups=["a", "b", "c", "c"])
    with pytest.raises(mcdrop.RangeError, match="or in neither, but got None in the call"):
        fitted(p)
    with pytest.raises(mcdrop.ShapeError, match=r"`groups` to have shape \(4,\)"):
        fitted(p, groups=["a"])
    with pytest.raises(mcdrop.NonFiniteError, match=r"none in rows \[1\]"):
        fitted(p, groups=[0.0, np.nan, 1.0, 1.0])
    plain = ConformalRegressor(level=0.5).fit(p, np.zeros(4))
    with pytest.raises(mcdrop.RangeError, match="but got None in the fit"):
        plain(p, groups=torch.zeros(4))


def test_errors_say_what_to_do() -> None:
    p = normal(np.zeros(9), 1.0)
    with pytest.raises(mcdrop.RangeError, match='one of "absolute", "normalized", "quantile"'):
        ConformalRegressor("cqr")  # type: ignore[arg-type]
    with pytest.raises(mcdrop.RangeError, match=r"`level` to lie in \(0, 1\), but got 90"):
        ConformalRegressor(level=90)
    with pytest.raises(
        mcdrop.UnsupportedError, match="ConformalRegressor: expected `self` to be f"
    ):
        ConformalRegressor()(p)
    with pytest.raises(mcdrop.UnsupportedError, match="be a RegressionPrediction, but got Class"):
        ConformalRegressor().fit(averaged([[0.5, 0.5]]), [0])  # type: ignore[arg-type]
    with pytest.raises(mcdrop.ShapeError, match="to match `prediction`"):
        ConformalRegressor().fit(p, [0, 1])
    with pytest.raises(mcdrop.NonFiniteError, match="`prediction` to hold finite numbers"):
        ConformalRegressor().fit(normal([np.nan] * 9, 1.0), np.zeros(9))
    with pytest.raises(mcdrop.RangeError, match='std above 0 .* or use method="absolute"'):
        ConformalRegressor("normalized").fit(normal(np.zeros(9), 0.0), np.ones(9))
    fitted = ConformalRegressor().fit(p, np.ones(9))
    with pytest.raises(mcdrop.ShapeError, match="as in the fit"):
        fitted(normal(np.zeros((9, 2)), 1.0))
    with pytest.raises(mcdrop.RangeError, match=r"interval: expected `level` to lie in \(0, 1\)"):
        fitted(p).interval(1.0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("center", [0.0, 0.1, 20.3])
def test_targets_that_repeat_are_covered_in_single_precision(method: Method, center: float) -> None:
    # Ten values, equally frequent: rank 86 of 100 is the ninth, whose interval holds nine of them.
    values = center + torch.arange(1, 11, dtype=torch.float64) / 10

    def predicted(n: int) -> mcdrop.RegressionPrediction:
        one = torch.ones(n, 1)
        return mcdrop.RegressionPrediction(
            mean=center * one, epistemic_variance=0 * one, aleatoric_variance=0.09 * one,
            mcse=0 * one, n_samples=0, family="normal",
        )  # fmt: skip

    conformal = ConformalRegressor(method, level=0.85)
    conformal.fit(predicted(100), values.repeat_interleave(10))
    lower, upper = conformal(predicted(10)).interval(0.85)
    assert mcdrop.metrics.coverage(lower, upper, values[:, None]) == 0.9
