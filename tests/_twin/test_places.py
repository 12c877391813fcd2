"""Where tensors lie in memory, and where in the user's code something happens."""

from __future__ import annotations

import torch

from mcdrop._twin.places import address, source_line


def test_the_line_is_that_of_the_innermost_code_of_the_user() -> None:
    assert source_line().startswith("test_places.py:")


def test_views_share_an_address_and_other_values_have_none() -> None:
    x = torch.ones(4, 2)
    assert address(x) == address(x[1:]) == x.untyped_storage().data_ptr() != 0
    assert address(torch.ones(2).to_sparse()) == address(None) == 0
