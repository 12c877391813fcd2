"""Kept matrices have the type and the device of what they multiply."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mcdrop._engine.matrices import KeptMatrix


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("row", [(), (3,), (2, 5)])
def test_the_first_dimension_is_multiplied(dtype: torch.dtype, row: tuple[int, ...]) -> None:
    entries = np.array([[1.0, 2.0], [0.0, -1.0], [4.0, 0.5]])
    values = torch.randn(2, *row, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = KeptMatrix(entries).times(values)
    expected = [sum(w * v for w, v in zip(weights, values, strict=True)) for weights in entries]
    assert found.dtype == dtype
    torch.testing.assert_close(found, torch.stack(expected))


def test_values_need_not_be_contiguous() -> None:
    values = torch.arange(24.0).view(4, 3, 2).transpose(0, 1)
    found = KeptMatrix(np.ones((1, 3))).times(values)
    assert torch.equal(found, values.sum(dim=0, keepdim=True))


def test_a_copy_is_made_once_also_inside_inference_mode() -> None:
    matrix = KeptMatrix(np.eye(2))
    with torch.inference_mode():
        first = matrix.like(torch.zeros(1))
    assert matrix.like(torch.zeros(5)) is first
    assert not first.is_inference()
    assert matrix.like(torch.zeros(1, device="meta")).device.type == "meta"
