"""Models with uncertainty in MLflow: saved, logged, served and run on Spark as a pyfunc.

What is saved is an exported program (.pt2) and the options of its predictions as JSON. Nothing in
it is pickled, and the code of the model is not needed to load it.

Servers and Spark cut rows into batches as they like and tell nobody their numbers, so passes share
their masks: each pass is one function, and a row gets the same numbers in any batch, on any worker,
in any order. A mask that belonged to the place of a row in its batch would change with the batch.
"""

from __future__ import annotations

import copy
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import mcdrop
from mcdrop._engine.inputs import InputReader
from mcdrop._files.programs import read_exported
from mcdrop._tasks.likelihoods import OutputType
from mcdrop._tasks.settings import Task
from mcdrop.checks import require_count, require_installed
from mcdrop.errors import McdropError, UnsupportedError
from mcdrop.prediction.tables import columns_of
from mcdrop.wrapper import MCDropout, wrap

__all__ = ["load_model", "log_model", "save_model"]

_FOLDER = "mcdrop"
_PROGRAM, _OPTIONS = "model.pt2", "options.json"
# Code that MLflow keeps beside the program and runs when it loads it.
_CODE = """from mlflow.models import set_model

from mcdrop.mlflow import _python_model

set_model(_python_model())
"""
# Passes in which a unit of a usual rate is dropped at least once.
_COMPARED = 16
_PARAMS = ("n_samples", "seed", "task")


def save_model(
    model: nn.Module | MCDropout | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    input_example: Any,
    task: Task | None = None,
    output_type: OutputType = "logits",
    select: str | int | None = None,
    noise_std: float | None = None,
    n_samples: int = 100,
    seed: int = 0,
    **options: Any,
) -> None:
    """Save a model as an MLflow pyfunc that predicts with uncertainty.

    ``mlflow.pyfunc.load_model(path).predict(rows)`` returns a table with the columns that `save` of
    a prediction writes. ``predict(rows, params={"n_samples": 50, "seed": 1})`` overrides what is
    given here, `task` too. All rows share the masks of a pass.

    Args:
        model: A model with dropout; `wrap(model, ...)`, whose rates and strata then hold; or a .pt2
            file, also one of `mcdrop.export`, whose passes are fixed.
        path: Folder to write.
        input_example: A few rows, as a DataFrame, an array or a tensor; two or more. They set the
            signature and are kept beside the model.
        task: As for `predict_with_uncertainty`.
        output_type: As for `predict_with_uncertainty`.
        select: Key or index of the output that is the prediction, if the model returns several.
        noise_std: Standard deviation of the observation noise, units of y.
        n_samples: Passes unless `params` says otherwise.
        seed: Seed unless `params` says otherwise.
        **options: For ``mlflow.pyfunc.save_model``, such as `pip_requirements` and `metadata`.

    Raises:
        UnsupportedError: If mlflow is not installed, or the model cannot be exported with its
            dropout.
        McdropError: What `predict_with_uncertainty` raises for the example.
    """
    _write(
        "save_model",
        _Saved(model, input_example, task, output_type, select, noise_std, n_samples, seed),
        {"path": os.fspath(path), **options},
    )


def log_model(
    model: nn.Module | MCDropout | str | os.PathLike[str],
    name: str,
    *,
    input_example: Any,
    task: Task | None = None,
    output_type: OutputType = "logits",
    select: str | int | None = None,
    noise_std: float | None = None,
    n_samples: int = 100,
    seed: int = 0,
    **options: Any,
) -> Any:
    """Log a model to the active run of MLflow; see `save_model`.

    Args:
        model: As for `save_model`.
        name: Name of the model in the run.
        input_example: As for `save_model`.
        task: As for `save_model`.
        output_type: As for `save_model`.
        select: As for `save_model`.
        noise_std: As for `save_model`.
        n_samples: As for `save_model`.
        seed: As for `save_model`.
        **options: For ``mlflow.pyfunc.log_model``, such as `registered_model_name`.

    Returns:
        The `ModelInfo` of MLflow, whose `model_uri` names the model.

    Raises:
        McdropError: As for `save_model`.
    """
    return _write(
        "log_model",
        _Saved(model, input_example, task, output_type, select, noise_std, n_samples, seed),
        {"name": name, **options},
    )


def load_model(model_uri: str) -> MCDropout:
    """Load a model that was saved or logged, to sample it here.

    Args:
        model_uri: Folder or URI, such as "models:/name/1" or "runs:/<run>/name".

    Returns:
        The model with its rates and strata; all rows share the masks of a pass.

    Raises:
        UnsupportedError: If mlflow is not installed, the model is none of `save_model`, or its
            passes are fixed.
    """
    require_installed("load_model", "mlflow", "mlflow")
    from mlflow.artifacts import download_artifacts

    folder = Path(download_artifacts(model_uri)) / "artifacts" / _FOLDER
    if not (folder / _OPTIONS).exists():
        condition = "name a model of mcdrop.mlflow.save_model"
        remedy = "Load others with mlflow.pyfunc.load_model"
        raise UnsupportedError.of("load_model", "model_uri", condition, model_uri, remedy)
    loaded = _Loaded.of(folder)
    if loaded.sampler is None:
        condition = "name a model whose dropout is alive"
        found = f"{model_uri}, a program of mcdrop.export"
        remedy = "Load it with mlflow.pyfunc.load_model"
        raise UnsupportedError.of("load_model", "model_uri", condition, found, remedy)
    return loaded.sampler


@dataclass(frozen=True)
class _Saved:
    """What is to be saved, as the caller gave it."""

    model: Any
    example: Any
    task: Task | None
    output_type: OutputType
    select: str | int | None
    noise_std: float | None
    n_samples: int
    seed: int


@dataclass(frozen=True)
class _Loaded:
    """A program and the options of its predictions.

    Attributes:
        sampler: The model; None if its passes are fixed.
        program: The program of fixed passes; None if dropout is alive.
        options: Of `predict_with_uncertainty`.
    """

    sampler: MCDropout | None
    program: Any
    options: Mapping[str, Any]

    @classmethod
    def of(cls, folder: Path) -> _Loaded:
        """Read what `save_model` wrote."""
        kept = json.loads((folder / _OPTIONS).read_text())
        program, metadata = read_exported(folder / _PROGRAM)
        if metadata is not None:
            return cls(None, program.module(), {})
        sampler = wrap(program, kept["p"] or None, "shared", stratified=kept["stratified"])
        return cls(sampler, None, kept["options"])

    def table(self, rows: Any, params: Mapping[str, Any] | None) -> Any:
        """Predict rows, and return a DataFrame with their index."""
        import pandas as pd

        index = rows.index if isinstance(rows, pd.DataFrame | pd.Series) else None
        rows = _one_array(rows)
        if self.sampler is None:
            with torch.no_grad():
                found = self.program(torch.as_tensor(rows, dtype=_float_of(self.program)))
            arrays = {name: x.numpy() for name, x in found.items()}
        else:
            asked = {**self.options, **{k: v for k, v in (params or {}).items() if k in _PARAMS}}
            task: Any = asked.pop("task") or None
            prediction = self.sampler.predict_with_uncertainty(rows, task=task, **asked)
            arrays = prediction.to_numpy()
        return pd.DataFrame(columns_of(arrays), index=index)


def _python_model() -> Any:
    """Return the object that MLflow calls; its class can be derived only where MLflow is."""
    import pandas as pd
    from mlflow.pyfunc import PythonModel

    def load_context(self: Any, context: Any) -> None:
        self.loaded = _Loaded.of(Path(context.artifacts[_FOLDER]))

    def predict(self: Any, context: Any, model_input: Any, params: Any = None) -> Any:
        return self.loaded.table(model_input, params)

    # MLflow reads the hint: rows are checked against the signature, not against a type.
    predict.__annotations__ = {"model_input": pd.DataFrame}
    methods = {"load_context": load_context, "predict": predict}
    return type("PredictsWithUncertainty", (PythonModel,), methods)()


def _write(function: str, saved: _Saved, options: dict[str, Any]) -> Any:
    """Write the program and its options, and hand them to MLflow."""
    require_installed(function, "mlflow", "mlflow")
    import mlflow
    from mlflow.models import infer_signature

    require_count(function, "n_samples", saved.n_samples, 2)
    require_count(function, "seed", saved.seed, 0)
    with tempfile.TemporaryDirectory() as name:
        folder, code = Path(name) / _FOLDER, Path(name) / "model_code.py"
        folder.mkdir()
        _write_program(function, saved, folder)
        code.write_text(_CODE)
        loaded = _Loaded.of(folder)
        example = saved.example
        if isinstance(example, torch.Tensor):
            example = example.detach().cpu().numpy()
        params = None
        if loaded.sampler is not None:
            params = {"n_samples": saved.n_samples, "seed": saved.seed, "task": saved.task or ""}
        given = {
            "signature": infer_signature(example, loaded.table(example, None), params),
            "input_example": example,
            "pip_requirements": [f"mcdrop=={mcdrop.__version__}", f"torch=={_release()}"],
            **options,
        }
        act = getattr(mlflow.pyfunc, function)
        return act(python_model=str(code), artifacts={_FOLDER: str(folder)}, **given)


def _write_program(function: str, saved: _Saved, folder: Path) -> None:
    """Write a program whose dropout is that of the model, and how it is to run."""
    model = saved.model
    options = {
        "task": saved.task,
        "output_type": saved.output_type,
        "select": saved.select,
        "noise_std": saved.noise_std,
        "n_samples": saved.n_samples,
        "seed": saved.seed,
    }
    mc: MCDropout | None = None
    if isinstance(model, str | os.PathLike):
        program, metadata = read_exported(Path(model))
        (folder / _PROGRAM).write_bytes(Path(model).read_bytes())
        mc = None if metadata is not None else wrap(program)
    else:
        given = model if isinstance(model, MCDropout) else wrap(model)
        mc = MCDropout(given, masks="shared", stratified=given.stratified)
        program = _program(function, mc, saved.example, options)
        torch.export.save(program, folder / _PROGRAM)
    kept = {
        "options": options,
        "p": {} if mc is None else mc.rates,
        "stratified": True if mc is None else mc.stratified,
    }
    (folder / _OPTIONS).write_text(json.dumps(kept, indent=2))


def _program(
    function: str, mc: MCDropout, example: Any, options: Mapping[str, Any]
) -> torch.export.ExportedProgram:
    """Export a model in eval or train mode, whichever keeps its dropout as it is."""
    rows = _one_array(example)
    # With every mask drawn: what can be integrated differs between a module and its program.
    asked: Any = {**options, "n_samples": _COMPARED, "control_variate": False}
    expected = mc.predict_with_uncertainty(rows, **asked).to_numpy()
    reader = InputReader(function, mc.model, torch.device("cpu"), None, None)
    batch = next(iter(reader.batches(rows)))
    own = copy.deepcopy(mc.model).cpu()
    dynamic = ({0: torch.export.Dim("rows", min=1)},)
    reason = "another prediction once it is exported"
    for train in (False, True):
        try:
            program = torch.export.export(own.train(train), batch.args, dynamic_shapes=dynamic)
            twin = wrap(program, mc.rates or None, "shared", stratified=mc.stratified)
            found = twin.predict_with_uncertainty(rows, **asked).to_numpy()
        except (McdropError, RuntimeError, TypeError, ValueError, LookupError) as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            continue
        same = found.keys() == expected.keys() and all(
            np.allclose(found[name], values, rtol=1e-3, atol=1e-5, equal_nan=True)
            for name, values in expected.items()
        )
        if same:
            return program
    raise UnsupportedError.of(
        function,
        "model",
        "be one that torch.export writes with its dropout",
        f"{type(mc.model).__name__} ({reason[:200].rstrip('.')})",
        "Pass a .pt2 file of mcdrop.export, in which the passes are fixed",
    )


def _one_array(rows: Any) -> Any:
    """Return rows as one array, side by side where they are columns."""
    if isinstance(rows, Mapping):
        return np.column_stack([*rows.values()])
    return rows.to_numpy() if hasattr(rows, "to_numpy") else rows


def _float_of(program: nn.Module) -> torch.dtype:
    """Return the type of a program's weights."""
    floats = (x.dtype for x in [*program.parameters(), *program.buffers()] if x.is_floating_point())
    return next(floats, torch.float32)


def _release() -> str:
    """Return the version of torch without its build."""
    return torch.__version__.split("+")[0]
