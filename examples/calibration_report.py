"""Train two small dropout networks and write a calibration report for each.

Regression on scikit-learn's diabetes data, classification on its digits; both ship with the
package. Run it with `make report`, or with `python examples/calibration_report.py --out DIR`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.progress import track
from sklearn.datasets import load_diabetes, load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

import mcdrop
from mcdrop.baselines import Deterministic, LogisticL2, Ridge


def parts(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Train, validation and test rows, the same ones for all values."""
    train, rest = train_test_split(values, test_size=0.4, random_state=0)
    return train, *train_test_split(rest, test_size=0.5, random_state=0)


def split(X: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Train, validation and test rows, 60 : 20 : 20; features scaled by the training rows."""
    X_train, X_val, X_test = parts(X)
    y_train, y_val, y_test = parts(y)
    center, scale = X_train.mean(dim=0), X_train.std(dim=0).clamp_min(1e-6)
    scaled = ((part - center) / scale for part in (X_train, X_val, X_test))
    return *scaled, y_train, y_val, y_test


def train(
    n_outputs: int, p: float, loss: nn.Module, X: Tensor, y: Tensor, epochs: int, label: str
) -> nn.Sequential:
    """A two-layer network with dropout, trained by Adam with weight decay."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(X.shape[1], 64), nn.ReLU(), nn.Dropout(p),
        nn.Linear(64, 64), nn.ReLU(), nn.Dropout(p), nn.Linear(64, n_outputs),
    )  # fmt: skip
    adam = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-2)
    for _ in track(range(epochs), label):
        for rows in torch.randperm(len(X)).split(32):
            adam.zero_grad()
            loss(net(X[rows]), y[rows]).backward()
            adam.step()
    return net.eval()


def regression(epochs: int) -> mcdrop.CalibrationReport:
    """Disease progression one year later, from ten measurements."""
    X, y = (torch.tensor(part, dtype=torch.float32) for part in load_diabetes(return_X_y=True))
    X_train, X_val, X_test, y_train, y_val, y_test = split(X, y.unsqueeze(1))
    center, scale = y_train.mean(), y_train.std()
    net = train(1, 0.4, nn.MSELoss(), X_train, (y_train - center) / scale, epochs, "diabetes")
    with torch.no_grad():  # back to units of y
        for parameter in net[-1].parameters():
            parameter.mul_(scale)
        net.get_parameter("6.bias").add_(center)

    mc = mcdrop.wrap(net)
    held_out = mc.predict_with_uncertainty(X_val, n_samples=500, seed=0, keep_samples=True)
    noise = mcdrop.fit_noise_std(held_out, y_val)
    prediction = mc.predict_with_uncertainty(
        X_test, n_samples=500, seed=0, keep_samples=True, noise_std=noise
    )
    baselines = {
        "Ridge": Ridge().fit(X_train, y_train).predict(X_test),
        "Dropout off": Deterministic(net).fit(X_val, y_val).predict(X_test),
    }
    return mcdrop.calibration_report(
        prediction, y_test, baselines=baselines, title="Diabetes progression"
    )


def classification(epochs: int) -> mcdrop.CalibrationReport:
    """Handwritten digits, 8 by 8 pixels."""
    X, y = load_digits(return_X_y=True)
    X_train, X_val, X_test, y_train, y_val, y_test = split(
        torch.tensor(X, dtype=torch.float32), torch.tensor(y)
    )
    net = train(10, 0.2, nn.CrossEntropyLoss(), X_train, y_train, epochs, "digits")
    prediction = mcdrop.predict_with_uncertainty(
        net, X_test, task="classification", n_samples=500, seed=0, keep_samples=True
    )
    baselines = {
        "Logistic L2": LogisticL2().fit(X_train, y_train).predict(X_test),
        "Dropout off": Deterministic(net, task="classification").predict(X_test),
    }
    return mcdrop.calibration_report(
        prediction,
        y_test,
        baselines=baselines,
        images=parts(torch.tensor(X))[2].reshape(-1, 8, 8),
        title="Handwritten digits",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the reports")
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    for name, make in (("regression", regression), ("classification", classification)):
        report = make(options.epochs)
        print(report.to_markdown())
        print(f"\nReport: {report.to_html(options.out / f'report-{name}.html').resolve()}\n")


if __name__ == "__main__":
    main()
