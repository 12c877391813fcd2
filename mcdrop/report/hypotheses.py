"""Tests behind the statements of a page, and how many rows a statement needs.

p-values are exact or simulated, so that a true null hypothesis is rejected at level alpha with
probability at most alpha for any number of rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from mcdrop.displays._curve import Float64
from mcdrop.metrics import holm
from mcdrop.metrics.calibration_tests import monte_carlo_p
from mcdrop.report.measures import MEASURES, NamedScores, Score
from mcdrop.report.values import Verdict

__all__ = [
    "Hypothesis",
    "comparison_key",
    "comparisons",
    "rows_for_correlation",
    "rows_for_share",
    "sign_flip_p_value",
    "verdicts",
]

# The smallest p-value is 1 / (R + 1) = 0.001: small enough for up to 50 verdicts a page.
_DRAWS = 999
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

    By Holm's adjustment, which holds however the tests depend on each other.
    """
    if not hypotheses:
        return {}
    adjusted = holm([h.p_value for h in hypotheses.values()]).tolist()
    return {
        key: Verdict(h.null, h.p_value, p, p <= level)
        for (key, h), p in zip(hypotheses.items(), adjusted, strict=True)
    }


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
                    f"{MEASURES[metric].label}: {name} and {baseline} may be swapped in every row",
                    sign_flip_p_value((a - b).numpy(), seed),
                )
    return found


def sign_flip_p_value(differences: Float64, seed: int) -> float:
    """Two-sided p-value of a mean of paired differences, by swapping the two methods in each row.

    Exact if the methods are exchangeable in every row: Fisher (1935), section 21.
    """
    n, scale = len(differences), float(np.abs(differences).sum())
    if scale == 0:
        return 1.0
    draw = np.random.default_rng([seed, 3])
    size = max(1, min(_DRAWS, _AT_ONCE // n))
    flipped = []
    for start in range(0, _DRAWS, size):
        drawn = draw.random((min(size, _DRAWS - start), n), dtype=np.float32)
        flipped.append(np.where(drawn < 0.5, 1.0, -1.0) @ differences / scale)
    return monte_carlo_p(abs(float(differences.sum())) / scale, np.abs(np.concatenate(flipped)))


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
