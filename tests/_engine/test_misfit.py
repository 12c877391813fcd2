"""Inputs that a model cannot take are named, with the module that fails and what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mcdrop

pd = pytest.importorskip("pandas")

NET = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
CNN = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 2))
WORDS = nn.Sequential(nn.Embedding(9, 4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(8, 1))


@pytest.mark.parametrize(
    ("model", "inputs", "text"),
    [
        (NET, np.ones((5, 4), int), r"torch\.int64, which fails in 0 \(Linear.*torch\.float32\.$"),
        (NET, torch.ones(5, 4, dtype=torch.bool), r"but got torch\.bool, which .*Convert them"),
        (NET, torch.ones(5, 4).double(), r"but got torch\.float64, .*weights, torch\.float32\.$"),
        (CNN, torch.ones(2, 3, 8, 8, dtype=torch.uint8), r"uint8.*\(Conv2d.*x\.float\(\) / 255\.$"),
        (CNN, np.ones((2, 3, 8, 8), np.uint8), r"uint8, .*Scale images as in training"),
        (WORDS, torch.ones(5, 2), r"but got torch\.float32, .*in 0 \(Embedding.*x\.long\(\)\.$"),
    ],
)
def test_inputs_of_a_type_that_the_model_cannot_take(
    model: nn.Module, inputs: Any, text: str
) -> None:
    expected = f"expected `inputs` to be of a type that Sequential can take, but got.*{text}"
    mc = mcdrop.wrap(model)
    for call in (mc.sample, mc.sites):
        with pytest.raises(mcdrop.UnsupportedError, match=text):
            call(inputs)
    with pytest.raises(mcdrop.UnsupportedError, match=expected.replace("got.*but got", "got")):
        mc.predict_with_uncertainty(inputs, task="regression")


@pytest.mark.parametrize(
    ("model", "inputs", "text"),
    [
        (NET, torch.ones(5, 3), r"got \(5, 3\), which fails in 0 \(Linear.*Put rows first"),
        (NET, pd.Series([1.0, 2.0]), r"got \(2,\), .*x\.reshape\(-1, 1\) for one feature"),
        (CNN, torch.ones(2, 8, 8), r"got \(2, 8, 8\), .*unsqueeze\(1\) adds a channel"),
        (CNN, torch.ones(2, 1, 8, 8), r"got \(2, 1, 8, 8\), which fails in 0 \(Conv2d"),
        (CNN, torch.ones(2, 8, 8, 3), r"got \(2, 8, 8, 3\), .*features or channels"),
    ],
)
@pytest.mark.parametrize("batch_size", [None, 2])
def test_inputs_of_a_shape_that_the_model_cannot_take(
    model: nn.Module, inputs: Any, text: str, batch_size: int | None
) -> None:
    text = text if batch_size is None else "have a shape that Sequential can take, but got"
    with pytest.raises(mcdrop.ShapeError, match=text) as caught:
        mcdrop.wrap(model).sample(inputs, batch_size=batch_size)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_the_failing_module_is_named_by_its_path() -> None:
    net = nn.Sequential(nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3)), nn.Linear(7, 1))
    with pytest.raises(mcdrop.ShapeError, match=r"which fails in 1 \(Linear\(in_features=7"):
        mcdrop.wrap(net).sample(torch.ones(2, 4))

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.drop(x) @ torch.ones(7, 1)
            return out

    with pytest.raises(mcdrop.ShapeError, match=r"got \(2, 4\), which fails: mat1 and mat2"):
        mcdrop.wrap(Own()).sample(torch.ones(2, 4))


class Fails(nn.Module):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError(self.text)


def test_errors_of_another_kind_stay_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="^my own$"):
        mcdrop.wrap(Fails("my own")).sample(torch.ones(2, 4))
    with pytest.raises(mcdrop.ShapeError, match="no channels left"):
        mcdrop.wrap(Fails("no channels left")).sample(torch.ones(2, 4))


def test_a_dict_without_a_key_that_the_model_takes_is_named() -> None:
    text = (
        r"`inputs` to hold the arguments \['input'\] of Sequential\.forward, or be a dict that it "
        r"takes as one argument, but got keys \['id', 'y'\]\. Rename the keys"
    )
    with pytest.raises(mcdrop.UnsupportedError, match=text):
        mcdrop.wrap(NET).sample({"y": torch.ones(2, 4), "id": torch.arange(2)})


@pytest.mark.parametrize(
    ("inputs", "found"),
    [
        (torch.ones(2, 4), r"1 by position, which fails: missing a required argument: 'z'"),
        ((torch.ones(2, 4),) * 3, "3 by position, which fails: too many positional arguments"),
        ((torch.ones(2, 4), {"z": 1}, 2), "3 by position, which fails: too many positional"),
    ],
)
def test_arguments_that_forward_does_not_take_are_named(inputs: Any, found: str) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x: Tensor, z: Tensor) -> Tensor:
            return self.drop(x) + z

    text = (
        rf"`inputs` to hold the arguments of Two\.forward\(x.*z.*\).*, but got {found}.*a tuple for"
    )
    with pytest.raises(mcdrop.UnsupportedError, match=text):
        mcdrop.wrap(Two()).sample(inputs)


def test_a_tensor_is_no_argument_by_name() -> None:
    class ByName(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, *, x: Tensor) -> Tensor:
            return self.drop(x)

    mc = mcdrop.wrap(ByName())
    assert mc.sample({"x": torch.ones(2, 4)}, 3).shape == (3, 2, 4)
    with pytest.raises(
        mcdrop.UnsupportedError, match="but got 1 by position.*a dict for arguments"
    ):
        mc.sample(torch.ones(2, 4))


def test_a_type_error_of_the_model_stays_as_it_is() -> None:
    class Mistaken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise TypeError("a list, not dict")

    with pytest.raises(TypeError, match="^a list, not dict$"):
        mcdrop.wrap(Mistaken()).sample(torch.ones(2, 4))


def test_a_program_of_fixed_shape_says_so() -> None:
    program = torch.export.export(NET.eval(), (torch.ones(8, 4),))
    mc = mcdrop.wrap(program)
    assert mc.sample(torch.ones(8, 4), 2).shape == (2, 8, 1)
    text = r"shape that the program was exported for, but got \(5, 4\) \(Guard failed.*dynamic_sha"
    for call in (mc.sample, mc.sites):
        with pytest.raises(mcdrop.ShapeError, match=text):
            call(torch.ones(5, 4))


def test_an_assertion_of_the_model_stays_as_it_is() -> None:
    class Asserts(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError("my own")

    with pytest.raises(AssertionError, match="^my own$"):
        mcdrop.wrap(Asserts()).sample(torch.ones(2, 4))
