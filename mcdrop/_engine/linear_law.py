"""Draws from the law of the linear part: what it is for masks that belong to no pass.

Of the units of a row, those that move the outputs most have masks of their own. The rest add up to
nearly normal numbers (Lyapunov), of known covariance and skewness. So a draw costs the same for a
network of any size, and mean and variance are those of the linear part: it is one product of random
numbers, which rows share, with the coefficients of every row.

Normal numbers are a Latin hypercube, as masks are: of the 16 of a stratum, every 16th of the
distribution holds one.

Source: Cornish & Fisher (1938) for the quadratic term that gives a normal number its skewness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mcdrop._engine.site_slopes import NO_PASS, SiteSlopes
from mcdrop._masks.source import MaskSource, Span
from mcdrop._masks.stratified import STRATUM

__all__ = ["LinearLaw"]

# Units of a row that have masks of their own, and the fewest of one rate.
_ALONE = 64
_FEWEST_ALONE = 8
# Normal numbers that are drawn together.
_BLOCK = 64 * STRATUM
# Beyond that, a quadratic function of a normal number would turn around where there is mass.
_MOST_SKEWED = 0.8
# Added to variances, relative to their sum: what rounding takes from the least of them.
_JITTER = 1e-6


class LinearLaw:
    """Draws the linear part for masks that belong to no pass; rows share what is random.

    Args:
        sites: The slopes at each dropout call.
        source: Draws the masks.
    """

    def __init__(self, sites: Sequence[SiteSlopes], source: MaskSource) -> None:
        self._source = source
        self._n_rows, _, self._outputs = sites[0].values.shape
        of_rate: dict[float, list[SiteSlopes]] = {}
        for site in sites:
            of_rate.setdefault(site.mask.p, []).append(site)
        most = max(_FEWEST_ALONE, _ALONE // len(of_rate))
        alone, rest = [], []
        for same in of_rate.values():
            values = [site.values for site in same]
            whole = replace(same[0], values=torch.cat(values, dim=1) if same[1:] else values[0])
            largest, others = _largest_apart(whole, most)
            alone.append(largest)
            if others is not None:
                rest.append(others)
        self._alone = tuple(alone)
        self._is_normal = bool(rest)
        each = [site.values for site in alone] + ([_of_normal(rest)] if rest else [])
        # (random numbers, n * outputs)
        self._coefficients = torch.cat(each, dim=1).transpose(0, 1).flatten(1)
        self._kept: tuple[int, Tensor] | None = None

    def draw(self, first: int, count: int) -> Tensor:
        """Return the linear part of some masks, (count, n, outputs).

        Args:
            first: Number of the first.
            count: How many.
        """
        like = self._coefficients
        numbers = [site.multipliers(self._source, first, count).to(like) for site in self._alone]
        if self._is_normal:
            blocks = range(first // _BLOCK, -(-(first + count) // _BLOCK))
            normal = torch.cat([self._normal(number) for number in blocks])
            begin = first - blocks.start * _BLOCK
            numbers.append(normal[begin : begin + count].to(like))
        return (torch.cat(numbers, dim=1) @ like).view(count, self._n_rows, self._outputs)

    def _normal(self, number: int) -> Tensor:
        """Return z and z^2 - 1 for the normal numbers z of one block, (_BLOCK, 2 outputs)."""
        if self._kept is None or self._kept[0] != number:
            cpu = torch.device("cpu")
            order, within = torch.rand(
                (2, _BLOCK // STRATUM, STRATUM, self._outputs),
                generator=self._source.generator(0, Span(0, NO_PASS + number), cpu),
                dtype=torch.float64,
                device=cpu,
            )
            places = (order.argsort(dim=1) + within) / STRATUM
            z = torch.special.ndtri(places.flatten(0, 1))
            self._kept = number, torch.cat([z, z.square() - 1], dim=1)
        return self._kept[1]


def _largest_apart(site: SiteSlopes, most: int) -> tuple[SiteSlopes, SiteSlopes | None]:
    """Split units into those that move the outputs of a row most, and the rest if there is one."""
    values = site.values
    if values.shape[1] <= most:
        return site, None
    largest = values.square().sum(dim=2).topk(most, dim=1).indices.unsqueeze(2)
    largest = largest.expand(-1, -1, values.shape[2])
    rest = values.scatter(1, largest, 0.0)
    return replace(site, values=values.gather(1, largest)), replace(site, values=rest)


def _of_normal(sites: Sequence[SiteSlopes]) -> Tensor:
    """Return the coefficients of z and z^2 - 1 that stand for many units, (n, 2 outputs, outputs).

    With the Cholesky factor L of their covariance, L w has it for any w of mean 0 and covariance 1;
    w = (z + g / 6 (z^2 - 1)) / (1 + g^2 / 18)^(1/2) has the third cumulant g, up to g^3. Cumulants
    of products of several w are left at 0.
    """
    place = sites[0].values.device
    # Small matrices: where there is no float64, they are handled on the CPU.
    place = torch.device("cpu") if place.type == "mps" else place
    products = [(site.values.mT @ site.values) * _odds(site.rate) for site in sites]
    covariance = torch.stack(products).sum(dim=0).to(place, torch.float64)
    spread = covariance.diagonal(dim1=1, dim2=2).sum(dim=1)
    jitter = (spread * _JITTER).clamp_min(torch.finfo(torch.float32).tiny)[:, None, None]
    eye = torch.eye(covariance.shape[1], dtype=covariance.dtype, device=covariance.device)
    factor = torch.linalg.cholesky_ex(covariance + jitter * eye).L
    # Each output of L^-1 g is a sum over units of covariance 1.
    inverse = torch.linalg.solve_triangular(factor, eye, upper=False).to(sites[0].values)
    apart = [site.values @ inverse.mT for site in sites]
    thirds = [
        (x.square() * x).sum(dim=1) * _third_cumulant(site.rate)
        for x, site in zip(apart, sites, strict=True)
    ]
    skewness = torch.stack(thirds).sum(dim=0).to(factor).clamp_(-_MOST_SKEWED, _MOST_SKEWED)
    linear = factor / (1 + skewness.square() / 18).sqrt().unsqueeze(1)
    both = torch.cat([linear.mT, (linear * (skewness / 6).unsqueeze(1)).mT], dim=1)
    return both.to(sites[0].values)


def _odds(rate: float) -> float:
    """Return the variance of a multiplier, 0 or 1 / (1 - rate)."""
    return rate / (1 - rate)


def _third_cumulant(rate: float) -> float:
    """Return the third central moment of a multiplier."""
    return rate * (2 * rate - 1) / (1 - rate) ** 2
