"""No connection is opened by importing, predicting, reporting or reading files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

_WATCHED = """
import sys
sys.path.insert(0, sys.argv[1])
calls = []
def watch(event, arguments):
    if event.startswith("socket.") or event == "urllib.Request":
        calls.append((event, arguments))
sys.addaudithook(watch)
import socket
socket.socket().close()
assert calls, "the watch sees nothing"
calls.clear()

import mcdrop, torch
for name in mcdrop.__all__:
    getattr(mcdrop, name)
net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
x = torch.randn(30, 3)
prediction = mcdrop.predict_with_uncertainty(net.eval(), x, seed=0, keep_samples=True)
prediction.save("p.pt")
mcdrop.calibration_report(mcdrop.load_prediction("p.pt"), torch.randn(30, 1)).to_html("r.html")
prediction.save("in.csv")
rows = torch.export.Dim("rows", min=2)
program = torch.export.export(net, (x,), dynamic_shapes=({0: rows},))
torch.export.save(program, "net.pt2")
mcdrop.predict_file("net.pt2", "in.csv", "out.csv", columns=["mean", "mcse", "std"])
from mcdrop.cli import main
for sys.argv in (["mcdrop", "report", "p.pt", "y.csv"], ["mcdrop", "inspect", "net.pt2"]):
    try:
        main()
    except SystemExit:
        pass
assert not calls, calls
print("silent")
"""


@pytest.mark.slow
def test_no_connection_is_opened(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED, str(ROOT)],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "silent"
