"""A uniform number for every row that depends on the row and a seed, not on its place in a call."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor


def row_uniforms(values: Tensor, seed: int) -> Tensor:
    """Return U in [0, 1) for each row of `values`, (N, C), as (N, 1) float64 on the CPU.

    U is the BLAKE2b hash of the row's float64 bytes, keyed with the seed, over 2^64. Rows with
    the same values share U.
    """
    # Adding 0 turns -0.0, whose bytes differ, into 0.0; little-endian on every machine.
    rows = np.ascontiguousarray(values.detach().double().cpu().numpy() + 0.0, dtype="<f8")
    key = str(seed).encode()[: hashlib.blake2b.MAX_KEY_SIZE]
    digests = b"".join(
        hashlib.blake2b(row.tobytes(), digest_size=8, key=key).digest() for row in rows
    )
    # The top 53 bits, as many as float64 holds: all 64 could round up to 1.
    draws = (np.frombuffer(digests, dtype="<u8") >> np.uint64(11)) * 2.0**-53
    return torch.from_numpy(draws).reshape(-1, 1)
