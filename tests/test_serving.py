"""The example server: requests that arrive together are one batch with the numbers of one."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

import mcdrop

ROWS = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
SCRIPT = Path(__file__).parents[1] / "examples" / "serving" / "server.py"


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    spec = importlib.util.spec_from_file_location("server", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["server"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["server"]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1)).eval()


def expected() -> mcdrop.RegressionPrediction:
    mc = mcdrop.wrap(network(), masks="shared")
    return mc.predict_with_uncertainty(ROWS, n_samples=100, seed=0)


def test_requests_that_arrive_together_are_predicted_together(server: Any) -> None:
    calls: list[int] = []
    predict = server.predictor(network())

    def counted(x: npt.NDArray[np.float32]) -> Any:
        calls.append(len(x))
        return predict(x)

    async def ask() -> list[Any]:
        batcher = server.Batcher(counted, max_rows=16, max_wait=0.05)
        task = asyncio.create_task(batcher.run())
        try:
            requests = [batcher.answer(ROWS[i : i + 2].tolist()) for i in range(0, 40, 2)]
            return await asyncio.gather(*requests)
        finally:
            task.cancel()

    answers = asyncio.run(ask())
    assert sum(calls) == 40
    assert max(calls) <= 17
    assert len(calls) < 20
    whole = expected()
    for name in ("mean", "std"):
        found = np.concatenate([answer[name] for answer in answers])
        np.testing.assert_allclose(found, getattr(whole, name), rtol=1e-4)


def test_a_bad_request_spoils_no_other(server: Any) -> None:
    async def ask() -> list[Any]:
        batcher = server.Batcher(server.predictor(network()), max_wait=0.05)
        task = asyncio.create_task(batcher.run())
        rows = [ROWS[:1].tolist(), [[1.0, 2.0]], [[1.0, 2.0, float("nan")]], ROWS[1:2].tolist()]
        try:
            return await asyncio.gather(*map(batcher.answer, rows), return_exceptions=True)
        finally:
            task.cancel()

    first, short, nan, last = asyncio.run(ask())
    assert isinstance(short, ValueError)
    assert isinstance(nan, mcdrop.NonFiniteError)
    found = np.concatenate([first["std"], last["std"]])
    np.testing.assert_allclose(found, expected().std[:2], rtol=1e-4)


@pytest.mark.filterwarnings("default")
def test_the_server_answers_over_http(server: Any) -> None:
    pytest.importorskip("fastapi", reason="`make integrations` installs fastapi")
    uvicorn = pytest.importorskip("uvicorn", reason="`make integrations` installs uvicorn")
    app = server.make_app(server.Batcher(server.predictor(network())))
    running = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        while not running.started:
            assert thread.is_alive()
        port = running.servers[0].sockets[0].getsockname()[1]

        def ask(rows: list[list[float]]) -> dict[str, Any]:
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/predict",
                json.dumps({"rows": rows}).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                found: dict[str, Any] = json.load(answer)
            return found

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, ([row.tolist()] for row in ROWS)))
        found = np.concatenate([answer["std"] for answer in answers])
        np.testing.assert_allclose(found, expected().std, rtol=1e-4)
        for rows in ([], [[1.0, 2.0]]):
            with pytest.raises(urllib.error.HTTPError, match="422") as refused:
                ask(rows)
            refused.value.close()
    finally:
        running.should_exit = True
        thread.join(30)
