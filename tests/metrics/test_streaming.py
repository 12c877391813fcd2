from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import astuple, is_dataclass
from typing import Any

import numpy as np
import pytest
import torch

from mcdrop import metrics
from mcdrop.errors import NonFiniteError, RangeError, ShapeError, UnsupportedError
from mcdrop.metrics import Streaming

RNG = np.random.default_rng(0)
N = 90
MEAN, STD, Y = RNG.normal(size=N), RNG.uniform(0.5, 2, N), RNG.normal(size=N)
P, EVENT = np.round(RNG.uniform(size=N), 2), RNG.integers(0, 2, N)
PROBS, LABELS = RNG.dirichlet(np.ones(3), N), RNG.integers(0, 3, N)
PIT = RNG.uniform(size=N)

# Metric, arrays with rows first, options: one line for each way a summary is kept.
SUMMARIES: list[tuple[Callable[..., Any], tuple[np.ndarray, ...], dict[str, Any]]] = [
    (metrics.rmse, (MEAN, Y), {}),
    (metrics.mae, (MEAN, Y), {}),
    (metrics.sharpness, (STD,), {}),
    (metrics.coverage, (MEAN - STD, MEAN + STD, Y), {}),
    (metrics.accuracy, (PROBS, LABELS), {}),
    (metrics.expected_calibration_error, (PROBS, LABELS), {}),
    (metrics.expected_calibration_error, (PROBS, LABELS), {"binning": "quantile"}),
    (metrics.expected_calibration_error, (PROBS, LABELS), {"kind": "classwise", "norm": "l2"}),
    (metrics.expected_calibration_error, (P, EVENT), {"kind": "binary", "debiased": True}),
    (metrics.maximum_calibration_error, (PROBS, LABELS), {"n_bins": 5}),
    (metrics.smooth_calibration_error, (P, EVENT), {"kind": "binary"}),
    (metrics.reliability_curve, (P, EVENT), {"kind": "binary", "level": 0.9}),
    (metrics.reliability_curve, (P, EVENT), {"kind": "binary", "binning": "quantile"}),
    (metrics.brier_decomposition, (PROBS, LABELS), {}),
    (metrics.brier_decomposition, (PROBS, LABELS), {"binning": "isotonic"}),
    (metrics.spiegelhalter_test, (PROBS, LABELS), {}),
    (metrics.pit_uniformity_test, (PIT,), {}),
    (metrics.confidence_test, (PROBS, LABELS), {}),
    (metrics.calibration_test, (P, EVENT), {"kind": "binary"}),
    (metrics.calibration_error_test, (PROBS, LABELS), {"binning": "quantile"}),
    (metrics.consistency_band, (P, EVENT), {"kind": "binary", "n_bins": 5}),
    (metrics.kolmogorov_smirnov_calibration_error, (PROBS, LABELS), {}),
    (metrics.tail_calibration_error, (PIT,), {"tail": 0.2}),
    (metrics.sparsification_curve, (np.round(STD, 1),), {"loss": np.abs(Y)}),
    (metrics.ause, (STD,), {"loss": np.square(Y), "root": True}),
    (metrics.bias_test, (PIT,), {}),
    (metrics.width_test, (PIT,), {}),
    (metrics.shape_test, (PIT,), {}),
    (metrics.coverage_test, (MEAN - STD, MEAN + STD, Y), {"level": 0.7}),
    (metrics.ranking_test, (STD,), {"loss": EVENT}),
    (metrics.quantile_calibration_error, (PIT,), {"norm": "max"}),
    (metrics.quantile_calibration_curve, (PIT,), {"kind": "interval"}),
    (metrics.expected_normalized_calibration_error, (MEAN, STD, Y), {"n_bins": 4}),
    (metrics.uncertainty_calibration_error, (MEAN, STD, Y), {}),
    (metrics.entropy_calibration_error, (PROBS, LABELS), {}),
    (metrics.error_rate_curve, (STD, EVENT), {}),
    (metrics.risk_coverage_curve, (np.round(STD, 1),), {"loss": EVENT}),
    (metrics.selective_risk, (STD,), {"loss": EVENT, "coverage": 0.5}),
    (metrics.aurc, (STD,), {"loss": Y, "convention": "trapezoid"}),
    (metrics.augrc, (STD,), {"loss": EVENT}),
    (metrics.ood_auroc, (STD, EVENT), {}),
    (metrics.ood_aupr, (STD, EVENT), {"positive": "in"}),
    (metrics.fpr_at_tpr, (STD, EVENT), {}),
]
SCORES: list[tuple[Callable[..., Any], tuple[np.ndarray, ...], dict[str, Any]]] = [
    (metrics.nll_normal, (MEAN, STD, Y), {}),
    (metrics.crps_normal, (MEAN, STD, Y), {}),
    (metrics.pinball_loss, (MEAN, Y), {"q": 0.9}),
    (metrics.brier_score, (P, EVENT), {"kind": "binary"}),
    (metrics.nll_categorical, (PROBS, LABELS), {}),
]


def _flat(result: object) -> np.ndarray:
    values = astuple(result) if is_dataclass(result) and not isinstance(result, type) else (result,)
    numbers = [value for value in values if not isinstance(value, str)]
    return np.concatenate([np.ravel(np.asarray(value, float)) for value in numbers])


def _names(case: object) -> str | None:
    return getattr(case, "__name__", None)


@pytest.mark.parametrize(("metric", "arrays", "options"), SUMMARIES, ids=_names)
@pytest.mark.parametrize("batches", [1, 4])
def test_stream_equals_the_one_shot_form(
    metric: Callable[..., Any],
    arrays: tuple[np.ndarray, ...],
    options: dict[str, Any],
    batches: int,
) -> None:
    by_row = {name: option for name, option in options.items() if isinstance(option, np.ndarray)}
    fixed = {name: option for name, option in options.items() if name not in by_row}
    stream = Streaming(metric, **fixed)
    for rows in np.array_split(np.arange(N), batches):
        columns = {name: option[rows] for name, option in by_row.items()}
        stream.update(*(array[rows] for array in arrays), **columns)
    np.testing.assert_allclose(
        _flat(stream.compute()), _flat(metric(*arrays, **options)), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize(("metric", "arrays", "options"), SCORES, ids=_names)
def test_stream_of_scores_is_their_mean(
    metric: Callable[..., Any], arrays: tuple[np.ndarray, ...], options: dict[str, Any]
) -> None:
    stream = Streaming(metric, **options)
    for rows in np.array_split(np.arange(N), 7):
        stream.update(*(torch.from_numpy(array[rows]) for array in arrays))
    assert stream.compute() == pytest.approx(float(np.mean(metric(*arrays, **options))), rel=1e-12)


def test_every_summary_can_be_streamed() -> None:
    # What is neither a class nor streams itself returns one score per row, or is not a metric.
    by_row = {
        "brier_score", "calibrated_nll", "crps_ensemble", "crps_mixture", "crps_normal",
        "energy_score", "interval_score",
        "interval_width", "nll_categorical", "nll_mixture", "nll_normal", "pinball_loss", "pit",
        "pit_mixture", "pit_normal", "threshold_weighted_crps",
    }  # fmt: skip
    functions = {name for name in metrics.__all__ if not isinstance(getattr(metrics, name), type)}
    streamed = {metric.__name__ for metric, _, _ in SUMMARIES}
    assert (
        functions
        - by_row
        - {"bootstrap", "paired_bootstrap", "wilson_interval", "holm"}
        - INTERVALS
        == streamed
    )


INTERVALS = {
    "bootstrap", "holm", "mean_difference", "mean_interval", "paired_bootstrap",
    "share_difference", "share_interval", "wilson_interval",
}  # fmt: skip


def test_ensembles_stream_along_their_second_axis() -> None:
    samples = RNG.normal(size=(20, N))
    stream = Streaming(metrics.crps_ensemble, estimator="energy")
    for rows in np.array_split(np.arange(N), 3):
        stream.update(samples[:, rows], Y[rows])
    want = np.mean(metrics.crps_ensemble(samples, Y, estimator="energy"))
    assert stream.compute() == pytest.approx(want, rel=1e-12)


def test_outputs_of_a_row_are_averaged() -> None:
    stream = Streaming(metrics.crps_normal)
    stream.update(np.zeros((3, 2)), np.ones((3, 2)), np.ones((3, 2)))
    assert stream.compute() == pytest.approx(metrics.crps_normal([0.0], [1.0], [1.0])[0])


def test_weights_go_with_their_rows() -> None:
    weights = RNG.uniform(size=N)
    stream = Streaming(metrics.rmse)
    for rows in np.array_split(np.arange(N), 3):
        stream.update(MEAN[rows], Y[rows], weights=weights[rows])
    assert stream.compute() == pytest.approx(metrics.rmse(MEAN, Y, weights=weights), rel=1e-12)


@pytest.mark.parametrize("binning", ["uniform", "quantile"])
def test_streams_merge_and_travel(binning: str) -> None:
    streams = [Streaming(metrics.expected_calibration_error, binning=binning) for _ in range(3)]
    for stream, rows in zip(streams[:2], np.array_split(np.arange(N), 2), strict=True):
        stream.update(PROBS[rows], LABELS[rows])
    first, second, unused = (pickle.loads(pickle.dumps(stream)) for stream in streams)
    unused.merge(first)
    unused.merge(second)
    unused.merge(streams[2])
    want = metrics.expected_calibration_error(PROBS, LABELS, binning=binning)  # type: ignore[arg-type]
    assert unused.compute() == pytest.approx(want, rel=1e-12)


def test_sums_do_not_grow_with_the_rows() -> None:
    stream = Streaming(metrics.expected_calibration_error)
    sizes = []
    for _ in range(20):
        stream.update(PROBS, LABELS)
        sizes.append(len(pickle.dumps(stream)))
    assert sizes[-1] == sizes[1]


def test_computing_early_changes_nothing() -> None:
    stream = Streaming(metrics.aurc)
    stream.update(STD[:10], loss=EVENT[:10])
    stream.compute()
    stream.update(STD[10:], loss=EVENT[10:])
    assert stream.compute() == metrics.aurc(STD, loss=EVENT)


def test_bad_batch_leaves_the_stream_as_it_was() -> None:
    stream = Streaming(metrics.rmse)
    stream.update(MEAN, Y)
    with pytest.raises(NonFiniteError, match="rmse: expected `y`"):
        stream.update([1.0], [np.nan])
    assert stream.compute() == metrics.rmse(MEAN, Y)


def test_calls_that_cannot_be_are_named() -> None:
    with pytest.raises(
        ShapeError, match="`rows` to be at least one, but got no update. Call update"
    ):
        Streaming(metrics.rmse).compute()
    with pytest.raises(
        UnsupportedError, match="score every row, or be a summary of mcdrop.metrics"
    ):
        Streaming(lambda y: 1.0).update(Y)
    with pytest.raises(RangeError, match='`norm` to be one of "l1"'):
        Streaming(metrics.expected_calibration_error, norm="L1").update(PROBS, LABELS)
    for binning in ("uniform", "quantile"):
        stream = Streaming(metrics.expected_calibration_error, kind="classwise", binning=binning)
        stream.update(PROBS, LABELS)
        with pytest.raises(ShapeError, match=r"like the first batch.*same number of classes"):
            stream.update([[0.5, 0.5]], [0])
    with pytest.raises(UnsupportedError, match="stream rmse with the same options, but got mae"):
        Streaming(metrics.rmse).merge(Streaming(metrics.mae))
