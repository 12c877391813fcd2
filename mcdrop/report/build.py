"""From a prediction, targets and baselines to a calibration report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mcdrop.checks import require_count, require_unit
from mcdrop.displays._matching import (
    matched_classification,
    matched_regression,
    require_comparable,
    taken_baselines,
)
from mcdrop.displays._regression import Regression
from mcdrop.errors import ShapeError, UnsupportedError
from mcdrop.prediction import ClassificationPrediction, RegressionPrediction
from mcdrop.prediction.base import Prediction
from mcdrop.report.acceptance import Acceptance
from mcdrop.report.assemble import CLASSIFICATION, REGRESSION, Wishes, assembled
from mcdrop.report.measures import Resampling
from mcdrop.report.pixels import one_pixel_per_image
from mcdrop.report.report import CalibrationReport
from mcdrop.report.rows import checked_ids
from mcdrop.report.slices import checked_groups
from mcdrop.report.thumbnails import checked_images, image_rows, pixel_maps, with_pictures

__all__ = ["calibration_report"]


def calibration_report(
    prediction: Prediction,
    y: Any,
    *,
    baselines: Mapping[str, Any] | None = None,
    acceptance: Acceptance | None = None,
    groups: Mapping[str, Any] | None = None,
    ids: Any = None,
    class_names: Sequence[str] | None = None,
    images: Any = None,
    shifted: Prediction | Mapping[str, Prediction] | None = None,
    title: str = "Calibration report",
    name: str = "MC dropout",
    command: str = "",
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> CalibrationReport:
    """Compare a prediction's stated uncertainty with its errors, and with baselines.

    Every number has an interval over rows; differences are paired, so that what makes a row hard
    for both methods cancels. Every verdict is a test, and all verdicts of one report share the
    level 1 - `level` (Holm): for calibrated predictions the chance of any false one is at most
    that, for any number of rows. A number that cannot be had from a prediction is reported as
    missing, with what it would take.

    Args:
        prediction: RegressionPrediction or ClassificationPrediction for N rows. Of class
            probabilities per pixel, (N, C, H, W), one random pixel of each image is judged, since
            the pixels of an image depend on each other.
        y: Targets of these rows with the shape of the predictive mean, or labels (N, ...).
        baselines: Predictions of the same type for the same rows, by name. A bare array is taken
            as a point forecast, or as class probabilities.
        acceptance: Criteria by metric, (low, high) or one number in the better direction, such as
            ``{"coverage_90": (0.85, 0.95), "auroc_error": 0.7}``: see `CalibrationReport.accepted`.
        groups: Columns to look into separately, one label per row each, by name. They must not
            depend on `y`.
        ids: Name of each row, (N,), for the rows to look at; None takes the index of the table
            that was predicted, or counts.
        class_names: Name of each class.
        images: Image of each row, (N, H, W), (N, C, H, W) or (N, H, W, C) with 1 or 3 channels,
            shown beside the rows to look at.
        shifted: Prediction for a second data set, without targets, or one by its name: whether it
            is stated as less certain.
        title: Heading of the report.
        name: Name of the main method in tables and figures.
        command: How the report was made, to be shown with its versions.
        level: Coverage of all intervals, in (0, 1); verdicts share the level 1 - `level`.
        n_resamples: Bootstrap resamples.
        seed: Seed of the resamples; the same seed gives the same report.

    Returns:
        The report: numbers and findings at once, figures and pages when asked for.

    Raises:
        ShapeError: If `y`, a baseline, a group, the ids or the images do not have the rows of
            `prediction`.
        UnsupportedError: If `prediction` is of another type, or a baseline differs in type.
        NonFiniteError: If targets or predictions hold NaN or infinity.
        RangeError: If a label is no class index, a baseline has the name of the main method, a
            criterion is none, or `y`, a group or a baseline carries the index of other rows.

    Example:
        >>> import torch
        >>> y = torch.linspace(-2, 2, 100)
        >>> wide = RegressionPrediction(
        ...     mean=torch.zeros(100), epistemic_variance=torch.zeros(100),
        ...     aleatoric_variance=torch.full((100,), 9.0), mcse=torch.zeros(100),
        ...     n_samples=0, family="normal")
        >>> report = calibration_report(wide, y, name="Guess", n_resamples=200)
        >>> report.decision, report.headline
        ('Not as they are', '90 % intervals are too wide.')
        >>> round(report.metrics["rmse"].value, 2), report.metrics["coverage_90"].value
        (1.17, 1.0)
    """
    require_unit("calibration_report", "level", level)
    require_count("calibration_report", "n_resamples", n_resamples, 2)
    require_count("calibration_report", "seed", seed, 0)
    _require_text(title=title, name=name)
    others = taken_baselines(prediction, baselines)
    require_comparable(prediction, others, name)
    resampling = Resampling(level, n_resamples, seed)
    predictions: dict[str, Any] = {name: prediction, **others}
    wishes = Wishes(
        acceptance=acceptance,
        groups=checked_groups(groups, len(prediction), prediction.index),
        ids=checked_ids(prediction.index if ids is None else ids, len(prediction)),
        class_names=_checked_names(class_names, prediction),
        shifted=dict(shifted) if isinstance(shifted, Mapping) else {"shifted": shifted},
    )
    remarks: tuple[str, ...] = ()
    pictures = checked_images(images, len(prediction))
    if isinstance(prediction, RegressionPrediction):
        regressions = matched_regression(predictions, y, resampling)
        parts = assembled(regressions, REGRESSION, resampling, wishes)
        remarks = _remarks(regressions[name])
    else:
        chosen, labels, remarks = one_pixel_per_image(predictions, y, seed)
        labeled = matched_classification(chosen, labels, resampling)
        parts = assembled(labeled, CLASSIFICATION, resampling, wishes)
        if isinstance(prediction, ClassificationPrediction) and prediction.probs.ndim > 2:
            parts["rows"] = image_rows(prediction, y, wishes.ids)
            pictures = {**pictures, **pixel_maps(prediction, y)}
    parts["rows"] = with_pictures(parts["rows"], pictures)
    return CalibrationReport(
        title=title,
        name=name,
        command=command,
        n_rows=len(prediction),
        resampling=resampling,
        remarks=remarks,
        run=prediction.run,
        monte_carlo_error=_monte_carlo_error(prediction),
        **parts,
    )


def _require_text(**texts: object) -> None:
    for argument, text in texts.items():
        if not isinstance(text, str):
            found = type(text).__name__
            raise UnsupportedError.of(
                "calibration_report", argument, "be text", found, "Leave it out, or pass a str"
            )


def _checked_names(names: Sequence[str] | None, prediction: Prediction) -> Sequence[str] | None:
    """Return the class names, one for each class."""
    if names is None or not isinstance(prediction, ClassificationPrediction):
        return None
    n_classes = prediction.probs.shape[1]
    if isinstance(names, str) or len(names) != n_classes:
        raise ShapeError.of(
            "calibration_report",
            "class_names",
            f"hold one name for each of {n_classes} classes",
            repr(names) if isinstance(names, str) else f"{len(names)} names",
            "Name every class, in the order of the probabilities",
        )
    return names


def _remarks(r: Regression) -> tuple[str, ...]:
    """Return the caveats that apply to all numbers of a regression."""
    remarks = []
    n_outputs = r.y.shape[1]
    if n_outputs > 1:
        remarks.append(
            f"Every score is averaged over the {n_outputs} outputs of a row without scaling them: "
            "outputs in large units weigh more. Figures pool the outputs; intervals count rows."
        )
    if r.has_spread and r.lacks_noise:
        remarks.append(
            "No observation noise was given. Intervals, CRPS and PIT describe the mean function, "
            "not single targets, which scatter more: predict with noise_std=."
        )
    if not r.has_spread:
        remarks.append("A point forecast has no intervals, so there is nothing to draw for it.")
    return tuple(remarks)


def _monte_carlo_error(prediction: Prediction) -> float | None:
    """Return the root mean squared Monte Carlo standard error, if there were passes."""
    if not isinstance(prediction, RegressionPrediction | ClassificationPrediction):
        return None
    if prediction.n_samples < 2:
        return None
    return prediction.mcse.double().square().mean().sqrt().item()
