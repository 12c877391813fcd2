"""The law of a unit's drops in 16 passes on a grid: balanced, and independent within each line.

The passes lie on a grid of 4 x 4. A pattern says in which of them a unit is dropped. Among the laws
of patterns under which the passes of every line (row or column) drop the unit independently, each
with probability p, this is the one whose number of drops n varies least. It has the form

    w(pattern) ~ p^n (1 - p)^(16 - n) exp(-L (n - 16 p)^2) * product over lines of f(drops in it)

for L towards infinity, with f(0), ..., f(4) such that the drops in a line are binomial. As w does
not depend on the order of rows and columns, the passes of a line are exchangeable, and exchangeable
drops whose number is binomial are independent.

Source:
    Csiszar (1975), "I-divergence geometry of probability distributions", for the form of w.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from math import comb, log, log1p

import numpy as np
import numpy.typing as npt

__all__ = ["SIDE", "AliasTable", "alias_table"]

SIDE = 4
"""Passes in one line of the grid."""

_PASSES = SIDE * SIDE
_PATTERNS = 2**_PASSES
# Where L ends: a number of drops that is 1 too far off has lost a factor of e^-12 by then.
_LARGEST_WEIGHT = 12.0
_FEWEST_STEPS = 2.0**-8
_NEWTON_STEPS = 40
_PRECISION = 1e-10
# Masses of orbits are whole multiples of 2^-28; a draw chooses among buckets of 2^-12.
_BUCKETS = 2**12
_CAPACITY = 2**16

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class AliasTable:
    """Patterns for pairs of uniform 16-bit integers (a, b).

    Attributes:
        patterns: int16, (2, 2^16): the pattern is ``patterns[int(b >= limits[a // 16]), a]``.
        limits: int32, (2^12,), in [0, 2^16].

    Source:
        Walker (1977), the alias method.
    """

    patterns: npt.NDArray[np.int16]
    limits: npt.NDArray[np.int32]


# A table has 256 KiB.
@lru_cache(maxsize=64)
def alias_table(numerator: int, bits: int) -> AliasTable:
    """Return the table for a rate of numerator / 2^bits, which every pass has exactly."""
    orbits = _orbits()
    mirrored = 2 * numerator > 2**bits
    if mirrored:
        numerator = 2**bits - numerator
    masses = _integer_masses(_masses(numerator / 2**bits)[orbits.kind], numerator, bits)
    (present,) = np.nonzero(masses)
    chosen, other, limits = _alias(masses[present])
    images = orbits.images[present]
    if mirrored:
        images = ~images
    both = np.stack([images[chosen].ravel(), images[other].ravel()])
    return AliasTable(both.view(np.int16), limits.astype(np.int32))


@dataclass(frozen=True)
class _Kinds:
    """Patterns alike up to a permutation of rows, of columns, and up to transposition.

    Attributes:
        of_pattern: Kind of every pattern, (2^16,).
        sizes: Patterns of each kind, (K,).
        drops: Drops in each of their patterns, (K,).
        lines: Lines of theirs with 0, ..., 4 drops, (K, 5).
    """

    of_pattern: Integers
    sizes: Floats
    drops: Floats
    lines: Floats


@cache
def _kinds() -> _Kinds:
    # The rows of the grid are the hexadecimal digits of a pattern.
    digits = np.arange(_PATTERNS)[:, None] >> SIDE * np.arange(SIDE) & 0xF
    bits = (np.arange(2**SIDE)[:, None] >> np.arange(SIDE) & 1).astype(np.uint8)
    rows = np.sort(bits.sum(axis=1, dtype=np.uint8)[digits], axis=1)
    columns = np.sort(bits[digits].sum(axis=1, dtype=np.uint8), axis=1)
    places = (SIDE + 1) ** np.arange(SIDE)
    low, high = np.sort([rows @ places, columns @ places], axis=0)
    _, first, of_pattern, sizes = np.unique(
        low * _PATTERNS + high, return_index=True, return_inverse=True, return_counts=True
    )
    both = np.concatenate([rows[first], columns[first]], axis=1)
    lines = np.stack([(both == drops).sum(axis=1) for drops in range(SIDE + 1)], axis=1)
    drops = rows[first].sum(axis=1).astype(float)
    return _Kinds(of_pattern.ravel(), sizes.astype(float), drops, lines.astype(float))


@dataclass(frozen=True)
class _Orbits:
    """Patterns alike up to a rotation of the rows and one of the columns.

    Attributes:
        images: uint16, (O, 16): a pattern after each of the 16 rotations, with repetitions.
        kind: Their kind, (O,).
    """

    images: npt.NDArray[np.uint16]
    kind: Integers


@cache
def _orbits() -> _Orbits:
    patterns = np.arange(_PATTERNS)
    rotated = []
    for column in range(SIDE):
        # The bits of a row, 4 of them, rotate among themselves.
        upper = 0x1111 * ((0xF << column) & 0xF)
        turned = (patterns << column) & upper | (patterns >> (SIDE - column)) & (0xFFFF ^ upper)
        for row in range(SIDE):
            whole = turned << SIDE * row
            rotated.append((whole | whole >> _PASSES) & 0xFFFF)
    images = np.stack(rotated, axis=1)
    (first,) = np.nonzero(images.min(axis=1) == patterns)
    return _Orbits(images[first].astype(np.uint16), _kinds().of_pattern[first])


def _masses(p: float) -> Floats:
    """Return the probability of one pattern of each kind, (K,), at a rate of at most 1/2."""
    kinds = _kinds()
    wanted = (
        2 * SIDE * np.array([comb(SIDE, k) * p**k * (1 - p) ** (SIDE - k) for k in range(SIDE + 1)])
    )
    independent = kinds.drops * log(p) + (_PASSES - kinds.drops) * log1p(-p)
    independent += np.log(kinds.sizes)
    far = (kinds.drops - _PASSES * p) ** 2
    weight, step = 0.0, 1.0
    factors, found = np.zeros(SIDE + 1), np.exp(independent)
    while weight < _LARGEST_WEIGHT and step >= _FEWEST_STEPS:
        solution = _solved(independent - (weight + step) * far, wanted, factors)
        if solution is None:
            step /= 4
            continue
        factors, found = solution
        weight, step = weight + step, 2 * step
    masses: Floats = found / kinds.sizes
    return masses


def _solved(base: Floats, wanted: Floats, factors: Floats) -> tuple[Floats, Floats] | None:
    """Find log f by Newton's method, and the mass of each kind; None if it does not converge.

    Args:
        base: Logarithm of the mass of each kind without f, up to a constant.
        wanted: Lines with 0, ..., 4 drops that are to be expected.
        factors: Where to begin.
    """
    lines = _kinds().lines
    for _ in range(_NEWTON_STEPS):
        logs = base + lines @ factors
        masses = np.exp(logs - logs.max())
        masses /= masses.sum()
        expected = masses @ lines
        excess = expected - wanted
        if bool((np.abs(excess) <= _PRECISION * wanted).all()):
            return factors, masses
        covariance = (lines * masses[:, None]).T @ lines - np.outer(expected, expected)
        # Rare numbers of drops have tiny variances: solve for each in its own units.
        scale = 1 / np.sqrt(np.maximum(np.diag(covariance), 1e-300))
        scaled = covariance * scale * scale[:, None]
        move = np.linalg.lstsq(scaled, excess * scale, rcond=1e-13)[0] * scale
        # Far from the solution Newton's method overshoots.
        factors = factors - move * min(1.0, 2 / max(1e-300, float(np.abs(move).max())))
    return None


def _integer_masses(each: Floats, numerator: int, bits: int) -> Integers:
    """Round the masses of orbits to whole numbers of sum 2^28 that keep the rate exact.

    Args:
        each: Probability of one pattern of each orbit, (O,).
        numerator: The rate in units of 2^-bits.
        bits: 16 or 32.
    """
    orbits = _orbits()
    drops = _kinds().drops[orbits.kind].astype(np.int64)
    ordered = np.sort(orbits.images, axis=1)
    sizes = 1 + (np.diff(ordered.astype(np.int64), axis=1) > 0).sum(axis=1)
    total = _BUCKETS * _CAPACITY
    masses = np.rint(each * sizes * total).astype(np.int64)
    # 16 p * 2^28 drops are expected: a whole number for both widths.
    lacking = total - int(masses.sum())
    drops_lacking = _PASSES * numerator * total // 2**bits - int(masses @ drops)
    most = int(drops[masses.argmax()])
    # Mass for orbits of `most` drops, and of one more or one less, whichever has to gain.
    shift = drops_lacking - most * lacking
    beside = most + 1 if shift >= 0 or most == 0 else most - 1
    moved = shift * (beside - most)
    for count, change in ((most, lacking - moved), (beside, moved)):
        heaviest = np.where(drops == count, masses, -1).argmax()
        masses[heaviest] += change
    if int(masses.min()) < 0:
        raise RuntimeError(f"no integer masses for the rate {numerator} / 2^{bits}")
    return masses


def _alias(masses: Integers) -> tuple[Integers, Integers, Integers]:
    """Split masses of sum 2^28 into buckets of 2^16 that hold at most two of them each.

    Returns:
        For each bucket the first, the second, and the mass of the first in it.
    """
    if len(masses) > _BUCKETS:
        raise RuntimeError(f"{len(masses)} orbits do not fit {_BUCKETS} buckets")
    left = [*masses.tolist(), *[0] * (_BUCKETS - len(masses))]
    small = [i for i, mass in enumerate(left) if mass < _CAPACITY]
    large = [i for i, mass in enumerate(left) if mass >= _CAPACITY]
    chosen, other = np.arange(_BUCKETS), np.arange(_BUCKETS)
    limits = np.full(_BUCKETS, _CAPACITY)
    # `small` grows while it is read: the large one that fills a bucket may become small.
    for low in small:
        high = large[-1]
        other[low], limits[low] = high, left[low]
        left[high] -= _CAPACITY - left[low]
        if left[high] < _CAPACITY:
            small.append(large.pop())
    # Buckets without a mass of their own always take the second; the first has to exist, though.
    chosen[len(masses) :] = other[len(masses) :]
    return chosen, other, limits
