"""Recipes for frameworks that own the loop; `make frameworks` installs and runs them all."""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import mcdrop
from mcdrop.acquisition import bald
from mcdrop.estimators import MCDropoutClassifier

ROOT = Path(__file__).parent.parent
# Frameworks warn of themselves, and of the torch that they run on.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}")
    for kind in ("DeprecationWarning", "FutureWarning", "UserWarning", "RuntimeWarning")
]


def framework(name: str) -> Any:
    """Import a framework; without it skip, except where all have been installed for this."""
    if os.environ.get("MCDROP_FRAMEWORKS") == "all":
        return import_module(name)
    return pytest.importorskip(name)


def perceptron(n_inputs: int = 3, n_outputs: int = 2) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(n_inputs, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, n_outputs)
    ).eval()


def bert(**options: Any) -> Any:
    transformers: Any = framework("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=20, intermediate_size=16, **sizes, **options)
    return transformers.BertForSequenceClassification(config).eval()


def test_versions_on_the_page_are_those_that_are_pinned() -> None:
    page = (ROOT / "docs" / "frameworks.md").read_text()
    pinned = dict(
        re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints-frameworks.txt").read_text(), re.M)
    )
    told = re.findall(r"^\| (\S.*?) \| (\d\S+) \|", page, re.M)
    names = {"PyTorch Geometric": "torch-geometric"}
    assert len(told) == 13
    for name, version in told:
        assert pinned[names.get(name, name.lower())] == version


def test_a_hugging_face_batch_is_predicted_as_its_logits() -> None:
    transformers: Any = framework("transformers")
    mc = mcdrop.wrap(bert(num_labels=3))
    ids = torch.randint(0, 20, (6, 5))
    options: dict[str, Any] = {"task": "classification", "select": "logits", "seed": 0}
    whole = mc.predict_with_uncertainty(
        transformers.BatchEncoding({"input_ids": ids, "row": torch.arange(6)}), **options
    )
    assert whole.probs.shape == (6, 3)
    items = [{"input_ids": row, "row": i} for i, row in enumerate(ids)]
    batches: Any = DataLoader(items, batch_size=4)  # type: ignore[arg-type]
    read = mc.predict_with_uncertainty(batches, **options)
    torch.testing.assert_close(read.probs, whole.probs)


def test_a_trainer_predicts_rows_alike_in_any_batch(tmp_path: Path) -> None:
    framework("accelerate")
    transformers: Any = framework("transformers")

    class DropoutTrainer(transformers.Trainer):  # type: ignore[misc]
        def prediction_step(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
            loss, _, labels = super().prediction_step(model, inputs, *rest, **named)
            found = mcdrop.predict_with_uncertainty(
                self.model,
                {name: value for name, value in inputs.items() if name != "labels"},
                task="classification",
                select="logits",
                masks="shared",
                seed=0,
            )
            return loss, (found.probs.log(), found.mutual_information), labels

    model, ids = bert(), torch.randint(0, 20, (10, 5))
    rows = [{"input_ids": row, "labels": i % 2} for i, row in enumerate(ids)]
    expected = mcdrop.predict_with_uncertainty(
        model, {"input_ids": ids}, task="classification", select="logits", masks="shared", seed=0
    )
    for size in (4, 10):
        options = transformers.TrainingArguments(
            tmp_path,
            per_device_eval_batch_size=size,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        )
        found = DropoutTrainer(model, options).predict(rows)
        log_probs, information = found.predictions
        np.testing.assert_allclose(np.exp(log_probs), expected.probs, rtol=1e-4)
        np.testing.assert_allclose(information, expected.mutual_information, rtol=1e-2, atol=1e-6)
        assert found.metrics["test_loss"] == pytest.approx(np.log(2), rel=0.2)


def test_tokens_are_generated_from_the_mean_over_passes() -> None:
    transformers: Any = framework("transformers")
    torch.manual_seed(0)
    sizes = {"n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
    ends = {"bos_token_id": None, "eos_token_id": None}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=40, **sizes, **ends))
    with torch.no_grad():
        model.lm_head.weight.mul_(30)  # decided, so that texts of other scores would differ
    mc, entropies = mcdrop.wrap(model.eval(), masks="shared"), []

    def following(ids: Tensor) -> mcdrop.ClassificationPrediction:
        return mc.predict_with_uncertainty(
            {"input_ids": ids},
            task="classification",
            select=lambda output: output.logits[:, -1],
            n_samples=16,
            seed=0,
        )

    class DropoutTokens(transformers.LogitsProcessor):  # type: ignore[misc]
        def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
            found = following(input_ids)
            entropies.append(found.predictive_entropy)
            return found.probs.log()

    start = torch.tensor([[1, 2, 3], [4, 5, 6]])
    text = model.generate(
        start,
        attention_mask=torch.ones_like(start),
        logits_processor=transformers.LogitsProcessorList([DropoutTokens()]),
        max_new_tokens=4,
        do_sample=False,
        pad_token_id=0,
    )
    for step in range(4):
        by_hand = following(text[:, : 3 + step])
        assert torch.equal(by_hand.labels, text[:, 3 + step])
        torch.testing.assert_close(entropies[step], by_hand.predictive_entropy)


def test_dropout_of_adapters_is_all_that_is_random() -> None:
    peft = framework("peft")
    base = bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    lora = peft.LoraConfig(
        r=4, lora_dropout=0.3, target_modules=["query", "value"], init_lora_weights=False
    )
    mc = mcdrop.wrap(peft.get_peft_model(base, lora))
    encoding = {"input_ids": torch.randint(0, 20, (6, 5))}
    live = [site.name for site in mc.sites(encoding) if site.p > 0]
    assert len(live) == 2
    assert all("lora_dropout" in name for name in live)
    found = mc.predict_with_uncertainty(encoding, task="classification", select="logits", seed=0)
    assert bool((found.probs_std > 0).all())


def test_lightning_s_predictions_are_those_of_the_whole_and_can_be_written(tmp_path: Path) -> None:
    lightning: Any = framework("lightning")
    callbacks: Any = framework("lightning.pytorch.callbacks")

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = perceptron()

        def predict_step(self, batch: Any, batch_idx: int) -> mcdrop.ClassificationPrediction:
            if not hasattr(self, "mc"):
                object.__setattr__(self, "mc", mcdrop.wrap(self.net, masks="shared"))
            return self.mc.predict_with_uncertainty(batch[0], task="classification", seed=0)

    class Writer(callbacks.BasePredictionWriter):  # type: ignore[misc]
        def write_on_batch_end(self, *given: Any) -> None:
            given[2].to("cpu").save(tmp_path / f"{given[0].global_rank}-{given[5]}.npz")

    x, module = torch.randn(10, 3), Module()
    trainer = lightning.Trainer(
        logger=False,
        enable_progress_bar=False,
        accelerator="cpu",
        callbacks=[Writer("batch")],
        default_root_dir=tmp_path,
    )
    found = trainer.predict(module, DataLoader(TensorDataset(x, x), batch_size=4))
    assert [len(each) for each in found] == [4, 4, 2]
    whole = mcdrop.wrap(module.net, masks="shared").predict_with_uncertainty(
        x, task="classification", seed=0
    )
    torch.testing.assert_close(torch.cat([each.probs for each in found]), whole.probs)
    assert all(name.startswith("net.") for name in module.state_dict())
    with np.load(tmp_path / "0-2.npz") as written:
        np.testing.assert_allclose(written["probs"], whole.probs[8:], rtol=1e-5)


def test_a_graph_of_geometric_is_one_argument_and_its_loader_many() -> None:
    geometric = framework("torch_geometric")
    framework("torch_geometric.loader")

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = geometric.nn.GCNConv(3, 2)
            self.drop = nn.Dropout(0.3)

        def forward(self, data: Any) -> Tensor:
            out: Tensor = self.convolution(self.drop(data.x), data.edge_index)
            return out

    net = Network().eval()
    edges = torch.tensor([[0, 1, 2], [1, 2, 3]])
    graphs = [geometric.data.Data(torch.randn(4, 3), edges) for _ in range(3)]
    mc = mcdrop.wrap(net)
    found = mc.predict_with_uncertainty(graphs[0], task="classification", n_samples=2000, seed=0)
    assert found.probs.shape == (4, 2)
    net.drop.train()
    with torch.no_grad():
        loop = torch.stack([net(graphs[0]).softmax(dim=-1) for _ in range(2000)])
    net.eval()
    # Standard error of the loop's mean, at most 0.5 / sqrt(2000), five times.
    torch.testing.assert_close(found.probs, loop.mean(dim=0), atol=0.056, rtol=0)
    torch.testing.assert_close(found.probs_std, loop.std(dim=0), atol=0.01, rtol=0.1)
    loader = geometric.loader.DataLoader(graphs, batch_size=2)
    nodes = mc.predict_with_uncertainty(loader, task="classification", seed=0)
    assert nodes.probs.shape == (12, 2)


def test_a_net_of_skorch_becomes_an_estimator() -> None:
    skorch = framework("skorch")
    net = skorch.NeuralNetClassifier(perceptron(), criterion=nn.CrossEntropyLoss, verbose=0)
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    net.fit(x, (x[:, 0] > 0).astype(np.int64))
    found = MCDropoutClassifier.from_module(
        net.module_, classes=net.classes_, n_samples=4000, random_state=0
    )
    with torch.no_grad():
        net.module_.train()
        loop = torch.stack([net.module_(torch.from_numpy(x)).softmax(-1) for _ in range(4000)])
    # skorch's criterion is fed by its softmax too.
    np.testing.assert_allclose(found.predict_proba(x), loop.mean(dim=0), atol=0.02)


def test_active_learning_draws_functions_and_scores_them_as_we_do() -> None:
    framework("skactiveml")
    classifiers = framework("skactiveml.classifier")
    pool = framework("skactiveml.pool")
    x = np.random.default_rng(0).normal(size=(60, 2))
    y = np.where(np.arange(60) < 20, x[:, 0] > 0, np.nan)
    ours = MCDropoutClassifier((16,), n_members=1, max_epochs=10, n_samples=50, random_state=0)
    classifier = classifiers.SklearnClassifier(ours, classes=[0, 1]).fit(x, y)
    options = {
        "sample_predictions_method_name": "sample_proba",
        "sample_predictions_dict": {"n_samples": 50},  # every pass once, in some order
        "random_state": 0,
    }
    batch = pool.BatchBALD(**options).query(x, y, classifier, fit_ensemble=False, batch_size=3)
    assert len(set(batch)) == 3
    assert min(batch) >= 20
    _, scores = pool.GreedyBALD(**options).query(
        x, y, classifier, fit_ensemble=False, batch_size=1, return_utilities=True
    )
    prediction = classifier.estimator_.predict_with_uncertainty(x[20:])
    np.testing.assert_allclose(scores[0, 20:], bald(prediction), rtol=1e-6, atol=1e-9)


def dropout_model(net: nn.Module, k: int) -> Any:
    ensemble: Any = framework("botorch.models.ensemble")

    class DropoutModel(ensemble.EnsembleModel):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.functions = mcdrop.wrap(net).functions(k, seed=0)
            self._num_outputs = 1

        def forward(self, X: Tensor) -> Tensor:
            return torch.stack([f(X) for f in self.functions], dim=-3)

    return DropoutModel()


def test_functions_are_an_ensemble_of_botorch() -> None:
    net = perceptron(2, 1).double()
    model, x = dropout_model(net, 32), torch.rand(4, 3, 2, dtype=torch.float64)
    posterior = model.posterior(x)
    assert posterior.mean.shape == (4, 3, 1)
    passes = mcdrop.wrap(net, masks="shared").sample(x.reshape(12, 2), 32, seed=0)
    torch.testing.assert_close(posterior.mean.reshape(12, 1), passes.mean(dim=0))
    torch.testing.assert_close(posterior.variance.reshape(12, 1), passes.var(dim=0))


OPTIMUM = torch.tensor([0.7, 0.3], dtype=torch.float64)


def target(x: Tensor) -> Tensor:
    return -(x - OPTIMUM).square().sum(dim=-1, keepdim=True)


# Corners and two points inside; the best is 0.39 away from the optimum.
START = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.2, 0.5], [0.4, 0.8]]


def trained(x: Tensor, y: Tensor, p: float) -> nn.Module:
    layers: list[nn.Module] = []
    for width in (2, 64):
        layers += [nn.Linear(width, 64), nn.SiLU(), nn.Dropout(p)]
    net = nn.Sequential(*layers, nn.Linear(64, 1)).double()
    adam = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=1e-4)
    for _ in range(300):
        adam.zero_grad()
        nn.functional.mse_loss(net(x), (y - y.mean()) / y.std()).backward()
        adam.step()
    return net.eval()


@pytest.mark.filterwarnings("ignore:qExpectedImprovement has known numerical issues")
@pytest.mark.parametrize("way", ["qLogExpectedImprovement", "qExpectedImprovement"])
def test_expected_improvement_finds_the_maximum_of_a_toy(way: str) -> None:
    improvement: Any = getattr(framework("botorch.acquisition"), way)
    optimize = framework("botorch.optim").optimize_acqf
    torch.manual_seed(1)
    x = torch.tensor(START, dtype=torch.float64)
    bounds = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    for _ in range(6):
        model = dropout_model(trained(x, target(x), 0.2), 16)
        best = model.posterior(x).mean.max().detach()
        new, _ = optimize(improvement(model, best), bounds, q=2, num_restarts=2, raw_samples=16)
        x = torch.cat([x, new])
    # Twelve random points come within 0.05 of the optimum with probability 0.09 (12 * 0.05^2 pi).
    assert target(x).max().item() > -(0.05**2)


@pytest.mark.slow
def test_thompson_sampling_finds_the_maximum_of_a_toy() -> None:
    torch.manual_seed(0)
    x = torch.tensor(START, dtype=torch.float64)
    for step in range(8):
        draws = mcdrop.wrap(trained(x, target(x), 0.05)).functions(4, seed=step)
        grid = torch.rand(2000, 2, dtype=torch.float64)
        x = torch.cat([x, torch.stack([grid[f(grid).argmax()] for f in draws]).detach()])
    # Thirty-two random points come that near with probability 0.22.
    assert target(x).max().item() > -(0.05**2)


def test_sliding_windows_agree_where_they_overlap() -> None:
    inferers = framework("monai.inferers")
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Dropout2d(0.4), nn.Conv2d(8, 2, 3, padding=1)
    ).eval()
    image = torch.randn(1, 1, 24, 20)
    f = mcdrop.wrap(net).function(seed=0, row_ndim=3)
    whole = f(image)
    windows = [f(image[..., start : start + 16]) for start in (0, 4)]
    # Two convolutions see two pixels of padding.
    inside = slice(2, -2)
    first, second = windows[0][..., 6:14], windows[1][..., 2:10]
    torch.testing.assert_close(first[..., inside, :], second[..., inside, :])
    torch.testing.assert_close(first[..., inside, :], whole[..., 6:14][..., inside, :])
    # A Gaussian weight makes the borders of windows, where the padding shows, count little.
    stitched = inferers.sliding_window_inference(
        image, (16, 16), 4, f, overlap=0.5, mode="gaussian", sigma_scale=0.1
    )
    inner = (..., slice(2, -2), slice(2, -2))
    assert (stitched - whole)[inner].abs().mean() < 0.02 * whole[inner].abs().mean()
    elementwise = mcdrop.wrap(nn.Sequential(nn.Dropout(0.4), net[3:])).function(0, row_ndim=3)
    deep = torch.randn(1, 8, 24, 20)
    ends = [elementwise(deep[..., start : start + 16]) for start in (0, 4)]
    assert not torch.allclose(ends[0][..., 6:14], ends[1][..., 2:10], atol=1e-3)


def test_metrics_are_those_of_torchmetrics_batch_by_batch() -> None:
    theirs = framework("torchmetrics.classification")
    mc = mcdrop.wrap(perceptron(), masks="shared")
    error = theirs.MulticlassCalibrationError(2, n_bins=15)
    ours = mcdrop.metrics.Streaming(mcdrop.metrics.expected_calibration_error)
    for _ in range(3):
        x, y = torch.randn(20, 3), torch.randint(0, 2, (20,))
        probs = mc.predict_with_uncertainty(x, task="classification", seed=0).probs
        error.update(probs, y)
        ours.update(probs, y)
    assert ours.compute() == pytest.approx(error.compute().item(), rel=1e-5)


def test_polars_and_duckdb_read_a_prediction_as_a_table() -> None:
    duckdb, polars = framework("duckdb"), framework("polars")
    prediction = mcdrop.predict_with_uncertainty(
        perceptron(3, 1), torch.randn(20, 3), noise_std=0.1, seed=0
    )
    table = prediction.to_pandas()
    read = polars.DataFrame(prediction)
    assert read.columns == list(table.columns)
    np.testing.assert_array_equal(read["std"].to_numpy(), table["std"])
    [(mean, n)] = duckdb.sql("select avg(std), count(*) from prediction").fetchall()
    assert (mean, n) == (pytest.approx(table["std"].mean(), rel=1e-6), 20)


def test_arviz_summarizes_the_passes() -> None:
    arviz = framework("arviz")
    prediction = mcdrop.predict_with_uncertainty(
        perceptron(3, 1), torch.randn(4, 3), keep_samples=True, seed=0, n_samples=200
    )
    tree = prediction.to_inference_data("y")
    assert tree.posterior_predictive["y"].dims == ("chain", "draw", "row", "dim_0")
    table = arviz.summary(tree, group="posterior_predictive", kind="stats", round_to="none")
    samples = prediction.samples
    assert samples is not None
    np.testing.assert_allclose(table["mean"].astype(float), samples.mean(dim=0)[:, 0], rtol=1e-5)
    np.testing.assert_allclose(table["sd"].astype(float), samples.std(dim=0)[:, 0], rtol=1e-2)
