"""The correlation of the drops of one unit in two stratified passes, from 32 passes on."""

from __future__ import annotations

from mcdrop._masks.source import effective_rate
from mcdrop._masks.stratified import CYCLE, STRATUM

__all__ = ["pair_correlations"]


def pair_correlations(p: float, n_samples: int) -> tuple[float, float]:
    """Return the correlation of two passes of a stratum, and the mean one of different strata.

    With 16 p = k + e, a stratum drops a unit k times, and once more with probability e. In it the
    correlation is -1/15 + e (1 - e) / (240 p (1 - p)). The stratum that is l strata further on in a
    cycle of four drops it once more iff (u + l e) mod 1 < e, with u uniform and the same in all of
    them. The covariance of the two counts, 16^2 times that of two passes, is then
    max(0, e - s) + max(0, e + s - 1) - e^2, where s = l e mod 1. Cycles are independent.

    Args:
        p: Probability that a unit is dropped, in (0, 1).
        n_samples: Passes of the whole run, 32 or more.
    """
    rate = effective_rate(p)
    extra, variance = STRATUM * rate % 1, rate * (1 - rate)
    within = extra * (1 - extra) / (STRATUM * (STRATUM - 1) * variance) - 1 / (STRATUM - 1)
    begins = range(0, n_samples, STRATUM)
    n_pairs, total = 0, 0.0
    for later in begins:
        for earlier in range(0, later, STRATUM):
            pairs = min(STRATUM, n_samples - later) * STRATUM
            n_pairs += pairs
            if later // CYCLE == earlier // CYCLE:
                shift = (later - earlier) // STRATUM * extra % 1
                both = max(0.0, extra - shift) + max(0.0, extra + shift - 1)
                total += pairs * (both - extra**2)
    return within, total / n_pairs / STRATUM**2 / variance
