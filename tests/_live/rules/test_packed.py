"""Packed sequences: packing and padding commute with batching over passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests._live.rules.calls import AfterDropout
from tests.passes import draw

X = torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(0))
SORTED, UNSORTED = torch.tensor([7, 5, 2]), torch.tensor([5, 7, 2])


def both(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Run vectorized and sequential passes, which have to agree; return them."""
    model = AfterDropout(function)
    found, run = draw(model, x, 16, "vectorized")
    assert run.strategy == "vectorized"
    assert torch.equal(found, draw(model, x, 16, "sequential")[0])
    return found


@pytest.mark.parametrize(
    ("lengths", "options"),
    [(SORTED, {}), (SORTED, {"enforce_sorted": False}), (UNSORTED, {"enforce_sorted": False})],
)
@pytest.mark.parametrize("batch_first", [True, False])
def test_packing_and_padding_gives_the_sequences_back(
    lengths: Tensor, options: dict[str, Any], batch_first: bool
) -> None:
    def there_and_back(x: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=batch_first, **options)
        return pad_packed_sequence(packed, batch_first=batch_first)[0]

    x = X if batch_first else X.transpose(0, 1)
    found = both(there_and_back, x)
    # Neither runs with fewer rows, so masks are drawn for the batch as a whole.
    dropped = both(lambda values: values.view(x.shape), x)
    inside = (torch.arange(7) < lengths.unsqueeze(1)).unsqueeze(-1)
    inside = inside if batch_first else inside.transpose(0, 1)
    torch.testing.assert_close(found, torch.where(inside, dropped, 0))


def test_padding_has_the_value_and_length_that_were_asked_for() -> None:
    def padded(x: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, SORTED, batch_first=True)
        return pad_packed_sequence(packed, True, padding_value=-9.0, total_length=10)[0]

    found = both(padded, X)
    assert found.shape == (16, 3, 10, 4)
    assert bool((found[:, 1, 5:] == -9.0).all())
    assert bool((found[:, :, 7:] == -9.0).all())


def test_lengths_and_batch_sizes_are_those_of_one_pass() -> None:
    seen: list[tuple[list[int], list[int]]] = []

    def sizes(x: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, UNSORTED, batch_first=True, enforce_sorted=False)
        padded, lengths = pad_packed_sequence(packed, batch_first=True)
        seen.append((packed.batch_sizes.tolist(), lengths.tolist()))
        return padded

    both(sizes, X)
    # Rows still running at each of the 7 steps: three up to step 2, two up to step 5, then one.
    assert {tuple(map(tuple, each)) for each in seen} == {((3, 3, 2, 2, 2, 1, 1), (5, 7, 2))}
