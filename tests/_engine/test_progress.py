"""The progress bar: on standard error, to the end, and nothing at all if nobody asks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mcdrop
from mcdrop._engine.progress import ProgressBar, progress_bar

pytest.importorskip("rich")

X = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))


class Display:
    """Stands for rich's: notes what it is told."""

    def __init__(self) -> None:
        self.done = 0
        self.total: int | None = None

    def add_task(self, label: str, total: int | None) -> str:
        self.total = total
        return label

    def advance(self, task: str, done: int) -> None:
        assert task == "passes"
        self.done += done

    def update(self, task: str, total: int) -> None:
        assert task == "passes"
        self.total = total


def test_progress_goes_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    mc = mcdrop.wrap(nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 1)))
    mc.sample(X, 10)
    assert capfd.readouterr() == ("", "")
    for batch_size, total in ((None, "10/10"), (4, "20/20")):
        mc.sample(X, 10, progress=True, batch_size=batch_size)
        out, err = capfd.readouterr()
        assert out == ""
        assert total in err


def test_the_end_is_reached_where_large_inputs_are_split(capfd: pytest.CaptureFixture[str]) -> None:
    # 40,000 rows run in 40 calls of at most 1024, with 4 passes each.
    net = nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5), nn.Linear(64, 1))
    mcdrop.wrap(net).sample(torch.randn(40_000, 4), 4, progress=True)
    assert "160/160" in capfd.readouterr().err


def test_units_are_counted_and_more_can_be_expected() -> None:
    display = Display()
    bar = ProgressBar(display, "passes", 10)
    bar.advance(4)
    bar.expect_more(6)
    bar.advance(12)
    assert (display.done, display.total) == (16, 16)


def test_an_unknown_end_stays_unknown() -> None:
    display = Display()
    bar = ProgressBar(display, "passes", None)
    bar.expect_more(6)
    assert display.total is None


def test_without_a_display_nothing_happens(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_bar("sample", "passes", 3, show=False) as bar:
        bar.advance(2)
        bar.expect_more(1)
    assert capfd.readouterr() == ("", "")


def test_the_bar_is_taken_down_after_an_exception(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), progress_bar("sample", "passes", 3, show=True):
        raise KeyError
    # Another one can be shown: rich allows a single live display.
    with progress_bar("sample", "passes", 3, show=True) as bar:
        bar.advance(3)
    assert "3/3" in capfd.readouterr().err
