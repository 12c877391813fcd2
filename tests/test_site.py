"""The documentation site: what it is made from is complete, and says what the code says."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path

import pytest

import mcdrop

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "_sphinx"))

from api_pages import api_pages, documented_names, links, public_modules, public_names  # noqa: E402
from check_site import faults  # noqa: E402
from error_texts import GAP, calls_of, error_page, error_texts  # noqa: E402
from notebooks import FOLDER, PAGES, notebook_of  # noqa: E402
from prose import escape_docstring, escaped  # noqa: E402

ERRORS = (DOCS / "errors.md").read_text(encoding="utf-8")


def provoked() -> list[str]:
    """Return the texts that the blocks of the page raise, as test_documents checks."""
    texts = re.findall(
        r"^mcdrop\.errors\.\w+: \w[\w.]*: (.*?)\n```", ERRORS, re.MULTILINE | re.DOTALL
    )
    return [" ".join(text.split()) for text in texts]


def test_every_error_of_the_package_has_a_text() -> None:
    raised = 0
    for path in Path(mcdrop.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "of":
                raised += isinstance(node.value, ast.Name) and node.value.id.endswith("Error")
    assert len(list(calls_of())) == raised
    files = {file.name for file, _, _ in calls_of()}
    assert {text.file for text in error_texts()} == files
    # Private classes are listed under the public one that users catch.
    assert {text.error for text in error_texts()} <= set(mcdrop.errors.__all__)


def test_the_page_of_errors_has_headings_that_the_source_has() -> None:
    known = {text.heading for text in error_texts()}
    headings = re.findall(r"^## (expected .*)$", ERRORS, flags=re.MULTILINE)
    assert len(headings) >= 12
    assert set(headings) <= known
    assert len(provoked()) >= 12


def test_texts_that_are_raised_match_a_pattern_with_something_in_it() -> None:
    for text in provoked():
        matching = [each for each in error_texts() if each.pattern.fullmatch(text)]
        assert matching, text
        assert all(each.condition != GAP for each in matching)


def test_texts_of_helpers_are_followed_to_their_callers() -> None:
    # `_refused(condition, found)` in _files/parts.py: its condition is known to its callers alone.
    conditions = {t.condition for t in error_texts() if t.file == "mcdrop/_files/parts.py"}
    assert {"hold whole parts", "hold every finished part"} <= conditions
    unknown = [text for text in error_texts() if text.condition.strip(GAP + " ") == ""]
    assert len(unknown) <= 0.02 * len(error_texts())


def test_every_text_is_a_heading_of_the_generated_page() -> None:
    page = error_page()
    texts = {(text.error, text.heading) for text in error_texts()}
    assert len(re.findall(r"^### ", page, flags=re.MULTILINE)) == len(texts)
    for error in {error for error, _ in texts}:
        assert f"\n## {error}\n" in page


def test_the_reference_describes_every_public_name_once() -> None:
    pages = api_pages()
    described = re.findall(
        r"^\.\. auto(?:function|class):: (\S+)$", "\n".join(pages.values()), re.M
    )
    assert sorted(described) == documented_names()
    for module in public_modules():
        assert f"   {module} <{module}>" in pages["index"]
        for name in public_names(module):
            assert f":py:obj:`{name} <" in pages[module]
    for name in set(mcdrop.__all__) - {module.rpartition(".")[2] for module in public_modules()}:
        assert links()[name] == f"mcdrop.{name}"


def test_what_predictions_hold_is_part_of_their_description() -> None:
    page = api_pages()["mcdrop"]
    (members,) = re.findall(r":: mcdrop\.RegressionPrediction\n   :members: (.*)", page)
    assert {"interval", "quantile", "log_prob", "save", "to_pandas"} <= set(members.split(", "))


def test_a_name_that_could_be_two_things_is_no_link() -> None:
    assert "variation_ratio" not in links()  # of acquisition, and a field of predictions
    assert links()["rmse"] == "mcdrop.metrics.rmse"


def test_prose_is_escaped_and_code_is_not() -> None:
    assert escaped("mean |m - y|, x_ * y") == r"mean \|m - y\|, x\_ \* y"
    assert escaped("`p_` and ``*args``") == "`p_` and ``*args``"
    lines = ["a * b", ">>> a * b", "2 * x", "", "a * b"]
    escape_docstring(lines)
    assert lines == [r"a \* b", ">>> a * b", "2 * x", "", r"a \* b"]


def test_the_contents_list_every_page() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    trees = re.findall(r"```\{toctree\}\n(.*?)```", index, flags=re.DOTALL)
    listed = {line for tree in trees for line in tree.split("\n") if line and line[0] != ":"}
    pages = {path.stem for path in DOCS.glob("*.md")} - {"index"}
    assert pages <= listed
    missing = {name for name in listed - pages if not name.startswith("_generated/")}
    assert missing <= {"gallery"}


@pytest.mark.parametrize("page", PAGES)
def test_the_notebook_is_that_of_the_page(page: str) -> None:
    kept = json.loads((FOLDER / f"{page}.ipynb").read_text(encoding="utf-8"))
    for cell in kept["cells"]:
        if isinstance(cell["source"], list):
            cell["source"] = "".join(cell["source"])
    wanted = notebook_of(page)["cells"]
    assert [(c["cell_type"], c["source"]) for c in kept["cells"]] == [
        (c["cell_type"], c["source"]) for c in wanted
    ], "the page has changed: run `make notebooks`"
    for target in re.findall(r"\]\((\.\./[^)#]+)", json.dumps(kept)):
        assert (FOLDER / target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_notebooks_are_light_and_were_run(page: str) -> None:
    path = FOLDER / f"{page}.ipynb"
    assert path.stat().st_size < 50_000
    code = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code)
    assert any(cell["outputs"] for cell in code)
    # Warnings and progress bars name folders of the machine that ran it.
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert "site-packages" not in path.read_text()


def test_faults_of_a_site_are_found(tmp_path: Path) -> None:
    (tmp_path / "_generated").mkdir()
    (tmp_path / "_generated" / "every-error.html").write_text("<h3>one</h3>")
    (tmp_path / "a.html").write_text(
        '<p id="here"><a href="#here"></a><a href="#gone"></a><a href="b.html"></a>'
        '<a href="https://example.org"></a><script src="https://cdn.example.org/x.js"></script></p>'
    )
    (tmp_path / "a.css").write_text("@import '//fonts.example.org/css';")
    found = "\n".join(faults(tmp_path))
    for text in (
        "a.html links to #gone, a place that is not there",
        "a.html links to b.html, which is not there",
        "a.html loads https://cdn.example.org/x.js",
        "a.css loads from the network",
        "the reference has no mcdrop.wrap",
        "every-error.html has 1 headings",
        "there is no search index",
    ):
        assert text in found
    assert "example.org, " not in found
    assert "#here" not in found


def test_the_comparison_says_what_the_records_say() -> None:
    page = (DOCS / "comparison.md").read_text(encoding="utf-8")
    race = json.loads((DOCS / "data" / "race_cpu.json").read_text())
    for name, report in race["contestants"].items():
        if report["version"] is None:
            continue
        cells = []
        for result in report["workloads"].values():
            right = "error" not in result and result["agreement"]["holds"]
            told = f"{result['ratio']:.2f}x" if right else "wrong" if "ms" in result else "error"
            cells.append(told)
        assert f"| {name} {report['version']} | {' | '.join(cells)} |" in page
