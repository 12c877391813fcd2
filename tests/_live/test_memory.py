"""Where the memory of a tensor lies."""

from __future__ import annotations

import torch
from torch import nn

from mcdrop._live.memory import address


def test_views_begin_where_their_tensor_does() -> None:
    x = torch.zeros(4, 3)
    assert address(x) == address(x[1:]) == x.data_ptr()
    assert address(x.clone()) != address(x)


def test_what_has_no_memory_lies_nowhere() -> None:
    assert address(torch.eye(3).to_sparse()) == 0
    assert address(nn.LazyLinear(2).weight) == 0
    assert address(3.0) == 0
