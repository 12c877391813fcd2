"""Uniform numbers from the content of rows."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from scipy import stats

from mcdrop.recalibration._row_uniforms import row_uniforms

ROWS = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(5), 4000))


def test_numbers_are_uniform_and_unrelated_across_rows_and_seeds() -> None:
    draws = np.stack([row_uniforms(ROWS, seed)[:, 0].numpy() for seed in range(5)])
    for each in draws:
        assert stats.kstest(each, "uniform").pvalue > 0.001
        # Lag-one correlation of n uniforms has standard error 1 / sqrt(n).
        assert abs(np.corrcoef(each[1:], each[:-1])[0, 1]) < 4 / np.sqrt(len(each))
    correlations = np.corrcoef(draws) - np.eye(5)
    assert np.abs(correlations).max() < 4 / np.sqrt(draws.shape[1])


def test_rows_next_to_each_other_get_unrelated_numbers() -> None:
    # Rows that differ in the last bits only.
    close = 0.25 + torch.arange(2000).double()[:, None] * 2.0**-50 * torch.ones(1, 4)
    assert stats.kstest(row_uniforms(close, 0)[:, 0].numpy(), "uniform").pvalue > 0.001


def test_a_row_keeps_its_number_wherever_it_stands() -> None:
    order = torch.randperm(len(ROWS), generator=torch.Generator().manual_seed(0))
    assert torch.equal(row_uniforms(ROWS[order], 3), row_uniforms(ROWS, 3)[order])
    assert torch.equal(row_uniforms(ROWS[7:8], 3), row_uniforms(ROWS, 3)[7:8])
    assert torch.equal(row_uniforms(ROWS.float(), 3), row_uniforms(ROWS.float().double(), 3))


def test_the_hash_is_the_one_that_is_stated() -> None:
    row = np.array([0.5, 0.25, 0.25])
    digest = hashlib.blake2b(row.tobytes(), digest_size=8, key=b"12").digest()
    expected = int.from_bytes(digest, "little") / 2**64
    found = row_uniforms(torch.from_numpy(row)[None], 12).item()
    assert 0 <= expected - found < 2**-52


def test_signed_zeros_are_one_number() -> None:
    zeros = torch.tensor([[1.0, 0.0], [1.0, -0.0]])
    assert row_uniforms(zeros, 0).unique().numel() == 1
