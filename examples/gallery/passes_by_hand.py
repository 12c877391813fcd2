"""MC dropout from scratch beside `predict_with_uncertainty`: the same mean and spread.

From scratch it is a loop: put the dropout layers into train mode, call the network, put them back,
and take moments. It changes the model meanwhile, and finds only dropout that is an ``nn.Dropout``.
`predict_with_uncertainty` leaves the model alone and says how precise its mean is. For the picture
both run on a trained network of one input; their difference in standard errors is standard normal.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from gallery import BLUE, INK, LIGHT, ORANGE, label, main, panels, train
from matplotlib.figure import Figure
from torch import Tensor, nn

import mcdrop


def by_hand(net: nn.Module, x: Tensor, n_samples: int) -> Tensor:
    """Return passes (S, N, ...): MC dropout as it is usually written."""
    net.eval()
    dropouts = [module for module in net.modules() if isinstance(module, nn.Dropout)]
    for module in dropouts:
        module.train()
    try:
        with torch.no_grad():
            return torch.stack([net(x) for _ in range(n_samples)])
    finally:
        for module in dropouts:
            module.eval()


@dataclass(frozen=True)
class Result:
    """Moments of both, (N,) each, and their differences in standard errors."""

    x: Tensor
    mean: dict[str, Tensor]
    std: dict[str, Tensor]
    scaled: Tensor

    @property
    def lines(self) -> list[str]:
        """The differences of means and standard deviations."""
        ratio = self.std["mcdrop"] / self.std["by hand"]
        return [
            f"difference of the means in standard errors: mean {self.scaled.mean():.2f}, std "
            f"{self.scaled.std():.2f} over {len(self.x)} rows",
            f"ratio of the stds over passes: mean {ratio.mean():.3f}, from {ratio.min():.2f} to "
            f"{ratio.max():.2f}",
        ]


def measure(small: bool = False) -> Result:
    """Train a network of one input and run both."""
    torch.manual_seed(0)
    X = 4 * torch.rand(200, 1) - 2
    y = torch.sin(2 * X) + 0.2 * torch.randn(200, 1)
    net = nn.Sequential(
        nn.Linear(1, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 64), nn.ReLU(),
        nn.Dropout(0.1), nn.Linear(64, 1),
    )  # fmt: skip
    train(net, nn.MSELoss(), X, y, steps=200 if small else 1500, rate=5e-3)
    x = torch.linspace(-2.5, 2.5, 1000).unsqueeze(1)
    n = 500
    torch.manual_seed(1)
    passes = by_hand(net, x, n)[..., 0].double()
    p = mcdrop.predict_with_uncertainty(net, x, task="regression", n_samples=n, seed=2)
    mean = {"by hand": passes.mean(dim=0), "mcdrop": p.mean[:, 0].double()}
    std = {"by hand": passes.std(dim=0), "mcdrop": p.std[:, 0].double()}
    error = (passes.var(dim=0) / n + p.mcse[:, 0].double().square()).sqrt()
    return Result(x[:, 0], mean, std, (mean["mcdrop"] - mean["by hand"]) / error)


def draw(found: Result) -> Figure:
    """Both bands, and the differences beside a normal distribution."""
    title = "A loop by hand and predict_with_uncertainty agree, row by row"
    figure, (left, right) = panels(title, 2, size=(9, 3.8), widths=(1.3, 1))
    ours, std = found.mean["mcdrop"], found.std["mcdrop"]
    left.fill_between(found.x, ours - 2 * std, ours + 2 * std, color=BLUE, alpha=0.2, lw=0)
    left.plot(found.x, ours, color=BLUE)
    hand, spread = found.mean["by hand"], found.std["by hand"]
    for line in (hand - 2 * spread, hand, hand + 2 * spread):
        left.plot(found.x, line, color=ORANGE, lw=1, ls=(0, (4, 3)))
    left.set(xlabel="x", ylim=(-1.4, 2.1), title="mean ± 2 std of 500 passes")
    label(left, 0.03, 0.95, "line and band: mcdrop", BLUE, transform=left.transAxes)
    label(left, 0.03, 0.87, "dashed: by hand", ORANGE, transform=left.transAxes)
    right.hist(found.scaled, bins=30, density=True, color=LIGHT)
    z = torch.linspace(-4, 4, 200)
    right.plot(z, (-z.square() / 2).exp() / (2 * torch.pi) ** 0.5, color=INK)
    right.set(yticks=[], title="difference of the two means", xlabel="in standard errors")
    right.spines["left"].set_visible(False)
    label(right, 1.3, 0.3, "standard normal", INK)
    return figure


if __name__ == "__main__":
    main(measure, draw, __doc__)
