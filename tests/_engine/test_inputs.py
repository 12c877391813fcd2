"""Every kind of input gives the same prediction; what cannot be read is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import mcdrop

pd = pytest.importorskip("pandas")

X = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(10)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.drop = nn.Linear(3, 2), nn.Dropout(0.5)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.linear(self.drop(a) + b)
        return out


class Rows(Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> torch.Tensor:
        return X[index]


NET = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2))


@pytest.mark.parametrize(
    "inputs",
    [
        X.numpy(),
        X.numpy().astype(np.float64),
        pd.DataFrame(X.numpy().astype(np.float64)),
        (X,),
        {"input": X},
        Rows(),
        TensorDataset(X),
        TensorDataset(X, Y),
        DataLoader(Rows(), batch_size=10),
        DataLoader(TensorDataset(X, Y), batch_size=10),
    ],
    ids=lambda value: type(value).__name__,
)
def test_all_kinds_of_inputs_give_the_same_prediction(inputs: Any) -> None:
    mc = mcdrop.wrap(NET)
    expected = mc.predict_with_uncertainty(X, seed=0, task="regression")
    found = mc.predict_with_uncertainty(inputs, seed=0, task="regression")
    torch.testing.assert_close(found.mean, expected.mean)
    torch.testing.assert_close(found.epistemic_variance, expected.epistemic_variance)


@pytest.mark.parametrize("n_rows", [1, 3, 4, 10, 11])
def test_batches_cover_every_row_once_and_in_order(n_rows: int) -> None:
    identity = nn.Dropout(0.5)
    x = torch.arange(1.0, 11.0).unsqueeze(1)
    found = mcdrop.wrap(identity).sample(x, 200, seed=0, batch_size=n_rows)
    assert found.shape == (200, 10, 1)
    assert torch.equal(found.amax(dim=0), 2 * x)


def test_data_loader_batches_are_joined_in_order() -> None:
    loader = DataLoader(TensorDataset(X, Y), batch_size=3)
    prediction = mcdrop.wrap(NET).predict_with_uncertainty(
        loader, n_samples=4000, seed=0, task="regression"
    )
    with torch.no_grad():
        exact = NET.eval()(X)
    assert prediction.mean.shape == (10, 2)
    # With p = 0.5, stratified passes of a linear network average to its output exactly.
    assert bool(((prediction.mean - exact).abs() < 5 * prediction.mcse + 1e-6).all())


def test_tuples_are_positional_and_dicts_are_keywords() -> None:
    mc = mcdrop.wrap(TwoInputs())
    a = mc.sample((X, 2 * X), 5, seed=0)
    b = mc.sample({"b": 2 * X, "a": X}, 5, seed=0)
    pairs = DataLoader(TensorDataset(X, Y.float().unsqueeze(1).expand(10, 3)), batch_size=5)
    assert torch.equal(a, b)
    with pytest.raises(mcdrop.UnsupportedError, match=r"items of 2 for a model that takes 2"):
        mc.sample(pairs, 5)


class WithoutCovariates(nn.Module):
    """Takes a second input that may have no columns, as forecasters do."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.5))

    def forward(self, x: torch.Tensor, more: torch.Tensor) -> torch.Tensor:
        return self.net(torch.cat([x, more], dim=-1))


def test_an_input_may_have_no_columns() -> None:
    x = torch.randn(6, 4)
    model = WithoutCovariates().eval()
    found = mcdrop.wrap(model).sample((x, x[:, :0]), 5, seed=0)
    assert found.shape == (5, 6, 2)
    assert torch.equal(found, mcdrop.wrap(model.net).sample(x, 5, seed=0))


def test_numbers_from_numpy_take_the_type_of_the_model() -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)).double()
    assert mcdrop.wrap(net).sample(X.numpy(), 2).dtype == torch.float64


@pytest.mark.parametrize(
    ("inputs", "options", "error", "text"),
    [
        (X[:0], {}, mcdrop.ShapeError, "`inputs` to have at least one row"),
        (X.tolist(), {}, mcdrop.UnsupportedError, "got float. Convert it to a tensor"),
        ((), {}, mcdrop.UnsupportedError, "`inputs` to hold at least one tensor"),
        (
            pd.DataFrame({"a": ["x"], "b": [1]}),
            {},
            mcdrop.UnsupportedError,
            "to hold numbers, but got",
        ),
        (DataLoader(TensorDataset(X)), {"batch_size": 2}, mcdrop.RangeError, "`batch_size` to be"),
        (X, {"batch_size": 0}, mcdrop.RangeError, "`batch_size` to be an integer of at least 1"),
        (X, {"n_samples": 1}, mcdrop.RangeError, "`n_samples` to be an integer of at least 2"),
        (X, {"n_samples": 2.5}, mcdrop.RangeError, "but got 2.5"),
        (X, {"seed": -1}, mcdrop.RangeError, "`seed` to be an integer of at least 0"),
        (X, {"task": "clustering"}, mcdrop.RangeError, "`task` to be one of"),
        (X, {"noise_std": 0.0}, mcdrop.RangeError, "`noise_std` to be a positive number"),
        (X, {"noise_std": 1.0, "task": "classification"}, mcdrop.RangeError, "None for task"),
    ],
)
def test_bad_inputs_and_options_are_refused_by_name(
    inputs: Any, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        mcdrop.wrap(NET).predict_with_uncertainty(inputs, **options)


def test_arrays_that_disagree_on_rows_are_not_split() -> None:
    mc = mcdrop.wrap(TwoInputs())
    assert mc.sample((X, X[:1]), 3).shape == (3, 10, 2)
    with pytest.raises(mcdrop.ShapeError, match="agree on dimension 0, to be split by batch_size"):
        mc.sample((X, X[:1]), 3, batch_size=5)


class TakesDict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.drop = nn.Linear(3, 2), nn.Dropout(0.5)

    def forward(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        out: torch.Tensor = self.drop(self.linear(features["x"]))
        return out


class TakesX(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.drop = nn.Linear(3, 2), nn.Dropout(0.5)

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        out: torch.Tensor = self.drop(self.linear(x)) * scale
        return out


def test_a_dict_is_the_one_argument_of_a_model_that_takes_a_dict() -> None:
    mc = mcdrop.wrap(TakesDict())
    expected = mc.sample(({"x": X},), 4, seed=0)
    assert torch.equal(mc.sample({"x": X}, 4, seed=0), expected)
    batches = [{"x": X[:5]}, {"x": X[5:]}]
    assert mc.sample(batches, 4, seed=0).shape == expected.shape
    loader: Any = DataLoader([{"x": row} for row in X], batch_size=5)  # type: ignore[arg-type]
    assert mc.sample(loader, 4, seed=0).shape == expected.shape


def test_keys_that_the_model_does_not_take_are_left_out() -> None:
    mc = mcdrop.wrap(TakesX())
    expected = mc.sample(X, 4, seed=0)
    assert torch.equal(mc.sample({"x": X, "labels": Y, "id": "a"}, 4, seed=0), expected)
    assert torch.equal(mc.sample({"x": X, "scale": 2.0}, 4, seed=0), 2 * expected)
    with pytest.raises(mcdrop.UnsupportedError, match=r"hold the arguments \['x'\] of TakesX"):
        mc.sample({"scale": 2.0, "pixels": X}, 4)


def test_lists_generators_and_longer_items_are_batches() -> None:
    mc = mcdrop.wrap(TakesX())
    expected = mc.sample(DataLoader(TensorDataset(X), batch_size=4), 4, seed=0)
    batches = list(X.split(4))
    assert torch.equal(mc.sample(batches, 4, seed=0), expected)
    assert torch.equal(mc.sample(iter(batches), 4, seed=0), expected)
    with_targets_and_weights = [(x, x[:, 0], x[:, 1]) for x in batches]
    assert torch.equal(mc.sample(with_targets_and_weights, 4, seed=0), expected)
    with pytest.raises(mcdrop.ShapeError, match="a list without batches"):
        mc.sample([], 4)


def test_prepare_says_what_the_model_takes() -> None:
    mc = mcdrop.wrap(TakesX())
    expected = mc.sample(X, 4, seed=0)
    found = mc.sample({"pixels": X}, 4, seed=0, prepare=lambda item: item["pixels"])
    assert torch.equal(found, expected)
    loader = DataLoader(TensorDataset(Y, X), batch_size=10)
    prediction = mc.predict_with_uncertainty(
        loader, seed=0, prepare=lambda item: item[1], task="regression"
    )
    assert prediction.mean.shape == (10, 2)


def test_a_loader_takes_no_number_from_the_callers_generators() -> None:
    own = torch.Generator().manual_seed(3)
    loader = DataLoader(TensorDataset(X), batch_size=4, shuffle=True, generator=own)
    other = DataLoader(TensorDataset(X), batch_size=4, shuffle=True)
    mc = mcdrop.wrap(TakesX())
    before = torch.get_rng_state(), own.get_state()
    for each in (loader, other):
        assert mc.sample(each, 4).shape == (4, 10, 2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.equal(own.get_state(), before[1])


@pytest.mark.parametrize("seed", [2**62, 2**63, 2**200])
def test_seeds_of_any_size_are_told_apart(seed: int) -> None:
    mc = mcdrop.wrap(TakesX())
    first = mc.sample(X, 8, seed=seed)
    assert torch.equal(first, mc.sample(X, 8, seed=seed))
    assert not torch.equal(first, mc.sample(X, 8, seed=seed + 1))


class Graph(nn.Module):
    """Two steps over the edges of a graph, with dropout between them."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.out = nn.Dropout(0.3), nn.Linear(5, 2)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        hidden = self.drop(torch.relu(torch.mm(edges, nodes)))
        return self.out(torch.mm(edges, hidden))


@pytest.mark.parametrize("form", ["to_sparse", "to_sparse_csr"])
@pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning")
def test_sparse_edges_of_a_graph_predict_as_dense_ones(form: str) -> None:
    torch.manual_seed(0)
    graph, nodes, edges = Graph(), torch.randn(6, 5), torch.eye(6).roll(1, 0) + torch.eye(6)
    sparse = getattr(edges, form)()

    def predicted(edges: Tensor) -> mcdrop.RegressionPrediction:
        return mcdrop.wrap(graph).predict_with_uncertainty(
            (nodes, edges), n_samples=16, task="regression", seed=0
        )

    expected, found = predicted(edges), predicted(sparse)
    assert bool((found.std > 0).all())
    assert torch.allclose(found.mean, expected.mean, atol=1e-6)
    assert torch.allclose(found.std, expected.std, atol=1e-6)
    with pytest.raises(mcdrop.ShapeError, match="split by batch_size, but got a sparse tensor"):
        mcdrop.wrap(graph).sample((nodes, sparse), n_samples=4, batch_size=2)


def test_inputs_without_numbers_are_refused() -> None:
    mc = mcdrop.wrap(nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5)))
    with pytest.raises(mcdrop.UnsupportedError, match="`inputs` to hold numbers .* 1 masked ones"):
        mc.sample(np.ma.masked_greater(np.arange(4.0).reshape(2, 2), 2.5))
    with pytest.raises(mcdrop.UnsupportedError, match="`inputs` to hold numbers .* a meta tensor"):
        mc.sample(torch.zeros(2, 2, device="meta"))
