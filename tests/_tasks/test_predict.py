"""Results of batches put together: rows in order, however many passes and batches there were."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mcdrop._engine.batch import Batch
from mcdrop._engine.outputs import Selection
from mcdrop._engine.passes import Passes
from mcdrop._engine.plan import Plan
from mcdrop._engine.settings import Settings
from mcdrop._masks.source import Span
from mcdrop._tasks.predict import predict, sample
from mcdrop._tasks.settings import TaskSettings
from mcdrop.prediction.classification import ClassificationPrediction
from mcdrop.prediction.regression import RegressionPrediction

X = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))


def net(n_out: int = 2) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, n_out)).eval()


class Scaled(nn.Module):
    """A row has a mean and, in the second column, how far passes spread."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        number, spread = x[:, :1], x[:, 1:2]
        # With 50 units, passes of a row are many, so that its variance takes passes to know.
        units = self.drop(torch.ones(len(x), 50)).mean(dim=1, keepdim=True) - 1
        return number + spread * units


def settings_of(model: nn.Module, **options: Any) -> Settings:
    return Settings("predict_with_uncertainty", model, {}, **{"seed": 0, **options})


def task_of(model: nn.Module, task: Any = "regression", **options: Any) -> TaskSettings:
    own = {
        name: options.pop(name)
        for name in ("n_samples", "tolerance", "keep_samples", "noise_std", "output_type")
        if name in options
    }
    return TaskSettings(settings_of(model, **options), task, **own)


def test_samples_are_those_whose_moments_are_predicted() -> None:
    model = net()
    passes, run = sample(settings_of(model), X, 48)
    prediction = predict(task_of(model, n_samples=48, keep_samples=True), X)
    assert isinstance(prediction, RegressionPrediction)
    assert passes.shape == (48, 40, 2)
    assert run.n_samples == 48
    assert prediction.samples is not None
    assert torch.equal(prediction.samples, passes)
    torch.testing.assert_close(prediction.mean, passes.double().mean(dim=0).float())
    probs = predict(task_of(model, "classification", n_samples=48), X)
    assert isinstance(probs, ClassificationPrediction)
    torch.testing.assert_close(probs.probs, passes.double().softmax(dim=2).mean(dim=0).float())


def test_a_pair_of_outputs_is_a_mean_and_its_noise() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            out = self.net(x)
            return out[:, :1], out[:, 1:]

    model = Pair()
    passes, _ = sample(settings_of(model.net, stratified=False), X, 32)
    pair: dict[str, Any] = {"selection": Selection(is_pair=True), "output_type": "log_variance"}
    task = task_of(model, "heteroscedastic", n_samples=32, stratified=False, **pair)
    prediction = predict(task, X)
    assert isinstance(prediction, RegressionPrediction)
    # Total variance: that of the means, and the mean of the noise.
    torch.testing.assert_close(prediction.mean, passes[..., :1].mean(dim=0))
    torch.testing.assert_close(prediction.epistemic_variance, passes[..., :1].var(dim=0))
    torch.testing.assert_close(prediction.aleatoric_variance, passes[..., 1:].exp().mean(dim=0))


# More than 16 batches are joined on the way.
@pytest.mark.parametrize("batch_size", [40, 7, 2, 1])
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_rows_come_in_order_from_any_number_of_batches(task: str, batch_size: int) -> None:
    model = net()
    prediction: Any = predict(
        task_of(model, task, n_samples=32, batch_size=batch_size, masks="shared"), X
    )
    whole: Any = predict(task_of(model, task, n_samples=32, masks="shared"), X)
    assert len(prediction) == 40
    # Shared masks: a row has the same passes in any batch.
    for name in ("mean", "variance", "mcse") if task == "regression" else ("probs", "mcse"):
        torch.testing.assert_close(
            getattr(prediction, name), getattr(whole, name), rtol=1e-4, atol=1e-6
        )


def test_samples_of_batches_are_joined_along_rows() -> None:
    model = net()
    found, _ = sample(settings_of(model, batch_size=1, masks="shared"), X, 5)
    whole, _ = sample(settings_of(model, masks="shared"), X, 5)
    torch.testing.assert_close(found, whole)


@pytest.mark.parametrize(
    ("strategy", "batch_size"), [("vectorized", None), ("vectorized", 7), ("sequential", None)]
)
def test_rows_that_settle_at_different_times_come_back_in_order(
    strategy: Any, batch_size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_rows: list[int | None] = []
    original = getattr(Passes, strategy)

    def noted(self: Passes, plan: Plan, batch: Batch, span: Span) -> Tensor:
        n_rows.append(batch.n_rows)
        out: Tensor = original(self, plan, batch, span)
        return out

    monkeypatch.setattr(Passes, strategy, noted)
    numbers = torch.arange(42.0)
    spread = torch.where(numbers % 7 == 3, 2.0, 0.2)
    options: dict[str, Any] = {"batch_size": batch_size, "strategy": strategy, "stratified": False}
    tolerance = {"mean": 0.02}
    task = task_of(Scaled(), n_samples="auto", tolerance=tolerance, **options)
    prediction = predict(task, torch.stack([100 * numbers, spread], dim=1))
    assert isinstance(prediction, RegressionPrediction)
    assert bool(((prediction.mean.squeeze() - 100 * numbers).abs() < 6 * 0.02).all())
    assert bool((prediction.mcse <= 0.02).all())
    # The mean of 50 units has the variance spread^2 / 50, whose mean over passes takes
    # spread^2 / 50 / 0.02^2 of them: 200 for one row in seven, 2 for the others.
    ratio = prediction.epistemic_std.squeeze() / (spread / 50**0.5)
    assert bool(((ratio - 1).abs() < 0.5).all())
    # The others left as soon as they could.
    assert set(n_rows) >= ({42, 6} if batch_size is None else {7, 1})
    assert prediction.run is not None
    assert prediction.run.n_samples > 144


def test_a_row_has_the_passes_of_its_seed_however_long_the_others_run() -> None:
    x = torch.tensor([[0.0, 0.5], [0.0, 2.0], [0.0, 0.5]])
    options: dict[str, Any] = {"tolerance": {"mean": 0.02}, "masks": "shared"}
    together: Any = predict(task_of(Scaled(), n_samples="auto", **options), x)
    alone: Any = predict(task_of(Scaled(), n_samples="auto", **options), x[:1])
    torch.testing.assert_close(together.mean[0], alone.mean[0])
    torch.testing.assert_close(together.mean[2], alone.mean[0])


def test_a_tighter_tolerance_takes_more_passes() -> None:
    def passes(tolerance: float) -> int:
        run = predict(task_of(net(), n_samples="auto", tolerance={"mean": tolerance}), X).run
        assert run is not None
        return run.n_samples

    assert passes(1.0) == 64
    assert passes(0.003) > passes(0.02) >= 64
