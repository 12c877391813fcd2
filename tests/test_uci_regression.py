"""The UCI benchmark: splits, arithmetic of the tables, resuming, and that no test row is seen."""

from __future__ import annotations

import gzip
import importlib
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mcdrop

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def uci(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    pytest.importorskip("numba")
    monkeypatch.syspath_prepend(EXAMPLES)
    return lambda module: importlib.import_module(f"uci.{module}")


def table_of(uci: Callable[[str], Any], n: int, n_features: int = 3, seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, n_features))
    return uci("data").Table(X, 5 + X[:, 0] + 0.1 * random.normal(size=n))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a data folder with a small stand-in for two sets."""
    path = tmp_path / "data"
    path.mkdir()
    random = np.random.default_rng(0)
    for name, columns in (("yacht", 7), ("naval-propulsion-plant", 18)):
        with gzip.open(path / f"{name}.txt.gz", "wt") as file:
            np.savetxt(file, random.normal(size=(60, columns)))
    return path


def test_splits_are_those_of_the_global_generator_with_seed_one(uci: Callable[[str], Any]) -> None:
    table = table_of(uci, 30)
    splits = uci("data").standard_splits(table, 2)
    state = np.random.get_state()
    try:
        np.random.seed(1)
        orders = [np.random.choice(range(30), 30, replace=False) for _ in range(2)]
    finally:
        np.random.set_state(state)
    for split, order in zip(splits, orders, strict=True):
        np.testing.assert_array_equal(split.train.X, table.X[order[:27]])
        np.testing.assert_array_equal(split.test.y, table.y[order[27:]])


def test_a_gap_is_the_middle_third_of_every_feature(uci: Callable[[str], Any]) -> None:
    X = np.array([[5.0, 0.0], [1.0, 9.0], [3.0, 4.0], [4.0, 2.0], [2.0, 7.0], [6.0, 1.0]])
    first, second = uci("data").gap_splits(uci("data").Table(X, np.arange(6.0)))
    # In order the first feature is 1 2 | 3 4 | 5 6, the second 0 1 | 2 4 | 7 9.
    assert first.test.X[:, 0].tolist() == [3.0, 4.0]
    assert sorted(first.train.X[:, 0]) == [1.0, 2.0, 5.0, 6.0]
    assert second.test.X[:, 1].tolist() == [2.0, 4.0]


def test_the_second_target_of_naval_is_not_a_feature(
    uci: Callable[[str], Any], folder: Path
) -> None:
    with gzip.open(folder / "naval-propulsion-plant.txt.gz", "rt") as file:
        numbers = np.loadtxt(file)
    found = uci("data").load(folder, "naval-propulsion-plant")
    np.testing.assert_array_equal(found.X, numbers[:, :16])
    np.testing.assert_array_equal(found.y, numbers[:, 16])
    assert uci("data").load(folder, "yacht").X.shape == (60, 6)


def test_a_missing_set_is_named(uci: Callable[[str], Any], folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"energy\.txt\.gz is missing; the layout"):
        uci("data").load(folder, "energy")


def test_published_means_are_those_of_the_published_splits(uci: Callable[[str], Any]) -> None:
    published, data = uci("published"), uci("data")
    for name in data.SETS:
        for column in ("table1", "ten_times_epochs", "two_layers", "strong_baselines_2018"):
            for measure in published.MEASURES:
                found = published.reference(name, column, measure)
                assert len(found.per_split) == (5 if name.startswith("protein") else 20)
                # Printed to five decimals.
                assert np.mean(found.per_split) == pytest.approx(found.mean, abs=1.1e-5)


def test_the_published_penalty_implies_the_published_precision(uci: Callable[[str], Any]) -> None:
    tuned = uci("published").tuned("bostonHousing")
    recipe = uci("methods").published_recipe(tuned, 455)
    implied = mcdrop.noise_std_from_weight_decay(
        p=recipe.rate,
        length_scale=tuned.length_scale,
        n_rows=455,
        weight_decay=recipe.weight_decay,
    )
    assert implied == pytest.approx(tuned.precision**-0.5)
    assert (recipe.hidden, recipe.rate, recipe.input_rate) == ((50,), 0.05, 0.05)
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (400, 32, 1e-3)


def test_the_paired_error_is_that_of_the_differences(uci: Callable[[str], Any]) -> None:
    records, published = uci("records"), uci("published")
    found = records.comparison([1.0, 2.0, 4.0], published.Reference(1.0, (1.0, 1.0, 1.0)))
    # Differences 0, 1, 3: mean 4/3, variance (16 + 1 + 25) / 9 / 2 = 7/3, of the mean 7/9.
    assert found["ours"] == pytest.approx(7 / 3)
    assert found["difference"] == pytest.approx(4 / 3)
    assert found["paired_se"] == pytest.approx(math.sqrt(7) / 3)
    mean_only = records.comparison([1.0, 2.0], published.Reference(1.0, None))
    assert mean_only == {"ours": 1.5, "published": 1.0, "difference": 0.5, "paired_se": None}
    nothing = records.comparison([1.0, 2.0], published.Reference(None, None))
    assert nothing["published"] is nothing["difference"] is nothing["paired_se"] is None


def test_errors_are_printed_with_two_digits_that_count(uci: Callable[[str], Any]) -> None:
    tables = uci("tables")
    assert tables.with_error(1.23456, 0.0123) == "1.235 ± 0.012"
    assert tables.with_error(0.5, 0.000456, sign=True) == "+0.50000 ± 0.00046"
    assert tables.with_error(-57.123, 12.3, sign=True) == "-57 ± 12"
    assert (tables.with_error(0.1234, None), tables.with_error(None, None)) == ("0.1234", "")


def test_a_mixture_of_two_passes_is_scored_as_one(uci: Callable[[str], Any]) -> None:
    scoring, data = uci("scoring"), uci("data")
    n = 5

    def two_passes(X: Any) -> mcdrop.RegressionPrediction:
        passes = torch.tensor([[1.0], [-1.0]]).expand(2, len(X))
        return mcdrop.RegressionPrediction.from_samples(passes, noise_std=1.0)

    test = data.Table(np.zeros((n, 1)), np.full(n, 1.0))
    # The mixture of N(1, 1) and N(-1, 1) at 1: (phi(0) + phi(2)) / 2.
    density = (1 + math.exp(-2)) / 2 / math.sqrt(2 * math.pi)
    found = scoring.score(two_passes, test, 2)
    assert found.log_likelihood == pytest.approx(math.log(density))
    assert found.rmse == pytest.approx(1.0)
    scoring_in_parts = scoring.score(two_passes, test, scoring._NUMBERS // 2)
    assert scoring_in_parts.log_likelihood == pytest.approx(found.log_likelihood)
    assert scoring_in_parts.rmse == pytest.approx(found.rmse)


def test_a_record_is_read_back_unless_the_settings_changed(
    uci: Callable[[str], Any], tmp_path: Path
) -> None:
    records = uci("records")
    store = records.Store(tmp_path / "standard")
    settings = {"epochs": None, "n_samples": 10}
    record = records.Record(settings, [uci("scoring").Score(1.5, -2.5)], [{"rate": 0.1}], 3.0)
    assert store.read("yacht", "ridge", settings) is None
    store.write("yacht", "ridge", record)
    store.write("yacht", "mc_dropout", record)
    assert store.read("yacht", "ridge", settings) == record
    assert store.read("yacht", "ridge", {**settings, "epochs": 1}) is None
    assert not list(tmp_path.glob("**/*.partial"))


def test_a_run_goes_on_where_it_was_and_sums_up(
    uci: Callable[[str], Any],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    catalog, methods = uci("catalog"), uci("methods")
    calls: list[int] = []

    def constant(tables: Sequence[Any], run: Any) -> list[Any]:
        calls.append(len(tables))
        predict = mcdrop.RegressionPrediction.from_mean_std
        return [methods.Fitted(lambda X: predict(np.zeros(len(X)), 1.0)) for _ in tables]

    monkeypatch.setitem(catalog.METHODS, "mc_dropout", catalog.Entry(constant, "constant"))
    monkeypatch.setitem(
        catalog.METHODS, "tuned", catalog.Entry(constant, "tuned", "strong_baselines_2018")
    )
    out = tmp_path / "out"
    script = EXAMPLES / "uci_regression.py"
    arguments = [str(script), "--data", str(folder), "--out", str(out), "--sets", "yacht"]
    main = importlib.import_module("uci_regression").main
    for asked in (["mc_dropout"], ["mc_dropout"], ["mc_dropout", "tuned"]):
        monkeypatch.setattr(sys, "argv", [*arguments, "--methods", *asked])
        main()
    assert calls == [20, 20]  # once for each method
    assert "Report:" in capsys.readouterr().out
    content = json.loads((out / "standard.json").read_text())
    assert set(content) == {"sets", "methods"}
    columns = {"ours", "published", "difference", "paired_se"}
    for sets, published in (
        (content["sets"], 1.10925),
        (content["methods"]["tuned"]["sets"], 0.66627),
    ):
        assert set(sets) == {"yacht"}
        assert set(sets["yacht"]) == {"rmse", "log_likelihood"}
        assert set(sets["yacht"]["rmse"]) == columns
        assert sets["yacht"]["rmse"]["published"] == published
    splits = json.loads((out / "standard_splits.json").read_text())
    assert len(splits["yacht"]["tuned"]["rmse"]) == 20
    assert "| yacht | " in (out / "standard.md").read_text()


def trained_in_no_time(jobs: Sequence[Any]) -> list[nn.Module]:
    """Stand in for training: networks that depend on the rows they were given."""
    networks: list[nn.Module] = []
    for job in jobs:
        torch.manual_seed(int(1e3 * abs(job.table.X.sum())) + job.seed)
        layers = (nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.5))
        outputs = 2 if job.recipe.heteroscedastic else 1
        networks.append(nn.Sequential(*layers, nn.Linear(4, outputs), Output()).eval())
    return networks


class Output(nn.Module):
    """One number per row, or a pair of them."""

    def forward(self, x: torch.Tensor) -> Any:
        return x[:, 0] if x.shape[1] == 1 else (x[:, 0], x[:, 1])


@pytest.mark.parametrize("folds", ["random_folds", "gap_folds"])
def test_no_choice_ever_sees_a_test_row(
    uci: Callable[[str], Any], folds: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    selection, methods, data = uci("selection"), uci("methods"), uci("data")
    seen: list[Any] = []

    def train(jobs: Sequence[Any], *_: Any) -> list[nn.Module]:
        seen.extend(jobs)
        return trained_in_no_time(jobs)

    monkeypatch.setattr(selection, "train_networks", train)
    (split,) = data.standard_splits(table_of(uci, 40), 1)
    plan = selection.Plan(getattr(selection, folds), n_members=2)
    run = methods.Run(uci("published").tuned("yacht"), n_samples=16)
    (fitted,) = selection.tuned_method(plan)([split.train], run)
    allowed = {tuple(row) for row in split.train.X}
    assert all({tuple(row) for row in job.table.X} <= allowed for job in seen)
    # Four candidates on three parts, each without the rows that judge it; two members on all.
    held = getattr(selection, folds)(split.train, 0)
    assert [len(job.table) for job in seen[:-2]] == [36 - len(part) for part in held] * 4
    assert [len(job.table) for job in seen[-2:]] == [36, 36]
    for job, part in zip(seen[:3], held, strict=True):
        judges = {tuple(row) for row in split.train.X[part]}
        assert not judges & {tuple(row) for row in job.table.X}
    chosen = [
        selection.tuned_method(plan)([split.train], run)[0].chosen,
        fitted.chosen,
    ]
    assert chosen[0] == chosen[1]
    assert fitted.predictor(split.test.X).mean.shape == (4,)


def test_random_folds_hold_every_row_of_a_small_table_out_once(uci: Callable[[str], Any]) -> None:
    selection = uci("selection")
    parts = selection.random_folds(table_of(uci, 31), 3)
    assert sorted(np.concatenate(parts)) == list(range(31))
    large = uci("data").Table(np.zeros((4000, 1)), np.zeros(4000))
    (held,) = selection.random_folds(large, 3)
    assert len(set(held.tolist())) == 800


def test_the_noise_that_is_chosen_makes_held_out_rows_most_likely(
    uci: Callable[[str], Any],
) -> None:
    selection, training, data = uci("selection"), uci("training"), uci("data")

    class Fixed(nn.Module):
        """Predict nearly 0, with log variance 0."""

        def __init__(self, *, pair: bool) -> None:
            super().__init__()
            self.pair, self.drop = pair, nn.Dropout(0.5)

        def forward(self, x: torch.Tensor) -> Any:
            mean = 1e-3 * self.drop(x).mean(dim=1)
            return (mean, torch.zeros_like(mean)) if self.pair else mean

    held = data.Table(np.ones((2, 3)), np.array([3.0, -4.0]))
    for head in (False, True):
        recipe = training.Recipe((4,), 0.5, 0.0, 0.0, 1, heteroscedastic=head)
        found = selection._judged(recipe, [(Fixed(pair=head).eval(), held)])
        level = found.stretch if head else found.noise_std
        assert level == pytest.approx(math.sqrt(12.5), rel=0.01)  # the root mean square
        normal = -0.5 * math.log(2 * math.pi * 12.5) - 0.5
        assert found.log_likelihood == pytest.approx(normal, abs=1e-3)


def test_the_page_of_published_results_is_made_from_the_records(uci: Callable[[str], Any]) -> None:
    written = (EXAMPLES.parent / "docs" / "published-results.md").read_text()
    assert written == uci("page").page()


def test_the_reproduction_on_record_is_close(uci: Callable[[str], Any]) -> None:
    data = EXAMPLES.parent / "docs" / "data"
    content = json.loads((data / "uci_regression.json").read_text())
    splits = json.loads((data / "uci_regression_splits.json").read_text())
    for name, measures in content["sets"].items():
        for measure, each in measures.items():
            published = uci("published").reference(name, "table1", measure)
            error = np.std(published.per_split, ddof=1) / np.sqrt(len(published.per_split))
            assert abs(each["difference"]) < 2 * error, (name, measure)
            assert each["ours"] == pytest.approx(np.mean(splits[name]["mc_dropout"][measure]), 1e-3)


def test_a_feature_that_is_constant_up_to_rounding_changes_no_prediction(
    uci: Callable[[str], Any],
) -> None:
    data, training = uci("data"), uci("training")
    random = np.random.default_rng(0)
    X = np.column_stack([random.normal(size=300), np.full(300, 0.998)])
    assert X[:, 1].std() > 0  # the rounding of the mean
    table = data.Table(X, X[:, 0])
    recipe = training.Recipe((20,), 0.0, 0.0, 0.0, epochs=40, learning_rate=1e-2)
    (network,) = training.train_networks([training.Job(table, recipe, 0)], 1)
    with torch.no_grad():
        found = network(torch.from_numpy(X).float()).numpy()
    assert np.sqrt(np.mean((found - table.y) ** 2)) < 0.01


@pytest.mark.parametrize("name", ["concrete_method", "second_moment_method"])
def test_learned_ingredients_train_a_plain_network_and_fit_its_noise(
    uci: Callable[[str], Any], name: str
) -> None:
    methods, data, learned = uci("methods"), uci("data"), uci("learned")
    splits = data.standard_splits(table_of(uci, 40), 2)
    run = methods.Run(uci("published").tuned("yacht"), n_samples=16, epochs=3)
    found = getattr(learned, name)([split.train for split in splits], run)
    for split, fitted in zip(splits, found, strict=True):
        assert fitted.chosen["noise_std"] > 0
        # The inputs are not dropped; hidden units are.
        first, *others = fitted.chosen["rates"]
        assert first == 0
        assert all(0 < rate < 1 for rate in others)
        prediction = fitted.predictor(split.test.X)
        assert prediction.mean.shape == (4,)
        assert (prediction.epistemic_variance > 0).all()
