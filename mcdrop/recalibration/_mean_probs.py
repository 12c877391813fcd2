"""New average probabilities for a prediction whose passes say how the uncertainty splits."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mcdrop.prediction import ClassificationPrediction
from mcdrop.prediction.classification import entropy


def with_mean_probs(
    prediction: ClassificationPrediction, probs: Tensor
) -> ClassificationPrediction:
    """Replace the averaged probabilities, (N, C, ...); each share of uncertainty stays as it was.

    Two laws of total uncertainty hold for the passes: H(p) = expected entropy + mutual
    information, and for the 0/1 variable of class c, p_c (1 - p_c) = mean of p_sc (1 - p_sc) +
    Var_s(p_sc). A change of the mean sets the totals; the passes set the shares, which are kept.
    """
    old, new = prediction.probs.double(), probs.double()
    ratio = _quotient(new * (1 - new), old * (1 - old)).sqrt()
    total, new_total = entropy(old), entropy(new)
    # At a predictive entropy of 0 all passes agree: nothing is epistemic.
    share = torch.where(total > 0, _quotient(prediction.expected_entropy.double(), total), 1.0)
    dtype = prediction.probs.dtype
    entropy_ratio = _quotient(new_total, total)

    def scaled(values: Tensor, factor: Tensor) -> Tensor:
        return (values.double() * factor).to(dtype)

    errors = {
        "probs_std_mcse": ratio,
        "predictive_entropy_mcse": entropy_ratio,
        "mutual_information_mcse": entropy_ratio,
        "mutual_information_bias": entropy_ratio,
    }
    changed = replace(
        prediction,
        probs=new.to(dtype),
        probs_std=scaled(prediction.probs_std, ratio),
        expected_entropy=(share.clamp_max(1) * new_total).to(dtype),
        mcse=scaled(prediction.mcse, ratio),
        samples=None,
    )
    return changed._map(lambda name, v: scaled(v, errors[name]) if name in errors else v)


def _quotient(above: Tensor, below: Tensor) -> Tensor:
    """Divide, with 0 where the divisor is 0."""
    return torch.where(below > 0, above / torch.where(below > 0, below, 1.0), 0.0)
