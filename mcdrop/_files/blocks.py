"""Rows as they come from a file, regrouped into blocks of the size that is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Block", "RowReader", "RowSource"]


@dataclass(frozen=True)
class Block:
    """Consecutive rows of a file.

    Attributes:
        first: Number of the first row, from 0.
        inputs: What the model takes, (n, ...).
        ids: Arrow table of the id columns, n rows; without columns if there are none.
    """

    first: int
    inputs: npt.NDArray[Any]
    ids: Any

    def __len__(self) -> int:
        """Return the number of rows, n."""
        return len(self.inputs)

    @property
    def end(self) -> int:
        """Number after the last row."""
        return self.first + len(self)

    def digest(self) -> str:
        """Return a hash of inputs and ids, by which the rows are known again."""
        found = hashlib.blake2b(digest_size=16)
        found.update(f"{self.inputs.dtype.str} {self.inputs.shape}".encode())
        found.update(np.ascontiguousarray(self.inputs).data)
        for name in self.ids.column_names:
            found.update(repr((name, self.ids[name].to_pylist())).encode())
        return found.hexdigest()

    def rows(self, begin: int, end: int) -> Block:
        """Return some of the rows, numbered within the block."""
        ids = self.ids.slice(begin, end - begin)
        return Block(self.first + begin, self.inputs[begin:end], ids)


class RowSource(Protocol):
    """A file of rows."""

    @property
    def n_rows(self) -> int | None:
        """Number of rows, if the file says it."""

    @property
    def width(self) -> int:
        """Numbers that a row of inputs holds."""

    @property
    def id_schema(self) -> Any:
        """Arrow schema of the ids."""

    def pieces(self) -> Iterator[Block]:
        """Yield all rows in order, in pieces of any size."""

    def place(self, row: int) -> str:
        """Return where a row lies, for errors."""

    def check(self, block: Block) -> None:
        """Refuse inputs that are not finite."""


class RowReader:
    """Takes blocks from a source, one after the other.

    Args:
        source: The file.
    """

    def __init__(self, source: RowSource) -> None:
        self._pieces = source.pieces()
        self._held: list[Block] = []

    def take(self, n_rows: int) -> Block | None:
        """Return the next rows, fewer at the end of the file, and None after it."""
        self._fill(n_rows)
        return self._taken(n_rows)

    def take_block(self, n_rows: int) -> Block | None:
        """Return the next rows, or one more where a single row would be left over.

        Programs that were exported for any number of rows often do not admit a single one.
        """
        self._fill(n_rows + 2)
        return self._taken(n_rows if self._available() >= n_rows + 2 else n_rows + 1)

    def _available(self) -> int:
        return sum(map(len, self._held))

    def _fill(self, n_rows: int) -> None:
        while self._available() < n_rows:
            piece = next(self._pieces, None)
            if piece is None:
                return
            if len(piece):
                self._held.append(piece)

    def _taken(self, n_rows: int) -> Block | None:
        parts: list[Block] = []
        wanted = min(n_rows, self._available())
        if not wanted:
            return None
        while wanted:
            head = self._held.pop(0)
            if len(head) > wanted:
                self._held.insert(0, head.rows(wanted, len(head)))
                head = head.rows(0, wanted)
            parts.append(head)
            wanted -= len(head)
        return parts[0] if len(parts) == 1 else _joined(parts)


def _joined(parts: list[Block]) -> Block:
    import pyarrow as pa

    inputs = np.concatenate([part.inputs for part in parts])
    return Block(parts[0].first, inputs, pa.concat_tables([part.ids for part in parts]))
