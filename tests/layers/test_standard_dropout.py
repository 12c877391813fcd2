"""Standard dropout, unscaled in training, is inverted dropout with scaled weights; and the page."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.layers.passes import assert_moments, draw

PAGE = Path(__file__).parents[2] / "docs" / "layers.md"


@pytest.mark.parametrize("p", [0.2, 0.5, 0.7])
def test_standard_dropout_is_inverted_dropout_with_weights_scaled_by_the_keep_rate(
    p: float,
) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, dtype=torch.float64)
    first, last = nn.Linear(3, 5).double(), nn.Linear(5, 2).double()
    scaled = nn.Linear(5, 2).double()
    with torch.no_grad():
        scaled.weight.copy_((1 - p) * last.weight)
        scaled.bias.copy_(last.bias)
        hidden = torch.relu(first(x))
        torch.testing.assert_close(last((1 - p) * hidden), scaled(hidden))
        outputs, probabilities = [], []
        for bits in itertools.product((0.0, 1.0), repeat=5):
            kept = torch.tensor(bits, dtype=torch.float64)
            standard = last(kept * hidden)
            torch.testing.assert_close(standard, scaled(kept * hidden / (1 - p)))
            outputs.append(standard)
            probabilities.append(p ** (5 - sum(bits)) * (1 - p) ** sum(bits))
    weights = torch.tensor(probabilities, dtype=torch.float64).view(-1, 1, 1)
    mean = (weights * torch.stack(outputs)).sum(dim=0)
    variance = (weights * (torch.stack(outputs) - mean).square()).sum(dim=0)
    model = nn.Sequential(first, nn.ReLU(), nn.Dropout(p), scaled)
    assert_moments(draw(model, x, 20_000), mean, variance)


def test_code_of_the_page_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) == 4
    torch.manual_seed(0)
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102
