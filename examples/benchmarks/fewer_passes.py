"""How many independent passes a stratified pass is worth, on trained networks.

For each network, rate and number of passes S: the squared error of the mean over passes against
that of independent ones, the bias of the estimated variance, and how much the estimated standard
deviation scatters from run to run, all against a reference of many independent passes. Run it with
`python examples/benchmarks/fewer_passes.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from record import arguments, circumstances, markdown, write
from sklearn.datasets import load_diabetes, load_digits
from torch import Tensor, nn

import mcdrop

Loss = Callable[[Tensor, Tensor], Tensor]


class Forecaster(nn.Module):
    """Two LSTM layers with dropout after each; predicts the next value of a series."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.layers = nn.LSTM(1, 32, num_layers=2, dropout=p, batch_first=True)
        self.drop = nn.Dropout(p)
        self.head = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Predict (N, 1) from windows (N, 20, 1)."""
        hidden, _ = self.layers(x)
        out: Tensor = self.head(self.drop(hidden[:, -1]))
        return out


def trained(net: nn.Module, x: Tensor, y: Tensor, loss: Loss, epochs: int) -> nn.Module:
    """Train with Adam and return the network in eval mode."""
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    net.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            loss(net(x[rows]), y[rows]).backward()
            optimizer.step()
    return net.eval()


def networks(p: float, epochs: float) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Yield name, trained network and rows to predict."""
    torch.manual_seed(0)
    data = load_diabetes()
    x = torch.tensor(data.data / data.data.std(axis=0), dtype=torch.float32)
    y = torch.tensor((data.target - data.target.mean()) / data.target.std(), dtype=torch.float32)
    net: nn.Module = nn.Sequential(
        nn.Linear(10, 50), nn.ReLU(), nn.Dropout(p), nn.Linear(50, 50), nn.ReLU(), nn.Dropout(p),
        nn.Linear(50, 1),
    )  # fmt: skip
    yield "MLP", trained(net, x, y.unsqueeze(1), F.mse_loss, int(100 * epochs)), x[:32]
    time = torch.arange(0, 200, 0.1)
    windows = (torch.sin(time) + 0.5 * torch.sin(2.3 * time)).unfold(0, 21, 1)
    x, y = windows[:, :20, None].contiguous(), windows[:, 20:].contiguous()
    yield "LSTM", trained(Forecaster(p), x, y, F.mse_loss, int(15 * epochs)), x[:32]
    digits = load_digits()
    x = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
    y = torch.tensor(digits.target)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Dropout(p), nn.Conv2d(16, 32, 3), nn.ReLU(),
        nn.Flatten(), nn.Dropout(p), nn.Linear(512, 64), nn.ReLU(), nn.Dropout(p),
        nn.Linear(64, 10),
    )  # fmt: skip
    cnn = trained(net, x, y, F.cross_entropy, int(10 * epochs))
    yield "CNN, logits", cnn, x[:16]
    yield "CNN, probabilities", nn.Sequential(cnn, nn.Softmax(dim=1)).eval(), x[:16]


def compared(
    net: nn.Module, x: Tensor, n_samples: int, repeats: int, reference: tuple[Tensor, Tensor, int]
) -> dict[str, float]:
    """Return the measures of stratified passes against independent ones."""
    mean, variance, n_reference = reference
    errors, ratios, scatter = {}, {}, {}
    for stratified in (False, True):
        mc = mcdrop.wrap(net, stratified=stratified)
        found = [
            mc.predict_with_uncertainty(
                x, n_samples=n_samples, seed=seed, task="regression", control_variate=False
            )
            for seed in range(repeats)
        ]
        squares = torch.stack([(p.mean.double() - mean).square() for p in found]).mean(dim=0)
        # The reference has an error of its own.
        errors[stratified] = float((squares - variance / n_reference).sum())
        variances = torch.stack([p.epistemic_variance.double() for p in found])
        ratios[stratified] = float(variances.mean(dim=0).sum() / variance.sum())
        spread = variances.sqrt().std(dim=0).square().sum() / variance.sum()
        scatter[stratified] = float(spread.sqrt())
    return {
        "n_samples": n_samples,
        "repeats": repeats,
        "error_ratio": errors[False] / errors[True],
        "std_bias": ratios[True] ** 0.5 - 1,
        "std_bias_independent": ratios[False] ** 0.5 - 1,
        "std_scatter_ratio": scatter[True] / scatter[False],
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rates = (0.3,) if options.smoke else (0.1, 0.3, 0.5)
    effort = 0.1 if options.smoke else 1.0
    results: list[dict[str, Any]] = []
    for p in rates:
        for name, net, x in networks(p, effort):
            n_reference = int(100_000 * effort**2)
            many = mcdrop.wrap(net, stratified=False).predict_with_uncertainty(
                x, n_samples=n_reference, seed=10**6, task="regression", control_variate=False
            )
            reference = (many.mean.double(), many.epistemic_variance.double(), n_reference)
            for n_samples, repeats in ((16, 1200), (64, 600), (256, 200)):
                found = compared(net, x, n_samples, max(10, int(repeats * effort**2)), reference)
                results.append({"network": name, "p": p, **found})
            print(f"{name}, p = {p}: done", flush=True)
    rows = [
        [
            each["network"],
            f"{each['p']:g}",
            str(each["n_samples"]),
            f"{each['error_ratio']:.1f}x",
            f"{100 * each['std_bias']:+.1f} %",
            f"{each['std_scatter_ratio']:.2f}",
        ]
        for each in results
    ]
    header = ["network", "p", "S", "squared error", "std, bias", "std, scatter"]
    print(markdown(header, rows))
    write(options.json, {**circumstances(options.date), "results": results})


if __name__ == "__main__":
    main()
