"""Models are told apart by what changes their numbers, and known again in every process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import mcdrop
from mcdrop._files.identity import model_digest
from tests._files.cases import network

_CHILD = """
import sys, torch, mcdrop
from mcdrop._files.identity import model_digest
print(model_digest(mcdrop.wrap(torch.export.load(sys.argv[1]))))
"""


def digest(model: nn.Module) -> str:
    return model_digest(mcdrop.wrap(model))


def test_the_same_model_is_known_again() -> None:
    assert digest(network()) == digest(network()) == digest(network().train())


def test_whatever_changes_the_numbers_changes_the_hash() -> None:
    models: list[nn.Module] = [network(), network(1), network().double()]
    rate, order, buffer = network(), network(), network()
    rate.get_submodule("2").p = 0.3  # type: ignore[assignment]
    buffer.register_buffer("offset", torch.zeros(2), persistent=False)
    models += [rate, nn.Sequential(*reversed(list(order.children()))), buffer]
    first, _, *rest = network().children()
    models.append(nn.Sequential(first, nn.Tanh(), *rest))
    little = network()
    with torch.no_grad():
        little.get_parameter("3.bias").add_(1e-7)
    models.append(little)
    assert len({digest(model) for model in models}) == len(models)


def test_half_precision_and_empty_tensors_have_a_hash() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).to(torch.bfloat16)
    model.register_buffer("none", torch.zeros(0))
    model.register_buffer("count", torch.tensor(3))
    assert len(digest(model)) == 64


@pytest.mark.slow
def test_a_program_is_known_again_in_another_process(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(network(), (torch.randn(6, 3),)), path)
    here = model_digest(mcdrop.wrap(torch.export.load(path)))
    command = [sys.executable, "-c", _CHILD, str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.strip() == here
    other = torch.export.export(nn.Sequential(network(), nn.ReLU()), (torch.randn(6, 3),))
    assert model_digest(mcdrop.wrap(other)) != here
