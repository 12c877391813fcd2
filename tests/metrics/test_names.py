from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mcdrop import metrics
from mcdrop.errors import RangeError

FUNCTIONS = [name for name in metrics.__all__ if inspect.isfunction(getattr(metrics, name))]
DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_export_list_is_sorted_and_true() -> None:
    assert metrics.__all__ == sorted(metrics.__all__)
    assert all(hasattr(metrics, name) for name in metrics.__all__)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstring_has_every_section(name: str) -> None:
    text = inspect.getdoc(getattr(metrics, name)) or ""
    positions = [
        text.find(f"\n{part}:\n") for part in ("Args", "Returns", "Raises", "Source", "Example")
    ]
    assert -1 not in positions
    assert positions == sorted(positions)
    assert ">>>" in text


@pytest.mark.parametrize("name", FUNCTIONS)
def test_predictions_come_first_and_options_by_name(name: str) -> None:
    if "bootstrap" in name or name in {"wilson_interval", "holm"}:
        return
    parameters = list(inspect.signature(getattr(metrics, name)).parameters.values())
    free = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[len(free) :])
    targets = [p for p in free if p in {"y", "is_error", "is_ood"}]
    assert targets in ([], [free[-1]])


# What an option is where it is left out, in every metric that has it; and the exceptions.
DEFAULTS = {
    "binning": "uniform", "convention": "mean", "debiased": False, "estimator": "fair",
    "level": 0.95, "n_bins": 15, "n_levels": 99, "n_resamples": 999, "n_splits": 5, "norm": "l1",
    "positive": "out", "root": False, "seed": 0, "side": "both", "simultaneous": False,
    "tail": 0.1, "tpr": 0.95,
}  # fmt: skip
OTHER_DEFAULTS = {
    # Widths have no natural bounds.
    ("expected_normalized_calibration_error", "binning"): "quantile",
    # Fewer, as errors are few.
    ("error_rate_curve", "n_bins"): 10,
    # Of a tail alone.
    ("tail_calibration_error", "n_levels"): 20,
    # Quantiles rather than p-values, which are multiples of 1 / (n + 1).
    ("bootstrap", "n_resamples"): 1000,
    ("paired_bootstrap", "n_resamples"): 1000,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_option_left_out_means_the_same_everywhere(name: str) -> None:
    for option, parameter in inspect.signature(getattr(metrics, name)).parameters.items():
        if parameter.default is not parameter.empty and option in DEFAULTS:
            expected = OTHER_DEFAULTS.get((name, option), DEFAULTS[option])
            assert parameter.default == expected, option


Y, PROBS = [0, 1, 0, 1], [[0.7, 0.3], [0.4, 0.6], [0.6, 0.4], [0.2, 0.8]]
SCORES, PASSES = [0.1, 0.2, 0.3, 0.4], np.arange(16.0).reshape(4, 4)
CALLS: list[tuple[Callable[..., Any], tuple[Any, ...], str]] = [
    (metrics.pit, (PASSES, SCORES), "seed"),
    (metrics.pit, (PASSES, SCORES), "stratum"),
    (metrics.crps_ensemble, (PASSES, SCORES), "stratum"),
    (metrics.crps_ensemble, (PASSES, SCORES), "p"),
    (metrics.threshold_weighted_crps, (PASSES, SCORES), "lower"),
    (metrics.tail_calibration_error, (SCORES,), "tail"),
    (metrics.expected_calibration_error, (PROBS, Y), "debiased"),
    (metrics.calibration_test, (PROBS, Y), "seed"),
    (metrics.calibration_error_test, (PROBS, Y), "seed"),
    (metrics.consistency_band, (PROBS, Y), "seed"),
    (metrics.consistency_band, (PROBS, Y), "simultaneous"),
    (metrics.calibrated_nll, (PROBS, Y), "seed"),
    (metrics.bootstrap, (metrics.accuracy, PROBS, Y), "seed"),
    (partial(metrics.ranking_test, loss=SCORES), (SCORES,), "seed"),
    (partial(metrics.ause, loss=SCORES), (SCORES,), "root"),
    (partial(metrics.sparsification_curve, loss=SCORES), (SCORES,), "root"),
]


@pytest.mark.parametrize("value", ["x", [1], 0.7j, np.array([0.5, 0.9])])
@pytest.mark.parametrize(
    ("metric", "arrays", "option"),
    CALLS,
    ids=[f"{getattr(m, '__name__', '')}-{option}" for m, _, option in CALLS],
)
def test_an_option_of_another_kind_is_refused_by_name(
    metric: Callable[..., Any], arrays: tuple[Any, ...], option: str, value: object
) -> None:
    with pytest.raises(RangeError, match=f"expected `{option}` to be|expected `{option}` to lie"):
        metric(*arrays, **{option: value})


def test_a_stratum_may_be_an_integer_of_numpy() -> None:
    crps = metrics.crps_ensemble(PASSES, SCORES, stratum=np.int64(2))  # type: ignore[arg-type]
    assert np.array_equal(crps, metrics.crps_ensemble(PASSES, SCORES, stratum=2))


@pytest.mark.parametrize("name", metrics.__all__)
def test_glossary_names_it(name: str) -> None:
    assert f"`{name}`" in DOCS.read_text(encoding="utf-8")


def test_examples_of_the_glossary_run() -> None:
    blocks = DOCS.read_text(encoding="utf-8").split("```python\n")[1:]
    assert blocks
    for block in blocks:
        exec(block.split("```")[0], {})  # noqa: S102


def test_import_loads_neither_scipy_nor_scikit_learn() -> None:
    code = (
        "import sys, torch; before = set(sys.modules); import mcdrop.metrics; "
        "late = {m.split('.')[0] for m in set(sys.modules) - before}; "
        "sys.exit(', '.join(sorted(late & {'scipy', 'sklearn', 'matplotlib', 'pandas'})) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_tensors_give_the_same_on_their_device() -> None:
    rng = np.random.default_rng(0)
    samples, y = rng.normal(size=(9, 40)), rng.normal(size=40)
    probs, labels = rng.dirichlet(np.ones(3), 40), rng.integers(0, 3, 40)
    stds = np.ones((9, 40))
    by_row: list[tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = [
        (metrics.crps_ensemble, (samples, y)),
        (metrics.nll_mixture, (samples, stds, y)),
        (metrics.pit, (samples, y)),
        (metrics.brier_score, (probs, labels)),
        (metrics.nll_categorical, (probs, labels)),
    ]
    for metric, arrays in by_row:
        found = metric(*(torch.from_numpy(a).cuda() for a in arrays))
        assert isinstance(found, torch.Tensor)
        assert found.device.type == "cuda"
        np.testing.assert_allclose(found.cpu(), metric(*arrays), rtol=1e-10)
    summaries: list[tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = [
        (metrics.rmse, (samples[0], y)),
        (metrics.expected_calibration_error, (probs, labels)),
        (metrics.smooth_calibration_error, (probs, labels)),
        (lambda u, loss: metrics.aurc(u, loss=loss), (y, labels)),
    ]
    for summary, arrays in summaries:
        found = summary(*(torch.from_numpy(a).cuda() for a in arrays))
        assert found == pytest.approx(summary(*arrays), rel=1e-10)
