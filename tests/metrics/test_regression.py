from __future__ import annotations

import math

import numpy as np
import pytest
import scoringrules
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from mcdrop.errors import NonFiniteError, RangeError, ShapeError, UnsupportedError
from mcdrop.metrics import mae, nll_mixture, nll_normal, rmse, sharpness
from tests.metrics import oracles

FLOATS = st.floats(-100, 100)


def test_rmse_and_mae_of_errors_one_and_seven() -> None:
    # Errors 1 and -7: sqrt((1 + 49) / 2) = 5 and (1 + 7) / 2 = 4.
    assert rmse([1.0, 0.0], [0.0, 7.0]) == pytest.approx(5.0, rel=1e-15)
    assert mae([1.0, 0.0], [0.0, 7.0]) == 4.0


def test_weight_two_counts_a_row_twice() -> None:
    mean, y = np.array([1.0, 2.0, 5.0]), np.array([0.0, 4.0, 5.5])
    twice = [0, 1, 1, 2]
    weights = [1.0, 2.0, 1.0]
    assert rmse(mean, y, weights=weights) == pytest.approx(rmse(mean[twice], y[twice]))
    assert mae(mean, y, weights=weights) == pytest.approx(mae(mean[twice], y[twice]))
    assert sharpness(mean, weights=weights) == pytest.approx(sharpness(mean[twice]))


def test_outputs_are_averaged_with_equal_weight() -> None:
    error = np.array([[1.0, 7.0], [1.0, 7.0]])
    assert rmse(error, np.zeros((2, 2))) == pytest.approx(5.0)
    assert mae(error, np.zeros((2, 2))) == 4.0


def test_sharpness_equals_rmse_for_a_calibrated_normal() -> None:
    rng = np.random.default_rng(0)
    std = rng.uniform(0.5, 2.0, 40_000)
    # Relative standard error of the rmse is about 1 / sqrt(2 N) = 0.0035, times the kurtosis.
    assert rmse(np.zeros(40_000), rng.normal(0, std)) == pytest.approx(sharpness(std), rel=0.02)


def test_nll_normal_is_minus_scipys_log_density() -> None:
    rng = np.random.default_rng(1)
    mean, y, std = rng.normal(size=50), rng.normal(size=50), rng.uniform(0.1, 3, 50)
    np.testing.assert_allclose(
        nll_normal(mean, std, y), -stats.norm.logpdf(y, mean, std), rtol=1e-13
    )


def test_nll_mixture_matches_the_average_density_and_scoringrules() -> None:
    rng = np.random.default_rng(2)
    means, stds = rng.normal(size=(7, 20)), rng.uniform(0.5, 2, (7, 20))
    y = rng.normal(size=20)
    ours = nll_mixture(means, stds, y)
    want = [oracles.mixture_nll(means[:, i], stds[:, i], y[i]) for i in range(20)]
    np.testing.assert_allclose(ours, want, rtol=1e-12)
    theirs = scoringrules.logs_mixnorm(y, means.T, stds.T)
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)


def test_mixture_far_in_the_tail_does_not_underflow() -> None:
    # Only the nearest pass counts: log 2 + (100 - 40)^2 / 2 + log(2 pi) / 2.
    score = nll_mixture([[0.0], [40.0]], [[1.0], [1.0]], [100.0])
    assert score[0] == pytest.approx(math.log(2) + 1800 + 0.5 * math.log(2 * math.pi))


def test_mixture_and_moment_matched_normal_differ_for_two_modes() -> None:
    means, stds = np.array([[-3.0], [3.0]]), np.ones((2, 1))
    matched = nll_normal(np.zeros(1), np.sqrt([1.0 + 9.0]), np.zeros(1))
    # Between the modes the mixture has less density than the normal of the same moments.
    assert nll_mixture(means, stds, np.zeros(1))[0] > matched[0] + 2


def test_truth_minimizes_the_expected_log_score() -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(1.0, 2.0, 200_000)
    ones = np.ones_like(y)
    best = nll_normal(1.0 * ones, 2.0 * ones, y).mean()
    for mean, std in [(1.1, 2.0), (0.9, 2.0), (1.0, 2.2), (1.0, 1.8)]:
        assert nll_normal(mean * ones, std * ones, y).mean() > best


@given(hnp.arrays(float, (3, 5), elements=FLOATS), hnp.arrays(float, 5, elements=FLOATS))
def test_passes_in_any_order_give_the_same_mixture_score(means: np.ndarray, y: np.ndarray) -> None:
    stds = np.linspace(0.5, 2, 15).reshape(3, 5)
    np.testing.assert_allclose(
        nll_mixture(means[::-1], stds[::-1], y), nll_mixture(means, stds, y), rtol=1e-12
    )


@given(hnp.arrays(float, 6, elements=FLOATS), st.floats(0.01, 100))
def test_scaling_the_units_shifts_the_log_score(y: np.ndarray, scale: float) -> None:
    std = np.linspace(1, 2, 6)
    scaled = nll_normal(np.zeros(6), scale * std, scale * y)
    np.testing.assert_allclose(
        scaled, nll_normal(np.zeros(6), std, y) + math.log(scale), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensor_in_gives_tensor_of_its_dtype(dtype: torch.dtype) -> None:
    score = nll_normal(torch.zeros(3, dtype=dtype), torch.ones(3, dtype=dtype), torch.zeros(3))
    assert isinstance(score, torch.Tensor)
    assert score.dtype == dtype
    assert score.float() == pytest.approx([0.9189] * 3, rel=4e-3)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_array_in_gives_array_of_its_dtype(dtype: str) -> None:
    score = nll_normal(np.zeros(3, dtype), np.ones(3, dtype), np.zeros(3))
    assert isinstance(score, np.ndarray)
    assert score.dtype == dtype


def test_one_tensor_among_arrays_makes_the_result_a_tensor() -> None:
    score = nll_normal(np.zeros(2), np.ones(2), torch.zeros(2, dtype=torch.float32))
    assert isinstance(score, torch.Tensor)
    assert score.dtype == torch.float64


def test_scores_carry_gradients_and_summaries_do_not() -> None:
    mean = torch.zeros(2, requires_grad=True)
    score = nll_normal(mean, torch.ones(2), torch.ones(2))
    assert isinstance(score, torch.Tensor)
    score.sum().backward()
    # d/dm ((y - m)^2 / 2) = m - y = -1.
    assert mean.grad is not None
    assert mean.grad.tolist() == [-1.0, -1.0]
    assert rmse(mean, torch.ones(2)) == 1.0


def test_input_is_neither_written_to_nor_shared() -> None:
    mean = np.zeros(3)
    mean.setflags(write=False)
    score = nll_normal(mean, np.ones(3), np.ones(3))
    score[:] = 7
    assert mean.tolist() == [0, 0, 0]


def test_integers_booleans_and_reversed_views_are_taken() -> None:
    assert mae(np.array([3, 1])[::-1], np.array([True, False])) == 1.5


SHAPES = [
    ((4, 1), (4,), r"expected `mean` to have shape \(4,\) to match `y`, but got \(4, 1\)\. "
     r"Drop the last axis: mean\.squeeze\(-1\)\."),
    ((4,), (4, 1), r"Drop the last axis of `y`: y\.squeeze\(-1\)"),
    ((3,), (4,), r"but got \(3,\)\. Pass one value for each of `y`"),
    ((0,), (0,), r"expected `y` to hold at least one row, but got shape \(0,\)"),
    ((), (), r"expected `y` to have shape \(N,\) or \(N, \.\.\.\), but got shape \(\)"),
]  # fmt: skip


@pytest.mark.parametrize(("mean", "y", "text"), SHAPES)
def test_shapes_are_not_broadcast(mean: tuple[int, ...], y: tuple[int, ...], text: str) -> None:
    with pytest.raises(ShapeError, match="nll_normal: " + ".*" + text):
        nll_normal(np.zeros(mean), np.ones(mean), np.zeros(y))


def test_transposed_passes_are_named() -> None:
    with pytest.raises(ShapeError, match=r"\(S, 5\) to match `y`.*Put passes first: means\.T\."):
        nll_mixture(np.zeros((5, 3)), np.ones((5, 3)), np.zeros(5))
    with pytest.raises(ShapeError, match=r"means\.squeeze\(-1\)"):
        nll_mixture(np.zeros((3, 5, 1)), np.ones((3, 5, 1)), np.zeros(5))
    with pytest.raises(ShapeError, match=r"y\.squeeze\(-1\)"):
        nll_mixture(np.zeros((3, 5)), np.ones((3, 5)), np.zeros((5, 1)))
    with pytest.raises(ShapeError, match="`stds` to have as many passes as `means`"):
        nll_mixture(np.zeros((3, 5)), np.ones((2, 5)), np.zeros(5))


def test_rows_that_are_not_finite_are_named() -> None:
    mean = np.zeros(9)
    mean[[2, 3, 5, 7, 8]] = np.nan
    with pytest.raises(NonFiniteError, match=r"`mean` .*in rows 2, 3, 5 and 2 more\. Drop"):
        rmse(mean, np.zeros(9))
    means = np.zeros((4, 9))
    means[1, 6] = np.inf
    with pytest.raises(NonFiniteError, match=r"`means` .*infinity in row 6\."):
        nll_mixture(means, np.ones((4, 9)), np.zeros(9))


def test_spreads_that_cannot_be_are_named() -> None:
    with pytest.raises(RangeError, match=r"`std` to be greater than 0, but got -2 in row 1\. "
                       "Pass standard deviations, not logarithms"):  # fmt: skip
        nll_normal(np.zeros(2), [1.0, -2.0], np.zeros(2))
    with pytest.raises(RangeError, match=r"but got 0 in row 0\. Add the observation noise"):
        nll_mixture(np.zeros((1, 2)), [[0.0, 1.0]], np.zeros(2))
    with pytest.raises(RangeError, match="sharpness: expected `std` to be at least 0"):
        sharpness([-1.0])


def test_weights_that_cannot_be_are_named() -> None:
    with pytest.raises(RangeError, match="`weights` to be at least 0 and not all 0"):
        rmse([1.0], [2.0], weights=[0.0])
    with pytest.raises(ShapeError, match=r"`weights` to have shape \(1,\), but got \(2,\)"):
        rmse([1.0], [2.0], weights=[1.0, 1.0])


def test_arrays_that_hold_no_numbers_are_named() -> None:
    with pytest.raises(UnsupportedError, match="`mean` to hold real numbers, but got dtype"):
        rmse(np.array(["a"]), [1.0])
    with pytest.raises(UnsupportedError, match=r"dtype torch\.complex64"):
        rmse(torch.zeros(1, dtype=torch.complex64), [1.0])
    with pytest.raises(ShapeError, match="`y` to be rectangular"):
        rmse([1.0, 2.0], [[1.0], [2.0, 3.0]])
