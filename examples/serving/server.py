"""A server whose requests are predicted together when they arrive together.

    pip install mcdrop fastapi uvicorn
    python examples/serving/server.py --model model.pt2 --port 8000
    curl localhost:8000/predict -H "Content-Type: application/json" -d '{"rows": [[0.1, 0.2, 0.3]]}'

How many requests share a batch depends on the traffic. All rows share the masks of a pass, and the
seed is fixed when the server starts, so a row gets the same numbers alone, in any batch, and from
every replica of the server. Masks that belonged to the place of a row in its batch would give other
numbers with other traffic.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import mcdrop

Rows = Sequence[Sequence[float]]
Answer = Mapping[str, npt.NDArray[Any]]


class Batcher:
    """Predicts rows of several requests in one call.

    Args:
        predict: From rows (n, K) to arrays of n rows by name.
        max_rows: Rows of a call, unless one request alone holds more.
        max_wait: Seconds that the first request waits for others.
    """

    def __init__(
        self,
        predict: Callable[[npt.NDArray[np.float32]], Answer],
        max_rows: int = 256,
        max_wait: float = 0.005,
    ) -> None:
        self._predict, self._max_rows, self._max_wait = predict, max_rows, max_wait
        self._waiting: asyncio.Queue[tuple[Rows, asyncio.Future[Answer]]] = asyncio.Queue()

    async def answer(self, rows: Rows) -> Answer:
        """Wait for the predictions of the rows of one request."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        await self._waiting.put((rows, future))
        return await future

    async def run(self) -> None:
        """Serve requests until this task is canceled."""
        while True:
            batch = [await self._waiting.get()]
            with suppress(asyncio.TimeoutError):
                async with _deadline(self._max_wait):
                    while sum(len(rows) for rows, _ in batch) < self._max_rows:
                        batch.append(await self._waiting.get())
            await self._finish(batch)

    async def _finish(self, batch: list[tuple[Rows, asyncio.Future[Answer]]]) -> None:
        try:
            x = np.concatenate([np.asarray(rows, np.float32) for rows, _ in batch])
            # A thread, so that requests are taken in meanwhile.
            found = await asyncio.to_thread(self._predict, x)
        except (ValueError, mcdrop.McdropError) as error:
            if len(batch) > 1:
                # One of them is at fault; the others get their answers.
                for each in batch:
                    await self._finish([each])
            elif not batch[0][1].done():
                batch[0][1].set_exception(error)
            return
        first = 0
        for rows, future in batch:
            part = {name: values[first : first + len(rows)] for name, values in found.items()}
            first += len(rows)
            if not future.done():
                future.set_result(part)


@asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    """Stop what is awaited inside after some time; `asyncio.timeout` needs Python 3.11."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("no task runs")
    stopped: list[bool] = []

    def stop() -> None:
        stopped.append(True)
        task.cancel()

    handle = asyncio.get_running_loop().call_later(seconds, stop)
    try:
        yield
    except asyncio.CancelledError:
        if stopped:
            raise asyncio.TimeoutError from None
        raise
    finally:
        handle.cancel()


def predictor(
    model: Any, n_samples: int = 100, seed: int = 0
) -> Callable[[npt.NDArray[np.float32]], Answer]:
    """Return what predicts rows with masks that all of them share."""
    mc = mcdrop.wrap(model, masks="shared")

    def predict(x: npt.NDArray[np.float32]) -> Answer:
        found = mc.predict_with_uncertainty(x, n_samples=n_samples, seed=seed)
        return {name: getattr(found, name).numpy() for name in ("mean", "std")}

    return predict


def make_app(batcher: Batcher) -> Any:
    """Return the FastAPI application."""
    from fastapi import Body, FastAPI, HTTPException

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(batcher.run())
        yield
        task.cancel()

    app = FastAPI(title="mcdrop", lifespan=lifespan)

    async def predict(rows: list[list[float]] = Body(embed=True)) -> dict[str, Any]:  # noqa: B008
        if not rows:
            raise HTTPException(422, "rows: expected at least one row.")
        try:
            found = await batcher.answer(rows)
        except (ValueError, mcdrop.McdropError) as error:
            raise HTTPException(422, str(error)) from error
        return {name: values.tolist() for name, values in found.items()}

    # Closures' annotations are strings here, which FastAPI could not resolve.
    predict.__annotations__ = {"rows": list[list[float]], "return": dict[str, Any]}
    app.post("/predict")(predict)
    return app


def main() -> None:
    import uvicorn

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="written by torch.export.save")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    predict = predictor(torch.export.load(options.model), options.samples, options.seed)
    uvicorn.run(make_app(Batcher(predict)), host="127.0.0.1", port=options.port)


if __name__ == "__main__":
    main()
