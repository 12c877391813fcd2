"""Blocks predicted on a Ray cluster: the numbers of one process, each row once.

`make integrations` runs these where Ray is installed; elsewhere those that need it are skipped.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from torch import nn

import mcdrop
from mcdrop import NonFiniteError, OutputError, UnsupportedError, predict_file
from mcdrop._engine.settings import Settings
from mcdrop._files.blocks import Block
from mcdrop._files.passes import BlockPredictor
from mcdrop._files.workers import Worker, here
from mcdrop._tasks.settings import TaskSettings
from tests._files import cases
from tests.ray_cluster import started

# Other packages' warnings are not ours.
pytestmark = pytest.mark.filterwarnings("default")
OPTIONS: dict[str, Any] = {"columns": cases.INPUTS, "id_columns": cases.IDS}


def settings(model: nn.Module) -> TaskSettings:
    return TaskSettings(Settings("predict_file", model, {}, seed=0), "regression", n_samples=8)


def test_blocks_come_back_in_order() -> None:
    x = np.random.default_rng(0).normal(size=(9, 3))
    predictor = BlockPredictor(settings(cases.network()), "in.csv", str)
    blocks = [Block(first, x[first : first + 3], pa.table({})) for first in (0, 3, 6)]
    found = list(here(predictor)(iter(blocks)))
    assert [block.first for block, _ in found] == [0, 3, 6]
    whole = mcdrop.predict_with_uncertainty(
        cases.network(), x, task="regression", n_samples=8, seed=0, control_variate=False
    )
    together = torch.cat([prediction.to("cpu").std for _, prediction in found])  # type: ignore[union-attr]
    torch.testing.assert_close(together, whole.std, atol=1e-5, rtol=1e-4)


def test_a_program_is_sent_as_a_file() -> None:
    free = torch.export.Dim("rows", min=2)
    program = torch.export.export(
        cases.network(), (torch.randn(6, 3),), dynamic_shapes=({0: free},)
    )
    asked = settings(program.module())
    sent = Worker.of(asked, program)
    assert isinstance(sent.settings.engine.model, nn.Identity)
    x = torch.randn(5, 3)
    torch.testing.assert_close(sent.ready().engine.model(x), asked.engine.model(x))


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    data = cases.write(cases.rows(), tmp_path / "in.csv")
    text = r'predict_file: expected `ray` to be installed.*pip install "mcdrop\[ray\]"'
    with pytest.raises(UnsupportedError, match=text):
        predict_file(cases.network(), data, tmp_path / "out.csv", ray="local", **OPTIONS)


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Ray with as many workers as a test asks for; it tells nobody that it is used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        # Workers import the tests' models by name.
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        yield pytest.importorskip("ray", reason="`make integrations` installs ray")


@pytest.mark.parametrize("n_workers", [1, 8])
def test_any_number_of_workers_gives_the_numbers_of_one_process(
    n_workers: int, ray: Any, tmp_path: Path
) -> None:
    table, model = cases.rows(), cases.network()
    data = cases.write(table, tmp_path / "in.parquet")
    predict_file(model, data, tmp_path / "here.parquet", batch_rows=9, **OPTIONS)
    ray.init(num_cpus=n_workers, include_dashboard=False, log_to_driver=False)
    try:
        done = predict_file(
            model, data, tmp_path / "there.parquet", batch_rows=9, ray="auto", **OPTIONS
        )
        # What this process connected stays connected.
        assert ray.is_initialized()
    finally:
        ray.shutdown()
    assert done.n_rows == cases.N_ROWS
    cases.check(cases.read(done.path), table, cases.whole(model, table))
    found, wanted = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("there", "here"))
    pd.testing.assert_frame_equal(found, wanted, rtol=1e-6)


def test_a_cluster_of_its_own_and_a_row_that_fails(ray: Any, tmp_path: Path) -> None:
    table = cases.rows()
    table.loc[57, "a"] = 1e7
    data, out = cases.write(table, tmp_path / "in.parquet"), tmp_path / "out.parquet"
    model = cases.Breaks().eval()
    with pytest.raises(OutputError, match=r"ArithmeticError at row 57 \(row group 3\) of in\.par"):
        predict_file(model, data, out, batch_rows=20, ray="local", **OPTIONS)
    assert not ray.is_initialized()
    table.loc[57, "a"] = 0.0
    table.loc[70, "b"] = np.nan
    cases.write(table, data)
    with pytest.raises(NonFiniteError, match=r"nan in row 70 \(row group 4\), column 'b'"):
        predict_file(model, data, out, batch_rows=10, ray="local", **OPTIONS)
    table.loc[70, "b"] = 0.0
    cases.write(table, data)
    # A run that began on a cluster goes on without one.
    done = predict_file(model, data, out, batch_rows=20, **OPTIONS)
    assert (done.n_kept, done.n_rows) == (70, 100)
    cases.check(cases.read(out), table, cases.whole(model, table))


def test_a_program_on_workers_and_an_address_that_is_none(ray: Any, tmp_path: Path) -> None:
    table, model = cases.rows(), cases.network()
    free = torch.export.Dim("rows", min=2)
    program = torch.export.export(model, (torch.randn(6, 3),), dynamic_shapes=({0: free},))
    torch.export.save(program, tmp_path / "net.pt2")
    data = cases.write(table, tmp_path / "in.parquet")
    options = {**OPTIONS, "batch_rows": 30, "n_samples": 16}
    out = tmp_path / "out.parquet"
    predict_file(tmp_path / "net.pt2", data, out, ray="local", masks="shared", **options)
    expected = mcdrop.predict_with_uncertainty(
        program, table[cases.INPUTS], seed=0, n_samples=16, masks="shared"
    )
    cases.check(cases.read(out), table, expected.to_pandas())
    text = r"`ray` to be the address of a Ray cluster that runs, but got '127\.0\.0\.1:1'"
    with pytest.raises(UnsupportedError, match=text):
        predict_file(model, data, out, ray="127.0.0.1:1", **options)
    with pytest.raises(UnsupportedError, match="be one that can be sent to other processes"):
        predict_file(mcdrop.wrap(program), data, out, ray="local", **options)


def test_the_command_line_on_workers(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("typer")
    from mcdrop.cli import main

    table = cases.rows()
    free = torch.export.Dim("rows", min=2)
    program = torch.export.export(
        cases.network(), (torch.randn(6, 3),), dynamic_shapes=({0: free},)
    )
    torch.export.save(program, tmp_path / "net.pt2")
    data, out = cases.write(table, tmp_path / "in.csv"), tmp_path / "out.csv"
    arguments = [f"--model={tmp_path / 'net.pt2'}", f"--data={data}", f"--out={out}"]
    arguments += [
        *(f"--column={n}" for n in cases.INPUTS),
        *(f"--id-column={n}" for n in cases.IDS),
    ]
    monkeypatch.setattr(sys, "argv", ["mcdrop", "predict", *arguments, "--ray", "local"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert "(100 rows, 0 from before)" in capsys.readouterr().out
    cases.check(
        cases.read(out), table, cases.whole(torch.export.load(tmp_path / "net.pt2").module(), table)
    )


def test_a_node_killed_midway_loses_and_repeats_no_row(ray: Any, tmp_path: Path) -> None:
    table, model = cases.rows(6000), cases.network()
    data, out = cases.write(table, tmp_path / "in.parquet"), tmp_path / "out.parquet"
    cluster, other = started(1, 2)
    done: list[Any] = []

    def run() -> None:
        options = {**OPTIONS, "batch_rows": 50, "n_samples": 400}
        done.append(predict_file(model, data, out, ray=cluster.address, **options))

    try:
        thread = threading.Thread(target=run)
        thread.start()
        folder = Path(f"{out}.parts")
        while thread.is_alive() and len(list(folder.glob("rows-*.parquet"))) < 10:
            time.sleep(0.01)
        cluster.remove_node(other, allow_graceful=False)
        before = len(list(folder.glob("rows-*.parquet")))
        thread.join(300)
    finally:
        cluster.shutdown()
    assert 10 <= before < 120
    assert done[0].n_rows == 6000
    expected = mcdrop.predict_with_uncertainty(model, table[cases.INPUTS], seed=0, n_samples=400)
    cases.check(cases.read(out), table, expected.to_pandas())
