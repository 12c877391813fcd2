"""Random bits once drawn: lanes and patterns say the same in every way they are read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mcdrop._masks import numba_kernels
from mcdrop._masks.drawn import Drawn, DropPatterns, Lanes, times
from mcdrop._masks.numba_kernels import Compiled
from tests._masks.plain_kernels import PLAIN

# Pass s of a stratum drops a unit if bit s is set: unit 0 in pass 0, unit 1 in passes 1 and 15,
# unit 2 never; in the second stratum unit 2 alone, always. Set bit 15 is the sign of int16.
PATTERNS = torch.tensor([[1, 2 - 2**15, 0], [0, 0, -1]], dtype=torch.int16)


def test_lanes_below_the_threshold_are_dropped() -> None:
    lanes = Lanes(torch.tensor([[-5, 0, 4], [7, -1, 0]], dtype=torch.int16), 0)
    keep = np.empty((2, 3), dtype=np.bool_)
    lanes.keep(0, keep)
    assert keep.tolist() == [[False, True, True], [True, False, True]]
    lanes.keep(1, keep[:1])
    assert keep[0].tolist() == [True, False, True]


@pytest.mark.parametrize("first", [0, 1, 14])
def test_bits_of_a_pattern_say_which_passes_drop_a_unit(first: int) -> None:
    keep = np.empty((18, 3), dtype=np.bool_)
    DropPatterns(PATTERNS).keep(first, keep)
    dropped = [
        {0: [0], 1: [1], 15: [1]}.get(number, []) if number < 16 else [2]
        for number in range(first, first + 18)
    ]
    assert [np.flatnonzero(~row).tolist() for row in keep] == dropped


@pytest.mark.parametrize(
    "kernels", [None, PLAIN, numba_kernels.load()], ids=["NumPy", "plain", "Numba"]
)
@pytest.mark.parametrize("same_for_all_passes", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("first", [0, 3])
@pytest.mark.parametrize("kind", ["lanes 16", "lanes 32", "patterns"])
def test_products_are_those_of_the_mask(
    kind: str,
    first: int,
    dtype: type[np.floating],
    same_for_all_passes: bool,
    kernels: Compiled | None,
) -> None:
    generator = torch.Generator().manual_seed(0)
    drawn: Drawn = DropPatterns(PATTERNS)
    if kind != "patterns":
        integers = torch.int16 if kind == "lanes 16" else torch.int32
        drawn = Lanes(torch.randint(-9, 9, (20, 3), generator=generator, dtype=integers), 2)
    keep = np.empty((11, 3), dtype=np.bool_)
    drawn.keep(first, keep)
    x = np.random.default_rng(0).normal(size=(1 if same_for_all_passes else 11, 3)).astype(dtype)
    out = np.empty((11, 3), dtype=dtype)
    times(drawn, first, x, dtype(1.25), out, kernels)
    np.testing.assert_array_equal(out, np.where(keep, x * dtype(1.25), dtype(0)))
