"""Streams of bits: a pure function of seed and key, uniform, and unrelated between keys."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from mcdrop._masks.streams import Key, Streams

CPU = torch.device("cpu")
KEY: Key = (0, 3, 1)
GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DEVICES = ["cpu", pytest.param("cuda", marks=GPU)]


def numpy_state() -> list[int]:
    state: Any = np.random.get_state(legacy=True)
    return list(state[1])


def sfc64(words: tuple[int, int, int], n: int) -> list[int]:
    """Numbers of Doty-Humphrey's SFC64 in Python's integers, after its 12 rounds of warming up."""
    (a, b, c), counter, mask, numbers = words, 1, 2**64 - 1, []
    for _ in range(12 + n):
        number = (a + b + counter) & mask
        counter += 1
        a, b = b ^ (b >> 11), (c + (c << 3)) & mask
        c = (((c << 24) | (c >> 40)) + number) & mask
        numbers.append(number)
    return numbers[12:]


@pytest.mark.parametrize("seed", [0, 7, -1, 2**63, 2**200 + 1])
def test_bits_are_sfc64_started_with_a_hash_of_seed_and_key(seed: int) -> None:
    # Seeds are eight bytes, or as many as hold the number and its sign, least significant first.
    n_bytes = 26 if seed == 2**200 + 1 else 9 if seed == 2**63 else 8
    named = (seed % 2 ** (8 * n_bytes)).to_bytes(n_bytes, "little") + struct.pack("<3q", *KEY)
    digest = hashlib.blake2b(named, digest_size=24).digest()
    words = [int.from_bytes(digest[i : i + 8], "little") for i in (0, 8, 16)]
    numbers = sfc64((words[0], words[1], words[2]), 3)
    lanes = [number >> shift & 0xFFFF for number in numbers for shift in (0, 16, 32, 48)]
    found = Streams(seed, CPU).lanes(11, 16, KEY).to(torch.int64) & 0xFFFF
    assert found.tolist() == lanes[:11]
    # torch's generators start from 63 bits, and those of others from 62.
    streams = Streams(seed, CPU)
    assert streams.generator(KEY, CPU).initial_seed() == words[0] >> 1
    assert streams.integer(KEY) == words[0] >> 2


@pytest.mark.parametrize("bits", [16, 32])
def test_the_same_key_gives_the_same_bits_whatever_was_drawn_before(bits: int) -> None:
    streams = Streams(7, CPU)
    first = streams.lanes(101, bits, KEY)
    streams.lanes(13, bits, (5, 0, 0))
    streams.generator(KEY, CPU)
    assert torch.equal(streams.lanes(101, bits, KEY), first)
    assert torch.equal(Streams(7, CPU).lanes(101, bits, KEY), first)


@pytest.mark.parametrize("bits", [16, 32])
def test_on_the_cpu_fewer_lanes_are_a_prefix_of_more(bits: int) -> None:
    streams = Streams(7, CPU)
    whole = streams.lanes(1000, bits, KEY)
    for n in (1, 3, 4, 5, 999):
        assert torch.equal(streams.lanes(n, bits, KEY), whole[:n])


@pytest.mark.parametrize("other", [(1, 3, 1), (0, 4, 1), (0, 3, 2), (0, 3, -1), (3, 0, 1)])
def test_streams_of_different_keys_are_uncorrelated(other: Key) -> None:
    streams, n = Streams(7, CPU), 100_000
    a, b = (streams.lanes(n, 16, key).double() for key in (KEY, other))
    correlation = torch.corrcoef(torch.stack([a, b]))[0, 1].item()
    assert abs(correlation) < 4 / n**0.5


def test_seeds_are_unrelated_also_where_they_are_neighbors() -> None:
    n = 100_000
    a, b = (Streams(seed, CPU).lanes(n, 16, KEY).double() for seed in (7, 8))
    assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1].item()) < 4 / n**0.5


@pytest.mark.parametrize("bits", [16, 32])
def test_every_lane_of_a_word_is_uniform_up_to_its_sign_bit(bits: int) -> None:
    per_word = 64 // bits
    lanes = Streams(7, CPU).lanes(per_word * 40_000, bits, KEY).view(-1, per_word).numpy()
    for lane in range(per_word):
        counts, _ = np.histogram(
            lanes[:, lane], bins=32, range=(-(2 ** (bits - 1)), 2 ** (bits - 1))
        )
        assert stats.chisquare(counts).pvalue > 1e-4, lane


def test_generators_are_named_by_seed_and_key() -> None:
    streams = Streams(7, CPU)

    def numbers(generator: torch.Generator) -> torch.Tensor:
        return torch.rand(100, generator=generator)

    first = numbers(streams.generator(KEY, CPU))
    assert torch.equal(numbers(streams.generator(KEY, CPU)), first)
    assert not torch.equal(numbers(streams.generator((0, 3, 2), CPU)), first)
    assert not torch.equal(numbers(Streams(8, CPU).generator(KEY, CPU)), first)


def test_random_states_of_the_caller_are_left_alone() -> None:
    before = torch.get_rng_state(), numpy_state()
    streams = Streams(7, CPU)
    streams.lanes(100, 16, KEY)
    torch.rand(3, generator=streams.generator(KEY, CPU))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert numpy_state() == before[1]


def on_device(seed: int, name: str) -> Streams:
    """Streams as on a device; "cpu" stands for one whose generator is torch's on the CPU."""
    streams = Streams(seed, torch.device(name))
    streams._generator = torch.Generator(name)
    return streams


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bits", [16, 32])
def test_on_a_device_every_lane_is_uniform_up_to_its_sign_bit(device: str, bits: int) -> None:
    per_word = 64 // bits
    lanes = on_device(7, device).lanes(per_word * 40_000, bits, KEY).view(-1, per_word).cpu()
    for lane in range(per_word):
        counts, _ = np.histogram(
            lanes[:, lane].numpy(), bins=32, range=(-(2 ** (bits - 1)), 2 ** (bits - 1))
        )
        assert stats.chisquare(counts).pvalue > 1e-4, lane


@pytest.mark.parametrize("device", DEVICES)
def test_on_a_device_bits_are_named_by_seed_and_key(device: str) -> None:
    streams = on_device(7, device)
    first = streams.lanes(101, 16, KEY).clone()
    assert first.shape == (101,)
    assert not torch.equal(streams.lanes(101, 16, (0, 3, 2)), first)
    assert torch.equal(streams.lanes(101, 16, KEY), first)
    assert not torch.equal(on_device(8, device).lanes(101, 16, KEY), first)
    with pytest.raises(RuntimeError, match="Streams.array: bits are drawn on a device"):
        streams.array(101, 16, KEY)
