"""Walks over nested containers: every tensor is met once, in order, and types are kept."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import Tensor

from mcdrop._trees import leaves, mapped, tensors


class Pair(NamedTuple):
    first: Tensor
    second: list[Tensor]


A, B, C = (torch.full((), float(number)) for number in range(3))
TREE = (A, {"b": [B, "text", None], "c": (3, Pair(C, [A]))})


def test_leaves_come_in_order() -> None:
    assert [leaf for leaf in leaves(TREE) if not isinstance(leaf, Tensor)] == ["text", None, 3]
    assert [float(x) for x in tensors(TREE)] == [0, 1, 2, 0]
    assert list(tensors(OrderedDict(a=A, b="b"))) == [A]


def test_a_change_of_nothing_gives_an_equal_tree_of_the_same_types() -> None:
    same = mapped(TREE, lambda x: x)
    assert isinstance(same[1]["c"][1], Pair)
    assert [id(x) for x in tensors(same)] == [id(x) for x in tensors(TREE)]


def test_every_tensor_is_changed() -> None:
    doubled = mapped(TREE, lambda x: 2 * x)
    assert [float(x) for x in tensors(doubled)] == [0, 2, 4, 0]
    assert doubled[1]["b"][1:] == ["text", None]
