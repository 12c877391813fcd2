"""Writes an exported program: `torch.export` or ONNX."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from mcdrop._engine.batch import Batch
from mcdrop._export.metadata import METADATA
from mcdrop._export.program import Program
from mcdrop._trees import mapped
from mcdrop.errors import McdropError, RangeError, UnsupportedError

__all__ = ["Check", "Metadata", "Writer", "writer"]

Check: TypeAlias = Callable[[Callable[[Batch], Mapping[str, Tensor]]], None]
"""Given a function that runs what was written, refuses it where it differs."""

Metadata: TypeAlias = Mapping[str, Any]
"""What a program is, as plain values."""

Writer: TypeAlias = Callable[[str, Program, Batch, Path, Check, Metadata], None]

# What the exporters raise for code that they cannot follow; all of these are theirs.
_EXPORT_ERRORS = (
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    AssertionError,
    NotImplementedError,
)


def writer(function: str, path: str | os.PathLike[str]) -> Writer:
    """Return what writes a file of that name.

    Args:
        function: Public function to name in errors.
        path: Name of the file.

    Raises:
        RangeError: If its suffix is neither .pt2 nor .onnx, or there is no such folder.
        UnsupportedError: If it is no path.
    """
    if not isinstance(path, str | os.PathLike):
        raise UnsupportedError.of(
            function, "path", "name a file", repr(path), "Name the file model.pt2 or model.onnx"
        )
    writers: dict[str, Writer] = {".pt2": _write_pt2, ".onnx": _write_onnx}
    given = Path(path)
    if given.suffix not in writers or not given.parent.is_dir():
        raise RangeError.of(
            function,
            "path",
            "be a .pt2 or .onnx file in a folder that exists",
            str(path),
            "Name the file model.pt2 or model.onnx",
        )
    return writers[given.suffix]


def _write_pt2(
    function: str, program: Program, batch: Batch, path: Path, check: Check, metadata: Metadata
) -> None:
    exported = _exported(function, program, batch)
    module = exported.module()
    check(lambda rows: dict(module(*rows.args, **rows.kwargs)))
    part = path.with_name("part." + path.name)
    try:
        torch.export.save(exported, part, extra_files={METADATA: json.dumps(metadata)})
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _write_onnx(
    function: str, program: Program, batch: Batch, path: Path, check: Check, metadata: Metadata
) -> None:
    try:
        import onnxruntime  # type: ignore[import-untyped, unused-ignore]
        import onnxscript  # type: ignore[import-untyped, unused-ignore]  # noqa: F401
    except ImportError as error:
        raise UnsupportedError.of(
            function,
            "path",
            "be a .pt2 file where onnx, onnxscript and onnxruntime are not installed",
            str(path),
            'Install them: pip install "mcdrop[onnx]"',
        ) from error
    exported = _exported(function, program, batch)
    outputs = list(program.names)
    with _quiet():
        try:
            found = torch.onnx.export(
                exported,
                input_names=program.input_names(batch),
                output_names=outputs,
                dynamo=True,
                verbose=False,
            )
        except _EXPORT_ERRORS as error:
            raise _cannot_write(function, "torch.onnx.export", error) from error
    if found is None:
        raise RuntimeError("torch.onnx.export returned no program")
    _rename_inner(found.model.graph, set(outputs))
    found.model.metadata_props[METADATA] = json.dumps(metadata)
    part = path.with_name("part." + path.name)
    found.save(str(part))
    try:
        check(partial(_run_onnx, onnxruntime, str(part), outputs))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _rename_inner(graph: Any, taken: set[str]) -> None:
    """Rename values inside a graph that have the name of an output, which the exporter allows."""
    returned = {id(value) for value in graph.outputs}
    for node in graph:
        for value in node.outputs:
            if value.name in taken and id(value) not in returned:
                value.name = f"inner_{value.name}"


def _run_onnx(
    onnxruntime: Any, path: str, outputs: Sequence[str], batch: Batch
) -> Mapping[str, Tensor]:
    state = onnxruntime.capi.onnxruntime_pybind11_state
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options)
    values = [x.numpy() for x in batch.tensors()]
    given = dict(zip((each.name for each in session.get_inputs()), values, strict=True))
    try:
        found = session.run(None, given)
    except (state.Fail, state.InvalidArgument, state.RuntimeException) as error:
        raise RuntimeError(f"onnxruntime: {error}") from error
    return {name: torch.from_numpy(x) for name, x in zip(outputs, found, strict=True)}


def _exported(function: str, program: Program, batch: Batch) -> torch.export.ExportedProgram:
    rows = torch.export.Dim("rows", min=1)
    shapes = mapped((batch.args, batch.kwargs), lambda _: {0: rows})
    program.take_by_name(batch)
    named = dict(zip(program.parameters_of(batch), (*shapes[0], *shapes[1].values()), strict=True))
    with _quiet():
        try:
            exported = torch.export.export(
                program, batch.args, batch.kwargs or None, dynamic_shapes=named, strict=False
            )
        except _EXPORT_ERRORS as error:
            raise _cannot_write(function, "torch.export", error) from error
    _without_inactive_dropout(exported.graph)
    return exported


def _without_inactive_dropout(graph: torch.fx.Graph) -> None:
    """Drop the calls that only checked their arguments: dropout that is switched off."""
    for node in list(graph.nodes):
        if "dropout" in str(node.target) and node.args[2:3] == (False,):
            node.replace_all_uses_with(node.args[0])
    graph.eliminate_dead_code(is_impure_node=lambda node: node.op in ("placeholder", "output"))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporters have to say about themselves to them."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _cannot_write(function: str, what: str, raised: Exception) -> McdropError:
    """Return the error about what an exporter cannot write; the first cause tells most."""
    error: BaseException = raised
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return UnsupportedError.of(
        function,
        "model",
        f"be one that {what} can write",
        f"{type(error).__name__}: {lines[0][:200]}",
        "Avoid branches on values, or serve it with predict_with_uncertainty",
    )
