"""The public entry: wrap a model, draw stochastic passes, predict with uncertainty."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from mcdrop._engine.batch import Batch
from mcdrop._engine.control_flow import refuse_tracing
from mcdrop._engine.function import PosteriorFunction
from mcdrop._engine.inputs import Prepare
from mcdrop._engine.outputs import Select, Selection
from mcdrop._engine.plan import Memory
from mcdrop._engine.record import Masks
from mcdrop._engine.schedule import list_sites, run_one_pass
from mcdrop._engine.settings import AskedStrategy, Settings
from mcdrop._live.compiler import uncompiled
from mcdrop._live.sites import DropoutSite
from mcdrop._tasks.likelihoods import OutputType
from mcdrop._tasks.predict import predict, sample
from mcdrop._tasks.settings import (
    ClassificationTask,
    Options,
    RegressionTask,
    Task,
    TaskSettings,
    controls,
    selection_of,
)
from mcdrop._tasks.tolerance import Tolerated
from mcdrop.checks import checked_model, checked_rates, require_choice, require_count
from mcdrop.prediction.classification import ClassificationPrediction
from mcdrop.prediction.regression import RegressionPrediction

__all__ = ["MCDropout", "wrap"]


def wrap(
    model: nn.Module | torch.export.ExportedProgram,
    p: float | Mapping[str, float] | None = None,
    masks: Masks = "independent",
    stochastic: Iterable[type[nn.Module] | str] = (),
    *,
    stratified: bool = True,
) -> MCDropout:
    """Make a Monte Carlo dropout sampler of a trained model, without changing the model.

    Args:
        model: Any module with dropout, in train or eval mode, which stays as it is; or a
            `torch.export.ExportedProgram`.
        p: Overrides every dropout rate (a float in [0, 1)), or some (a mapping from the site
            names that ``mc.sites(x)`` lists). None keeps the model's own.
        masks: "independent" draws a mask for every row and pass, as PyTorch does. "shared" draws
            one for all rows of all batches ("consistent" MC dropout): each pass is then one
            function from the posterior, the same for a row in any batch or call with that seed.
            The distribution of one row is the same; rows are correlated within a pass, as joint
            statements need.
        stochastic: Further modules, by type or name, whose own `training` flag gates random
            numbers that they draw themselves. DropPath, StochasticDepth and attention layers
            that pass a rate of zero in eval mode are found without it.
        stratified: Make the passes a Latin hypercube: in every 16 of them a unit is dropped in a
            share p, so that the mean over passes is several times more precise at no extra cost.
            Each pass on its own is distributed as before, but passes are correlated; False draws
            them independently of one another. Fewer than 32 passes are other ones than the first
            of more with the same seed: some of them are independent, to estimate the spread.

    Returns:
        An `MCDropout` that shares the model's weights.

    Raises:
        UnsupportedError: If `model` is not a module that can be sampled.
        RangeError: If a rate lies outside [0, 1).

    Source:
        Gal & Ghahramani (2016), "Dropout as a Bayesian approximation".

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))
        >>> prediction = wrap(net).predict_with_uncertainty(torch.zeros(5, 3), seed=0)
        >>> prediction.mean.shape, prediction.n_samples
        (torch.Size([5, 1]), 100)
    """
    return MCDropout(model, p, masks, stochastic, stratified=stratified)


class MCDropout(nn.Module):
    """A model whose dropout stays random at inference, while everything else is in eval mode.

    It shares the model's weights: train, load or move the model and the sampler follows. The
    model itself is only read: predictions run on a structural copy, and dropout calls are
    answered in the calling thread alone.

    Attributes:
        model: The wrapped model.
        rates: Dropout rates by site name; the key "" overrides all.
        masks: "independent" or "shared".
        stochastic: Further modules whose `training` flag gates their randomness.
        stratified: Whether passes are a Latin hypercube: every 16 share a unit's drops evenly.
    """

    def __init__(
        self,
        model: nn.Module | torch.export.ExportedProgram,
        p: float | Mapping[str, float] | None = None,
        masks: Masks = "independent",
        stochastic: Iterable[type[nn.Module] | str] = (),
        *,
        stratified: bool = True,
    ) -> None:
        super().__init__()
        inner = model if isinstance(model, MCDropout) else None
        if inner is not None:
            # What was said about the model holds on, unless it is said anew.
            p = inner.rates if p is None else p
            stochastic = (*inner.stochastic, *stochastic)
            model = inner.model
        require_choice("wrap", "masks", masks, ("independent", "shared"))
        self.rates: dict[str, float] = checked_rates(p)
        self.masks: Masks = masks
        self.stochastic: tuple[type[nn.Module] | str, ...] = tuple(stochastic)
        self.stratified = stratified
        self.model: nn.Module = checked_model(model)
        self._memory = Memory()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run one stochastic pass, with new masks each time; gradients flow as in the model.

        Args:
            *args: What the model takes.
            **kwargs: What the model takes.

        Returns:
            What the model returns.

        Raises:
            NoDropoutError: If the model did not call dropout.
            UnsupportedError: If `torch.export` traces the call.
        """
        refuse_tracing("MCDropout")
        return uncompiled(run_one_pass, self._settings("MCDropout"), Batch(args, kwargs, None))

    def sites(self, inputs: Any) -> tuple[DropoutSite, ...]:
        """List the dropout calls of one pass, in order.

        Args:
            inputs: As for `predict_with_uncertainty`; only the first batch is used.

        Returns:
            One `DropoutSite` per call, with the share of the pass's floating point operations
            before it; empty if the model calls none.

        Example:
            >>> net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.2), nn.Linear(8, 1))
            >>> [(site.name, site.p, site.shape) for site in wrap(net).sites(torch.zeros(5, 3))]
            [('1', 0.2, (5, 8))]
        """
        return list_sites(self._settings("sites"), inputs)

    def sample(
        self,
        inputs: Any,
        n_samples: int = 100,
        *,
        select: Select = None,
        seed: int | None = None,
        batch_size: int | None = None,
        sample_chunk: int | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        progress: bool = False,
        strategy: AskedStrategy = "auto",
        prepare: Prepare | None = None,
    ) -> Tensor:
        """Draw stochastic passes and keep them all.

        Args:
            inputs: As for `predict_with_uncertainty`.
            n_samples: Number of passes, S >= 1.
            select: Which tensor of the output to keep, if the model returns several.
            seed: As for `predict_with_uncertainty`.
            batch_size: As for `predict_with_uncertainty`.
            sample_chunk: As for `predict_with_uncertainty`.
            device: Where to run; None for where the model is.
            dtype: Floating point type to run in; None for the model's.
            progress: Show a progress bar on standard error.
            strategy: As for `predict_with_uncertainty`.
            prepare: Turns an item of a DataLoader, list or generator, or all of `inputs`, into what
                the model takes: ``prepare=lambda item: item["pixels"]``.

        Returns:
            The model's output of every pass, (S, N, ...), on the device of the passes.

        Raises:
            NoDropoutError: If nothing in the model became random.
            NonFiniteError: If an output holds NaN or infinity.
            OutputError: If the output is not one tensor and `select` does not pick one.
        """
        require_count("sample", "n_samples", n_samples, 1)
        settings = self._settings(
            "sample",
            selection=Selection(select),
            seed=seed,
            batch_size=batch_size,
            sample_chunk=sample_chunk,
            device=device,
            dtype=dtype,
            progress=progress,
            strategy=strategy,
            prepare=prepare,
        )
        return uncompiled(sample, settings, inputs, n_samples)[0]

    @overload
    def predict_with_uncertainty(
        self, inputs: Any, *, task: RegressionTask | None = None, **options: Unpack[Options]
    ) -> RegressionPrediction: ...

    @overload
    def predict_with_uncertainty(
        self,
        inputs: Any,
        *,
        task: ClassificationTask,
        **options: Unpack[Options],
    ) -> ClassificationPrediction: ...

    def predict_with_uncertainty(
        self,
        inputs: Any,
        *,
        n_samples: int | Literal["auto"] = 100,
        task: Task | None = None,
        output_type: OutputType = "logits",
        select: Select = None,
        noise_std: float | Tensor | None = None,
        keep_samples: bool = False,
        seed: int | None = None,
        batch_size: int | None = None,
        sample_chunk: int | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        progress: bool = False,
        strategy: AskedStrategy = "auto",
        prepare: Prepare | None = None,
        tolerance: Tolerated = None,
        exact_last: bool = False,
        control_variate: bool | Literal["auto"] = "auto",
    ) -> RegressionPrediction | ClassificationPrediction:
        """Predict with Monte Carlo dropout: the mean over passes and how far passes differ.

        Args:
            inputs: Tensor, ndarray, DataFrame or an object with ``to(device)`` such as a graph (one
                argument of the model); tuple (positional arguments); dict (keyword arguments, keys
                the model does not take are left out; or the one argument of a model that takes a
                dict); Dataset, DataLoader, list or generator (of inputs, or of tuples that begin
                with them, such as (inputs, targets); the rest is left out).
            n_samples: Number of stochastic passes, S >= 2; or "auto": as many as each row needs for
                `tolerance`, at least 64 and at most 10,000, with a warning if that is too few.
            task: "regression" (real outputs), "heteroscedastic" (a pair: the mean and the variance
                of the noise, or its logarithm), "classification" (one score per class along
                dimension 1), "binary" (one score per row for class 1) or "multilabel" (one such
                score per label, (N, L); probabilities are then (N, 2, L)).
            output_type: Kind of number the model returns: "logits", "probs" or "log_probs" for
                classification; "log_variance" or "variance" as the second of a heteroscedastic
                pair.
            select: Which of several outputs is the prediction: a key, index, attribute or callable.
            noise_std: For regression: standard deviation of the observation noise, tau^-1/2 in Gal
                & Ghahramani (2016); units of y, a number or one per output; None for no noise.
            keep_samples: Keep all passes, for mixtures and intervals; memory then grows with S, and
                the last mask is drawn as well (see `control_variate`).
            seed: Same seed, same numbers for any `batch_size`, up to rounding, unless
                `run.depends_on_batches` says otherwise; None draws one from the operating system.
            batch_size: Rows per forward call; None passes the inputs on whole, unless one pass
                over them is large and the model is seen to treat every row on its own.
            sample_chunk: Passes per vectorized call; None chooses.
            device: Where to run; None for where the model is.
            dtype: Floating point type to run in; None for the model's.
            progress: Show a progress bar on standard error.
            strategy: "vectorized" (passes of a chunk in one call), "sequential" (one at a time), or
                "auto": the first where, with every unit kept, it reproduces the model.
            prepare: As for `sample`: ``prepare=lambda item: item["pixels"]``.
            tolerance: For n_samples="auto": the largest Monte Carlo standard error of every
                quantity. A number is relative to the predictive standard deviation of each value
                for regression ("mean" and "std"; 0.05 if left out), and absolute for
                classification ("probs", "probs_std", "predictive_entropy", "mutual_information";
                0.01). A mapping from these names to absolute errors asks for some of them.
            exact_last: For regression: integrate the last dropout in closed form, or refuse.
            control_variate: True takes the linearized network as control variate and integrates the
                last dropout, or draws it 16 times per pass for classes; "auto" does the latter
                alone, where it is next to free; False does neither. See `run.control_variate`.

        Returns:
            A `RegressionPrediction` or `ClassificationPrediction`, rows in order, on their device.

        Raises:
            NoDropoutError: If nothing became random.
            NonFiniteError: If an output holds NaN or infinity; the text names the rows.
            OutputError: If the output is not what `select` and `output_type` say.
            ShapeError: If the inputs have no rows, or the output does not fit the task.
            RangeError: If an option lies outside its range, or `task` is needed and left out.
            UnsupportedError: If `exact_last` or `control_variate` is impossible.

        Source:
            Gal & Ghahramani (2016); Gal (2016), chapter 3.
        """
        settings = self._settings(
            "predict_with_uncertainty",
            selection=selection_of(
                select,
                task,
                noise_std=noise_std,
                exact_last=exact_last,
                control_variate=control_variate,
            ),
            seed=seed,
            batch_size=batch_size,
            sample_chunk=sample_chunk,
            device=device,
            dtype=dtype,
            progress=progress,
            strategy=strategy,
            prepare=prepare,
            **controls(
                task, output_type, control_variate, exact_last=exact_last, keep_samples=keep_samples
            ),
        )
        options = TaskSettings(
            settings, task, output_type, n_samples, noise_std, keep_samples, tolerance
        )
        return uncompiled(predict, options, inputs)

    def function(
        self, seed: int, index: int = 0, *, row_ndim: int = 1, select: Select = None
    ) -> PosteriorFunction:
        """Return one draw from the posterior as a deterministic, differentiable function.

        It is pass `index` of ``wrap(model, masks="shared").sample(x, n_samples, seed=seed)`` for 32
        passes or more: one set of masks for all rows, in every call and any batch shape.

        Args:
            seed: Seed of the masks.
            index: Number of the pass, from 0. Functions of one seed are distributed alike;
                with `stratified` they share the drops of a unit out evenly.
            row_ndim: Dimensions of one row: 1 for feature vectors, 3 for images. All dimensions
                before them are batch dimensions.
            select: As for `predict_with_uncertainty`.

        Returns:
            A function from rows (..., *row) to one output per row. It shares the weights.

        Raises:
            RangeError: If an argument is no number of at least 0.

        Source:
            Thompson (1933) samples functions so to choose what to try next.

        Example:
            >>> net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))
            >>> f = wrap(net).function(seed=0)
            >>> x = torch.rand(5, 3, 2, requires_grad=True)
            >>> y = f(x)
            >>> y.shape, torch.equal(y, f(x)), torch.autograd.grad(y.sum(), x)[0].shape
            (torch.Size([5, 3, 1]), True, torch.Size([5, 3, 2]))
        """
        require_count("function", "seed", seed, 0)
        require_count("function", "index", index, 0)
        require_count("function", "row_ndim", row_ndim, 0)
        settings = self._settings("function", selection=Selection(select), seed=seed)
        return PosteriorFunction(replace(settings, masks="shared"), index, row_ndim)

    def functions(
        self, k: int, seed: int, *, row_ndim: int = 1, select: Select = None
    ) -> tuple[PosteriorFunction, ...]:
        """Return `k` draws from the posterior; see `function`.

        Args:
            k: Number of functions.
            seed: Seed of the masks.
            row_ndim: As for `function`.
            select: As for `function`.
        """
        require_count("functions", "k", k)
        return tuple(self.function(seed, i, row_ndim=row_ndim, select=select) for i in range(k))

    def _settings(self, function: str, **options: Any) -> Settings:
        return Settings(
            function,
            self.model,
            self.rates,
            self.stochastic,
            self.masks,
            self.stratified,
            memory=self._memory,
            **options,
        )
