"""Rows of one array, however it was saved."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from mcdrop._files.npy import array_names, read_header, rows_of

SHAPES = [(7,), (7, 3), (7, 2, 3), (7, 2, 3, 2)]


def arrays(shape: tuple[int, ...]) -> list[npt.NDArray[Any]]:
    x = np.random.default_rng(0).normal(size=shape)
    return [x, np.asfortranarray(x), x.astype(">f4"), x.T.copy().T, (x * 9).astype(np.int16), x > 0]


def save(path: Path, x: npt.NDArray[Any]) -> None:
    if path.name == "stored.npz":
        np.savez(path, allow_pickle=False, other=np.ones(2), x=x)
    elif path.suffix == ".npz":
        np.savez_compressed(path, allow_pickle=False, other=np.ones(2), x=x)
    else:
        np.save(path, x)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["x.npy", "stored.npz", "compressed.npz"])
def test_rows_in_order_and_in_the_byte_order_of_the_machine(
    name: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    for x in arrays(shape):
        save(tmp_path / name, x)
        assert "x" in array_names(tmp_path / name)
        header = read_header(tmp_path / name, "x")
        assert (header.shape, header.width) == (shape, x[0].size)
        with ExitStack() as stack:
            take = rows_of(tmp_path / name, "x", stack)
            found = [take(0, 3), take(3, 1), take(4, 3)]
        np.testing.assert_array_equal(np.concatenate(found), x)
        assert all(part.dtype.isnative or x.dtype.isnative for part in found)


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([1, None]))
    with pytest.raises(ValueError, match="Python objects, which are not unpickled"):
        read_header(tmp_path / "x.npy", "x")


def test_an_array_that_ends_too_early_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((9, 9)))
    whole = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(whole[:-8])
    with ExitStack() as stack:
        take = rows_of(tmp_path / "x.npy", "x", stack)
        assert take(0, 8).sum() == 72
        with pytest.raises(ValueError, match="the file ends too early"):
            take(8, 1)
