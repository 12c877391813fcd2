"""The part of the passes that is linear in their masks: known for every pass, and so is its law.

With slopes g at open masks, the linear part of a pass with masks m is l = g . (m - 1). Units are
dropped independently of one another, so that E[l] = 0 and Var[l] = p / (1 - p) * sum g^2 are exact
for whatever g, also where a gradient is not that of the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

import torch
from torch import Tensor

from mcdrop._engine.differentiated import Differentiated
from mcdrop._engine.linear_law import LinearLaw
from mcdrop._engine.site_slopes import SiteSlopes, by_row
from mcdrop._live.multipliers import Multiplied
from mcdrop._masks.rows import RowDim

__all__ = ["LinearPart", "Linearization", "NoSlopesError", "linearized", "row_dim"]

RowsOf = Callable[[int], RowDim | None]
"""Given the number of a site, tells the dimension of its mask that counts rows."""


class NoSlopesError(RuntimeError):
    """The output cannot be differentiated with respect to what dropout keeps."""


@dataclass(frozen=True)
class LinearPart:
    """The linear part of some passes.

    Attributes:
        values: (s, n, ...), of mean 0 over masks; (s * redraws, n, ...) where passes are given
            several masks of a site.
        variance: Its exact variance over masks, (n, ...).
        fresh: Given the number of the first mask and how many, draws the linear part of masks that
            belong to no pass, (count, n, ...). Rows share what is random.
        weights: Of the scores of classes in the mean that is taken from them, (n, C); None where
            scores are linearized as they are.
    """

    values: Tensor
    variance: Tensor
    fresh: Callable[[int, int], Tensor] | None = None
    weights: Tensor | None = None

    def to(self, device: torch.device) -> LinearPart:
        """Return the same part on another device."""
        fresh = self.fresh
        moved = None if fresh is None else lambda first, count: fresh(first, count).to(device)
        weights = None if self.weights is None else self.weights.to(device)
        return LinearPart(self.values.to(device), self.variance.to(device), moved, weights)


@dataclass(frozen=True)
class Linearization:
    """The network of one batch at open masks, linear in the masks of its sites.

    Attributes:
        sites: The slopes at each dropout call.
        variance: Variance of the linear part over masks, (n, ...).
        outputs: Which outputs are linearized; the others have no linear part.
    """

    sites: tuple[SiteSlopes, ...]
    variance: Tensor
    outputs: Differentiated

    def part(self, first: int, count: int) -> LinearPart:
        """Return the linear part of some passes.

        Args:
            first: Number of the first pass.
            count: Number of passes.
        """
        values = sum(
            (site.part(first, count) for site in self.sites), torch.zeros((), device="cpu")
        )
        return LinearPart(
            self._placed(values.flatten(0, 1)), self.variance, self._fresh, self._weights
        )

    @cached_property
    def _weights(self) -> Tensor | None:
        weights = self.outputs.weights
        return None if weights is None else self.outputs.placed(weights, self.variance.shape[1])

    @cached_property
    def _law(self) -> LinearLaw:
        return LinearLaw(self.sites, self.sites[0].mask.source.aside())

    def _fresh(self, first: int, count: int) -> Tensor:
        return self._placed(self._law.draw(first, count))

    def _placed(self, values: Tensor) -> Tensor:
        """Give every output its linear part, (k, n, ...)."""
        whole = self.outputs.placed(values, self.variance[0].numel())
        return whole.view(len(values), *self.variance.shape)


def linearized(
    output: Tensor,
    sites: Sequence[Multiplied],
    rows_of: RowsOf,
    *,
    most_outputs: int | None = None,
    exclusive: bool = False,
    per_pass: Mapping[int, int] = MappingProxyType({}),
) -> Linearization:
    """Differentiate an output with respect to multipliers, by one backward pass per output.

    Where rows influence one another, the slopes of a row are those of all outputs with respect to
    its units; the linear part is then a poorer approximation, but its law is as exact.

    Args:
        output: Output at open masks, (n, ...), with its graph.
        sites: The multipliers.
        rows_of: Tells the dimension of rows.
        most_outputs: Of more outputs than that, only the largest of every row are linearized.
        exclusive: Whether outputs are scores of classes, up to a number of every row.
        per_pass: Masks per pass of sites that have several, by number of the site.

    Raises:
        NoSlopesError: If the output does not depend on any multiplier by gradients, or by slopes
            whose squares overflow.
    """
    told = [(site, rows_of(site.mask.site)) for site in sites]
    known = [
        (site, rows)
        for site, rows in told
        if rows is not None and site.mask.shape[rows.dim] == len(output) * rows.per_row
    ]
    if not known:
        raise NoSlopesError("it drops no single units of rows that can be told apart")
    if not output.requires_grad:
        raise NoSlopesError("the output has no gradient with respect to what dropout keeps")
    outputs = Differentiated.of(output, most_outputs, exclusive=exclusive)
    totals = outputs.values.sum(dim=0)
    ones = [site.ones for site, _ in known]
    found: list[list[Tensor]] = [[] for _ in known]
    for number in range(len(totals)):
        more = number < len(totals) - 1
        grads = torch.autograd.grad(totals[number], ones, retain_graph=more, allow_unused=True)
        for each, grad, one in zip(found, grads, ones, strict=True):
            each.append(torch.zeros_like(one) if grad is None else grad)
    slopes = []
    for (site, rows), grads_of_site in zip(known, found, strict=True):
        stacked = torch.stack(grads_of_site).to(_wide(output.dtype))
        # What is not finite may be anything, zero as well: the law of the linear part stays exact.
        values = by_row(stacked.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0), rows)
        values = outputs.of_outputs(values.permute(1, 2, 0)).contiguous()
        times = per_pass.get(site.mask.site, 1)
        slopes.append(SiteSlopes(site.mask, site.rate, rows, values, times))
    variance = _total(site.variance() for site in slopes)
    whole = float(variance.sum())
    if whole == 0:
        raise NoSlopesError("the output has no gradient with respect to what dropout keeps")
    if not math.isfinite(whole):
        raise NoSlopesError(f"the squares of its slopes are beyond the range of {variance.dtype}")
    variance = outputs.placed(variance, output[0].numel()).view(output.shape)
    return Linearization(tuple(slopes), variance, replace(outputs, values=totals.detach()))


def _total(parts: Iterable[Tensor]) -> Tensor:
    # A number on the CPU may be added to a tensor on any device.
    return sum(parts, torch.zeros((), device="cpu"))


def row_dim(shape: tuple[int, ...], n_rows: int) -> RowDim | None:
    """Return the dimension that counts rows if the shape alone tells, else None."""
    if n_rows == 1:
        return RowDim(0, shape[0]) if shape else None
    fitting = [dim for dim, size in enumerate(shape) if size % n_rows == 0 and size > 0]
    return RowDim(fitting[0], 1) if len(fitting) == 1 and shape[fitting[0]] == n_rows else None


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Return the type for sums over units: half precision has too few digits."""
    return dtype if dtype == torch.float64 else torch.float32
