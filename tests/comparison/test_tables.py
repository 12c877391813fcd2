"""The table and the Markdown hold what the comparison found."""

from __future__ import annotations

import re

import numpy as np

from mcdrop import compare
from mcdrop.baselines import Ridge

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 2))
Y = X[:, 0] + RNG.normal(size=60)
FOUND = compare(
    X, Y, {"Ridge|1": Ridge(), "Point": lambda X, y, X_test: X_test[:, 0]}, task="regression"
)


def test_the_table_has_one_row_per_method_and_measure() -> None:
    table = FOUND.to_pandas()
    assert len(table) == sum(len(found) for found in FOUND.metrics.values())
    row = table[(table["method"] == "Point") & (table["metric"] == "rmse")].iloc[0]
    paired = FOUND.differences["Point"]["rmse"]
    assert row["difference"] == paired.estimate.value
    assert row["p_value"] == paired.p_value
    assert row["outcome"] == FOUND.outcomes["Point"]["rmse"]
    assert row["rank"] == FOUND.ranks["Point"]["rmse"]
    assert table["difference"].isna().sum() == len(FOUND.metrics["Ridge|1"])


def test_every_line_of_a_table_has_the_same_cells() -> None:
    text = FOUND.to_markdown()
    assert "Ridge\\|1" in text
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 3
    for block in blocks:
        assert len({line.replace("\\|", "").count("|") for line in block}) == 1
    assert str(FOUND.metrics["Point"]["rmse"]) in text
    assert "corrected resampled t-test (Nadeau & Bengio 2003)" in text


def test_a_difference_that_rounds_to_zero_has_no_sign() -> None:
    same = compare(X, Y, {"a": Ridge(1.0), "b": Ridge(1.0 - 1e-9)}, task="regression")
    shown = [line for line in same.to_markdown().splitlines() if line.startswith("| b |")]
    assert not re.search(r"-0(\.0+)?[\s,\]]", "".join(shown))


def test_a_score_of_one_method_alone_is_not_compared() -> None:
    # The point forecast has no density.
    assert "NLL: of Ridge\\|1 alone, nothing to compare with." in FOUND.to_markdown()
