"""Recipes for frameworks that own the loop, where these are installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import mcdrop


def test_a_hugging_face_batch_is_predicted_as_its_logits() -> None:
    transformers: Any = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=3,
    )
    mc = mcdrop.wrap(transformers.BertForSequenceClassification(config))
    ids = torch.randint(0, 20, (6, 5))
    options: dict[str, Any] = {"task": "classification", "select": "logits", "seed": 0}
    whole = mc.predict_with_uncertainty(
        transformers.BatchEncoding({"input_ids": ids, "row": torch.arange(6)}), **options
    )
    assert whole.probs.shape == (6, 3)
    items = [{"input_ids": row, "row": i} for i, row in enumerate(ids)]
    batches: Any = DataLoader(items, batch_size=4)  # type: ignore[arg-type]
    read = mc.predict_with_uncertainty(batches, **options)
    # Batches have masks of their own; the first is drawn alike.
    torch.testing.assert_close(read.probs, whole.probs, atol=0.05, rtol=0)


def test_lightning_s_predict_returns_one_prediction_per_batch() -> None:
    lightning: Any = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.2), nn.Linear(8, 2))

        def predict_step(self, batch: Any, batch_idx: int) -> mcdrop.ClassificationPrediction:
            return mcdrop.wrap(self.net).predict_with_uncertainty(
                batch, task="classification", seed=batch_idx
            )

    trainer = lightning.Trainer(logger=False, enable_progress_bar=False, accelerator="cpu")
    found = trainer.predict(Module(), DataLoader(torch.randn(10, 3), batch_size=4))  # type: ignore[arg-type]
    assert [len(each) for each in found] == [4, 4, 2]


def test_a_graph_of_geometric_is_one_argument() -> None:
    geometric: Any = pytest.importorskip("torch_geometric")

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = geometric.nn.GCNConv(3, 2)
            self.drop = nn.Dropout(0.3)

        def forward(self, data: Any) -> Tensor:
            out: Tensor = self.convolution(self.drop(data.x), data.edge_index)
            return out

    graph = geometric.data.Data(torch.randn(4, 3), torch.tensor([[0, 1], [1, 2]]))
    found = mcdrop.predict_with_uncertainty(Network(), graph, task="classification")
    assert found.probs.shape == (4, 2)


def test_a_net_of_skorch_becomes_an_estimator() -> None:
    skorch: Any = pytest.importorskip("skorch")
    module = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.2), nn.Linear(8, 2))
    net = skorch.NeuralNetClassifier(module, criterion=nn.CrossEntropyLoss, verbose=0)
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    net.fit(x, (x[:, 0] > 0).astype(np.int64))
    found = mcdrop.estimators.MCDropoutClassifier.from_module(net.module_, classes=net.classes_)
    assert found.predict_proba(x).shape == (40, 2)


def test_functions_are_an_ensemble_of_botorch() -> None:
    ensemble: Any = pytest.importorskip("botorch.models.ensemble")

    class DropoutModel(ensemble.EnsembleModel):  # type: ignore[misc]
        def __init__(self, model: nn.Module, k: int) -> None:
            super().__init__()
            self.functions = mcdrop.wrap(model).functions(k, seed=0)
            self._num_outputs = 1

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([f(x) for f in self.functions], dim=-3)

    net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1)).double()
    model, x = DropoutModel(net, 8), torch.rand(4, 3, 2, dtype=torch.float64)
    assert model.posterior(x).mean.shape == (4, 3, 1)
