"""What the control variate is worth: the number of independent passes that would be as precise."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mcdrop._engine.record import Run
from mcdrop.prediction.classification import ClassificationPrediction
from mcdrop.prediction.regression import RegressionPrediction

__all__ = ["equivalent_passes", "with_worth"]

# More than this is not told from exact.
_MOST = 100_000


def with_worth(run: Run, prediction: RegressionPrediction | ClassificationPrediction) -> Run:
    """Return the record with the worth of its control variate, where there is one.

    Args:
        run: The record.
        prediction: What was predicted.
    """
    if not run.controlled or _is_unknown(prediction):
        return run
    mean, std = (_shown(passes) for passes in equivalent_passes(prediction))
    what = "mean" if isinstance(prediction, RegressionPrediction) else "probabilities"
    told = f"{run.control_variate}; {run.n_samples} passes are about as precise as"
    return replace(
        run,
        control_variate=f"{told} {mean} independent ones for the {what} and {std} for the standard"
        " deviation (by their standard errors, median over values)",
    )


def equivalent_passes(
    prediction: RegressionPrediction | ClassificationPrediction,
) -> tuple[float, float]:
    """Estimate how many independent passes would have these standard errors.

    With variance V, S independent passes leave the error sqrt(V / S) in the mean and, for normal
    passes, sqrt(V / (2 S)) in the standard deviation.

    Args:
        prediction: With standard errors of mean and standard deviation.

    Returns:
        For the mean (of the probabilities) and for the standard deviation, the median over values.
    """
    if isinstance(prediction, RegressionPrediction):
        variance = prediction.epistemic_variance.double()
        # The predictive standard deviation has the noise in it: d std = d variance / (2 std).
        of_variance = 2 * prediction.std.double() * _errors(prediction.std_mcse)
    else:
        variance = prediction.probs_std.double().square()
        of_variance = 2 * prediction.probs_std.double() * _errors(prediction.probs_std_mcse)
    for_mean = variance / _errors(prediction.mcse).square()
    for_std = 2 * variance.square() / of_variance.square()
    return tuple(float(each.nan_to_num(0.0).median()) for each in (for_mean, for_std))  # type: ignore[return-value]


def _is_unknown(prediction: RegressionPrediction | ClassificationPrediction) -> bool:
    """Tell whether two passes leave the errors of a classification unknown."""
    if isinstance(prediction, RegressionPrediction):
        return False
    return bool(_errors(prediction.probs_std_mcse).isnan().all())


def _errors(given: Tensor | None) -> Tensor:
    return torch.full((), torch.nan, device="cpu") if given is None else given.double()


def _shown(passes: float) -> str:
    """Round to two digits."""
    if passes >= _MOST:
        return f"{_MOST:,} or more"
    return f"{float(f'{passes:.2g}'):,.0f}"
