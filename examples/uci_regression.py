"""Reproduce Table 1 of Gal & Ghahramani (2016) on nine regression data sets, and go past it.

`python examples/uci_regression.py --data FOLDER --out RESULTS` trains the published networks on
the published splits and compares root mean squared error and log-likelihood with the published
values, split by split. A run that was stopped goes on where it was. The layout of FOLDER, and
where the data sets come from, is described in `examples/uci/data.py`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from uci import page, tables
from uci.catalog import METHODS
from uci.data import QUICK, SETS
from uci.running import Options, run_all


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, default=Path("../shared/uci"), help="folder of the data sets")
    add("--out", type=Path, default=Path("uci_results"), help="folder of the results")
    add("--quick", action="store_true", help="the five small sets")
    add("--sets", nargs="+", choices=SETS, help="these sets")
    add("--methods", nargs="+", choices=list(METHODS), default=["mc_dropout"])
    add("--splits", choices=("standard", "gap"), default="standard")
    add("--workers", type=int, default=2, help="threads")
    add("--passes", type=int, default=10_000, help="stochastic passes per test row")
    add("--epochs", type=int, help="instead of the published number, for a trial")
    add("--json", type=Path, help="write the summary here, scores per split to NAME_splits.json")
    add("--page", action="store_true", help="only write docs/published-results.md from docs/data")
    given = parser.parse_args()
    if given.page:
        print(f"Report: {page.write_page()}")
        return
    options = Options(
        data=given.data,
        out=given.out,
        sets=tuple(given.sets or (QUICK if given.quick else SETS)),
        methods=tuple(given.methods),
        kind=given.splits,
        workers=given.workers,
        n_samples=given.passes,
        epochs=given.epochs,
    )
    run_all(options)
    content, text = tables.collected(options)
    path = given.json or given.out / f"{given.splits}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    each = path.with_name(f"{path.stem}_splits.json")
    each.write_text(json.dumps(tables.per_split(options)) + "\n")
    readable = given.out / f"{given.splits}.md"
    readable.write_text(text)
    print(f"{text}\nReport: {readable.resolve()}")


if __name__ == "__main__":
    main()
