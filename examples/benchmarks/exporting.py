"""Size and latency of an exported program, against the library and against one program per pass.

Every way returns mean and standard deviation of the same S passes, whose masks are read from the
exported program; the answers are compared before anything is timed. The ways take turns, and the
shortest time of each counts.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import arguments, circumstances, markdown, write
from torch import Tensor, nn

import mcdrop

# Written down before the first run.
_PREDICTION = (
    "One program is within 1.5 times the size of the weights for the MLP, S programs are S times"
    " that. For one row the .pt2 takes a few times less than the library, which plans and checks,"
    " and S programs take 10 times longer or more, for their calls alone. For 256 rows .pt2 and"
    " library are within a factor of 2. With the convolutions before the dropout, S programs take"
    " about S times longer."
)
Way = Callable[[Tensor], dict[str, Tensor]]


class Fixed(nn.Module):
    """A dropout whose mask is a constant."""

    mask: Tensor

    def __init__(self, mask: Tensor, p: float) -> None:
        super().__init__()
        self.register_buffer("mask", mask.float() / (1 - p))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the mask."""
        return x * self.mask


def networks(smoke: bool) -> dict[str, tuple[nn.Sequential, tuple[int, ...]]]:
    """Return networks, each a flat Sequential, and the shape of a row."""
    torch.manual_seed(0)
    mlp = nn.Sequential(
        nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.1),
        nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 1),
    )  # fmt: skip
    size = 4 if smoke else 16
    cnn = nn.Sequential(
        nn.Conv2d(3, size, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(size, 2 * size, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(2 * size * 64, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 1),
    )  # fmt: skip
    return {
        "MLP 20-64-64-1": (mlp.eval(), (20,)),
        "CNN, dropout in its head": (cnn.eval(), (3, 32, 32)),
    }


def one_pass(net: nn.Sequential, masks: list[Tensor], s: int) -> nn.Sequential:
    """Return the network with the masks of one pass in place of its dropout."""
    left = iter(masks)
    return nn.Sequential(
        *(Fixed(next(left)[s], m.p) if isinstance(m, nn.Dropout) else m for m in net)
    ).eval()


def pass_programs(
    net: nn.Sequential, masks: list[Tensor], x: Tensor, n_samples: int, path: Path
) -> list[Any]:
    """Export one pass for any number of rows, and load it once for the masks of each pass."""
    rows = torch.export.Dim("rows", min=1)
    program = torch.export.export(one_pass(net, masks, 0), (x,), dynamic_shapes=({0: rows},))
    torch.export.save(program, path)
    loaded: list[Any] = [torch.export.load(path).module() for _ in range(n_samples)]
    for s, module in enumerate(loaded):
        module.load_state_dict(one_pass(net, masks, s).state_dict())
    return loaded


def in_onnx(path: Path) -> Way:
    """Return what runs an ONNX file on as many threads as torch has."""
    import onnxruntime  # type: ignore[import-untyped, unused-ignore]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options)
    names = [each.name for each in session.get_outputs()]
    given = session.get_inputs()[0].name

    def run(x: Tensor) -> dict[str, Tensor]:
        found = session.run(None, {given: x.numpy()})
        return {name: torch.from_numpy(values) for name, values in zip(names, found, strict=True)}

    return run


def ways_of(
    net: nn.Sequential, x: Tensor, n_samples: int, folder: Path
) -> tuple[dict[str, Way], dict[str, int]]:
    """Return every way to predict, and the bytes on the disk of those that have a file."""
    mc = mcdrop.wrap(net, masks="shared", stratified=False)
    for suffix in (".pt2", ".onnx"):
        mcdrop.export(mc, x, folder / f"all{suffix}", n_samples=n_samples, seed=0)
    program = torch.export.load(folder / "all.pt2")
    masks = [values for name, values in sorted(program.state_dict.items()) if "mask_" in name]
    passes = pass_programs(net, masks, x, n_samples, folder / "pass.pt2")

    def library(rows: Tensor) -> dict[str, Tensor]:
        found = mc.predict_with_uncertainty(
            rows, n_samples=n_samples, seed=0, control_variate=False
        )
        return {"mean": found.mean, "std": found.std}

    def one_by_one(rows: Tensor) -> dict[str, Tensor]:
        each = torch.stack([one(rows) for one in passes])
        return {"mean": each.mean(dim=0), "std": each.std(dim=0)}

    ways: dict[str, Way] = {
        "library": library,
        ".pt2": program.module(),
        ".onnx": in_onnx(folder / "all.onnx"),
        "S programs": one_by_one,
    }
    sizes = {suffix: (folder / f"all{suffix}").stat().st_size for suffix in (".pt2", ".onnx")}
    beside = folder / "all.onnx.data"
    sizes[".onnx"] += beside.stat().st_size if beside.exists() else 0
    sizes["S programs"] = n_samples * (folder / "pass.pt2").stat().st_size
    return ways, sizes


def timed(ways: dict[str, Way], x: Tensor, repeats: int) -> dict[str, float]:
    """Return the shortest time of each way in milliseconds; they take turns."""
    best = dict.fromkeys(ways, np.inf)
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            way(x)
            best[name] = min(best[name], 1000 * (time.perf_counter() - began))
    return best


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    n_samples, repeats = (4, 2) if options.smoke else (options.samples, options.repeats)
    results: list[dict[str, Any]] = []
    for name, (net, shape) in networks(options.smoke).items():
        weights = sum(p.numel() * p.element_size() for p in net.parameters())
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            x = torch.randn(8, *shape)
            ways, sizes = ways_of(net, x, n_samples, Path(folder))
            wanted = ways["library"](x)
            off = {
                way: max(float((run(x)[key] - wanted[key]).abs().max()) for key in wanted)
                for way, run in ways.items()
            }
            if max(off.values()) > 1e-4:
                raise SystemExit(f"{name}: the answers differ: {off}")
            for n_rows in (1, 16) if options.smoke else (1, 256):
                times = timed(ways, torch.randn(n_rows, *shape), repeats)
                results.append(
                    {"network": name, "rows": n_rows, "ms": times, "bytes": sizes, "off": off}
                    | {"bytes_of_weights": weights}
                )
    ways_in_order = list(results[0]["ms"])
    lines = [
        [r["network"], str(r["rows"]), *(f"{r['ms'][way]:.2f}" for way in ways_in_order)]
        for r in results
    ]
    print(markdown(["network", "rows", *(f"{way}, ms" for way in ways_in_order)], lines))
    kib = [
        [r["network"], *(f"{r['bytes'][way] / 1024:.0f}" for way in r["bytes"])]
        for r in results[::2]
    ]
    print(markdown(["network", *(f"{way}, KiB" for way in results[0]["bytes"])], kib))
    content = {
        "prediction": _PREDICTION,
        "n_samples": n_samples,
        "repeats": repeats,
        "results": results,
    }
    write(options.json, {**circumstances(options.date), **content})


if __name__ == "__main__":
    main()
