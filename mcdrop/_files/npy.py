"""Rows of one array of a .npy or .npz file, read a few at a time; nothing is unpickled."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from mcdrop._disk.archives import fault_of_size

__all__ = ["Header", "Take", "array_names", "read_header", "rows_of"]

Take: TypeAlias = Callable[[int, int], npt.NDArray[Any]]
"""Given the first row and a number of rows, called in order, returns them."""


@dataclass(frozen=True)
class Header:
    """What the head of an array says of it.

    Attributes:
        shape: Its shape, rows first.
        dtype: Its dtype, without Python objects.
        by_columns: Whether rows lie scattered, as in the transpose of a C array.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    by_columns: bool

    @property
    def width(self) -> int:
        """Numbers of a row."""
        return math.prod(self.shape[1:])

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.width * self.dtype.itemsize


def array_names(path: Path) -> list[str]:
    """Return the names of the arrays of an archive; that of a .npy file is "x"."""
    if path.suffix.lower() == ".npy":
        return ["x"]
    with zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def read_header(path: Path, name: str) -> Header:
    """Read the head of an array.

    Raises:
        ValueError: If it holds Python objects, or the file is damaged or shorter than it says.
    """
    with ExitStack() as stack:
        file = _opened(path, name, stack)
        header = _header(file)
        left = _size(path, name) - file.tell()
    wanted = header.shape[0] * header.row_bytes if header.shape else header.dtype.itemsize
    if left < wanted:
        raise ValueError(f"{left:,} of {wanted:,} bytes: the file ends too early")
    return header


def rows_of(path: Path, name: str, stack: ExitStack) -> Take:
    """Open an array to take its rows in order.

    An array saved column by column is read by seeking; if it is compressed too, it has to be read
    as a whole.

    Args:
        path: A .npy or .npz file.
        name: Name of the array.
        stack: Closes what is opened.

    Raises:
        ValueError: If the file is damaged.
    """
    file = _opened(path, name, stack)
    header = _header(file)
    if not header.by_columns:
        return lambda _, count: _in_order(file, header, count)
    if path.suffix.lower() != ".npy":
        archive = zipfile.ZipFile(path)
        stack.enter_context(archive)
        info = archive.getinfo(f"{name}.npy")
        if info.compress_type != zipfile.ZIP_STORED:
            if fault := fault_of_size(info.file_size, path.stat().st_size):
                raise ValueError(f"{fault}, to be read as a whole")
            whole = np.lib.format.read_array(_opened(path, name, stack), allow_pickle=False)
            return lambda first, count: whole[first : first + count]
        file = stack.enter_context(path.open("rb"))
        file.seek(_data_offset(file, info))
        _header(file)
    begin = file.tell()
    return lambda first, count: _by_columns(file, begin, header, first, count)


def _opened(path: Path, name: str, stack: ExitStack) -> BinaryIO:
    if path.suffix.lower() == ".npy":
        return stack.enter_context(path.open("rb"))
    # Every array has a handle of its own, so that they can be read side by side.
    archive = stack.enter_context(zipfile.ZipFile(path))
    return cast(BinaryIO, stack.enter_context(archive.open(f"{name}.npy")))


def _size(path: Path, name: str) -> int:
    """Return the bytes of an array with its head, inflated."""
    if path.suffix.lower() == ".npy":
        return path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        return archive.getinfo(f"{name}.npy").file_size


def _data_offset(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Return where a member begins: after a head of 30 bytes, its name and extra fields."""
    file.seek(info.header_offset + 26)
    n_name, n_extra = np.frombuffer(file.read(4), "<u2").tolist()
    return int(info.header_offset + 30 + n_name + n_extra)


def _header(file: BinaryIO) -> Header:
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"format {version[0]}.{version[1]}, not 1.0 or 2.0")
    shape, by_columns, dtype = readers[version](file)
    if dtype.hasobject:
        raise ValueError("Python objects, which are not unpickled")
    return Header(shape, dtype, by_columns and len(shape) > 1)


def _in_order(file: BinaryIO, header: Header, count: int) -> npt.NDArray[Any]:
    """Read the next rows, in the byte order of the machine."""
    array = _numbers(file, header, count * header.width)
    return array.reshape(count, *header.shape[1:])


def _by_columns(
    file: BinaryIO, begin: int, header: Header, first: int, count: int
) -> npt.NDArray[Any]:
    """Read rows from an array whose columns lie one after the other."""
    columns = np.empty((header.width, count), header.dtype.newbyteorder("="))
    for column in range(header.width):
        file.seek(begin + (column * header.shape[0] + first) * header.dtype.itemsize)
        columns[column] = _numbers(file, header, count)
    return np.ascontiguousarray(columns.T.reshape((count, *header.shape[1:]), order="F"))


def _numbers(file: BinaryIO, header: Header, count: int) -> npt.NDArray[Any]:
    wanted = count * header.dtype.itemsize
    data = file.read(wanted)
    if len(data) < wanted:
        raise ValueError("the file ends too early")
    return np.frombuffer(data, header.dtype).astype(header.dtype.newbyteorder("="), copy=False)
