"""Bands around forecasts: for each month alone, and for the whole path."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Band", "pathwise", "pointwise", "stretched"]

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Band:
    """center ± factor * std, each of shape (T,); factor is one number for all T times."""

    center: Doubles
    std: Doubles
    factor: float

    @property
    def lower(self) -> Doubles:
        """Lower edge, (T,)."""
        return self.center - self.factor * self.std

    @property
    def upper(self) -> Doubles:
        """Upper edge, (T,)."""
        return self.center + self.factor * self.std

    @property
    def width(self) -> float:
        """Mean over times of upper minus lower edge."""
        return float(2 * self.factor * self.std.mean())

    def share(self, y: Doubles) -> float:
        """Share of the times at which `y`, (T,), lies within."""
        return float((np.abs(y - self.center) <= self.factor * self.std).mean())

    def holds(self, y: Doubles) -> bool:
        """Whether all of `y` lies within."""
        return self.share(y) == 1

    def farthest(self, y: Doubles) -> float:
        """Return the factor that would just hold all of `y`."""
        return float((np.abs(y - self.center) / self.std).max())


def pointwise(paths: Doubles, level: float) -> Band:
    """Return the band that holds a share `level` of all values of the paths, (S, T)."""
    center, std = paths.mean(axis=0), paths.std(axis=0)
    return Band(center, std, float(np.quantile(np.abs(paths - center) / std, level)))


def pathwise(paths: Doubles, level: float) -> Band:
    """Return the band that holds a share `level` of the paths, (S, T), from end to end.

    The factor is the `level` quantile over paths of max_t |path_t - center_t| / std_t: the sup-t
    band of Montiel Olea & Plagborg-Møller (2019).
    """
    center, std = paths.mean(axis=0), paths.std(axis=0)
    farthest = (np.abs(paths - center) / std).max(axis=1)
    return Band(center, std, float(np.quantile(farthest, level)))


def stretched(bands: Sequence[Band], truths: Sequence[Doubles], level: float) -> list[Band | None]:
    """Give every band the factor that held a share `level` of the truths before its own.

    The factor is the ceil((n + 1) level)-th smallest of the n factors that would just have held the
    earlier truths. If a year behaves like those before it, the band holds it with probability
    `level` at least (split conformal prediction). None where n is too small for that.
    """
    needed = [band.farthest(truth) for band, truth in zip(bands, truths, strict=True)]
    found: list[Band | None] = []
    for n, band in enumerate(bands):
        rank = math.ceil((n + 1) * level)
        enough = rank <= n
        factor = sorted(needed[:n])[rank - 1] if enough else math.nan
        found.append(Band(band.center, band.std, factor) if enough else None)
    return found
