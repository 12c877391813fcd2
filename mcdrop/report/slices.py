"""Calibration in parts of the rows: by predicted class or value, and by columns of the caller.

A slice must not depend on the targets, or a calibrated prediction would be off in it: of the rows
with the largest targets most lie above their predicted mean. So slices by target are described, not
tested.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mcdrop.checks import checked_mapping
from mcdrop.displays._classification import Classification
from mcdrop.displays._regression import Regression
from mcdrop.errors import ShapeError
from mcdrop.metrics import confidence_test, coverage_test, holm, share_interval
from mcdrop.prediction.targets import require_same_rows, row_index
from mcdrop.report.hypotheses import Hypothesis
from mcdrop.report.hypotheses_regression import NOMINAL
from mcdrop.report.values import Slice, Verdict

__all__ = ["checked_groups", "flagged", "slice_hypothesis", "slices_of"]

Groups = Mapping[str, npt.NDArray[Any]]

_PARTS = 5
# A column with more values is cut into its largest groups and the rest.
_MOST_GROUPS = 20
_OTHER = "all others"


def checked_groups(groups: Mapping[str, Any] | None, n_rows: int, index: Any = None) -> Groups:
    """Return every column as one label per row.

    Args:
        groups: Columns by name.
        n_rows: Number of rows.
        index: pandas index of the rows predicted, or None.

    Raises:
        ShapeError: If a column does not have one value per row.
        RangeError: If it carries an index of other rows.
    """
    found = {}
    for name, values in checked_mapping("calibration_report", "groups", groups).items():
        require_same_rows("calibration_report", f'groups["{name}"]', row_index(values), index)
        labels = np.asarray(values.cpu() if isinstance(values, torch.Tensor) else values)
        if labels.shape != (n_rows,):
            raise ShapeError.of(
                "calibration_report",
                f'groups["{name}"]',
                f"have shape ({n_rows},), one value per row",
                labels.shape,
                "Pass the column for the rows of the prediction",
            )
        found[name] = labels
    return found


def slices_of(
    judged: Classification | Regression, groups: Groups, class_names: Sequence[str] | None
) -> tuple[Slice, ...]:
    """Return every slice with what is observed and stated, and a p-value where it is tested."""
    if isinstance(judged, Classification):
        predicted = _named(judged.prediction.labels.numpy(), class_names)
        tested = {"predicted class": predicted, **groups}
        described = {"true class": _named(judged.y.numpy(), class_names)}
    else:
        if not judged.has_spread or judged.inside(NOMINAL) is None:
            return ()
        tested = {"predicted value": _fifths(judged.prediction.mean.mean(dim=1).numpy()), **groups}
        described = {"target": _fifths(judged.y.mean(dim=1).numpy())}
    return tuple(
        _slice(judged, name, str(label), labels == label, is_tested)
        for part, is_tested in ((tested, True), (described, False))
        for name, labels in ((name, _coarse(labels)) for name, labels in part.items())
        for label in _ordered(labels)
        if (labels == label).sum() > 1
    )


def _named(labels: npt.NDArray[Any], names: Sequence[str] | None) -> npt.NDArray[Any]:
    """Return class names, or the class numbers as they are."""
    return labels if names is None else np.array([str(name) for name in names])[labels]


def _fifths(values: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """Return the range of the fifth of the rows that each value lies in."""
    edges = np.quantile(values, np.linspace(0, 1, _PARTS + 1))
    if np.ptp(values) == 0:
        return np.full(len(values), f"{values[0]:.3g}")
    place = np.clip(np.searchsorted(edges[1:-1], values, side="right"), 0, _PARTS - 1)
    names = [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)]
    # Numbered, so that equal names do not join two parts and the order is that of the values.
    return np.array([f"{part + 1}: {names[part]}" for part in place])


def _coarse(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the labels as text, small groups beyond the most taken together."""
    text = np.array([str(label) for label in labels.tolist()], dtype=object)
    names, count = np.unique(text, return_counts=True)
    if len(names) > _MOST_GROUPS:
        kept = set(names[np.argsort(-count, kind="stable")[: _MOST_GROUPS - 1]])
        text = np.array([name if name in kept else _OTHER for name in text], dtype=object)
    return text


def _ordered(labels: npt.NDArray[Any]) -> list[Any]:
    """Return the labels in the order of their numbers, if they are, else of the alphabet."""
    names = sorted(set(labels.tolist()))
    try:
        return sorted(names, key=float)
    except ValueError:
        return names


def _slice(
    judged: Classification | Regression, name: str, label: str, rows: npt.NDArray[Any], tested: bool
) -> Slice:
    """Return one slice: accuracy against confidence, or coverage against 90 %."""
    level, part = judged.resampling.level, torch.from_numpy(np.flatnonzero(rows.astype(bool)))
    if isinstance(judged, Classification):
        right = 1 - judged.wrong[part]
        stated = float(judged.prediction.confidence[part].mean())
        p_value = confidence_test(judged.prediction.probs[part], judged.y[part]).p_value
        estimate = share_interval(right, level=level)
    else:
        bounds = judged.bounds(NOMINAL)
        if bounds is None:
            raise TypeError("intervals exist, as has been looked up")
        low, high, target = (values[part] for values in bounds)
        stated = NOMINAL
        p_value = coverage_test(low, high, target, level=NOMINAL).p_value
        # Outputs of one row may depend on each other: the interval counts rows only.
        inside = ((low <= target) & (target <= high)).double()
        estimate = share_interval(inside.mean(dim=1).round(), level=level)
        estimate = replace(estimate, value=float(inside.mean()))
    return Slice(name, label, len(part), estimate, stated, p_value if tested else None)


def slice_hypothesis(slices: Sequence[Slice], task: str) -> dict[str, Hypothesis]:
    """Return the hypothesis that no slice is off, which counts once among those of the page."""
    p_values = [s.p_value for s in slices if s.p_value is not None]
    if len(p_values) < 2:
        return {}
    null = (
        "90 % intervals hold 90 % of the targets in every part of the rows"
        if task == "regression"
        else "accuracy equals mean confidence in every part of the rows"
    )
    return {"slices": Hypothesis(null, min(1.0, len(p_values) * min(p_values)))}


def flagged(slices: Sequence[Slice], verdict: Verdict | None, level: float) -> tuple[Slice, ...]:
    """Mark the slices that are off, at the level that all verdicts of the page share.

    The slices are one hypothesis of the page; its adjustment there times Holm's among the slices is
    that of each (a gatekeeper), so any false flag counts among the false verdicts of the page.
    """
    tested = [i for i, s in enumerate(slices) if s.p_value is not None]
    found = list(slices)
    if verdict is None or not tested:
        return tuple(found)
    factor = verdict.adjusted / verdict.p_value if verdict.p_value > 0 else 1.0
    adjusted = holm([slices[i].p_value or 0.0 for i in tested]).tolist()
    for i, p_value in zip(tested, adjusted, strict=True):
        p = min(1.0, factor * p_value)
        found[i] = replace(found[i], adjusted=p, flagged=p <= level)
    return tuple(found)
