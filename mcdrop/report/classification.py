"""Scores of a classification prediction."""

from __future__ import annotations

import torch

from mcdrop.displays._classification import Classification
from mcdrop.metrics import brier_score, nll_categorical
from mcdrop.metrics._arrays import tensor_of
from mcdrop.report.detection import error_auroc
from mcdrop.report.measures import Missing, NamedScores, Score, Uncompared, as_scored

__all__ = ["classification_scores"]


def classification_scores(c: Classification) -> NamedScores:
    """Score one prediction: every number of the table, or why it is missing."""
    p = c.prediction
    one_set = "one fixed set of weights has none" if p.n_samples == 0 else "needs several passes"
    return {
        "accuracy": Score(as_scored, (1 - c.wrong,), losses=c.wrong),
        "nll": _nll(c),
        "brier": Score.by_row(brier_score(p.probs, c.y)),
        "ece": Uncompared(c.error, _error_note(c)),
        "confidence": Score(as_scored, (p.confidence,)),
        "predictive_entropy": Score(as_scored, (p.predictive_entropy,)),
        "mutual_information": Score(as_scored, (p.mutual_information,))
        if p.n_samples > 1
        else Missing(one_set),
        "auroc_error": _auroc(c),
    }


def _auroc(c: Classification) -> Uncompared | Missing:
    """Score how well the predictive entropy finds the wrong rows."""
    found = error_auroc(c.uncertainty, c.wrong.numpy(), c.resampling)
    if found is None:
        return Missing("all rows are right" if not c.wrong.any() else "all rows are wrong")
    return Uncompared(found, "by predictive entropy")


def _error_note(c: Classification) -> str:
    """Say what a calibrated model would have, and the estimate without sampling noise."""
    null = c.error_test
    return (
        f"a calibrated model would have {100 * null.null_low:.2g} to {100 * null.null_high:.2g} % "
        f"on {null.n} rows; less their mean, the ECE is {100 * c.debiased_error:.2g} %"
    )


def _nll(c: Classification) -> Score | Missing:
    """Score the labels, unless one of them was given probability 0."""
    scores = tensor_of(nll_categorical(c.prediction.probs, c.y))
    impossible = int(torch.isinf(scores).sum())
    if impossible:
        return Missing(f"infinite: the true class of {impossible} rows was given probability 0")
    return Score.by_row(scores)
