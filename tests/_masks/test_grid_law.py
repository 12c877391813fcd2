"""The law of drops on a grid: exact rates, independent lines, and the least varying count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mcdrop
from mcdrop._masks.grid_law import _alias, alias_table

PATTERNS = (np.arange(2**16)[:, None] >> np.arange(16)) & 1
LINES = [[4 * i + j for j in range(4)] for i in range(4)] + [
    [4 * j + i for j in range(4)] for i in range(4)
]
# Rates near 0, below 1/16, around it, whole 16 p, fractions, and above 1/2.
RATES = [
    (1, 32), (40_000_000, 32), (1500, 16), (3277, 16), (4096, 16), (6554, 16), (8192, 16),
    (13_107, 16), (16_384, 16), (19_661, 16), (32_768, 16), (45_875, 16), (2**32 - 9, 32),
]  # fmt: skip


def law(numerator: int, bits: int) -> np.ndarray:
    """Masses of all patterns in units of 2^-32, read off the table entry by entry."""
    table = alias_table(numerator, bits)
    limits = table.limits[np.arange(2**16) // 16].astype(np.int64)
    masses = np.zeros(2**16, dtype=np.int64)
    np.add.at(masses, table.patterns[0].view(np.uint16), limits)
    np.add.at(masses, table.patterns[1].view(np.uint16), 2**16 - limits)
    return masses


@pytest.mark.parametrize(("numerator", "bits"), RATES)
def test_every_pass_has_the_exact_rate(numerator: int, bits: int) -> None:
    masses = law(numerator, bits)
    assert masses.sum() == 2**32
    assert (masses @ PATTERNS == numerator * 2 ** (32 - bits)).all()


@pytest.mark.parametrize(("numerator", "bits"), RATES)
def test_passes_of_a_line_drop_a_unit_independently(numerator: int, bits: int) -> None:
    probabilities, p = law(numerator, bits) / 2**32, numerator / 2**bits
    drops = PATTERNS[:16, :4].sum(axis=1)
    independent = p**drops * (1 - p) ** (4 - drops)
    for line in LINES:
        joint = np.bincount(PATTERNS[:, line] @ [1, 2, 4, 8], weights=probabilities, minlength=16)
        np.testing.assert_allclose(joint, independent, atol=5e-7)


@pytest.mark.parametrize(("numerator", "bits"), RATES)
def test_the_number_of_drops_varies_as_little_as_it_can(numerator: int, bits: int) -> None:
    probabilities, p = law(numerator, bits) / 2**32, numerator / 2**bits
    count = PATTERNS.sum(axis=1)
    variance = probabilities @ count**2 - (16 * p) ** 2
    # A count of mean 16 p = k + e has at least the variance e (1 - e).
    least = 16 * p % 1 * (1 - 16 * p % 1)
    # And E[n (n - 1)] is at least that of the 96 ordered pairs in a line, p^2 each.
    p = min(p, 1 - p)
    least = max(least, 96 * p**2 + 16 * p - (16 * p) ** 2)
    # Between 1/16 and 1/5 the triples of a line cost up to a fifteenth of the variance 16 p (1 - p)
    # of independent passes.
    assert least - 1e-6 < variance < least + (0.13 if 1 / 16 < p < 1 / 5 else 2e-4)


def test_rates_above_one_half_are_mirrored() -> None:
    low, high = law(13_107, 16), law(2**16 - 13_107, 16)
    assert (low == high[::-1]).all()


def test_the_shares_on_the_page_are_those_of_the_law() -> None:
    page = (Path(mcdrop.__file__).parents[1] / "docs" / "how-many-passes.md").read_text()
    rates = (0.01, 0.05, 1 / 16, 0.1, 1 / 8, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
    shares = []
    for p in rates:
        bits = 32 if p < 2**-6 else 16
        numerator = round(p * 2**bits)
        rate, count = numerator / 2**bits, PATTERNS.sum(axis=1)
        variance = law(numerator, bits) / 2**32 @ (count - 16 * rate) ** 2
        shares.append(f"{variance / (16 * rate * (1 - rate)):.2f}".replace("0.00", "0"))
    assert f"| grid of 4 x 4 | {' | '.join(shares)} |" in page


def test_buckets_hold_every_mass_also_one_that_just_fills_its_own() -> None:
    # 4096 buckets of 2^16: five too few in the first are taken from the second, all others fit.
    masses = np.full(2**12, 2**16)
    masses[:2] += [-5, 5]
    chosen, other, limits = _alias(masses)
    held = np.bincount(chosen, limits, 2**12) + np.bincount(other, 2**16 - limits, 2**12)
    np.testing.assert_array_equal(held, masses)
