"""Race mcdrop against the hand-written loop and the dense limit, on every workload, in one run.

The limit is the same number of passes with all dropout off, tiled as suits best: the work that
independent masks cannot avoid. Every answer is compared with the loop's within Monte Carlo error;
a wrong answer fails, however fast. Run it with `python examples/benchmarks/speed.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from by_hand import dense
from contestants import CONTESTANTS
from racing import Call, Race, best_tile, race
from record import arguments, circumstances, markdown, write
from workloads import Workload, chosen


def measured(work: Workload, device: str, repeats: int) -> tuple[Race, int]:
    """Race one workload; return it with the number of passes per call of the dense limit."""
    model, x = work.make(device)
    tile = best_tile(work, model, x, device)
    run = dense(model, x, work.n_samples, tile)

    def limit(seed: int) -> None:
        run()

    calls: dict[str, Call] = {"limit": limit}
    for name in ("mcdrop", "mcdrop shared"):
        calls[name] = CONTESTANTS[name](model, x, work.n_samples)[""]
    return race(work, model, x, calls, repeats=repeats, device=device), tile


def entry(work: Workload, result: Race, tile: int) -> dict[str, Any]:
    """Return the JSON entry of one workload."""
    return {
        "workload": work.name,
        "text": work.text,
        "rows": list(work.rows),
        "n_samples": work.n_samples,
        "loop_ms": result.loop_ms,
        "limit": {**result.results["limit"].to_dict(), "tile": tile},
        "independent": {
            **result.results["mcdrop"].to_dict(),
            "target": work.targets.independent,
        },
        "shared": {**result.results["mcdrop shared"].to_dict(), "target": work.targets.shared},
    }


def verdict(part: dict[str, Any]) -> str:
    """Say whether a ratio passes; an answer that is off comes before its speed."""
    if not part["agreement"]["holds"]:
        return "WRONG"
    return "pass" if part["ratio"] >= part["target"] else "slow"


def table(entries: list[dict[str, Any]]) -> str:
    """Return the entries as a Markdown table."""
    rows = []
    for each in entries:
        cells = [each["workload"], f"{each['loop_ms']:.1f}", f"{each['limit']['ratio']:.2f}x"]
        for masks in ("independent", "shared"):
            part = each[masks]
            target = f">= {part['target']:g}x"
            cells += [f"{part['ratio']:.2f}x", target, verdict(part)]
        z = max(each[masks]["agreement"]["largest_z"] for masks in ("independent", "shared"))
        rows.append([*cells, f"{z:.1f} of {each['shared']['agreement']['limit_z']:.1f}"])
    header = ["workload", "loop ms", "limit", "independent", "target", ""]
    return markdown([*header, "shared", "target", "", "largest z"], rows)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="torch threads (default: torch's own)")
    parser.add_argument("--workload", action="append", metavar="NAME", help="may be repeated")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    entries: list[dict[str, Any]] = []
    for work in chosen(options.workload, options.device, smoke=options.smoke):
        entries.append(entry(work, *measured(work, options.device, options.repeats)))
        print(f"{work.name}: done", flush=True)
    record = circumstances(options.date, options.device)
    print(f"\n{record['hardware']}\n\n{table(entries)}")
    write(options.json, {**record, "repeats": options.repeats, "workloads": entries})
    if any(
        verdict(each[masks]) == "WRONG" for each in entries for masks in ("independent", "shared")
    ):
        raise SystemExit("An answer is off by more than Monte Carlo error.")


if __name__ == "__main__":
    main()
