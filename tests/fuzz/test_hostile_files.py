"""Files made to do harm: code in pickles and sizes, bombs, false claims; nothing runs or grows."""

from __future__ import annotations

import io
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import mcdrop
from mcdrop import UnsupportedError
from mcdrop._files.programs import read_program
from mcdrop._files.streaming import open_source
from mcdrop.cli.reading import read_array, read_arrays
from tests.fuzz.hostile import Payload, rewritten, within
from tests.fuzz.readers import KINDS

PROGRAM = next(kind for kind in KINDS if kind.name == "net.pt2")
REGRESSION = next(kind for kind in KINDS if kind.name == "regression.pt")


@pytest.fixture
def harm(tmp_path: Path) -> Path:
    """The folder that only code from a file makes."""
    return tmp_path / "executed"


def read_whole(path: Path) -> None:
    """Read a file of rows as `predict_file` does."""
    source = open_source(path, None, ())
    for piece in source.pieces():
        source.check(piece)


def test_the_payload_runs_where_nobody_looks(harm: Path) -> None:
    pickle.loads(pickle.dumps(Payload(harm)))
    assert harm.is_dir()


# Pickles.


def test_pickled_objects_in_arrays_are_not_built(tmp_path: Path, harm: Path) -> None:
    objects = np.array([Payload(harm)], dtype=object)
    np.save(tmp_path / "a.npy", objects)
    np.savez(tmp_path / "a.npz", x=objects)
    readers = {"a.npy": (read_whole, read_array), "a.npz": (read_whole, read_arrays)}
    for name, each in readers.items():
        for read in each:
            with pytest.raises(UnsupportedError, match=name):
                read(tmp_path / name)
    assert not harm.exists()


@pytest.mark.parametrize("part", ["tensors", "plain", "index", None])
def test_pickled_objects_in_predictions_are_not_built(
    part: str | None, tmp_path: Path, harm: Path
) -> None:
    path = tmp_path / "regression.pt"
    REGRESSION.write(path)
    record = torch.load(path, weights_only=True)
    if part is None:
        record = Payload(harm)
    else:
        record[part] = Payload(harm)
    torch.save(record, path)
    text = (
        r"regression\.pt, whose objects are not plain tensors and numbers but the object \w+\.mkdir"
    )
    with pytest.raises(UnsupportedError, match=text):
        mcdrop.load_prediction(path)
    with pytest.raises(UnsupportedError, match=r"regression\.pt \(the object \w+\.mkdir"):
        read_array(path)
    assert not harm.exists()


# Bombs and false claims. What NumPy allocates is traced; RLE and deflate hold gigabytes in a page.


def peak(read: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(UnsupportedError):
            read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def head(shape: tuple[int, ...], *, by_columns: bool = False) -> bytes:
    """Return the head of an array of float64."""
    file = io.BytesIO()
    described = {"descr": "<f8", "fortran_order": by_columns, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)
    return file.getvalue()


@pytest.mark.parametrize("by_columns", [False, True])
@pytest.mark.parametrize(
    "shape", [(10**15, 3), (3, 10**15), (10**8, 1), (1, 10**8), (2**62, 2**62)]
)
def test_claims_of_an_array_are_not_believed(
    shape: tuple[int, ...], by_columns: bool, tmp_path: Path
) -> None:
    data = head(shape, by_columns=by_columns) + bytes(480)
    (tmp_path / "a.npy").write_bytes(data)
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
            archive.writestr("x.npy", data)
        assert peak(lambda: read_whole(tmp_path / "a.npz")) < 2**22
        assert peak(lambda: read_arrays(tmp_path / "a.npz")) < 2**22
    assert peak(lambda: read_whole(tmp_path / "a.npy")) < 2**22
    assert peak(lambda: read_array(tmp_path / "a.npy")) < 2**22


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files that hold more than a megabyte pass for large, so that the test is fast."""
    monkeypatch.setattr("mcdrop._disk.archives._SMALL", 2**20)
    monkeypatch.setattr("mcdrop._files.archives._LARGEST_ROW", 2**20)


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize(
    ("shape", "by_columns"), [((10**6, 4), False), ((10**6, 4), True), ((1, 4 * 10**6), False)]
)
def test_deflated_zeros_are_not_held_in_memory(
    shape: tuple[int, ...], by_columns: bool, tmp_path: Path
) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", head(shape, by_columns=by_columns) + bytes(32 * 10**6))
    assert path.stat().st_size < 40_000
    assert peak(lambda: read_arrays(path)) < 2**22
    if shape[0] > 1 and not by_columns:
        # Read as a stream they are numbers like others.
        tracemalloc.start()
        read_whole(path)
        assert tracemalloc.get_traced_memory()[1] < 2**25
        tracemalloc.stop()
    else:
        assert peak(lambda: read_whole(path)) < 2**22


@pytest.mark.parametrize("name", ["regression.pt", "net.pt2"])
def test_compressed_files_of_tensors_are_not_inflated(name: str, tmp_path: Path) -> None:
    kind = next(kind for kind in KINDS if kind.name == name)
    path = tmp_path / name
    kind.write(path)
    with zipfile.ZipFile(path) as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for each, data in members.items():
            archive.writestr(each, data)
    for read in kind.readers:
        with pytest.raises(UnsupportedError, match=rf"{name}.*compressed members"):
            read(path)


@pytest.mark.parametrize("name", ["regression.pt", "net.pt2"])
def test_members_that_overlap_or_share_a_name_are_refused(name: str, tmp_path: Path) -> None:
    kind = next(kind for kind in KINDS if kind.name == name)
    path = tmp_path / name
    kind.write(path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path, "a") as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
        for i in range(1000):
            other = zipfile.ZipInfo(f"{i}/x")
            for field in ("header_offset", "file_size", "compress_size", "CRC"):
                setattr(other, field, getattr(largest, field))
            archive.filelist.append(other)
        archive.writestr("last", "")
    for read in kind.readers:
        with pytest.raises(UnsupportedError, match=rf"{name}.*overlapping members"):
            read(path)
    path.write_bytes(whole)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(archive.namelist()[0].upper(), "")
    for read in kind.readers:
        with pytest.raises(UnsupportedError, match=rf"{name}.* twice"):
            read(path)


@pytest.mark.usefixtures("small_files")
def test_repeated_values_of_parquet_are_not_held_in_memory(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"x": np.zeros(10**6)}), path)
    assert path.stat().st_size < 10_000
    before = pa.total_allocated_bytes()
    for read in (read_array, read_arrays):
        with pytest.raises(
            UnsupportedError, match=r"about as large .*t\.parquet \(8,000,000 bytes"
        ):
            read(path)
    assert pa.total_allocated_bytes() - before < 2**20
    read_whole(path)  # As a stream it is read.


@pytest.mark.parametrize("text", ["[" * 10**5, '{"a":' * 10**5, '"' + "\\" * 10**5])
def test_json_without_end_is_refused(text: str, tmp_path: Path) -> None:
    settings = next(kind for kind in KINDS if kind.name.endswith("settings.json"))
    path = settings.place(tmp_path)
    path.write_text(text)
    with pytest.raises(UnsupportedError, match=r"damaged settings\.json"):
        settings.readers[0](path)
    PROGRAM.write(tmp_path / "net.pt2")
    rewritten(tmp_path / "net.pt2", within("models/model.json", text.encode()))
    with pytest.raises(UnsupportedError, match=r"hold an exported program, but got net\.pt2"):
        read_program(tmp_path / "net.pt2")
    REGRESSION.write(tmp_path / "regression.pt")
    record = torch.load(tmp_path / "regression.pt", weights_only=True)
    for part in ("plain", "run", "index"):
        torch.save(record | {part: text}, tmp_path / "regression.pt")
        with pytest.raises(UnsupportedError, match=r"regression\.pt with"):
            mcdrop.load_prediction(tmp_path / "regression.pt")


# Paths.


@pytest.mark.parametrize("name", ["../../up.npy", "/up-mcdrop.npy", "..\\up.npy", "C:\\up.npy"])
def test_names_in_an_archive_lead_nowhere(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "a.npz", "w") as archive:
        archive.writestr(name, head((2, 3)) + bytes(48))
    before = sorted(tmp_path.rglob("*"))
    read_whole(folder / "a.npz")
    read_arrays(folder / "a.npz")
    assert sorted(tmp_path.rglob("*")) == before
    assert not Path("/up-mcdrop.npy").exists()


def test_parts_behind_a_link_leave_other_files_alone(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "kept.txt").write_text("kept")
    (tmp_path / "out.csv.parts").symlink_to(other)
    (tmp_path / "in.csv").write_text("a,b,c\n1,2,3\n4,5,6\n")
    net = torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.Dropout(0.5), torch.nn.Linear(1, 1))
    mcdrop.predict_file(net.eval(), tmp_path / "in.csv", tmp_path / "out.csv", n_samples=2)
    assert (other / "kept.txt").read_text() == "kept"
