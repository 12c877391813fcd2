"""Correlations of stratified passes, against an enumeration of where systematic sampling begins."""

from __future__ import annotations

import numpy as np
import pytest

from mcdrop._masks.pairs import pair_correlations


@pytest.mark.parametrize("n_samples", [32, 40, 64, 100])
@pytest.mark.parametrize("numerator", [13, 40, 64, 77, 128, 200])
def test_correlations_are_those_of_all_starts(numerator: int, n_samples: int) -> None:
    # A rate of numerator / 256 has 16 p = fewest + extra / 16: sixteen places to begin.
    p = numerator / 256
    fewest, extra = divmod(numerator, 16)
    starts = np.arange(16)
    counts = np.array([fewest + ((starts + k * extra) % 16 < extra) for k in range(7)])
    variance = p * (1 - p)
    # Of n drops among 16 passes, two given ones are both dropped with n (n - 1) / 240.
    within = (np.mean(counts[0] * (counts[0] - 1)) / 240 - p**2) / variance
    strata = np.arange(n_samples) // 16
    found = []
    for i in range(n_samples):
        for j in range(i):
            a, b = strata[i], strata[j]
            if a == b:
                continue
            both = np.mean(counts[a] * counts[b]) / 256 if a // 4 == b // 4 else p**2
            found.append((both - p**2) / variance)
    of_within, of_across = pair_correlations(p, n_samples)
    assert of_within == pytest.approx(within, abs=1e-12)
    assert of_across == pytest.approx(np.mean(found), abs=1e-12)


def test_strata_of_a_whole_number_of_drops_are_independent() -> None:
    within, across = pair_correlations(0.25, 64)
    assert within == pytest.approx(-1 / 15)
    assert across == 0
