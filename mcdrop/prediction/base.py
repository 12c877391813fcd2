"""What all predictions share: rows, devices, NumPy, pandas and files."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mcdrop._disk.archives import fault_of_tensors
from mcdrop._disk.atomic import writing
from mcdrop._disk.faults import UNREADABLE
from mcdrop._engine.record import Run
from mcdrop.checks import require_installed
from mcdrop.errors import McdropError, OutputError, UnsupportedError
from mcdrop.prediction.exchange import arrow_table, inference_data
from mcdrop.prediction.tables import (
    checked_suffix,
    columns_of,
    index_from,
    index_to_plain,
    require_no_table,
    write_table,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Prediction", "saved_type"]

Self = TypeVar("Self", bound="Prediction")

_FORMAT = "mcdrop/1/"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Prediction:
    """Base of the prediction types: a row-indexed set of tensors with its `run` record."""

    # Fields laid out (S, N, ...) rather than (N, ...).
    _passes_first: ClassVar[tuple[str, ...]] = ("samples", "sample_variances")
    _derived: ClassVar[tuple[str, ...]] = ()

    n_samples: int
    run: Run | None = None
    # The pandas index of the rows that were predicted, for tables; None for other inputs.
    index: Any = None

    def _tensors(self) -> dict[str, Tensor]:
        """Return the stored tensors by field name."""
        stored = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in stored if isinstance(value, Tensor)}

    def __len__(self) -> int:
        """Return the number of rows, N."""
        return next(iter(self._tensors().values())).shape[0]

    def __getitem__(self: Self, rows: Any) -> Self:
        """Return the prediction for some rows; an integer keeps the row dimension.

        Args:
            rows: Integer, slice, boolean mask or index array over the N rows.
        """
        if isinstance(rows, int | np.integer):
            n_rows, row = len(self), int(rows)
            if not -n_rows <= row < n_rows:
                raise IndexError(f"row {row} is out of range for a prediction of {n_rows} rows")
            rows = slice(row, row + 1 or None)
        if isinstance(rows, slice) and (rows.step or 1) < 0:
            # Tensors take no steps backwards.
            rows = range(*rows.indices(len(self)))
        if not isinstance(rows, slice):
            device = next(iter(self._tensors().values())).device
            rows = (rows if isinstance(rows, Tensor) else _places(rows)).to(device)
        part = self._map(
            lambda name, value: value[:, rows] if name in self._passes_first else value[rows]
        )
        if self.index is None:
            return part
        return replace(part, index=self.index[rows if isinstance(rows, slice) else _array(rows)])

    def to(self: Self, device: str | torch.device) -> Self:
        """Return the same prediction with its tensors on `device`."""
        return self._map(lambda _, value: value.to(device))

    def to_numpy(self) -> dict[str, npt.NDArray[Any]]:
        """Return every stored and derived quantity by name, as NumPy arrays."""
        arrays = {name: value.cpu().numpy() for name, value in self._tensors().items()}
        arrays.update({name: getattr(self, name).cpu().numpy() for name in self._derived})
        return arrays

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per input row and one column per quantity and output.

        Quantities with several values per row get one column each, numbered from 0 by dimension:
        "mean_0", or "mean_0_1" for the value [0, 1] of every row. Rows carry the index of the
        DataFrame or Series that was predicted. Samples are left out.

        Raises:
            UnsupportedError: If pandas is not installed.
        """
        require_installed(f"{type(self).__name__}.to_pandas", "pandas", "files")
        import pandas as pd

        return pd.DataFrame(columns_of(self._per_row()), index=self.index)

    def _per_row(self) -> dict[str, npt.NDArray[Any]]:
        """Return every quantity but samples, rows first."""
        arrays = self.to_numpy()
        return {name: x for name, x in arrays.items() if name not in self._passes_first}

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Stream the table of `to_pandas` to any reader of Arrow, such as polars or DuckDB.

        Raises:
            UnsupportedError: If pyarrow is not installed.
        """
        function = f"{type(self).__name__}.__arrow_c_stream__"
        table = arrow_table(function, columns_of(self._per_row()), self.index)
        return table.__arrow_c_stream__(requested_schema)

    def to_inference_data(self, variable: str = "y") -> Any:
        """Return the passes as ArviZ's `posterior_predictive` group: one chain, S draws.

        Dimensions are (chain, draw, row, ...); rows carry the labels of the table that was
        predicted. A pass is the mean function, or the class probabilities, of one set of masks.

        Args:
            variable: Name of what was predicted.

        Raises:
            OutputError: If the samples were not kept.
            UnsupportedError: If ArviZ is not installed (``pip install "mcdrop[arviz]"``).
        """
        passes = self._require_samples("to_inference_data").cpu().numpy()
        function = f"{type(self).__name__}.to_inference_data"
        return inference_data(function, variable, passes, self.index)

    def joint_samples(self) -> Tensor:
        """Return samples of the joint distribution of all rows, (S, N, ...).

        Use them for statements about several rows at once: compute the sum over rows, the best
        row, or whether two exceed a limit together, in each pass, then average over passes. All
        rows must share one mask within a pass; with independent masks they would seem
        uncorrelated.

        Raises:
            OutputError: If masks were independent, or the samples were not kept.

        Example:
            >>> import mcdrop
            >>> net = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(3, 1))
            >>> mc = mcdrop.wrap(net, masks="shared")
            >>> p = mc.predict_with_uncertainty(torch.ones(5, 3), keep_samples=True)
            >>> p.joint_samples().sum(dim=1).shape  # the sum over rows, pass by pass
            torch.Size([100, 1])
        """
        masks = "none" if self.run is None else self.run.masks
        if masks != "shared":
            raise OutputError.of(
                f"{type(self).__name__}.joint_samples",
                "run.masks",
                "be 'shared', so that each pass is one function of all rows",
                repr(masks),
                'Predict with mcdrop.wrap(model, masks="shared")',
            )
        return self._require_samples("joint_samples")

    def save(self, path: str | Path) -> None:
        """Write the prediction to one file, whose suffix decides what it holds.

        ".pt" is read back by `load`, without unpickling code. ".npz" holds every array of
        `to_numpy` for programs without mcdrop; ".csv" and ".parquet" hold the table of `to_pandas`,
        with the index of the rows in front unless it only counts them.

        Args:
            path: File to write, whole or not at all; an existing one is replaced.

        Raises:
            UnsupportedError: If the suffix is another one, or a package for it is not installed.
            OSError: If the file cannot be written; an existing one is left as it was.
        """
        function = f"{type(self).__name__}.save"
        suffix = checked_suffix(function, path)
        if suffix != ".pt":
            arrays = self.to_numpy() if suffix == ".npz" else self._per_row()
            write_table(function, Path(path), arrays, self.index)
            return
        plain = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in ("run", "index")
            and not isinstance(getattr(self, field.name), Tensor)
        }
        record = {
            "format": f"{_FORMAT}{type(self).__name__}",
            "plain": json.dumps(plain),
            "run": json.dumps(None if self.run is None else self.run.to_dict()),
            "index": json.dumps(index_to_plain(self.index)),
            # A row slice is a view; cloning keeps the file as small as the slice.
            "tensors": {name: value.clone() for name, value in self._tensors().items()},
        }
        with writing(Path(path)) as file:
            torch.save(record, file)

    @classmethod
    def load(cls: type[Self], path: str | Path) -> Self:
        """Read a prediction written by `save`, onto the CPU.

        Args:
            path: File to read. Nothing in it is executed.

        Raises:
            UnsupportedError: If the file holds something else, or another prediction type.
        """
        require_no_table(f"{cls.__name__}.load", path)
        found = saved_type(path)
        if found != cls.__name__:
            raise UnsupportedError.of(
                f"{cls.__name__}.load",
                "path",
                f"hold a saved {cls.__name__}",
                found if Path(path).name in found else f"{found} in {Path(path).name}",
                "Load it with the class that saved it",
            )
        try:
            record = torch.load(path, map_location="cpu", weights_only=True)
            run = json.loads(record["run"])
            loaded = cls(
                **record["tensors"],
                **json.loads(record["plain"]),
                run=None if run is None else Run.from_dict(run),
                index=index_from(json.loads(record.get("index", "null"))),
            )
            sizes = {name: loaded._rows_of(name, x) for name, x in loaded._tensors().items()}
        except UNREADABLE as error:
            raise cls._damaged(path, f"{type(error).__name__}: {error}") from error
        if len(set(sizes.values())) != 1:
            raise cls._damaged(path, f"different numbers of rows, {sizes}")
        return loaded

    def _rows_of(self, name: str, values: Tensor) -> int:
        return values.shape[1 if name in self._passes_first else 0]

    @classmethod
    def _damaged(cls, path: str | Path, found: str) -> McdropError:
        return UnsupportedError.of(
            f"{cls.__name__}.load",
            "path",
            f"hold a whole {cls.__name__}",
            f"{Path(path).name} with {found}",
            "Save the prediction anew",
        )

    def _map(self: Self, change: Any) -> Self:
        """Return a copy with every tensor passed through ``change(name, tensor)``."""
        return replace(self, **{name: change(name, v) for name, v in self._tensors().items()})

    def _require_samples(self, method: str) -> Tensor:
        """Return the kept samples, or say how to keep them and what does without."""
        samples: Tensor | None = getattr(self, "samples", None)
        if samples is None:
            raise OutputError.of(
                f"{type(self).__name__}.{method}",
                "samples",
                "be kept, because the predictive distribution is the mixture over passes",
                "None",
                self._without_samples(method),
            )
        return samples

    def _without_samples(self, method: str) -> str:
        """Return what to do where samples are missing."""
        return "Predict with keep_samples=True"

    def _how(self) -> str:
        """Return how the prediction was made, in a few words."""
        if self.run is not None:
            return f"{self.n_samples} passes, {self.run.strategy}"
        return f"{self.n_samples} samples" if self.n_samples else "no passes"


def _array(rows: Any) -> npt.NDArray[Any]:
    """Return row numbers or a mask as an array."""
    return rows.cpu().numpy() if isinstance(rows, Tensor) else np.asarray(rows)


def _places(rows: Any) -> Tensor:
    """Return places of rows, or a mask, as a tensor: torch takes integers of one byte for masks."""
    found = np.array(rows)
    # [] is an array of floats.
    is_places = found.dtype.kind in "iu" or not found.size
    return torch.from_numpy(found.astype(np.int64) if is_places else found)


def saved_type(path: str | Path) -> str:
    """Return the name of the prediction type that a file holds, or what it holds instead."""
    with Path(path).open("rb") as file:
        if not zipfile.is_zipfile(file):
            return f"{Path(path).name}, which torch.save did not write"
        try:
            fault = fault_of_tensors(file)
        except UNREADABLE:
            return f"{Path(path).name}, a damaged file"
        if fault is not None:
            return f"{Path(path).name}, whose objects are not plain tensors and numbers but {fault}"
    try:
        # Memory-mapped, so that telling the type does not read the tensors.
        record = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except UNREADABLE:
        return f"{Path(path).name}, whose objects are not plain tensors and numbers"
    stored = record.get("format") if isinstance(record, dict) else None
    if isinstance(stored, str) and stored.startswith(_FORMAT):
        return stored.removeprefix(_FORMAT)
    return f"{Path(path).name}, a {type(record).__name__} from elsewhere"
