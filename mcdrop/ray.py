"""Predictions inside Ray Data: the same numbers on any number of workers.

Ray cuts rows into batches as it likes, and may run one again on another node. A mask that belonged
to the place of a row in its batch would then give other numbers each time. So either every row
carries a whole number of its own, which decides its masks, or all rows share the masks of a pass.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mcdrop._engine.record import Masks
from mcdrop._engine.settings import Settings
from mcdrop._tasks.likelihoods import OutputType
from mcdrop._tasks.predict import predict
from mcdrop._tasks.settings import Task, TaskSettings, controls, selection_of
from mcdrop.checks import require_count
from mcdrop.errors import RangeError, UnsupportedError
from mcdrop.prediction.tables import columns_of
from mcdrop.wrapper import MCDropout, wrap

__all__ = ["RowPredictor"]

_FUNCTION = "RowPredictor"
Columns = Mapping[str, npt.NDArray[Any]]


class RowPredictor:
    """A callable for ``Dataset.map_batches`` that adds predictions to the columns of a batch.

    With `row_column` each row has masks of its own, drawn from the seed and from that number, as
    `predict_file` draws them. Without it, masks are shared by all rows. Either way a row gets the
    same numbers in any batch, on any worker, however often it is run. It needs no Ray itself.

    ``ds.map_batches(RowPredictor, fn_constructor_args=[model], fn_constructor_kwargs={"columns":
    ["u", "v"], "row_column": "row"}, compute=ray.data.ActorPoolStrategy(size=2))`` runs it.

    Args:
        model: A model with dropout or `wrap(model, ...)`; Ray copies it to the workers. Or the
            bytes of a .pt2 file.
        columns: Names of the inputs in the order in which the model takes them; or of one column of
            arrays of equal shape.
        row_column: Column of whole numbers from 0 to 2^40, all different; None for shared masks.
        task: As for `predict_with_uncertainty`.
        output_type: As for `predict_with_uncertainty`.
        select: Key or index of the output that is the prediction, if the model returns several.
        noise_std: As for `predict_with_uncertainty`.
        n_samples: Passes, S >= 2.
        seed: Same seed, same numbers.
        device: Where to run; None for where the model is.

    Raises:
        RangeError: If an option lies outside its range, or masks of a wrapper contradict
            `row_column`.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))
        >>> predict_rows = RowPredictor(net, ["u", "v"], row_column="row")
        >>> batch = {"row": np.arange(4), "u": np.zeros(4), "v": np.ones(4)}
        >>> whole = predict_rows(batch)
        >>> sorted(whole)[:3], len(whole["mean"])
        (['aleatoric_std', 'aleatoric_variance', 'epistemic_std'], 4)
        >>> part = predict_rows({name: values[2:] for name, values in batch.items()})
        >>> bool(np.allclose(whole["mean"][2:], part["mean"]))
        True
    """

    def __init__(
        self,
        model: nn.Module | MCDropout | bytes,
        columns: Sequence[str],
        *,
        row_column: str | None = None,
        task: Task | None = None,
        output_type: OutputType = "logits",
        select: str | int | None = None,
        noise_std: float | Tensor | None = None,
        n_samples: int = 100,
        seed: int = 0,
        device: str | torch.device | None = None,
    ) -> None:
        require_count(_FUNCTION, "n_samples", n_samples, 2)
        require_count(_FUNCTION, "seed", seed, 0)
        mc = _wrapped(model, row_column)
        self._columns, self._row_column = list(columns), row_column
        last = controls(task, output_type, "auto", exact_last=False, keep_samples=False)
        selection = selection_of(
            select, task, noise_std=noise_std, exact_last=False, control_variate=False
        )
        masks: Masks = "shared" if row_column is None else "independent"
        engine = Settings(
            _FUNCTION,
            mc.model,
            mc.rates,
            mc.stochastic,
            masks,
            mc.stratified,
            selection=selection,
            seed=seed,
            device=device,
            n_samples=n_samples,
            **last,
        )
        self._asked = TaskSettings(engine, task, output_type, n_samples, noise_std)

    def __call__(self, batch: Columns) -> dict[str, npt.NDArray[Any]]:
        """Predict the rows of a batch.

        Args:
            batch: Columns by name, as Ray passes them with ``batch_format="numpy"``, the default.

        Returns:
            The columns that came in, and those of the predictions.

        Raises:
            UnsupportedError: If row numbers are not whole, or the model draws numbers that belong
                to a batch.
            RangeError: If a column is missing, or has the name of a prediction.
        """
        missing = [name for name in self._read if name not in batch]
        if missing:
            found = f"{list(batch)}, without {missing}"
            raise RangeError.of(_FUNCTION, "batch", "hold its columns", found, "Correct the names")
        inputs = [np.asarray(batch[name]) for name in self._columns]
        x = np.column_stack(inputs) if len(inputs) > 1 or inputs[0].ndim == 1 else inputs[0]
        if not len(x):
            return dict(batch)
        prediction = predict(self._numbered(batch), x)
        run = prediction.run
        if run is not None and run.depends_on_batches:
            condition = "give a row the same numbers in any batch"
            remedy = "Leave row_column out, so that all rows share their masks"
            raise UnsupportedError.of(_FUNCTION, "model", condition, run.depends_on_batches, remedy)
        predicted = columns_of(prediction.to_numpy())
        both = sorted(batch.keys() & predicted.keys())
        if both:
            condition = "have names of their own beside those of the predictions"
            raise RangeError.of(_FUNCTION, "batch", condition, both, "Rename the columns")
        return {**batch, **predicted}

    @property
    def _read(self) -> list[str]:
        return [*self._columns, *([] if self._row_column is None else [self._row_column])]

    def _numbered(self, batch: Columns) -> TaskSettings:
        """Return the settings with the numbers of these rows."""
        if self._row_column is None:
            return self._asked
        numbers = np.asarray(batch[self._row_column])
        if numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() > 2**40:
            found = f"{numbers.dtype} from {numbers.min()} to {numbers.max()}"
            condition = f"hold whole numbers from 0 to 2^40 in {self._row_column!r}"
            remedy = "Number the rows before they are shuffled"
            raise UnsupportedError.of(_FUNCTION, "row_column", condition, found, remedy)
        engine = replace(self._asked.engine, row_numbers=tuple(numbers.tolist()))
        return replace(self._asked, engine=engine)


def _wrapped(model: nn.Module | MCDropout | bytes, row_column: str | None) -> MCDropout:
    """Return the wrapper of a model; one with shared masks has no use for numbers of rows."""
    if isinstance(model, bytes):
        model = torch.export.load(io.BytesIO(model)).module()
    if not isinstance(model, MCDropout):
        return wrap(model)
    if model.masks == "shared" and row_column is not None:
        raise RangeError.of(
            _FUNCTION,
            "row_column",
            "be None for masks that all rows share",
            repr(row_column),
            'Leave it out, or pass wrap(model, masks="independent")',
        )
    return model
