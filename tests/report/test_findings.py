from __future__ import annotations

import pytest
import torch

from mcdrop.metrics import Estimate
from mcdrop.report.findings import (
    Evidence,
    Finding,
    against_baselines,
    epistemic_share,
    told,
    too_few_rows_to_rank,
)
from mcdrop.report.measures import Outcome, Resampling
from mcdrop.report.values import Verdict


def estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(value, low, high, standard_error=0.1, level=0.95, n=100, method="bca")


def evidence(n_rows: int = 100, n_verdicts: int = 0, nll: Outcome = "undecided") -> Evidence:
    verdict = Verdict("nothing is wrong", 0.5, 0.5, rejected=False)
    return Evidence(
        name="A",
        n_rows=n_rows,
        metrics={},
        differences={"B": {"nll": estimate(-0.2, -0.3, -0.1), "rmse": estimate(0.0, 0.0, 0.0)}},
        outcomes={"B": {"nll": nll, "rmse": "identical"}},
        verdicts={str(i): verdict for i in range(n_verdicts)},
        resampling=Resampling(0.95, 10, 0),
    )


def test_the_worst_comes_first_and_heads_the_page() -> None:
    findings = [
        Finding("Fine.", "All is well"),
        Finding("Slight.", "Slightly off", 0.1),
        Finding("Bad.", "Far off", 0.4),
        Finding("By the way."),
    ]
    headline, texts = told(findings, evidence())
    assert headline == "Far off. A is not shown to beat B."
    assert texts == ("Bad.", "Slight.", "Fine.", "By the way.")


def test_where_nothing_is_wrong_the_first_headline_stands() -> None:
    headline, _ = told([Finding("Fine.", "All is well"), Finding("Too.", "As well")], evidence())
    assert headline.startswith("All is well. A is not shown")


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ("undecided", "A against B: undecided by NLL -0.20 [-0.30, -0.10]; identical by RMSE."),
        ("better", "A against B: NLL lower (better) by 0.20 [0.10, 0.30]; identical by RMSE."),
    ],
)
def test_a_comparison_says_what_was_decided(outcome: Outcome, said: str) -> None:
    (found,) = against_baselines(evidence(nll=outcome))
    assert found.text == said


def test_more_verdicts_need_more_rows() -> None:
    link = estimate(0.1, -0.1, 0.3)
    one = too_few_rows_to_rank("a and b", link, evidence(n_verdicts=1)).text
    six = too_few_rows_to_rank("a and b", link, evidence(n_verdicts=6)).text
    assert "with 100 rows" in one
    assert "About 210 rows would show a correlation of 0.2." in one
    assert "About 320 rows would show a correlation of 0.2." in six
    enough = too_few_rows_to_rank("a and b", link, evidence(400, n_verdicts=6)).text
    assert enough.startswith("No clear link between a and b: Spearman 0.10 [-0.10, 0.30]")


def test_the_epistemic_share_promises_nothing_about_more_data() -> None:
    said = epistemic_share(torch.tensor([1.0]), torch.tensor([4.0]), "predictive variance").text
    assert said.startswith("25 % of the predictive variance is epistemic")
    assert "need not shrink as the training set grows" in said
    assert epistemic_share(torch.zeros(1), torch.zeros(1), "entropy").text.startswith("0 %")
