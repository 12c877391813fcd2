"""How often the Monte Carlo errors of a prediction hold, and how far estimates are biased.

Coverage: a trained network predicts the same rows again and again with S passes; the share of
predictions within 1.96 standard errors of the answer of very many passes (or of all masks) should
be 0.95. For comparison, the same with the jackknife alone. Ratios: estimates over the exact value
of a small network, averaged over many repetitions; they should be 1. Run it with
`python examples/benchmarks/statements_passes.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from record import arguments, circumstances, markdown, write
from sklearn.datasets import load_diabetes, load_digits
from torch import Tensor, nn

import mcdrop
from mcdrop._engine.groups import PassGroups
from mcdrop._masks.grid import FEWEST_IN_STRATA
from mcdrop._masks.source import effective_rate
from mcdrop._tasks.accumulate import ClassificationAccumulator
from mcdrop._tasks.regression import RegressionAccumulator
from mcdrop._tasks.tails import Missed, Tails
from mcdrop.metrics import crps_ensemble, pit

PASSES = (16, 32, 64, 100, 256)
RATIO_PASSES = (16, 32, 64, 100)
ROWS = 40
# Two networks with ten units, by the scale of the last weights.
RATIO_NETS = {"10 units, saturated": 1.0, "10 units, moderate": 0.3}
Z = 1.96

Errors = dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Case:
    """One network with the rows it predicts and the exact answer for them."""

    name: str
    net: nn.Module
    x: Tensor
    classes: bool
    rate: float
    exact: dict[str, Tensor]


def trained(
    net: nn.Module, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor], epochs: int
) -> nn.Module:
    """Train with Adam and return the network in eval mode."""
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    net.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            loss(net(x[rows]), y[rows]).backward()
            optimizer.step()
    return net.eval()


def perceptron(n_in: int, width: int, n_out: int, p: float) -> nn.Sequential:
    """Two hidden layers, each followed by dropout."""
    return nn.Sequential(
        nn.Linear(n_in, width), nn.ReLU(), nn.Dropout(p),
        nn.Linear(width, width), nn.ReLU(), nn.Dropout(p), nn.Linear(width, n_out),
    )  # fmt: skip


def entropy(probs: Tensor) -> Tensor:
    """Entropy over the last dimension, nats."""
    return -torch.special.xlogy(probs, probs).sum(dim=-1)


def by_many_passes(net: nn.Module, x: Tensor, classes: bool, n_samples: int) -> dict[str, Tensor]:
    """Answer with so many passes that their error does not matter."""
    mc = mcdrop.wrap(net)
    if not classes:
        r = mc.predict_with_uncertainty(
            x, n_samples=n_samples, seed=10**6, task="regression", control_variate=False
        )
        return {"mean": r.mean.double(), "std": r.std.double()}
    p = mc.predict_with_uncertainty(x, n_samples=n_samples, seed=10**6, task="classification")
    return {
        "probs": p.probs.double(),
        "probs_std": p.probs_std.double(),
        "predictive_entropy": p.predictive_entropy.double(),
        "mutual_information": p.mutual_information.double(),
    }


class SmallNet(nn.Module):
    """Ten units with dropout, random weights, three outputs: 1,024 masks.

    Args:
        p: Dropout rate.
        scale: Of the last weights: at 1 the probabilities are saturated, at 0.3 they are not.
    """

    def __init__(self, p: float, scale: float = 1.0) -> None:
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(3, 10), nn.Dropout(p), nn.Linear(10, 3)
        generator = torch.Generator().manual_seed(5)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)
        self.last.weight.data *= scale
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, 3)."""
        out: Tensor = self.last(self.drop(torch.relu(self.first(x))))
        return out


def by_all_masks(net: SmallNet, x: Tensor) -> dict[str, Tensor]:
    """Answer of a small network by enumeration.

    Also the probabilities by mask as `values`, (1024, n, 3), and the `weights` of the masks.
    """
    hidden = torch.relu(net.first(x)).double()
    rate = effective_rate(net.drop.p)
    masks = torch.tensor(list(itertools.product((0.0, 1.0), repeat=10)), dtype=torch.float64)
    weights = (masks * (1 - rate) + (1 - masks) * rate).prod(dim=1)
    head = net.last.weight.double(), net.last.bias.double()
    logits = F.linear(hidden * masks.unsqueeze(1) / (1 - rate), *head)
    passes = logits.softmax(dim=2)
    probs = torch.tensordot(weights, passes, dims=1)
    variance = torch.tensordot(weights, (passes - probs).square(), dims=1)
    return {
        "probs": probs,
        "probs_std": variance.sqrt(),
        "predictive_entropy": entropy(probs),
        "mutual_information": entropy(probs) - weights @ entropy(passes),
        "values": passes,
        "weights": weights,
    }


def cases(effort: float) -> Iterator[Case]:
    """Yield the networks whose errors are examined."""
    many = int(200_000 * effort)
    digits = load_digits()
    x = torch.tensor(digits.data / 16, dtype=torch.float32)
    y = torch.tensor(digits.target)
    for epochs in (10, 30):
        torch.manual_seed(0)
        net = trained(perceptron(64, 64, 10, 0.2), x[:1200], y[:1200], F.cross_entropy, epochs)
        rows = x[1200 : 1200 + ROWS]
        name = f"digits, p = 0.2, {epochs} epochs"
        yield Case(name, net, rows, True, 0.2, by_many_passes(net, rows, True, many))
    diabetes = load_diabetes()
    x = torch.tensor(diabetes.data / diabetes.data.std(axis=0), dtype=torch.float32)
    target = torch.tensor(diabetes.target, dtype=torch.float32).unsqueeze(1)
    target = (target - target.mean()) / target.std()
    for p in (0.1, 0.3):
        torch.manual_seed(0)
        net = trained(perceptron(10, 50, 1, p), x, target, F.mse_loss, 60)
        name = f"regression, p = {p:g}"
        yield Case(name, net, x[:ROWS], False, p, by_many_passes(net, x[:ROWS], False, many))
    small = SmallNet(0.05)
    rows = torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(0))
    yield Case("10 units, saturated, p = 0.05", small, rows, True, 0.05, by_all_masks(small, rows))


def predicted(passes: Tensor, classes: bool, stratified: bool, rate: float) -> Errors:
    """Return estimate and standard error of every quantity, from passes (S, n, ...) at a rate."""
    groups = PassGroups(len(passes), stratified=stratified, rates=(rate,))
    if not classes:
        regression = RegressionAccumulator("statements", 0, False, groups)
        regression.update(passes.double())
        r = regression.result()
        return {"mean": (r.mean, r.mcse), "std": (r.std, _there(r.std_mcse))}
    classification = ClassificationAccumulator("statements", 0, False, groups, output_type="logits")
    classification.update(passes.double())
    p = classification.result()
    return {
        "probs": (p.probs, p.mcse),
        "probs_std": (p.probs_std, _there(p.probs_std_mcse)),
        "predictive_entropy": (p.predictive_entropy, _there(p.predictive_entropy_mcse)),
        "mutual_information": (p.mutual_information_corrected, _there(p.mutual_information_mcse)),
    }


def by_jackknife_alone(passes: Tensor, classes: bool, stratified: bool, rate: float) -> Errors:
    """Return what `predicted` does, without bounds on passes that were not drawn."""

    def nothing(_: Tails, mean: Tensor) -> Missed:
        return Missed(*(torch.zeros_like(mean) for _ in range(3)))

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(Tails, "missed", nothing))
        unwidened = mock.patch("mcdrop._tasks.regression.on_log_scale", lambda _, error: error)
        stack.enter_context(unwidened)
        return predicted(passes, classes, stratified, rate)


def coverage(case: Case, stratified: bool, repeats: int) -> list[dict[str, Any]]:
    """Return how often 1.96 standard errors cover the exact answer, by quantity and S."""
    hits: dict[tuple[str, int, bool], list[Tensor]] = {}
    mc = mcdrop.wrap(case.net, stratified=stratified)
    together = min(20, repeats)
    for seed in range(repeats // together):
        rows = case.x.repeat(together, 1)
        most = mc.sample(rows, n_samples=PASSES[-1], seed=seed)
        # From 32 on, fewer passes of a seed are the first of more.
        few = {n: mc.sample(rows, n_samples=n, seed=seed) for n in PASSES if n < FEWEST_IN_STRATA}
        for n, alone in itertools.product(PASSES, (False, True)):
            errors = (by_jackknife_alone if alone else predicted)(
                few.get(n, most[:n]), case.classes, stratified, case.rate
            )
            for quantity, (found, error) in errors.items():
                exact = case.exact[quantity].repeat(together, *[1] * (found.ndim - 1))
                hit = ((found - exact).abs() <= Z * error + 1e-9).double()
                by_repeat = hit.view(together, -1).mean(dim=1)
                hits.setdefault((quantity, n, alone), []).append(by_repeat)
    results = []
    for (quantity, n, alone), parts in hits.items():
        shares = torch.cat(parts)
        masks = "stratified" if stratified else "unstratified"
        how = ", jackknife alone" if alone else ""
        results.append(
            {
                "statement": f"{quantity} within 1.96 standard errors{how}: {case.name}, {masks}",
                "n": n,
                "nominal": 0.95,
                "simulated": float(shares.mean()),
                "se": float(shares.std()) / len(shares) ** 0.5,
                "repetitions": len(shares) * len(case.x),
            }
        )
    return results


def stopped(repeats: int) -> list[dict[str, Any]]:
    """Return how often rows that stopped at a tolerance lie within 1.96 of it, by quantity."""
    net, tolerance = SmallNet(0.05), 0.01
    x = torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(0))
    exact = by_all_masks(net, x)
    together = 20
    inside: dict[str, list[Tensor]] = {}
    passes = []
    for seed in range(repeats // together):
        p = mcdrop.wrap(net).predict_with_uncertainty(
            x.repeat(together, 1),
            n_samples="auto",
            tolerance=tolerance,
            task="classification",
            seed=seed,
        )
        passes.append(
            float(p.passes_per_row.double().mean()) if p.passes_per_row is not None else 0
        )
        for quantity in ("probs", "probs_std", "predictive_entropy", "mutual_information"):
            found = getattr(p, quantity).double()
            distance = (found - exact[quantity].repeat(together, *[1] * (found.ndim - 1))).abs()
            row = distance.view(together, ROWS, -1).amax(dim=2) <= Z * tolerance
            inside.setdefault(quantity, []).append(row.double().mean(dim=1))
    results = []
    for quantity, parts in inside.items():
        shares = torch.cat(parts)
        results.append(
            {
                "statement": f"{quantity} of whole rows within 1.96 tolerances of 0.01,"
                ' n_samples="auto": 10 units, saturated, p = 0.05',
                "n": round(sum(passes) / len(passes)),
                "nominal": 0.95,
                "simulated": float(shares.mean()),
                "se": float(shares.std()) / len(shares) ** 0.5,
                "repetitions": len(shares) * ROWS,
            }
        )
    return results


def ratios(p: float, name: str, scale: float, repeats: int) -> list[dict[str, Any]]:
    """Return estimates from stratified passes over the exact value, by quantity and S."""
    net = SmallNet(p, scale)
    x = torch.tensor([[0.3, -1.0, 0.8]])
    exact = by_all_masks(net, x)
    # CRPS of the probability that varies most, at its mean.
    widest = int(exact["probs_std"][0].argmax())
    values, weights = exact["values"][:, 0, widest], exact["weights"]
    y = float(exact["probs"][0, widest])
    pairs = weights @ (values.unsqueeze(1) - values).abs() @ weights
    crps = float(weights @ (values - y).abs() - pairs / 2)
    results = []
    for n in RATIO_PASSES:
        found: dict[str, list[Tensor]] = {}
        together = min(10_000, repeats)
        draw = torch.Generator().manual_seed(n)
        for seed in range(repeats // together):
            passes = mcdrop.wrap(net).sample(x.expand(together, -1), n_samples=n, seed=seed)
            estimates = predicted(passes, True, True, p)
            variance = estimates["probs_std"][0].square().sum(dim=1)
            found.setdefault("variance of probs", []).append(
                variance / exact["probs_std"].square().sum()
            )
            found.setdefault("mutual_information_corrected", []).append(
                estimates["mutual_information"][0] / exact["mutual_information"]
            )
            draws = passes.double().softmax(dim=2)[:, :, widest]
            target = torch.full((together,), y, dtype=torch.float64)
            for label, stratum in (("", 16), (", strata ignored", None)):
                score = torch.as_tensor(crps_ensemble(draws, target, stratum=stratum, p=p))
                found.setdefault(f"fair CRPS{label}", []).append(score / crps)
            # Targets of the same law are uniform on the scale of the PIT, whose variance is 1 / 12.
            y_drawn = values[torch.multinomial(weights, together, True, generator=draw)]
            # Passes are in float32: equal outputs are ties only if rounded.
            rounded = draws.round(decimals=5), y_drawn.round(decimals=5)
            ranks = torch.as_tensor(pit(*rounded, seed=seed, stratum=16))
            found.setdefault("mean PIT", []).append(2 * ranks)
            found.setdefault("variance of the PIT", []).append(12 * (ranks - 0.5).square())
        for quantity, parts in found.items():
            each = torch.cat(parts)
            results.append(
                {
                    "statement": f"{quantity} over its exact value: {name}, p = {p:g}",
                    "n": n,
                    "nominal": 1.0,
                    "simulated": float(each.mean()),
                    "se": float(each.std()) / len(each) ** 0.5,
                    "repetitions": len(each),
                }
            )
    return results


def _there(error: Tensor | None) -> Tensor:
    if error is None:
        raise RuntimeError("a prediction made by passes has standard errors")
    return error


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    effort = 0.02 if options.smoke else 1.0
    results: list[dict[str, Any]] = []
    with torch.no_grad():
        for p in (0.25,) if options.smoke else (0.05, 0.1, 0.25, 0.3, 0.5):
            for name, scale in RATIO_NETS.items():
                results += ratios(p, name, scale, int(100_000 * effort))
    results += stopped(max(20, int(200 * effort)))
    for case in cases(effort):
        for stratified in (True, False):
            with torch.no_grad():
                results += coverage(case, stratified, max(4, int(200 * effort)))
        print(f"{case.name}: done", flush=True)
    rows = [
        [each["statement"], str(each["n"]), f"{each['simulated']:.4f}", f"{each['se']:.4f}"]
        for each in results
    ]
    print(markdown(["statement", "S", "simulated", "standard error"], rows))
    write(options.json, {**circumstances(options.date), "statements": results})


if __name__ == "__main__":
    main()
