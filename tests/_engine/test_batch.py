"""Arguments of one forward call: cut by rows, and copied so that no call sees another's writes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop._engine.batch import Batch, owned
from tests.passes import draw

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
STRATEGIES = pytest.mark.parametrize("strategy", ["vectorized", "sequential"])


def test_rows_are_cut_taken_and_disturbed_alike_in_every_argument() -> None:
    batch = Batch((X, [X + 1]), {"z": X[:, 0]}, 6)
    cut = batch.rows(2, 9)
    assert cut.n_rows == 4
    assert [len(x) for x in cut.tensors()] == [4, 4, 4]
    taken = batch.take([5, 0])
    assert torch.equal(taken.kwargs["z"], X[[5, 0], 0])
    assert not torch.equal(batch.disturbed().args[0], X)
    assert torch.equal(batch.disturbed().args[0], batch.disturbed().args[0])
    words = Batch((torch.tensor([[1, 2, 3], [1, 2, 3], [4, 5, 6]]),), {}, 3)
    assert words.disturbed().args[0].tolist() == [[1, 2, 3], [3, 1, 2], [6, 4, 5]]


def test_rows_keep_their_numbers() -> None:
    batch = Batch((X,), {}, 6, range(10, 16))
    assert batch.rows(2, 9).numbers == range(12, 16)
    assert batch.take([5, 0]).numbers == (15, 10)
    assert batch.take([5, 0]).take([1]).numbers == (10,)
    assert batch.copied().numbers == batch.disturbed().numbers == range(10, 16)
    assert Batch((X,), {}, 6).take([1]).numbers is None


def test_the_signature_tells_shapes_and_plain_arguments_apart() -> None:
    one = Batch((X, 3), {}, 6)
    assert one.signature() == Batch((X + 1, 3), {}, 6).signature()
    assert one.signature() != Batch((X, 4), {}, 6).signature()
    assert one.signature() != Batch((X[:3], 3), {}, 3).signature()


class Graph:
    """Stands for an object of another library that holds tensors."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def to(self, device: Any) -> Graph:
        return Graph(self.x.to(device))

    def clone(self) -> Graph:
        return Graph(self.x.clone())


def add_to_input(x: Tensor) -> Tensor:
    x += 1
    return x


def write_to_data(x: Tensor) -> Tensor:
    x.data[:, 0] = 7
    return x


def through_numpy(x: Tensor) -> Tensor:
    x.numpy()[:] = 2
    return x


class Writes(nn.Module):
    def __init__(self, write: Any) -> None:
        super().__init__()
        self.drop, self.write = nn.Dropout(0.5), write

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.write(x))


@STRATEGIES
@pytest.mark.parametrize("write", [add_to_input, write_to_data, through_numpy])
def test_inputs_that_a_model_writes_to_are_new_for_every_pass(write: Any, strategy: Any) -> None:
    x = X.clone()
    found, _ = draw(Writes(write).eval(), x, 24, strategy)
    assert torch.equal(x, X)
    once = 2 * write(X.clone())
    torch.testing.assert_close(found[found != 0], once.expand_as(found)[found != 0])


@STRATEGIES
def test_a_dict_that_a_model_writes_to_is_new_for_every_pass(strategy: Any) -> None:
    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, features: dict[str, Tensor]) -> Tensor:
            features["x"] = features["x"] * 1.5
            features["seen"] = features["x"]
            return self.drop(features["x"])

    given = {"x": X.clone()}
    found, _ = draw(Features().eval(), (given,), 24, strategy)
    assert list(given) == ["x"]
    assert torch.equal(given["x"], X)
    torch.testing.assert_close(found[found != 0], (3 * X).expand_as(found)[found != 0])


@STRATEGIES
def test_a_graph_is_passed_on_and_copied(strategy: Any) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, graph: Graph) -> Tensor:
            graph.x += 1
            return self.drop(graph.x)

    graph = Graph(X.clone())
    found, _ = draw(Net().eval(), graph, 16, strategy)
    assert torch.equal(graph.x, X)
    torch.testing.assert_close(found[found != 0], (2 * (X + 1)).expand_as(found)[found != 0])
    assert (
        mcdrop.wrap(Net())
        .predict_with_uncertainty((graph,), n_samples=4, task="regression")
        .mean.shape
        == X.shape
    )


def test_what_appears_twice_is_copied_once() -> None:
    first, second = owned((X, {"again": X}))
    assert first is second["again"]
    assert first is not X


class CallableGraph:
    """A graph that can be called, as those of DGL."""

    def __init__(self) -> None:
        self.features: dict[str, Tensor] = {"x": torch.ones(6, 4)}

    def __call__(self, name: str) -> Tensor:
        return self.features[name]


def test_an_object_that_can_be_called_is_copied_and_code_is_not() -> None:
    graph = CallableGraph()
    own = owned([graph, graph.__call__, len, torch.relu, CallableGraph])
    own[0].features["x"] += 1
    assert torch.equal(graph("x"), torch.ones(6, 4))
    assert own[1:] == [graph.__call__, len, torch.relu, CallableGraph]


def test_a_seed_may_be_an_integer_of_numpys() -> None:
    model = mcdrop.wrap(nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).eval())
    seeds: list[Any] = [np.int64(3), np.uint8(3), 3]
    found = [model.sample(torch.ones(3, 4), 4, seed=seed) for seed in seeds]
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[2])


def test_the_first_rows_are_taken_where_rows_are_known() -> None:
    x = torch.ones(5, 2)
    assert Batch((x,), {}, 5).first(2).n_rows == 2
    for batch in (Batch((x,), {}, 5), Batch((x,), {}, None)):
        assert batch.first(5) is batch
