"""The console script, also where its packages are missing."""

from __future__ import annotations

import sys

import pytest

from mcdrop.cli import main


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_a_package_one_sentence_says_what_to_install(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "mcdrop.cli.commands", raising=False)
    for module in [name for name in sys.modules if name.split(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == (
        f"error: the command line needs {missing}, which is not installed: "
        'pip install "mcdrop[report]".\n'
    )


def test_another_missing_module_is_not_blamed_on_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "mcdrop.cli.commands", raising=False)
    monkeypatch.setitem(sys.modules, "mcdrop.wrapper", None)
    with pytest.raises(ModuleNotFoundError, match=r"mcdrop\.wrapper"):
        main()
