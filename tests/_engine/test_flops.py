"""Floating point operations, counted by hand: two for each multiplication with its addition."""

from __future__ import annotations

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mcdrop
from mcdrop._engine.flops import FlopCounter

X = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))


def test_sites_tell_the_share_of_work_before_them() -> None:
    model = nn.Sequential(
        nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 6), nn.Dropout(0.0), nn.Linear(6, 2)
    )
    sites = mcdrop.wrap(model).sites(X)
    # Multiplications per row: 4 * 6 + 6 * 6 + 6 * 2 = 72.
    assert [site.flops_before for site in sites] == pytest.approx([24 / 72, 60 / 72])
    assert [site.fired for site in sites] == [True, False]


@pytest.mark.parametrize("rnn", [nn.LSTM, nn.GRU])
def test_recurrent_layers_count_as_work(rnn: type[nn.LSTM]) -> None:
    (site,) = mcdrop.wrap(rnn(4, 4, num_layers=2, dropout=0.5)).sites(torch.randn(5, 3, 4))
    assert site.flops_before == pytest.approx(0.5)


def test_products_and_convolutions_are_counted_and_their_results_left_alone() -> None:
    weight = torch.ones(5, 4)
    with FlopCounter() as counter:
        assert torch.equal(X @ weight.t(), F.linear(X, weight))
        assert counter.total == 2 * (2 * 8 * 4 * 5)
        F.linear(X, weight, torch.ones(5))
        assert counter.total == 3 * (2 * 8 * 4 * 5)
        # 6 channels of a 3 x 3 kernel over 2 channels, at 4 x 4 places of 3 rows.
        F.conv2d(torch.ones(3, 2, 6, 6), torch.ones(6, 2, 3, 3))
    assert counter.total == 3 * (2 * 8 * 4 * 5) + 2 * (3 * 6 * 16) * (2 * 9)


def test_what_is_no_product_is_free() -> None:
    with FlopCounter() as counter:
        torch.relu(X + 1).sum().sqrt()
    assert counter.total == 0


def test_work_of_other_threads_and_after_the_block_is_not_counted() -> None:
    with FlopCounter() as counter:
        thread = threading.Thread(target=lambda: X @ X.t())
        thread.start()
        thread.join()
    _ = X @ X.t()
    assert counter.total == 0


def test_the_share_before_the_last_layer_of_a_model_without_products_is_zero() -> None:
    (site,) = mcdrop.wrap(nn.Sequential(nn.ReLU(), nn.Dropout(0.5))).sites(X)
    assert site.flops_before == 0.0
