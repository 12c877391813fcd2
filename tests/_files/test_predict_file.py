"""Predictions from file to file: the numbers of one call, each row once, whatever happens."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import mcdrop
from mcdrop import (
    McdropError,
    NonFiniteError,
    OutputError,
    RangeError,
    ShapeError,
    UnsupportedError,
    predict_file,
)
from tests._files import cases

KINDS = (".csv", ".parquet", ".npz")


@pytest.mark.parametrize("kept", KINDS)
@pytest.mark.parametrize("given_as", KINDS)
@pytest.mark.parametrize("batch_rows", [pytest.param(1, marks=pytest.mark.slow), 7, 99, None])
def test_blocks_of_any_size_give_the_numbers_of_one_call(
    given_as: str, kept: str, batch_rows: int | None, tmp_path: Path
) -> None:
    table, model = cases.rows(), cases.network()
    data = cases.write(table, tmp_path / f"in{given_as}")
    out = tmp_path / f"out{kept}"
    done = predict_file(
        model,
        data,
        out,
        columns=cases.columns(data),
        id_columns=cases.IDS,
        batch_rows=batch_rows,
    )
    cases.check(cases.read(out), table, cases.whole(model, table))
    assert (done.path, done.n_rows, done.n_kept) == (out, cases.N_ROWS, 0)
    assert done.run is not None
    assert done.run.masks == "independent"
    assert sorted(path.name for path in tmp_path.iterdir()) == [data.name, out.name]


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_a_run_stopped_and_split_anew_gives_the_same_numbers(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("run")
    n_rows = data.draw(st.integers(2, 60), "rows")
    stop = data.draw(st.integers(0, n_rows - 1), "row that stops the first run")
    sizes = data.draw(st.tuples(st.integers(1, 70), st.integers(1, 70)), "rows per block")
    table, model = cases.rows(n_rows), cases.network()
    broken = table.copy()
    broken.loc[stop, "b"] = np.nan
    out = folder / "out.parquet"
    options: dict[str, Any] = {"columns": cases.INPUTS, "id_columns": cases.IDS}
    first = cases.write(broken, folder / "in.csv")
    with pytest.raises(NonFiniteError, match=rf"nan in row {stop}, column 'b' of in\.csv"):
        predict_file(model, first, out, batch_rows=sizes[0], **options)
    assert not out.exists()
    repaired = cases.write(table, folder / "in.csv")
    done = predict_file(model, repaired, out, batch_rows=sizes[1], **options)
    # Blocks hold one row more where a single one would be left over.
    assert stop - sizes[0] <= done.n_kept <= stop
    cases.check(cases.read(out), table, cases.whole(model, table))


_CHILD = """
import sys, torch, mcdrop
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from tests._files import cases
mcdrop.predict_file(
    cases.network(), sys.argv[2], sys.argv[3], columns=cases.INPUTS, id_columns=cases.IDS,
    batch_rows=40, n_samples=100)
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".npz"])
def test_kills_at_random_moments_lose_and_repeat_no_row(suffix: str, tmp_path: Path) -> None:
    table, model = cases.rows(6000), cases.network()
    data, out = cases.write(table, tmp_path / "in.parquet"), tmp_path / f"out{suffix}"
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", _CHILD, root, str(data), str(out)]
    chance = random.Random(suffix)
    folder, kills, reached = Path(f"{out}.parts"), 0, []
    environment = {**os.environ, "PYTHONPATH": root}
    while not out.exists():
        child = subprocess.Popen(command, env=environment)
        before = len(list(folder.glob("rows-*"))) if folder.exists() else 0
        # Once it has begun to work, at any moment; later kills hit the end and the joining.
        while child.poll() is None and len(list(folder.glob("rows-*.parquet"))) <= before:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.25))
        if child.poll() is None and kills < 8:
            child.send_signal(signal.SIGKILL)
            kills += 1
            reached.append(before)
        assert child.wait() in (0, -signal.SIGKILL)
    assert kills >= 2
    assert reached == sorted(reached)
    done = predict_file(model, data, out, columns=cases.INPUTS, id_columns=cases.IDS, batch_rows=40)
    cases.check(cases.read(out), table, cases.whole(model, table))
    assert done.n_rows == 6000
    assert not folder.exists()


def stopped(tmp_path: Path, model: nn.Module | None = None, **options: Any) -> tuple[Path, Path]:
    """Leave a run that stopped at row 70 of 100, with two finished parts of 30 rows."""
    table = cases.rows()
    broken = table.copy()
    broken.loc[70, "c"] = np.inf
    data = cases.write(broken, tmp_path / "in.parquet")
    out = tmp_path / "out.parquet"
    with pytest.raises(NonFiniteError, match=r"inf in row 70 \(row group 4\), column 'c' of in"):
        predict_file(
            model or cases.network(), data, out, columns=cases.INPUTS, batch_rows=30, **options
        )
    return cases.write(table, data), out


def test_what_is_finished_stays_readable(tmp_path: Path) -> None:
    _, out = stopped(tmp_path)
    parts = sorted(Path(f"{out}.parts").glob("rows-*.parquet"))
    assert [path.stem for path in parts] == [
        "rows-000000000000000-000000000000030",
        "rows-000000000000030-000000000000060",
    ]
    found = pd.concat([pd.read_parquet(path) for path in parts], ignore_index=True)
    expected = cases.whole(cases.network(), cases.rows())
    np.testing.assert_allclose(found["mean"], expected["mean"][:60], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"n_samples": 50}, "n_samples=50 instead of 100"),
        ({"seed": 1, "noise_std": 0.5}, "noise_std=0.5 instead of None, seed=1 instead of 0"),
        ({"task": "regression"}, "task='regression' instead of None"),
        ({"dtype": torch.float64}, "dtype='torch.float64' instead of None"),
        ({"control_variate": False}, "control_variate=False instead of 'auto', exact_last=False"),
        ({"batch_size": 10}, "batch_size=10 instead of None"),
        ({"id_columns": "name"}, r"id_columns=\['name'\] instead of \[\]"),
        ({"columns": ["b", "a", "c"]}, r"columns=\['b', 'a', 'c'\] instead of \['a', 'b', 'c'\]"),
        ({"model": cases.network(1)}, "model='[0-9a-f]{32}' instead of '[0-9a-f]{32}'"),
        ({"model": mcdrop.wrap(cases.network(), p=0.2)}, r"p=\{'': 0.2\} instead of \{\}"),
        ({"model": mcdrop.wrap(cases.network(), masks="shared")}, "masks='shared' instead of"),
        ({"model": mcdrop.wrap(cases.network(), stratified=False)}, "stratified=False instead"),
    ],
)
def test_runs_with_other_settings_are_not_mixed(
    change: dict[str, Any], text: str, tmp_path: Path
) -> None:
    data, out = stopped(tmp_path)
    options = {"columns": cases.INPUTS, "model": cases.network(), **change}
    model = options.pop("model")
    condition = r"`out` to go on with the settings of the run that left out\.parquet\.parts"
    message = rf"{condition}, but got .*{text}.*resume=False"
    with pytest.raises(UnsupportedError, match=message):
        predict_file(model, data, out, **options)
    done = predict_file(model, data, out, resume=False, **options)
    assert (done.n_rows, done.n_kept) == (100, 0)


def test_the_same_settings_and_rows_go_on_wherever_the_rows_lie(tmp_path: Path) -> None:
    _, out = stopped(tmp_path)
    table = cases.rows()
    moved = tmp_path / "moved.parquet"
    table.drop(columns="when").to_parquet(moved, row_group_size=3)
    done = predict_file(cases.network(), moved, out, columns=cases.INPUTS, batch_rows=11)
    assert done.n_kept == 60
    expected = cases.whole(cases.network(), table)
    np.testing.assert_allclose(pd.read_parquet(out)["mean"], expected["mean"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rows", [slice(0, 55), slice(1, 100)])
def test_other_rows_are_not_mixed(rows: slice, tmp_path: Path) -> None:
    _, out = stopped(tmp_path)
    data = cases.write(cases.rows()[rows], tmp_path / "other.parquet")
    with pytest.raises(UnsupportedError, match=r"`data` to begin with the rows that are finished"):
        predict_file(cases.network(), data, out, columns=cases.INPUTS)


class DropsWeights(nn.Module):
    """Drops weights: one mask for all rows of a batch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = nn.functional.dropout(self.layer.weight, 0.5, self.training)
        return nn.functional.linear(x, weight, self.layer.bias)


def test_a_split_that_matters_is_kept(tmp_path: Path) -> None:
    data, out = stopped(tmp_path, DropsWeights().eval())
    text = r"`batch_rows` to stay the same .* but got 31 instead of 30"
    with pytest.raises(RangeError, match=text):
        predict_file(DropsWeights().eval(), data, out, columns=cases.INPUTS, batch_rows=31)
    done = predict_file(DropsWeights().eval(), data, out, columns=cases.INPUTS, batch_rows=30)
    assert done.n_kept == 60


@pytest.mark.parametrize("suffix", KINDS)
def test_a_full_disk_loses_nothing(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, model = cases.rows(), cases.network()
    data, out = cases.write(table, tmp_path / "in.csv"), tmp_path / f"out{suffix}"
    options: dict[str, Any] = {"columns": cases.INPUTS, "id_columns": cases.IDS, "batch_rows": 30}
    sync, room = os.fsync, [0]

    def full(descriptor: int) -> None:
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    text = rf"No space left.*; finished rows are kept in {out.name}\.parts"
    with pytest.raises(OSError, match=text) as stopped:
        predict_file(model, data, out, **options)
    assert stopped.value.errno == errno.ENOSPC
    n_failed = 1
    while not out.exists():
        room[0] = 4  # The settings take two, a part two more: the file and the folder's entry.
        with suppress(OSError):
            predict_file(model, data, out, **options)
        n_failed += not out.exists()
    assert n_failed >= 2
    monkeypatch.undo()
    cases.check(cases.read(out), table, cases.whole(model, table))


@pytest.mark.parametrize(("how", "kind"), [("raise", OutputError), ("nan", NonFiniteError)])
def test_the_row_at_which_a_model_fails_is_named(
    how: str, kind: type[McdropError], tmp_path: Path
) -> None:
    table = cases.rows()
    table.loc[57, "a"] = table.loc[91, "a"] = 1e7
    data, out = cases.write(table, tmp_path / "in.parquet"), tmp_path / "out.csv"
    where = r"row 57 \(row group 3\) of in\.parquet"
    text = f"but got ArithmeticError at {where} .beyond the limit.. Correct the row"
    with pytest.raises(kind, match=text if how == "raise" else f"NaN or infinity for {where}"):
        predict_file(cases.Breaks(how).eval(), data, out, columns=cases.INPUTS, batch_rows=40)
    table.loc[57, "a"] = table.loc[91, "a"] = 0.0
    cases.write(table, data)
    done = predict_file(cases.Breaks(how).eval(), data, out, columns=cases.INPUTS)
    assert (done.n_kept, done.n_rows) == (40, 100)


def test_several_values_per_row_need_a_task(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(0.3), nn.Linear(3, 2))
    table = cases.rows()
    data, out = cases.write(table, tmp_path / "in.csv"), tmp_path / "out.npz"
    with pytest.raises(RangeError, match="predict_file: expected `task` to be named"):
        predict_file(model, data, out, columns=cases.INPUTS)
    assert not Path(f"{out}.parts").exists()
    predict_file(model, data, out, columns=cases.INPUTS, task="classification", batch_rows=33)
    expected = mcdrop.predict_with_uncertainty(
        model, table[cases.INPUTS], task="classification", seed=0
    ).to_numpy()
    with np.load(out, allow_pickle=False) as found:
        assert sorted(found.files) == sorted(expected)
        for name, values in expected.items():
            assert (found[name].shape, found[name].dtype) == (values.shape, values.dtype)
            np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5)


def test_as_many_passes_as_each_row_needs(tmp_path: Path) -> None:
    table, model = cases.rows(), cases.network()
    data, out = cases.write(table, tmp_path / "in.csv"), tmp_path / "out.parquet"
    predict_file(
        model, data, out, columns=cases.INPUTS, n_samples="auto", tolerance=0.2, batch_rows=30
    )
    expected = mcdrop.predict_with_uncertainty(
        model, table[cases.INPUTS], n_samples="auto", tolerance=0.2, seed=0
    ).to_pandas()
    found = pd.read_parquet(out)
    assert found["passes_per_row"].tolist() == expected["passes_per_row"].tolist()
    np.testing.assert_allclose(found["mean"], expected["mean"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"out": "out.xls"}, RangeError, "`out` to end in one of .parquet, .csv, .npz"),
        ({"out": "none/out.csv"}, RangeError, "in a folder that exists, but got none/out.csv"),
        ({"out": "in.csv"}, RangeError, "`out` to be another file than `data`"),
        ({"batch_rows": 0.5}, RangeError, "`batch_rows` to be an integer of at least 1"),
        ({"batch_rows": 0}, RangeError, "`batch_rows` to be an integer of at least 1"),
        ({"seed": -1}, RangeError, "`seed` to be an integer of at least 0"),
        ({"n_samples": 1}, RangeError, "`n_samples` to be an integer of at least 2"),
        ({"task": "guess"}, RangeError, "predict_file: expected `task` to be one of"),
        ({"columns": ["a", "z"]}, RangeError, r"`columns` to name different columns of in\.csv"),
        ({"columns": ["a", "a"]}, RangeError, r"`columns` to name different columns of in\.csv"),
        ({"id_columns": "id"}, RangeError, r"`id_columns` to name different columns of in\.csv"),
        ({"columns": None}, UnsupportedError, r"in row 0, column 'name'"),
        ({"columns": ["a", "b"]}, ShapeError, r"a shape that Sequential can take"),
        ({"model": "net.pth"}, UnsupportedError, r"expected `file` to be a \.pt2 file"),
        ({"model": "in.pt2"}, OSError, "No such file"),
        ({"model": 3}, UnsupportedError, "`model` to be a torch.nn.Module"),
        ({"data": "in.pkl"}, UnsupportedError, r"end in one of \.parquet, \.csv, \.npz, \.npy"),
        ({"data": "none.csv"}, OSError, "No such file"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(
    options: dict[str, Any],
    kind: type[Exception],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    cases.write(cases.rows(), tmp_path / "in.csv")
    asked = {
        "model": cases.network(),
        "data": "in.csv",
        "out": "out.csv",
        "columns": cases.INPUTS,
        **options,
    }
    with pytest.raises(kind, match=text):
        predict_file(**asked)
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_a_program_on_the_disk_and_its_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = cases.rows()
    free = torch.export.Dim("rows", min=2)
    program = torch.export.export(
        cases.network(), (torch.randn(6, 3),), dynamic_shapes=({0: free},)
    )
    torch.export.save(program, tmp_path / "net.pt2")
    data = cases.write(table, tmp_path / "in.csv")
    # 33 and 34 rows: a single row would be left over, which this program does not take.
    done = predict_file(
        tmp_path / "net.pt2",
        data,
        tmp_path / "out.csv",
        columns=cases.INPUTS,
        id_columns=cases.IDS,
        batch_rows=33,
        progress=True,
    )
    assert done.n_rows == 100
    assert "rows" in capsys.readouterr().err
    expected = cases.whole(torch.export.load(tmp_path / "net.pt2").module(), table)
    cases.check(cases.read(done.path), table, expected)


_PEAK = """
import sys
from pathlib import Path
import torch, mcdrop
sys.path.insert(0, sys.argv[1] + "/examples/benchmarks")
from streaming import measured
torch.set_num_threads(1)
print(measured("streamed", Path(sys.argv[2]), 4)["over_mib"])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads /proc")
def test_memory_does_not_grow_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(__file__).parents[2]
    monkeypatch.syspath_prepend(root / "examples" / "benchmarks")
    from streaming import write_rows

    peaks = []
    for n_rows in (200_000, 1_000_000):
        write_rows(tmp_path / "in.parquet", n_rows)
        command = [sys.executable, "-c", _PEAK, str(root), str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": str(root)}
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        peaks.append(float(done.stdout))
    # The larger file holds 64 MiB more inputs, and as many predictions.
    assert peaks[1] < peaks[0] + 40


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names of files are Unicode there")
@pytest.mark.parametrize(
    ("given_as", "kept"), [(".csv", ".parquet"), (".parquet", ".npz"), (".npz", ".csv")]
)
def test_names_that_are_not_unicode_are_names_of_files(
    given_as: str, kept: str, tmp_path: Path
) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    data, out = folder / f"in{given_as}", folder / f"out{kept}"
    plain, table = tmp_path / f"in{given_as}", pd.DataFrame(np.eye(6, 3), columns=list("abc"))
    if given_as == ".npz":
        np.savez(plain, x=np.eye(6, 3))
    elif given_as == ".csv":
        table.to_csv(plain, index=False)
    else:
        table.to_parquet(plain)
    plain.rename(data)
    net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    assert predict_file(net, data, out, n_samples=8).n_rows == 6
    assert out.exists()
