"""Variational dropout on a sequence: one mask for all time steps makes each pass one function.

A recurrent network continues noisy waves. Dropout before and after it draws a fresh mask at each
time step, or one for the whole sequence (``LockedDropout``). Fresh masks average out along the
sequence; under a locked mask a pass leaves the same units out throughout, and its deviation from
the mean follows the wave: it is the error of one model, not noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from gallery import BLUE, GREY, ORANGE, label, main, panels, train
from matplotlib.figure import Figure
from torch import Tensor, nn

import mcdrop
from mcdrop.layers import LockedDropout

P, UNITS, LENGTH = 0.3, 32, 60


class Wave(nn.Module):
    """The next value of a wave at each time step, rows first."""

    def __init__(self, drop: type[nn.Module]) -> None:
        super().__init__()
        self.lift = nn.Linear(1, UNITS)
        self.before, self.after = drop(P), drop(P)
        self.recurrent = nn.GRU(UNITS, UNITS, batch_first=True)
        self.head = nn.Linear(UNITS, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, T, 1) for (N, T, 1)."""
        hidden, _ = self.recurrent(self.before(self.lift(x).tanh()))
        out: Tensor = self.head(self.after(hidden))
        return out


@dataclass(frozen=True)
class Result:
    """Deviations of the passes from their mean, (S, T) each, for one sequence."""

    deviations: dict[str, Tensor]
    std: dict[str, float]
    agreement: dict[str, float]

    @property
    def lines(self) -> list[str]:
        """Spread and persistence of the passes."""
        return [
            f"{name}: std of the passes {self.std[name]:.3f}, std of a pass's mean over time "
            f"{self.deviations[name].mean(dim=1).std():.3f}, correlation of its deviations from "
            f"one step to the next {self.agreement[name]:.2f}"
            for name in self.deviations
        ]


def waves(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return noisy waves of random phase and period, and their next values."""
    draw = torch.Generator().manual_seed(seed)
    phase, period = (
        6.3 * torch.rand(n, 1, generator=draw),
        10 + 20 * torch.rand(n, 1, generator=draw),
    )
    t = torch.arange(LENGTH + 1)
    wave = torch.sin(phase + 6.3 * t / period) + 0.1 * torch.randn(n, LENGTH + 1, generator=draw)
    return wave[:, :-1, None], wave[:, 1:, None]


def measure(small: bool = False) -> Result:
    """Train with locked masks, and predict with the same weights under both kinds."""
    X, y = waves(200, 0)
    torch.manual_seed(0)
    locked = Wave(LockedDropout)
    train(locked, nn.MSELoss(), X, y, steps=40 if small else 300, rate=5e-3, batch=50)
    fresh = Wave(nn.Dropout)
    fresh.load_state_dict(locked.state_dict())
    new, _ = waves(50, 1)
    deviations, std, agreement = {}, {}, {}
    for name, net in (("a fresh mask per step", fresh), ("one mask per sequence", locked)):
        samples = mcdrop.wrap(net).sample(new, n_samples=100, seed=0)[..., 0]
        apart = samples - samples.mean(dim=0)
        deviations[name], std[name] = apart[:, 0], samples.std(dim=0).mean().item()
        now, later = apart[..., :-1].flatten(), apart[..., 1:].flatten()
        agreement[name] = torch.corrcoef(torch.stack([now, later]))[0, 1].item()
    return Result(deviations, std, agreement)


def draw(found: Result) -> Figure:
    """Some passes of each kind, one of them marked."""
    title = "One mask for the whole sequence: a pass deviates like a model, not like noise"
    figure, axes = panels(title, 2, size=(9, 3.8))
    top = max(float(d[:12].abs().max()) for d in found.deviations.values())
    for ax, (name, apart), color in zip(
        axes, found.deviations.items(), (ORANGE, BLUE), strict=True
    ):
        ax.plot(apart[:12].T, color=GREY, lw=0.6, alpha=0.5)
        marked = int(apart.mean(dim=1)[:12].abs().argmax())
        ax.plot(apart[marked], color=color)
        ax.axhline(0, color=GREY, lw=0.6)
        ax.set_title(name, color=color, fontweight="bold")
        ax.set(xlabel="time step", ylim=(-1.15 * top, 1.15 * top))
        text = f"correlation from step to step {found.agreement[name]:.2f}"
        label(ax, 0.03, 0.05, text, color, transform=ax.transAxes)
    axes[0].set_ylabel("pass minus mean of passes")
    axes[1].set_yticklabels([])
    return figure


if __name__ == "__main__":
    main(measure, draw, __doc__)
