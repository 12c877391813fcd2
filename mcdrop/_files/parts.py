"""The folder of finished parts beside the output: what it was made with, and which rows it holds.

One file per block of rows, written under another name, brought to the disk and renamed: whatever is
there is whole. The rows that are done are those of the files, so that no second record can
disagree with them.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcdrop._disk.atomic import UNFINISHED, writing
from mcdrop._disk.faults import UNREADABLE, arrow_file
from mcdrop._files.columns import FUNCTION
from mcdrop.errors import McdropError, UnsupportedError

__all__ = ["Part", "PartFolder"]

_FORMAT = "mcdrop.predict_file/1"
_SETTINGS = "settings.json"
_LOCK = "lock"
# What is written beside the table of a part.
_BESIDE = {"rows", "ids", "arrays", "split"}
_NAME = re.compile(r"rows-(\d{15})-(\d{15})\.parquet")


@dataclass(frozen=True)
class Part:
    """One finished block of rows.

    Attributes:
        path: A Parquet file of ids and predictions.
        first: Number of its first row.
        end: Number after its last row.
    """

    path: Path
    first: int
    end: int

    def schema(self) -> Any:
        """Return the Arrow schema of its table.

        Raises:
            UnsupportedError: If the file has been damaged since.
        """
        return self._schema().remove_metadata()

    def metadata(self) -> dict[str, Any]:
        """Return what was written beside the table.

        Raises:
            UnsupportedError: If the file has been damaged since.
        """
        other = _refused("hold whole parts", f"another file as {self.path.name}")
        schema = self._schema()
        try:
            found: dict[str, Any] = json.loads(schema.metadata[b"mcdrop"])
        except (TypeError, KeyError, RecursionError, ValueError) as error:
            raise other from error
        if not isinstance(found, dict) or not found.keys() >= _BESIDE:
            raise other
        return found

    def table(self, columns: Sequence[str] | None = None) -> Any:
        """Return its Arrow table, or some columns of it.

        Raises:
            UnsupportedError: If the file has been damaged since.
        """
        from pyarrow import parquet

        try:
            # `read_table` would do the same, and load the code for data sets of many files.
            with (
                arrow_file(self.path) as source,
                parquet.ParquetFile(source, pre_buffer=False) as file,
            ):
                names = None if columns is None else list(columns)
                return file.read(columns=names, use_threads=False)
        except UNREADABLE as error:
            raise self._damaged() from error

    def _schema(self) -> Any:
        from pyarrow import parquet

        try:
            with arrow_file(self.path) as source:
                return parquet.read_schema(source)
        except UNREADABLE as error:
            raise self._damaged() from error

    def _damaged(self) -> McdropError:
        return _refused("hold whole parts", f"a damaged {self.path.name}")


class PartFolder:
    """The folder of parts of one output file.

    Args:
        out: The output file; the folder lies beside it, so that renaming is atomic.
    """

    def __init__(self, out: Path) -> None:
        self.path = out.with_name(f"{out.name}.parts")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process; the system lets go of it however the process ends.

        Raises:
            UnsupportedError: If another process holds it.
        """
        self.path.mkdir(exist_ok=True)
        with (self.path / _LOCK).open("wb") as file:
            if not _lock(file.fileno()):
                raise UnsupportedError.of(
                    FUNCTION,
                    "out",
                    "be written by one process at a time",
                    f"{self.path.name} in use by another",
                    "Wait for it, or name another file",
                )
            yield

    def begin(self, settings: Mapping[str, Any], *, resume: bool) -> None:
        """Make the folder ready: empty, or left by a run with the same settings.

        Args:
            settings: What the numbers depend on, as plain values.
            resume: Whether finished parts are kept.

        Raises:
            UnsupportedError: If the parts were made with other settings.
        """
        for unfinished in self.path.glob(f"*{UNFINISHED}"):
            unfinished.unlink()
        plain = json.loads(json.dumps({"format": _FORMAT, **settings}))
        kept = self.path / _SETTINGS
        if not resume:
            # From the end, so that what is left after a kill has no gap.
            for part in sorted(self.path.glob("rows-*"), reverse=True):
                part.unlink()
            kept.unlink(missing_ok=True)
        has_parts = any(self.path.glob("rows-*"))
        if kept.exists() and has_parts:
            self._require_same(self._read(kept), plain)
            return
        if has_parts:
            raise _refused("hold parts of a run", f"no {_SETTINGS} in {self.path.name}")
        with writing(kept) as file:
            file.write(json.dumps(plain, indent=2).encode())

    def parts(self) -> list[Part]:
        """Return the finished parts, which cover the rows from 0 on without a gap.

        Raises:
            UnsupportedError: If one is missing in between.
        """
        found: list[Part] = []
        for path in sorted(self.path.glob("rows-*.parquet")):
            match = _NAME.fullmatch(path.name)
            begin, end = (int(match[1]), int(match[2])) if match else (-1, -1)
            if begin != (found[-1].end if found else 0):
                raise _refused("hold every finished part", f"no part before {path.name}")
            found.append(Part(path, begin, end))
        return found

    def add(self, first: int, table: Any, metadata: Mapping[str, Any]) -> Part:
        """Write a finished part.

        Args:
            first: Number of its first row.
            table: Arrow table of ids and predictions.
            metadata: Plain values to keep beside it.
        """
        from pyarrow import parquet

        end = first + table.num_rows
        path = self.path / f"rows-{first:015d}-{end:015d}.parquet"
        table = table.replace_schema_metadata({"mcdrop": json.dumps(metadata)})
        with writing(path) as file:
            parquet.write_table(table, file)
        return Part(path, first, end)

    def remove(self) -> None:
        """Remove the folder at one stroke: a kill while its files go leaves nothing half valid."""
        gone = self.path.with_name(f"{self.path.name}{UNFINISHED}")
        shutil.rmtree(gone, ignore_errors=True)
        self.path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def _read(self, kept: Path) -> dict[str, Any]:
        try:
            found = json.loads(kept.read_text())
        except (RecursionError, ValueError) as error:
            raise _refused("hold its settings", f"a damaged {kept.name}") from error
        return found if isinstance(found, dict) else {}

    def _require_same(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        """Name the settings that differ."""
        differing = [
            f"{name}={now.get(name)!r} instead of {before.get(name)!r}"
            for name in sorted({*before, *now})
            if before.get(name) != now.get(name)
        ]
        if differing:
            condition = f"go on with the settings of the run that left {self.path.name}"
            raise _refused(condition, ", ".join(differing))


def _refused(condition: str, found: str) -> McdropError:
    return UnsupportedError.of(FUNCTION, "out", condition, found, "Pass resume=False to begin anew")


def _lock(descriptor: int) -> bool:
    """Lock an open file without waiting; True where the system has no such locks."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
