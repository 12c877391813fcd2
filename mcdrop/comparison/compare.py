"""From data and methods to a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from mcdrop._engine.progress import progress_bar
from mcdrop.baselines import DeepEnsemble
from mcdrop.baselines.table import feature_matrix, label_vector, target_matrix
from mcdrop.checks import require_choice, require_seed, require_unit
from mcdrop.comparison.analysis import Analysis, identical, mean_ranks, pairwise_p_values
from mcdrop.comparison.contents import Outcome
from mcdrop.comparison.equivalent import losses_by_size
from mcdrop.comparison.methods import (
    CompareTask,
    checked_methods,
    default_methods,
    fitted_prediction,
)
from mcdrop.comparison.paired import PairedDifference
from mcdrop.comparison.result import Comparison
from mcdrop.comparison.scores import MEASURES, SplitScore, split_scores
from mcdrop.comparison.splits import Split, checked_splits, rows_of
from mcdrop.errors import RangeError
from mcdrop.metrics import holm
from mcdrop.prediction.targets import require_same_rows, row_index

__all__ = ["compare"]

FUNCTION = "compare"
_TASKS = ("regression", "classification")
# Scores that are means over rows, and so can be averaged over sub-ensembles.
_BY_SIZE = ("nll", "crps", "brier")

ByMethod = Mapping[str, list[dict[str, SplitScore]]]


def compare(
    X: Any,
    y: Any,
    methods: Mapping[str, Any] | Sequence[Any] | None = None,
    *,
    cv: Any = 5,
    task: CompareTask | None = None,
    random_state: int = 0,
    reference: str | None = None,
    level: float = 0.95,
    progress: bool = False,
) -> Comparison:
    """Fit several methods on the same splits and compare what they predict.

    With several splits, intervals and tests are over splits, by the corrected resampled t-test
    (Nadeau & Bengio 2003): training rows overlap, and a plain t-test would find differences in
    noise. With a single split they are over its test rows. Differences are paired either way.

    Args:
        X: Features, (N, D): Tensor, ndarray or DataFrame; methods get rows of it as they are.
        y: Targets, (N,) or (N, K); for classification class indices 0 ... C - 1, (N,).
        methods: By name: objects with ``fit(X, y)`` and ``predict(X)``, copied for each split, or
            functions ``(X_train, y_train, X_test)``. They return a prediction, or an array: a
            point forecast or class probabilities. `predict_with_uncertainty` is asked first, then
            `predict_proba`. None takes MC
            dropout, L2 network, deep ensemble, linear models and, for up to 1000 rows and real
            targets, a Gaussian process.
        cv: Number of folds, which are shuffled and, for classes, stratified; a splitter of
            scikit-learn; or pairs (train rows, test rows).
        task: "regression" or "classification"; never guessed.
        random_state: Seed of folds, default methods and resamples.
        reference: Name of the method that the others are compared with; None takes the first.
        level: Coverage of intervals, in (0, 1); all verdicts share the level 1 - `level` (Holm).
        progress: Show a progress bar on standard error.

    Returns:
        Scores with intervals, paired differences, ranks and wall time; no winner is named within
        the noise.

    Raises:
        RangeError: If `task` is missing, a name is unknown, splits overlap, or `y` carries the
            index of other rows.
        ShapeError: If the rows of `X` and `y` do not match.
        NonFiniteError: If a value is NaN or infinite.
        UnsupportedError: If a method cannot be fitted, or returns something else.

    Source:
        Nadeau & Bengio (2003), Inference for the generalization error; Holm (1979).

    Example:
        >>> import torch
        >>> from mcdrop.baselines import Ridge
        >>> X = torch.linspace(-1, 1, 60).unsqueeze(1)
        >>> y = X[:, 0] + 0.1 * torch.sin(50 * X[:, 0])
        >>> found = compare(X, y, {"Ridge": Ridge(), "Mean": lambda X, y, X_test: 0 * X_test},
        ...                 task="regression")
        >>> found.winner("rmse"), found.outcomes["Mean"]["rmse"]
        ('Ridge', 'worse')
    """
    require_unit(FUNCTION, "level", level)
    require_seed(FUNCTION, "random_state", random_state)
    n_rows = len(feature_matrix(FUNCTION, X))
    require_same_rows(FUNCTION, "y", row_index(y), row_index(X), of="X")
    if task is None:
        raise _no_task(target_matrix(FUNCTION, y, n_rows))
    require_choice(FUNCTION, "task", task, _TASKS)
    targets = label_vector if task == "classification" else target_matrix
    target: Any = targets(FUNCTION, y, n_rows)
    if methods is None:
        methods = default_methods(task, n_rows, random_state)
    named = checked_methods(methods)
    order = _reference_first(named, reference)
    labels = target if task == "classification" else None
    splits = checked_splits(cv, n_rows, labels, random_state)
    share = sum(len(test) for _, test in splits) / sum(len(train) for train, _ in splits)
    run = _Run(task, X, target, splits, progress)
    scores, seconds, ensemble = run.all({name: named[name] for name in order})
    return _compared(
        scores,
        Analysis(share, level, random_state),
        task=task,
        n_rows=n_rows,
        seconds=seconds,
        ensemble=ensemble,
    )


class _Run:
    """Fits every method on every split and scores it."""

    def __init__(
        self, task: CompareTask, X: Any, y: Any, splits: Sequence[Split], progress: bool
    ) -> None:
        self._task: CompareTask = task
        self._X = X
        self._y = y
        self._splits = splits
        self._progress = progress

    def all(
        self, methods: Mapping[str, Any]
    ) -> tuple[ByMethod, dict[str, float], dict[str, tuple[tuple[Tensor, ...], ...]]]:
        """Return scores, mean wall times, and losses of ensembles by size."""
        scores: dict[str, list[dict[str, SplitScore]]] = {name: [] for name in methods}
        seconds: dict[str, float] = {}
        sizes: dict[str, list[list[Tensor] | None]] = {key: [] for key in _BY_SIZE}
        ensemble = next((n for n, m in methods.items() if isinstance(m, DeepEnsemble)), None)
        total = len(methods) * len(self._splits)
        with progress_bar(FUNCTION, "Fits", total, show=self._progress) as bar:
            for name, method in methods.items():
                spent = 0.0
                for train, test in self._splits:
                    rows = (rows_of(self._X, train), self._y[train])
                    X_test, y_test = rows_of(self._X, test), self._y[test]
                    prediction, took = fitted_prediction(
                        name, method, self._task, rows, X_test, quiet=self._progress
                    )
                    scores[name].append(split_scores(prediction, y_test))
                    spent += took
                    if name == ensemble:
                        for key, several in sizes.items():
                            several.append(losses_by_size(prediction, y_test, key))
                    bar.advance(1)
                seconds[name] = spent / len(self._splits)
        return scores, seconds, {key: _by_size(s) for key, s in sizes.items() if _complete(s)}


def _complete(several: list[list[Tensor] | None]) -> bool:
    return bool(several) and all(losses is not None for losses in several)


def _by_size(several: list[list[Tensor] | None]) -> tuple[tuple[Tensor, ...], ...]:
    """Turn losses by split and size into losses by size and split."""
    return tuple(zip(*(losses for losses in several if losses is not None), strict=True))


def _compared(
    scores: ByMethod,
    analysis: Analysis,
    *,
    task: str,
    n_rows: int,
    seconds: Mapping[str, float],
    ensemble: Mapping[str, tuple[tuple[Tensor, ...], ...]],
) -> Comparison:
    """Estimate, compare and judge."""
    # A score counts if every split has it.
    by_key = {
        name: {
            key: [split[key] for split in splits]
            for key in MEASURES
            if all(key in split for split in splits)
        }
        for name, splits in scores.items()
    }
    reference, *others = by_key
    differences = {
        name: {
            key: analysis.difference(by_key[name][key], by_key[reference][key])
            for key in by_key[name]
            if key in by_key[reference]
        }
        for name in others
    }
    adjusted = _adjusted(differences)
    judged = [key for key in MEASURES if MEASURES[key].better != "neither"]
    with_score = {key: {n: s[key] for n, s in by_key.items() if key in s} for key in MEASURES}
    ranks = {key: mean_ranks(with_score[key], key) for key in judged}
    return Comparison(
        task=task,
        methods=tuple(by_key),
        n_rows=n_rows,
        n_splits=len(next(iter(scores.values()))),
        test_share=analysis.test_share,
        level=analysis.level,
        metrics={
            n: {k: analysis.estimate(k, s) for k, s in found.items()} for n, found in by_key.items()
        },
        differences=differences,
        adjusted=adjusted,
        outcomes={
            name: {
                key: _outcome(
                    key,
                    difference,
                    adjusted[name].get(key, 1.0) <= 1 - analysis.level,
                    identical(by_key[name][key], by_key[reference][key]),
                )
                for key, difference in found.items()
            }
            for name, found in differences.items()
        },
        pairs={
            key: pairwise_p_values(with_score[key], analysis) for key in judged if with_score[key]
        },
        ranks={n: {key: ranks[key][n] for key in judged if n in ranks[key]} for n in by_key},
        seconds=dict(seconds),
        losses={
            name: {
                key: tuple(s.losses for s in found[key] if s.losses is not None)
                for key in judged
                if key in found
            }
            for name, found in by_key.items()
        },
        ensemble=dict(ensemble),
    )


def _adjusted(
    differences: Mapping[str, Mapping[str, PairedDifference]],
) -> dict[str, dict[str, float]]:
    """Adjust the p-values of all verdicts together."""
    keys = [
        (name, key)
        for name, found in differences.items()
        for key in found
        if MEASURES[key].better != "neither"
    ]
    adjusted: dict[str, dict[str, float]] = {name: {} for name in differences}
    if keys:
        values = holm([differences[name][key].p_value for name, key in keys]).tolist()
        for (name, key), value in zip(keys, values, strict=True):
            adjusted[name][key] = value
    return adjusted


def _outcome(key: str, difference: PairedDifference, rejected: bool, same: bool) -> Outcome:
    better = MEASURES[key].better
    if better == "neither":
        return "descriptive"
    if same:
        return "identical"
    if not rejected:
        return "undecided"
    return "better" if (difference.estimate.value < 0) == (better == "lower") else "worse"


def _no_task(y: Any) -> Exception:
    """Ask for the task, with what the targets look like."""
    n_values, whole = len(np.unique(y)), bool((y == np.rint(y)).all())
    likely = "classification" if whole and n_values <= 20 and y.ndim == 1 else "regression"
    return RangeError.of(
        FUNCTION,
        "task",
        'be "regression" or "classification"',
        f"None, with {n_values} different {'whole ' if whole else ''}numbers in `y`",
        f'Say which it is: probably task="{likely}"',
    )


def _reference_first(methods: Mapping[str, Any], reference: str | None) -> list[str]:
    """Return the names, the reference first."""
    if reference is None:
        return list(methods)
    require_choice(FUNCTION, "reference", reference, list(methods))
    return [reference, *(name for name in methods if name != reference)]
