"""Calibrated log-likelihood: log scores after a temperature that is fitted on other rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from mcdrop.checks import require_count
from mcdrop.errors import ShapeError
from mcdrop.metrics._arrays import Array, ArrayLike, Float64, float64
from mcdrop.metrics._probs import take_probs
from mcdrop.metrics._search import positive_minimum

# Temperatures tried: beyond them probabilities are one-hot or uniform to two digits.
_LOWEST, _HIGHEST = 0.05, 20.0


def calibrated_nll(probs: ArrayLike, y: ArrayLike, *, n_splits: int = 5, seed: int = 0) -> Array:
    """Negative log-likelihood after temperature scaling, cross-fitted; lower is better.

    Rows are split in two halves at random. The temperature T that minimizes the NLL of
    p_c^(1/T) / sum_k p_k^(1/T) on one half scores the other, and the other way round; scores
    are averaged over splits. Models are so compared by what they know rather than by how far
    their confidence happens to be off, and no row is scored by a temperature fitted on it.

    Args:
        probs: Class probabilities, shape (N, C), N >= 4.
        y: Class indices, shape (N,).
        n_splits: Number of random splits.
        seed: Seed of the splits; the same seed splits the rows of every model alike.

    Returns:
        One score per row in nats, kind and dtype of `probs`; infinite where the label was given
        probability 0, which no temperature mends. All rows enter each score, so batches cannot
        be scored one by one.

    Raises:
        ShapeError: If `probs` does not match `y` or has fewer than 4 rows.
        RangeError: If `probs` are not probabilities, `y` not class indices, or `n_splits` is
            not an integer of at least 1.
        NonFiniteError: If an array holds NaN or infinity.

    Source:
        Ashukha, Lyzhov, Molchanov & Vetrov (2020), Pitfalls of in-domain uncertainty estimation
        and ensembling in deep learning, section 4.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> p = rng.dirichlet([1.0, 1.0, 1.0], 400)
        >>> y = (rng.uniform(size=(400, 1)) > p.cumsum(axis=1)).sum(axis=1)
        >>> sharp = p**3 / (p**3).sum(axis=1, keepdims=True)  # overconfident by T = 3
        >>> bool(abs(calibrated_nll(sharp, y).mean() - calibrated_nll(p, y).mean()) < 1e-6)
        True
    """
    function = "calibrated_nll"
    require_count(function, "n_splits", n_splits)
    require_count(function, "seed", seed, 0)
    origin, p, labels = take_probs(function, probs, y, kind="multiclass")
    n = len(labels)
    if n < 4:
        raise ShapeError.of(function, "y", "hold at least 4 rows", n, "Score more rows")
    log_probs, given = float64(p.log()), float64(labels).astype(np.int64)
    draw, total = np.random.default_rng(seed), np.zeros(n)
    for _ in range(n_splits):
        order = draw.permutation(n)
        halves = order[: n // 2], order[n // 2 :]
        for fitted, scored in (halves, halves[::-1]):
            temperature = _temperature(log_probs[fitted], given[fitted])
            total[scored] += _tempered(log_probs[scored], given[scored], temperature)
    scores = torch.from_numpy(total / n_splits).to(p.device)
    return origin.restore(scores)


def _temperature(log_probs: Float64, labels: npt.NDArray[np.int64]) -> float:
    """Temperature of the smallest NLL, over the labels that have one."""
    possible = np.isfinite(log_probs[np.arange(len(labels)), labels])
    if not possible.any():
        return 1.0
    kept, given = log_probs[possible], labels[possible]
    ends = (torch.tensor(end, dtype=torch.float64, device="cpu") for end in (_LOWEST, _HIGHEST))
    found, _ = positive_minimum(
        lambda t: torch.full_like(t, _tempered(kept, given, float(t)).mean()), *ends
    )
    return float(found)


def _tempered(log_probs: Float64, labels: npt.NDArray[np.int64], temperature: float) -> Float64:
    """NLL of p^(1/T), normalized; logits that are minus infinity stay impossible."""
    logits = log_probs / temperature
    top = logits.max(axis=1)
    normalizer = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    scores: Float64 = normalizer - logits[np.arange(len(labels)), labels]
    return scores
