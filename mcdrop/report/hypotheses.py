"""Tests behind the statements of a page, and how many rows a statement needs.

Every p-value here is exact or from a permutation, so that a null hypothesis is rejected at level
alpha with probability at most alpha for any number of rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from mcdrop.report.curves import Float64
from mcdrop.report.measures import MEASURES, NamedScores, Score
from mcdrop.report.values import Verdict

__all__ = [
    "Hypothesis",
    "binomial_p_value",
    "comparison_key",
    "comparisons",
    "over_outputs",
    "permutation_p_value",
    "rows_for_correlation",
    "rows_for_share",
    "sign_flip_p_value",
    "sum_p_value",
    "verdicts",
]

# The smallest two-sided p-value is 2 / (R + 1) = 0.001: small enough for up to 50 verdicts a page.
_DRAWS = 1999
# Numbers drawn at once: 32 MiB of float64.
_AT_ONCE = 2**22
# Chance to see a difference that is there, as sample sizes are usually planned.
_POWER = 0.8


@dataclass(frozen=True)
class Hypothesis:
    """A null hypothesis and how well the rows agree with it.

    Attributes:
        null: The hypothesis as a sentence without the final stop.
        p_value: Chance of a deviation at least this large if it holds.
    """

    null: str
    p_value: float


def verdicts(hypotheses: Mapping[str, Hypothesis], level: float) -> dict[str, Verdict]:
    """Judge all hypotheses of a page together: any false rejection has a chance of at most `level`.

    Holm (1979): the i-th smallest of m p-values is multiplied by m - i + 1, and no adjusted value
    is below an earlier one. It holds for any dependence between the tests.
    """
    keys = sorted(hypotheses, key=lambda key: hypotheses[key].p_value)
    found, adjusted = {}, 0.0
    for i, key in enumerate(keys):
        h = hypotheses[key]
        adjusted = max(adjusted, min(1.0, (len(keys) - i) * h.p_value))
        found[key] = Verdict(h.null, h.p_value, adjusted, adjusted <= level)
    return {key: found[key] for key in hypotheses}


def comparison_key(metric: str, baseline: str) -> str:
    """Return the key of the hypothesis that two methods do not differ by a metric."""
    return f"{metric} against {baseline}"


def comparisons(methods: Mapping[str, NamedScores], seed: int) -> dict[str, Hypothesis]:
    """Test the first method against each other one, by every measure that judges.

    Equal losses in all rows are not tested: they are identical, whatever the level.
    """
    (name, main), *others = methods.items()
    found = {}
    for baseline, scores in others:
        for metric, score in main.items():
            a, b = (s.losses if isinstance(s, Score) else None for s in (score, scores.get(metric)))
            if a is not None and b is not None and not torch.equal(a, b):
                found[comparison_key(metric, baseline)] = Hypothesis(
                    f"{name} and {baseline} may be swapped in every row ({MEASURES[metric].label})",
                    sign_flip_p_value((a - b).numpy(), seed),
                )
    return found


def over_outputs(p_values: Float64) -> float:
    """Combine the tests of D outputs, which may depend on each other (Bonferroni)."""
    return float(min(1.0, len(p_values) * p_values.min()))


def binomial_p_value(successes: Float64, n: int, share: float) -> Float64:
    """Two-sided exact p-value of a share: twice the smaller tail."""
    from scipy.stats import binom

    tails = np.minimum(binom.cdf(successes, n, share), binom.sf(successes - 1, n, share))
    return np.minimum(1.0, 2 * tails)


def sum_p_value(chances: Float64, successes: int) -> float:
    """Two-sided exact p-value of a number of successes, each with its own chance.

    The distribution is Poisson-binomial: the convolution of N two-point distributions.
    """
    n = len(chances)
    parts = np.zeros((2 ** math.ceil(math.log2(max(n, 2))), 2))
    parts[:, 0] = 1.0
    parts[:n] = np.stack([1 - chances, chances], axis=1)
    while len(parts) > 1:
        size = 2 * parts.shape[1]
        first, second = (np.fft.rfft(half, size, axis=1) for half in (parts[::2], parts[1::2]))
        # Rounding of the transform leaves values near -1e-17.
        parts = np.fft.irfft(first * second, size, axis=1).clip(min=0.0)
    chance = parts[0]
    return float(min(1.0, 2 * min(chance[: successes + 1].sum(), chance[successes:].sum())))


def permutation_p_value(a: Float64, b: Float64, seed: int) -> tuple[float, float]:
    """Spearman correlation and its two-sided p-value under independence, by permutation.

    Twice the smaller tail, as ties make the distribution lopsided.
    """
    from scipy.stats import rankdata

    x, y = rankdata(a), rankdata(b)
    x, y = x - x.mean(), y - y.mean()
    scale = math.sqrt(float(x @ x) * float(y @ y))
    if scale == 0:
        return 0.0, 1.0
    draw = np.random.default_rng([seed, 2])
    observed, others = float(x @ y), []
    for size in _chunks(len(x)):
        others.append(draw.permuted(np.tile(x, (size, 1)), axis=1) @ y)
    return observed / scale, _two_sided(observed, np.concatenate(others), scale)


def sign_flip_p_value(differences: Float64, seed: int) -> float:
    """Two-sided p-value of a mean of paired differences, by swapping the two methods in each row.

    Exact if the methods are exchangeable in every row: Fisher (1935), section 21.
    """
    scale = float(np.abs(differences).sum())
    if scale == 0:
        return 1.0
    draw = np.random.default_rng([seed, 3])
    others = [
        draw.choice((-1.0, 1.0), size=(size, len(differences))) @ differences
        for size in _chunks(len(differences))
    ]
    return _two_sided(float(differences.sum()), np.concatenate(others), scale)


def _chunks(n: int) -> list[int]:
    """Split the draws so that each chunk of them times `n` stays small."""
    size = max(1, min(_DRAWS, _AT_ONCE // n))
    return [min(size, _DRAWS - start) for start in range(0, _DRAWS, size)]


def _two_sided(observed: float, others: Float64, scale: float) -> float:
    """Twice the smaller tail of a Monte Carlo test, the observed value among the draws."""
    tolerance = 1e-12 * scale
    above = 1 + (others >= observed - tolerance).sum()
    below = 1 + (others <= observed + tolerance).sum()
    return float(min(1.0, 2 * min(above, below) / (len(others) + 1)))


def rows_for_share(share: float, gap: float, level: float) -> int:
    """Rows at which the binomial test of `share` sees a truth of share - gap, 4 times in 5."""
    from scipy.stats import binom

    n = np.unique(np.geomspace(5, 1e7, 600).round())
    quantile = np.asarray(binom.ppf(level / 2, n, share))
    critical = quantile - (binom.cdf(quantile, n, share) > level / 2)
    power = binom.cdf(critical, n, max(share - gap, 0.0))
    return _rounded_up(n[int(np.argmax(power >= _POWER))])


def rows_for_correlation(correlation: float, level: float) -> int:
    """Rows at which a Spearman correlation is seen 4 times in 5.

    By Fisher's transform, whose variance for ranks is about 1.06 / (N - 3): Fieller, Hartley &
    Pearson (1957).
    """
    from scipy.special import ndtri

    z = float(ndtri(1 - level / 2) + ndtri(_POWER))
    return _rounded_up(3 + 1.06 * (z / math.atanh(correlation)) ** 2)


def _rounded_up(n: float) -> int:
    """Round up to two digits: the number is a plan, not a measurement."""
    unit = 10 ** max(0, math.floor(math.log10(n)) - 1)
    return math.ceil(n / unit) * unit
