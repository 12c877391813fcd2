"""What is exported of a model, and of an estimator."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mcdrop._engine.batch import Batch
from mcdrop._engine.outputs import Selection
from mcdrop._engine.settings import Settings
from mcdrop._export.exporter import Job
from mcdrop._export.members import MemberClasses, MemberRegression
from mcdrop._export.recalibrating import Steps
from mcdrop._export.summary import ClassSummary, RegressionSummary, Summary
from mcdrop._tasks.predict import predict
from mcdrop._tasks.settings import TaskSettings
from mcdrop.checks import checked_noise
from mcdrop.errors import UnsupportedError
from mcdrop.estimators import MCDropoutClassifier, MCDropoutRegressor

__all__ = ["Estimator", "example_of", "job_of_estimator", "job_of_model"]

Estimator = MCDropoutClassifier | MCDropoutRegressor


def job_of_model(asked: TaskSettings, steps: Steps) -> Job:
    """Return what is exported of a model.

    Args:
        asked: The task and how its passes run.
        steps: Recalibrations to bake in.
    """
    n_samples = int(asked.n_samples)
    summary = _summary(asked, n_samples, steps.temperature)
    names = summary.names

    def expected(batch: Batch) -> dict[str, Tensor]:
        prediction = predict(asked, dict(batch.kwargs) if batch.kwargs else batch.args)
        return steps.expected(prediction, names)

    noise = checked_noise(asked.engine.function, asked.noise_std)
    described = {
        "model": type(asked.engine.model).__name__,
        "task": asked.task or "regression",
        "output_type": asked.output_type,
        "noise_std": None if noise is None else noise.tolist(),
        "recalibration": steps.described,
    }
    # Few stratified passes are drawn differently, so the engine has to know how many there are.
    engine = replace(asked.engine, n_samples=n_samples)
    return Job(engine, n_samples, steps.added_to(summary), expected, described)


def _summary(asked: TaskSettings, n_samples: int, temperature: float) -> Summary:
    strata = asked.engine.stratified
    if asked.is_regression:
        return RegressionSummary(
            n_samples,
            stratified=strata,
            noise_std=checked_noise(asked.engine.function, asked.noise_std),
            spread=asked.output_type if asked.task == "heteroscedastic" else None,
        )
    return ClassSummary(
        n_samples,
        stratified=strata,
        output_type=asked.output_type,
        binary=asked.task in ("binary", "multilabel"),
        multilabel=asked.task == "multilabel",
        temperature=temperature,
    )


def job_of_estimator(
    function: str, estimator: Estimator, n_samples: int | None, seed: int | None, steps: Steps
) -> Job:
    """Return what is exported of a fitted estimator: its scalers, its members and their passes.

    Args:
        function: Public function to name in errors.
        estimator: A fitted estimator.
        n_samples: Passes of all members together; None for those of the estimator.
        seed: Seed of the masks; None for that of the estimator.
        steps: Recalibrations to bake in.

    Raises:
        UnsupportedError: If it drops nothing, or knows a single class.
    """
    own = copy.copy(estimator)
    own.n_samples = estimator.n_samples if n_samples is None else n_samples
    own.seed_ = estimator.seed_ if seed is None else seed
    sampler = own.sampler_
    n_members = int(getattr(own.module_, "n_members", 1))
    classes = getattr(own, "classes_", None)
    if getattr(own.module_, "p", None) == 0 or (classes is not None and len(classes) == 1):
        found = "p=0" if classes is None or len(classes) > 1 else "one class, which is certain"
        raise UnsupportedError.of(
            function,
            "model",
            "have something to drop",
            f"{type(own).__name__} with {found}",
            "Export its module_ with torch.export",
        )
    each = max(2, math.ceil(own.n_samples / n_members))
    engine = Settings(
        function,
        sampler.model,
        sampler.rates,
        sampler.stochastic,
        "shared",
        sampler.stratified,
        selection=Selection(None),
        seed=own.seed_,
        device="cpu",
        n_samples=each,
    )
    summary: Summary = MemberClasses()
    if isinstance(own, MCDropoutRegressor):
        summary = MemberRegression(
            each,
            stratified=sampler.stratified,
            noise_std=own.noise_std_,
            heteroscedastic=own._predicts_noise,
        )
    names = summary.names

    def expected(batch: Batch) -> dict[str, Tensor]:
        prediction = own.predict_with_uncertainty(batch.tensors()[0].double().numpy())
        return steps.expected(prediction, names)

    described = {
        "model": type(own).__name__,
        "task": "regression" if classes is None else "classification",
        "members": n_members,
        "classes": None if classes is None else classes.tolist(),
        "noise_std": None if getattr(own, "noise_std_", None) is None else own.noise_std_.tolist(),
        "recalibration": steps.described,
    }
    return Job(engine, each, steps.added_to(summary), expected, described)


def example_of(estimator: Estimator, rows: Any) -> Tensor:
    """Return rows as the estimator's network takes them.

    Raises:
        ValueError: If they are not what the estimator was fitted on.
    """
    plain = rows.detach().cpu().numpy() if isinstance(rows, Tensor) else rows
    checked = estimator._validated(plain, reset=False)
    weights = next((p.dtype for p in estimator.module_.parameters()), torch.float64)
    return torch.from_numpy(np.array(checked, np.float64)).to(weights)
