"""The law of the linear part: exact for few units, of the right cumulants for many."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mcdrop._engine.linear_law import LinearLaw
from mcdrop._engine.site_slopes import SiteSlopes
from mcdrop._masks.mask import DropoutMask
from mcdrop._masks.rows import RowDim
from mcdrop._masks.source import MaskSource, Span, effective_rate

CPU = torch.device("cpu")


def site(values: Tensor, p: float, number: int = 0) -> SiteSlopes:
    source = MaskSource(3, CPU, stratified=True)
    mask = DropoutMask(source, p, tuple(values.shape[:2]), number, Span(), stacked=True, rows=None)
    return SiteSlopes(mask, effective_rate(p), RowDim(0, 1), values)


def law(sites: Sequence[SiteSlopes], seed: int = 3) -> LinearLaw:
    return LinearLaw(sites, MaskSource(seed, CPU, stratified=True))


def slopes(n: int, units: int, outputs: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, units, outputs, generator=generator, dtype=torch.float64)


def covariances(sites: Sequence[SiteSlopes]) -> Tensor:
    """Var[m] g^T g, summed over sites."""
    return torch.stack(
        [s.rate / (1 - s.rate) * s.values.mT @ s.values for s in sites], dim=0
    ).sum(dim=0)  # fmt: skip


def test_few_units_have_masks_of_their_own() -> None:
    values = slopes(3, 5, 2)
    drawn = law([site(values, 0.25)]).draw(0, 64)
    # l = g . (m - 1) with m in {0, 4/3}: the numbers of 2^5 masks and no others.
    bits = torch.cartesian_prod(*5 * [torch.tensor([0.0, 1.0], dtype=torch.float64)])
    possible = torch.einsum("mu,nuk->nmk", bits / 0.75 - 1, values)
    for row in range(3):
        distances = torch.cdist(drawn[:, row], possible[row]).amin(dim=1)
        assert float(distances.max()) < 1e-6


def test_many_units_have_their_covariance_and_skewness() -> None:
    # Positive slopes at a small rate: skewed, and all units of about the same weight.
    first, second = 1 + 0.2 * slopes(2, 80, 3), 1 + 0.2 * slopes(2, 70, 3, seed=1)
    sites = [site(first, 0.05), site(second, 0.05, 1), site(slopes(2, 90, 3, seed=2) / 9, 0.5, 2)]
    drawn = law(sites).draw(0, 200 * 1024)
    expected = covariances(sites)
    for row in range(2):
        scale = expected[row].diagonal().sqrt()
        off = torch.cov(drawn[:, row].T) - expected[row]
        assert float((off.abs() / scale.outer(scale)).max()) < 0.01
        assert float((drawn[:, row].mean(dim=0).abs() / scale).max()) < 1e-3
    # The third cumulant of a sum is the sum of third cumulants: those of one multiplier are
    # p (2 p - 1) / (1 - p)^2.
    third = torch.zeros(2, 3, dtype=torch.float64)
    for each in sites:
        p = each.rate
        third += p * (2 * p - 1) / (1 - p) ** 2 * each.values.pow(3).sum(dim=1)
    scale = expected.diagonal(dim1=1, dim2=2).pow(1.5)
    found = drawn.pow(3).mean(dim=0) / scale
    # Only the first output's is matched in full: others mix several normal numbers, of which the
    # cumulants of products are left out.
    torch.testing.assert_close(found[:, 0], third[:, 0] / scale[:, 0], rtol=0, atol=0.02)
    torch.testing.assert_close(found, third / scale, rtol=0, atol=0.08)
    # The test could tell: these sums are clearly skewed.
    assert float((third / scale).amax()) < -0.2


def test_a_draw_depends_on_its_number_alone() -> None:
    sites = [site(slopes(4, 150, 3), 0.2)]
    whole = law(sites).draw(0, 2048)
    torch.testing.assert_close(law(sites).draw(1000, 80), whole[1000:1080])
    assert not torch.allclose(law(sites, seed=4).draw(0, 64), whole[:64])
    assert not torch.allclose(whole[1024:1088], whole[:64])


def test_a_row_does_not_depend_on_the_others() -> None:
    values = slopes(4, 150, 3)
    whole = law([site(values, 0.2)]).draw(0, 128)
    alone = law([site(values[2:3], 0.2)]).draw(0, 128)
    torch.testing.assert_close(alone[:, 0], whole[:, 2])


def test_strata_are_balanced() -> None:
    values = slopes(2, 400, 3)
    strata = law([site(values, 0.25)]).draw(0, 1024).unflatten(0, (64, 16)).mean(dim=1)
    scale = covariances([site(values, 0.25)]).diagonal(dim1=1, dim2=2).sqrt()
    # Means over 16 independent draws would deviate by a quarter of it.
    assert float((strata.std(dim=0) / scale).max()) < 0.05


def test_outputs_without_slopes_or_that_agree_have_a_law_as_well() -> None:
    values = slopes(2, 200, 3)
    values[0] = 0
    values[1, :, 2] = values[1, :, 1]
    drawn = law([site(values, 0.3)]).draw(0, 256)
    assert bool(drawn.isfinite().all())
    assert float(drawn[:, 0].abs().max()) < 1e-12
    scale = float(drawn[:, 1, 1].std())
    assert float((drawn[:, 1, 1] - drawn[:, 1, 2]).abs().max()) < 0.02 * scale


def test_single_precision_is_kept() -> None:
    drawn = law([site(slopes(2, 200, 3).float(), 0.3)]).draw(0, 64)
    assert drawn.dtype == torch.float32
