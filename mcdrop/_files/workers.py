"""Blocks predicted one after the other here, or side by side on the workers of a Ray cluster.

A block knows the number of its first row, and so does the worker that it is sent to: masks are
those of one process, however many workers there are and however often one of them is lost. Blocks
come back in order, and this process alone writes them, so that a block counts once.
"""

from __future__ import annotations

import io
import os
import pickle
import socket
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import nn

from mcdrop._engine.plan import Memory
from mcdrop._files.blocks import Block
from mcdrop._files.columns import FUNCTION
from mcdrop._files.passes import BlockPredictor, Predicted
from mcdrop._tasks.predict import predict
from mcdrop._tasks.settings import TaskSettings
from mcdrop.errors import McdropError, UnsupportedError

__all__ = ["Predictions", "Worker", "here", "on_ray"]

Predictions: TypeAlias = Callable[[Iterator[Block]], Iterator[tuple[Block, Predicted]]]
"""Predicts blocks in order."""

# Blocks sent out per worker: one to work on, one to wait for it.
_AHEAD = 2
# How long a cluster may take to answer.
_SECONDS = 10


def here(predictor: BlockPredictor) -> Predictions:
    """Return what predicts blocks in this process.

    Args:
        predictor: Predicts a block.
    """

    def predictions(blocks: Iterator[Block]) -> Iterator[tuple[Block, Predicted]]:
        for block in blocks:
            yield block, predictor(block)

    return predictions


@dataclass(frozen=True)
class Worker:
    """What a worker is sent once: the model, and how its passes run.

    Attributes:
        settings: The task, without the model.
        model: The model pickled by this process, or the bytes of a .pt2 file.
        is_program: Whether it is the latter.
    """

    settings: TaskSettings
    model: bytes
    is_program: bool

    @classmethod
    def of(cls, settings: TaskSettings, program: torch.export.ExportedProgram | None) -> Worker:
        """Pack what a worker needs.

        Args:
            settings: The task and how its passes run.
            program: The exported program that the model is made of, if it is one.

        Raises:
            UnsupportedError: If the model cannot be sent to another process.
        """
        engine = replace(settings.engine, model=nn.Identity(), memory=Memory())
        bare = replace(settings, engine=engine)
        if program is not None:
            file = io.BytesIO()
            torch.export.save(program, file)
            return cls(bare, file.getvalue(), True)
        from ray import cloudpickle

        try:
            return cls(bare, cloudpickle.dumps(settings.engine.model), False)
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            kind = type(settings.engine.model).__name__
            reason = next(iter(str(error).splitlines()), "").rstrip(".")
            raise UnsupportedError.of(
                FUNCTION,
                "model",
                "be one that can be sent to other processes",
                f"{kind} ({reason})",
                "Pass the path of a .pt2 file",
            ) from error

    def ready(self) -> TaskSettings:
        """Return the settings with the model, unpacked in the process that asks."""
        if self.is_program:
            module: nn.Module = torch.export.load(io.BytesIO(self.model)).module()
        else:
            module = pickle.loads(self.model)  # noqa: S301
        return replace(self.settings, engine=replace(self.settings.engine, model=module))


@contextmanager
def on_ray(address: str, worker: Worker, predictor: BlockPredictor) -> Iterator[Predictions]:
    """Give what predicts blocks on a Ray cluster.

    A block that a worker could not predict is predicted here again, so that the error names its
    row. One whose worker is lost is sent to another by Ray.

    Args:
        address: Of the cluster, "auto" for the one of this machine, "local" for one of its own.
        worker: What every worker is sent.
        predictor: Predicts a block in this process.

    Raises:
        UnsupportedError: If there is no such cluster.
    """
    import ray

    started = not ray.is_initialized()
    if started:
        _connect(address)
    try:
        sent, key = [ray.put(worker)], uuid.uuid4().hex
        remote = ray.remote(num_cpus=1, max_retries=-1)(_predict_block)

        def predictions(blocks: Iterator[Block]) -> Iterator[tuple[Block, Predicted]]:
            waiting: deque[tuple[Block, Any]] = deque()
            stopped: McdropError | OSError | None = None
            is_over = False
            while True:
                room = _AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
                while not is_over and len(waiting) < room:
                    try:
                        block = next(blocks, None)
                    except (McdropError, OSError) as error:
                        # Blocks before the bad row are finished first.
                        stopped, block = error, None
                    is_over = block is None
                    if block is not None:
                        waiting.append((block, remote.remote(sent, key, block)))
                if not waiting:
                    break
                block, answer = waiting.popleft()
                try:
                    yield block, ray.get(answer)
                except ray.exceptions.RayTaskError:
                    yield block, predictor(block)
            if stopped is not None:
                raise stopped

        yield predictions
    finally:
        if started:
            ray.shutdown()


def _connect(address: str) -> None:
    import ray

    options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        _require_listener(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        reason = next(iter(str(error).strip().splitlines()), "").rstrip(".")
        raise UnsupportedError.of(
            FUNCTION,
            "ray",
            "be the address of a Ray cluster that runs",
            f"{address!r} ({reason})",
            'Start one with ray start --head, or pass "local"',
        ) from error


def _require_listener(address: str) -> None:
    """Raise what the system says where nobody listens; Ray would go on trying for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_SECONDS).close()


_READY: dict[str, TaskSettings] = {}


def _predict_block(sent: list[Any], key: str, block: Block) -> Predicted:
    """Predict a block in a process of Ray's, which keeps the model for the next one.

    Args:
        sent: Reference to the `Worker`; in a list, so that Ray does not fetch it for every block.
        key: Name of what was sent.
        block: The rows.
    """
    if key not in _READY:
        import ray

        _READY.clear()
        torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
        _READY[key] = ray.get(sent[0]).ready()
    settings = _READY[key]
    engine = replace(settings.engine, first_row=block.first)
    # This process may have no such device as that of a worker.
    return predict(replace(settings, engine=engine), block.inputs).to("cpu")
