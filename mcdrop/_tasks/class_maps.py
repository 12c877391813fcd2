"""Classes of large outputs, such as the pixels of a segmentation: all statistics tile by tile.

A tile takes all scores of its places at once, so that what is computed from them stays in the
cache. Passes wait, as they came, until a stratum is complete. On a grid, fewer than two strata are
needed as a whole: these wait for the end, and nothing else is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from mcdrop._engine.groups import PassGroups
from mcdrop._masks.stratified import STRATUM
from mcdrop._tasks.class_tiles import ClassTile, TwoClassTile
from mcdrop._tasks.likelihoods import OutputType
from mcdrop.prediction.classification import ClassificationPrediction

__all__ = ["ClassMaps"]

# Numbers of a pass in a tile: a few hundred operators on each take longer than their calls.
_TILE = 2**15
# With fewer places, operators that broadcast over classes take longer; a tile of so many classes
# that it holds one place only has none of these.
_FEWEST_PLACES, _MANY_CLASSES = 64, 2**12

# Fields of a prediction that have a number for each class; others have one for each place.
_BY_CLASS = frozenset(("probs", "probs_std", "mcse", "probs_std_mcse"))


@dataclass(frozen=True)
class _Tile:
    """Some rows, and some of the places that each of them has.

    Attributes:
        rows: Numbers of the rows within the batch.
        places: Numbers of the places within a row.
        seen: What has been seen of them; places of the first row come first.
    """

    rows: slice
    places: slice
    seen: ClassTile

    def put(self, values: Tensor, whole: Tensor) -> None:
        """Write a field, (M) or (C, M), to that of all rows and places, (n, places) or (n, C, ...).

        Args:
            values: Of these places.
            whole: Of all places.
        """
        values = values.unflatten(-1, (self.rows.stop - self.rows.start, -1))
        whole[self.rows, ..., self.places] = values.movedim(-2, 0)


class ClassMaps:
    """Accumulates scores of classes; see `ClassificationAccumulator`.

    Args:
        groups: Groups of passes for the jackknife.
        output_type: What the scores are: "logits", "probs" or "log_probs".
        dtype: Type of the results and of what is computed for every pass.
        two_class: Whether every score is the logit of class 1 of two.
    """

    def __init__(
        self,
        groups: PassGroups,
        output_type: OutputType,
        dtype: torch.dtype,
        *,
        two_class: bool = False,
    ) -> None:
        self._groups = groups
        self._output_type = output_type
        self._dtype = dtype
        self._two_class = two_class
        self._count = 0
        self._shape: tuple[int, ...] = ()
        self._waiting: list[Tensor] = []
        self._tiles: list[_Tile] = []

    def update(self, scores: Tensor) -> None:
        """Add passes, (s, n, C, ...), or (s, n, ...) of two classes."""
        self._count += len(scores)
        if self._two_class:
            scores = scores.unsqueeze(2)
        self._shape = tuple(scores.shape[1:])
        self._waiting.append(scores.flatten(3) if scores.ndim > 3 else scores.unsqueeze(3))
        if not self._groups.on_grid:
            self._take_strata()

    def rows(self, rows: Tensor) -> Self:
        """Return what has been accumulated of some rows.

        Args:
            rows: Their numbers within the batch.
        """
        part = copy(self)
        part._shape = (len(rows), *self._shape[1:])
        part._waiting = [scores[:, rows] for scores in self._waiting]
        starts = sorted({tile.rows.start for tile in self._tiles})
        if starts:
            part._tiles = list(self._tiles_of(rows.cpu(), torch.tensor(starts, device="cpu")))
        return part

    def _tiles_of(self, rows: Tensor, starts: Tensor) -> Iterator[_Tile]:
        """Yield tiles for some rows: one for successive ones that share a tile of all rows.

        Args:
            rows: Their numbers within the batch.
            starts: The first rows of tiles, in order.
        """
        shared = torch.searchsorted(starts, rows, right=True) - 1
        begin = 0
        for which, count in zip(*torch.unique_consecutive(shared, return_counts=True), strict=True):
            end, start = begin + int(count), int(starts[which])
            for tile in self._tiles:
                if tile.rows.start == start:
                    numbers = torch.arange(tile.places.stop - tile.places.start, device="cpu")
                    places = (rows[begin:end, None] - start) * len(numbers) + numbers
                    seen = tile.seen.part(places.flatten())
                    yield _Tile(slice(begin, end), tile.places, seen)
            begin = end

    def prediction(self) -> ClassificationPrediction:
        """Return the prediction for the batch."""
        n_rows, n_scores, *places = self._shape
        by_class = n_rows, 2 if self._two_class else n_scores, prod(places)
        fields: dict[str, Tensor] = {}
        for tile in self._finished():
            for name, values in tile.seen.result().items():
                if name not in fields:
                    shape = by_class if name in _BY_CLASS else by_class[::2]
                    fields[name] = values.new_empty(shape, dtype=self._dtype)
                tile.put(values, fields[name])
        whole: dict[str, Any] = {
            name: x.unflatten(-1, places) if places else x.squeeze(-1) for name, x in fields.items()
        }
        return ClassificationPrediction(**whole, n_samples=self._count)

    def _finished(self) -> Iterator[_Tile]:
        """Yield the tiles with all passes taken."""
        if not self._groups.on_grid:
            self._take(self._waiting)
            self._waiting = []
            yield from self._tiles
            return
        for tile in self._divided():
            tile.seen.update(self._scores(tile, self._waiting))
            yield tile

    def _take_strata(self) -> None:
        """Let the tiles take all complete strata among the passes that wait.

        What is summed together does not depend on the sizes of chunks.
        """
        together: list[Tensor] = []
        missing = STRATUM
        for chunk in self._waiting:
            begin = 0
            while len(chunk) - begin >= missing:
                self._take([*together, chunk[begin : begin + missing]])
                begin, missing, together = begin + missing, STRATUM, []
            if begin < len(chunk):
                # A part alone would keep the memory of the whole chunk.
                together.append(chunk[begin:].clone() if begin else chunk)
                missing -= len(chunk) - begin
        self._waiting = together

    def _take(self, chunks: Sequence[Tensor]) -> None:
        """Let every tile take some passes."""
        if not chunks:
            return
        if not self._tiles:
            self._tiles = list(self._divided())
        for tile in self._tiles:
            tile.seen.update(self._scores(tile, chunks))

    def _scores(self, tile: _Tile, chunks: Sequence[Tensor]) -> Tensor:
        """Return the scores at the places of a tile, (s, C, M)."""
        parts = [chunk[:, tile.rows, :, tile.places] for chunk in chunks]
        # New memory, which the tile overwrites.
        return torch.cat([part.movedim(1, 2) for part in parts]).flatten(2).to(self._dtype)

    def _divided(self) -> Iterator[_Tile]:
        """Yield new tiles, row by row."""
        n_rows, n_scores, *rest = self._shape
        n_places = prod(rest)
        fewest = _FEWEST_PLACES if n_scores < _MANY_CLASSES else 1
        most = max(fewest, _TILE // n_scores)
        # On a grid no sums are kept that would have to be limited.
        beside = 0 if self._groups.on_grid else n_rows * n_scores * n_places
        make = TwoClassTile if self._two_class else ClassTile
        for rows in _slices(n_rows, max(1, most // n_places)):
            for places in _slices(n_places, most if most < n_places else n_places):
                yield _Tile(rows, places, make(self._groups, self._output_type, beside))


def _slices(length: int, step: int) -> Iterator[slice]:
    return (slice(first, min(first + step, length)) for first in range(0, length, step))
