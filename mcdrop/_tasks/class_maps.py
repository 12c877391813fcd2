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
from mcdrop._tasks.class_tiles import ClassTile
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
        part._tiles = []
        for place, number in enumerate(rows.tolist()):
            here = slice(place, place + 1)
            for tile in self._tiles:
                if tile.rows.start <= number < tile.rows.stop:
                    n_places = tile.places.stop - tile.places.start
                    begin = (number - tile.rows.start) * n_places
                    some = torch.arange(begin, begin + n_places, device="cpu")
                    part._tiles.append(_Tile(here, tile.places, tile.seen.part(some)))
        return part

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
                together.append(chunk[begin:])
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
        scores = torch.cat([part.movedim(1, 2) for part in parts]).flatten(2).to(self._dtype)
        return torch.cat([torch.zeros_like(scores), scores], dim=1) if self._two_class else scores

    def _divided(self) -> Iterator[_Tile]:
        """Yield new tiles, row by row."""
        n_rows, n_scores, *rest = self._shape
        n_classes, n_places = 2 if self._two_class else n_scores, prod(rest)
        fewest = _FEWEST_PLACES if n_classes < _MANY_CLASSES else 1
        most = max(fewest, _TILE // n_classes)
        # On a grid no sums are kept that would have to be limited.
        beside = 0 if self._groups.on_grid else n_rows * n_classes * n_places
        for rows in _slices(n_rows, max(1, most // n_places)):
            for places in _slices(n_places, most if most < n_places else n_places):
                yield _Tile(rows, places, ClassTile(self._groups, self._output_type, beside))


def _slices(length: int, step: int) -> Iterator[slice]:
    return (slice(first, min(first + step, length)) for first in range(0, length, step))
