"""Which numbers are differentiated, and that the slopes of the outputs follow from theirs."""

from __future__ import annotations

import pytest
import torch

from mcdrop._engine.differentiated import Differentiated

SCORES = torch.tensor([[1.0, 3.0, -1.0, 2.0], [0.0, -2.0, 4.0, 1.0]], dtype=torch.float64)


@pytest.mark.parametrize("most", [None, 4, 9])
def test_outputs_that_are_no_classes_are_taken_as_they_are(most: int | None) -> None:
    found = Differentiated.of(SCORES, most, exclusive=False)
    assert torch.equal(found.values, SCORES)
    assert found.chosen is None
    assert found.placed(SCORES, 4) is SCORES


def test_of_more_outputs_the_largest_are_taken() -> None:
    found = Differentiated.of(SCORES.view(2, 2, 2), 2, exclusive=False)
    assert found.chosen is not None
    assert found.chosen.tolist() == [[1, 3], [2, 3]]
    assert found.values.tolist() == [[3.0, 2.0], [4.0, 1.0]]
    placed = found.placed(found.values.expand(5, 2, 2), 4)
    assert placed[4].tolist() == [[0.0, 3.0, 0.0, 2.0], [0.0, 0.0, 4.0, 1.0]]


@pytest.mark.parametrize("most", [None, 2, 3, 4])
def test_one_class_less_tells_the_slopes_of_all(most: int | None) -> None:
    weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kept = torch.ones(2, 6, dtype=torch.float64, requires_grad=True)
    found = Differentiated.of(SCORES + (kept - 1) @ weight.T, most, exclusive=True)
    assert found.values.shape == (2, (most or 4) - 1)
    grads = [
        torch.autograd.grad(each.sum(), kept, retain_graph=True)[0]
        for each in found.values.unbind(dim=1)
    ]
    slopes = found.of_outputs(torch.stack(grads, dim=2))
    assert found.chosen is not None
    assert found.weights is not None
    # d_c = s_c - sum w s, so its slopes are those of s_c less their weighted mean.
    own = weight[found.chosen].transpose(1, 2)
    expected = own - (own * found.weights.unsqueeze(1)).sum(dim=2, keepdim=True)
    torch.testing.assert_close(slopes, expected)
    torch.testing.assert_close(found.weights, SCORES.gather(1, found.chosen).softmax(dim=1))
