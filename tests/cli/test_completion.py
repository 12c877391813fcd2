"""Completion scripts: each shell is asked what it would offer."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mcdrop.cli import main

WORDS = {
    "report": {"--column", "--fail-if", "--html", "--help"},
    "predict": {"--model", "--masks", "--no-resume", "--keep-samples", "--n-samples"},
    "inspect": {"--help"},
    "completion": {"--help"},
}


@pytest.fixture
def script(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Path:
    """Write the script of the shell that the test names."""
    shell = str(request.param)
    monkeypatch.setattr(sys, "argv", ["mcdrop", "completion", shell])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    path = tmp_path / f"mcdrop.{shell}"
    path.write_text(capsys.readouterr().out)
    return path


def for_shell(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("script", [shell], indirect=True)


def asked(shell: str, program: str) -> list[str]:
    """Run a program in a shell and return its lines; without the shell there is nothing to test."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    quiet = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    command = [shell, *quiet, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


def bash(script: Path, *words: str) -> set[str]:
    quoted = " ".join(f"'{word}'" for word in ("mcdrop", *words))
    return set(
        asked(
            "bash",
            f"source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words)}; _mcdrop; "
            '(( ${#COMPREPLY[@]} )) && printf "%s\\n" "${COMPREPLY[@]}"; true',
        )
    )


@for_shell("bash")
def test_bash_offers_commands_options_and_choices(script: Path) -> None:
    assert bash(script, "") == {*WORDS, "--version", "--help"}
    assert bash(script, "pre") == {"predict"}
    for command, options in WORDS.items():
        assert options <= bash(script, command, "--")
    assert bash(script, "predict", "--masks", "") == {"independent", "shared"}
    assert bash(script, "predict", "--task", "b") == {"binary"}
    assert bash(script, "report", "--fail-if", "") == {"never", "fail", "undecided"}
    assert bash(script, "completion", "") == {"bash", "zsh", "fish"}
    # Nothing listed: bash goes on to names of files.
    assert bash(script, "predict", "--model", "") == set()


@for_shell("fish")
def test_fish_offers_commands_options_and_choices(script: Path) -> None:
    def fish(line: str) -> set[str]:
        lines = asked("fish", f"source {script}; complete -C '{line}'")
        return {each.split("\t")[0] for each in lines}

    assert set(WORDS) <= fish("mcdrop ")
    for command, options in WORDS.items():
        assert options <= fish(f"mcdrop {command} --")
    assert fish("mcdrop predict --masks ") == {"independent", "shared"}
    assert fish("mcdrop completion ") == {"bash", "zsh", "fish"}


@for_shell("zsh")
def test_zsh_offers_commands_options_and_choices(script: Path) -> None:
    def zsh(*words: str) -> list[str]:
        # The functions of zsh's own system are replaced by ones that print what they are given.
        return asked(
            "zsh",
            "compdef() {}; _describe() { print -rl -- ${(P)2} }; "
            f'_arguments() {{ print -rl -- "$@" }}; source {script}; '
            f"words=(mcdrop {' '.join(words)} ''); CURRENT={len(words) + 2}; _mcdrop",
        )

    assert {line.partition(":")[0] for line in zsh()} == {*WORDS, "--version", "--help"}
    for command, options in WORDS.items():
        offered = zsh(command)
        assert options <= {re.split(r"[*\[]", line)[1] for line in offered if "[" in line}
    assert "(independent shared)" in "".join(zsh("predict", "--masks"))
    assert zsh("completion")[-1] == "*:argument:(bash zsh fish)"
    assert any(line.endswith(":model:_files") for line in zsh("predict"))


def test_an_unknown_shell_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mcdrop", "completion", "tcsh"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert "'tcsh'" in capsys.readouterr().err
