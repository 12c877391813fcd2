"""The same seed gives the same numbers, however rows are split into batches."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import mcdrop
from mcdrop._engine.settings import Settings
from mcdrop._tasks.predict import predict, sample
from mcdrop._tasks.settings import TaskSettings
from mcdrop.layers import DropConnectLinear

N = 70


def of(n_features: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(N, *n_features, generator=torch.Generator().manual_seed(seed))


class Recurrent(nn.Module):
    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 6, num_layers=2, dropout=0.3, batch_first=batch_first)
        self.drop, self.head = nn.Dropout(0.2), nn.Linear(6, 1)
        self.time = 1 if batch_first else 0

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.time else x.transpose(0, 1)
        hidden = self.drop(self.rnn(x)[0])
        out: Tensor = self.head(hidden.select(self.time, -1))
        return out


class Tokens(nn.Module):
    """Attention, and rows that are merged with tokens for a dropout, rows outer or inner."""

    def __init__(self, *, rows_first: bool) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True)
        self.drop, self.rows_first = nn.Dropout(0.4), rows_first
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        x = x if self.rows_first else x.transpose(0, 1)
        x = self.drop(x.flatten(0, 1)).view(x.shape)
        out: Tensor = self.head(x.mean(dim=1 if self.rows_first else 0))
        return out


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Dropout(0.05), nn.Linear(5, 40), nn.ReLU(), nn.Dropout(0.3), nn.Linear(40, 2)
    )


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.Dropout2d(0.2), nn.ReLU(), nn.Dropout(0.1), nn.Flatten(),
        nn.Linear(64, 9), nn.AlphaDropout(0.3), nn.Linear(9, 1),
    )  # fmt: skip


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, (5,)),
    "cnn": (cnn, (2, 6, 6)),
    "lstm": (lambda: Recurrent(batch_first=True), (4, 3)),
    "lstm, time first": (lambda: Recurrent(batch_first=False), (4, 3)),
    "transformer": (lambda: Tokens(rows_first=True), (4, 8)),
    "transformer, rows inner": (lambda: Tokens(rows_first=False), (4, 8)),
}


def made(name: str) -> tuple[nn.Module, Tensor]:
    make, features = MODELS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return make().eval(), of(features)


def splits(x: Tensor) -> dict[str, tuple[Any, int | None]]:
    return {
        "one row at a time": (x, 1),
        "batches of 7": (x, 7),
        "batches of 64": (x, 64),
        "all": (x, N),
        "a loader": (DataLoader(TensorDataset(x), batch_size=16), None),
        "a list of batches": ([x[:1], x[1:30], x[30:]], None),
    }


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("stratified", [True, False])
def test_numbers_do_not_depend_on_the_split(name: str, stratified: bool) -> None:
    model, x = made(name)
    mc = mcdrop.wrap(model, stratified=stratified)
    whole = mc.predict_with_uncertainty(
        x, n_samples=20, seed=3, keep_samples=True, task="regression"
    )
    assert whole.run is not None
    assert whole.run.depends_on_batches == ""
    assert whole.samples is not None
    for split, (inputs, batch_size) in splits(x).items():
        found = mc.predict_with_uncertainty(
            inputs,
            n_samples=20,
            seed=3,
            batch_size=batch_size,
            keep_samples=True,
            task="regression",
        )
        assert found.samples is not None
        assert torch.allclose(found.samples, whole.samples, rtol=1e-4, atol=1e-5), split
    rows = whole.samples.std(dim=0)
    assert (rows > 0).all()


@pytest.mark.parametrize("sample_chunk", [1, 7, 100])
@pytest.mark.parametrize("strategy", ["vectorized", "sequential"])
def test_numbers_do_not_depend_on_chunks_within_a_split(sample_chunk: int, strategy: Any) -> None:
    model, x = made("lstm, time first")
    whole = mcdrop.wrap(model).sample(x, 40, seed=3)
    found = mcdrop.wrap(model).sample(
        x, 40, seed=3, batch_size=7, sample_chunk=sample_chunk, strategy=strategy
    )
    torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-5)


def test_an_inference_that_begins_at_a_later_row_goes_on_as_the_whole() -> None:
    model, x = made("transformer")
    whole, _ = sample(Settings("sample", model, {}, seed=3), x, 40)
    for first in (1, 33, 64):
        settings = Settings("sample", model, {}, seed=3, first_row=first, batch_size=10)
        part, run = sample(settings, x[first:], 40)
        torch.testing.assert_close(part, whole[:, first:], rtol=1e-4, atol=1e-5)
        assert run.depends_on_batches == ""


def test_rows_that_leave_early_leave_the_others_as_they_are() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 30), nn.ReLU(), nn.Dropout(0.3), nn.Linear(30, 3)).eval()
    x = 2 * of((5,))
    found = []
    for batch_size in (None, 9):
        engine = Settings("predict", net, {}, seed=3, batch_size=batch_size)
        settings = TaskSettings(
            engine, "classification", n_samples="auto", tolerance={"probs": 0.005}
        )
        found.append(predict(settings, x))
    whole, split = found
    assert whole.passes_per_row is not None
    assert split.passes_per_row is not None
    assert len(whole.passes_per_row.unique()) > 2
    assert torch.equal(whole.passes_per_row, split.passes_per_row)
    assert isinstance(whole, mcdrop.ClassificationPrediction)
    assert isinstance(split, mcdrop.ClassificationPrediction)
    torch.testing.assert_close(split.probs, whole.probs)


class OwnNumbers(nn.Module):
    """Drops paths with random numbers of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand(len(x), 1) > 0.5) if self.training else x


class ByRows(nn.Module):
    """Drops from the similarities of all rows."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = nn.functional.dropout(x @ x.t(), 0.5) @ x
        return out


DEPENDENT: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], str]] = {
    "weights": (
        lambda: nn.Sequential(DropConnectLinear(5, 3, p=0.5), nn.Dropout(0.1)),
        {},
        "^0.*: rows cannot be told apart there, so another batch_size draws other numbers$",
    ),
    "random numbers": (
        lambda: nn.Sequential(nn.Dropout(0.1), OwnNumbers()),
        {"stochastic": [OwnNumbers]},
        "^1:random numbers: rows cannot",
    ),
    "all rows together": (ByRows, {}, r"^\(root\):dropout: rows cannot be told apart"),
}


@pytest.mark.parametrize(("make", "options", "text"), DEPENDENT.values(), ids=DEPENDENT.keys())
def test_what_depends_on_the_split_is_said(
    make: Callable[[], nn.Module], options: dict[str, Any], text: str
) -> None:
    run = (
        mcdrop.wrap(make().eval(), **options)
        .predict_with_uncertainty(of((5,)), seed=0, task="regression")
        .run
    )
    assert run is not None
    assert re.search(text, run.depends_on_batches), run.depends_on_batches


def test_shared_masks_do_not_depend_on_the_split() -> None:
    model, x = made("transformer, rows inner")
    mc = mcdrop.wrap(model, masks="shared")
    whole, split = (
        mc.predict_with_uncertainty(x, n_samples=20, seed=0, batch_size=size, task="regression")
        for size in (None, 9)
    )
    torch.testing.assert_close(split.mean, whole.mean, rtol=1e-4, atol=1e-5)
    assert split.run is not None
    assert split.run.depends_on_batches == ""


class Noisy(nn.Module):
    """Adds noise to what it dropped, for every row or one for all."""

    def __init__(self, noise: Callable[[int], Tensor]) -> None:
        super().__init__()
        self.drop, self.noise = nn.Dropout(0.3), noise

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.drop(x) + self.noise(len(x))
        return out


@pytest.mark.parametrize("strategy", ["vectorized", "sequential"])
@pytest.mark.parametrize(
    ("noise", "text"),
    [
        (lambda n: torch.randn(n, 5), r"\(root\):random numbers: every row has numbers of its own"),
        (lambda _: torch.randn(5), ""),
    ],
    ids=["by row", "for all"],
)
def test_noise_of_every_row_beside_shared_masks_is_said_to_depend_on_the_split(
    noise: Callable[[int], Tensor], text: str, strategy: Any
) -> None:
    mc, x = mcdrop.wrap(Noisy(noise), masks="shared"), of((5,))
    whole, split = (
        mc.predict_with_uncertainty(
            x, n_samples=8, seed=0, batch_size=size, task="regression", strategy=strategy
        )
        for size in (None, 9)
    )
    assert whole.run is not None
    assert re.match(text or "$", whole.run.depends_on_batches)
    assert torch.allclose(split.mean, whole.mean) == (not text)


def test_noise_of_numpy_leaves_every_row_its_masks() -> None:
    model = Noisy(lambda n: torch.from_numpy(np.random.normal(size=(n, 5))).float() * 0)
    prediction = mcdrop.predict_with_uncertainty(
        model, of((5,)), n_samples=4, seed=0, task="regression"
    )
    split = mcdrop.predict_with_uncertainty(
        model, of((5,)), n_samples=4, seed=0, task="regression", batch_size=9
    )
    torch.testing.assert_close(split.std, prediction.std)
    assert prediction.run is not None
    assert prediction.run.depends_on_batches.startswith("a global generator: ")


def test_a_model_that_splits_its_rows_itself_cannot_share_masks() -> None:
    class Splits(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([nn.functional.dropout(part, 0.3) for part in x.split(3)])

    # Two rows and three are one part, so that a look at these does not show it.
    with pytest.raises(mcdrop.UnsupportedError, match="calls dropout in .root.:dropout#2 for some"):
        mcdrop.wrap(Splits(), masks="shared").sample(of((5,)), 4, seed=0)


def test_rows_in_equal_batches_of_one_prediction_have_masks_of_their_own() -> None:
    net = nn.Sequential(nn.Linear(5, 50), nn.Dropout(0.5), nn.Linear(50, 1)).eval()
    x = of((5,))[:1].expand(40, 5)
    passes = mcdrop.wrap(net, stratified=False).sample(x, 200, seed=0, batch_size=8)[..., 0]
    correlation = torch.corrcoef(passes.t()) - torch.eye(40)
    # 780 pairs of independent rows: each correlation has a standard error of 1 / sqrt(200).
    assert correlation.abs().max() < 4.5 / 200**0.5
