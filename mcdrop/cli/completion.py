"""Scripts that complete commands, options and choices in a shell.

They are written once, from the commands themselves, and do not start Python when Tab is pressed:
importing torch would take seconds each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeGuard, get_args, get_type_hints

from typer.models import OptionInfo

from mcdrop._tasks.likelihoods import OutputType
from mcdrop._tasks.settings import ClassificationTask, RegressionTask

__all__ = ["Shell", "completion_script"]

_TASKS = (*get_args(RegressionTask), *get_args(ClassificationTask))
# What an option takes where the command line itself does not list it.
_CHOICES = {
    "--task": _TASKS,
    "--output-type": get_args(OutputType),
    "--masks": ("independent", "shared"),
    "--device": ("cpu", "cuda"),
}


class Shell(str, Enum):
    """A shell that can be completed for."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


@dataclass(frozen=True)
class _Option:
    """An option of a command: what it means, and what may follow it."""

    name: str
    text: str
    follows: Literal["", "text", "file"]
    choices: tuple[str, ...]


@dataclass(frozen=True)
class _Command:
    """A command: its name, what it does, its options, and the choices of its argument."""

    name: str
    text: str
    options: tuple[_Option, ...]
    choices: tuple[str, ...]


def completion_script(app: Any, shell: Shell) -> str:
    """Return the script that completes a command line.

    Args:
        app: The `typer.Typer` whose commands it is for; its callback has the name of the program.
        shell: For which shell.
    """
    program = app.registered_callback.callback
    commands = tuple(_command(each.callback) for each in app.registered_commands)
    written = {Shell.bash: _bash, Shell.zsh: _zsh, Shell.fish: _fish}[shell]
    return "\n".join([*written(program.__name__, commands, _command(program).options), ""])


def _command(function: Callable[..., Any]) -> _Command:
    """Read a command from its function: names, types and help of its parameters."""
    options: list[_Option] = []
    choices: tuple[str, ...] = ()
    for name, hint in get_type_hints(function, include_extras=True).items():
        kind, *extras = get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
        kinds = {kind, *get_args(kind)}
        listed = tuple(str(each.value) for found in kinds if _is_enum(found) for each in found)
        if extras and isinstance(extras[0], OptionInfo):
            options += _spelled(f"--{name.replace('_', '-')}", extras[0], kinds, listed)
        else:
            choices += listed
    own = (*options, _Option("--help", "Show this message", "", ()))
    return _Command(function.__name__, _sentence(function.__doc__), own, choices)


def _spelled(
    name: str, option: OptionInfo, kinds: set[Any], listed: tuple[str, ...]
) -> Iterator[_Option]:
    """Yield an option, and the one that switches it off."""
    text = _sentence(option.help)
    if bool not in kinds:
        follows: Literal["text", "file"] = "file" if Path in kinds else "text"
        yield _Option(name, text, follows, listed or _CHOICES.get(name, ()))
        return
    yield _Option(name, text, "", ())
    # An option that is given a spelling of its own, such as --version, is not switched off.
    if option.default is ... and not option.param_decls:
        yield _Option(f"--no-{name[2:]}", f"Do not {text[:1].lower()}{text[1:]}", "", ())


def _is_enum(kind: object) -> TypeGuard[type[Enum]]:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _sentence(text: str | None) -> str:
    """Return the first sentence of a help text, without what the shells would read as markup."""
    first = " ".join((text or "").split()).partition(". ")[0].rstrip(".")
    return first.translate(str.maketrans("[]:", "(),", "'`"))


def _words(options: Iterable[_Option]) -> str:
    return " ".join(option.name for option in options)


def _bash(name: str, commands: tuple[_Command, ...], own: tuple[_Option, ...]) -> Iterator[str]:
    """Yield the lines for bash; where nothing is listed, it completes names of files."""
    names = " ".join(each.name for each in commands)
    yield f"# bash completion for {name}"
    yield f"_{name}() {{"
    yield '    local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}"'
    yield '    local command="" word words="" choices=""'
    yield '    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do'
    yield f'        case "$word" in {names.replace(" ", "|")}) command="$word"; break ;; esac'
    yield "    done"
    yield '    case "$command" in'
    for command in commands:
        yield f'        {command.name}) words="{_words(command.options)}" ;;'
    yield f'        *) words="{names} {_words(own)}" ;;'
    yield "    esac"
    yield '    case "$command $previous" in'
    for command in commands:
        if command.choices:
            each = " ".join(command.choices)
            yield f'        "{command.name} {command.name}") choices="{each}" ;;'
        for option in command.options:
            if option.choices:
                each = " ".join(option.choices)
                yield f'        "{command.name} {option.name}") choices="{each}" ;;'
    yield "    esac"
    yield "    COMPREPLY=()"
    yield '    if [[ -n "$choices" && "$current" != -* ]]; then'
    yield '        COMPREPLY=($(compgen -W "$choices" -- "$current"))'
    yield '    elif [[ -z "$command" || "$current" == -* ]]; then'
    yield '        COMPREPLY=($(compgen -W "$words" -- "$current"))'
    yield "    fi"
    yield "}"
    yield f"complete -o default -F _{name} {name}"


def _zsh(name: str, commands: tuple[_Command, ...], own: tuple[_Option, ...]) -> Iterator[str]:
    """Yield the lines for zsh, with what each word means."""
    yield f"#compdef {name}"
    yield f"_{name}() {{"
    yield "    if (( CURRENT == 2 )); then"
    yield "        local -a commands=("
    yield from (f"            '{each.name}:{each.text}'" for each in commands)
    yield from (f"            '{each.name}:{each.text}'" for each in own)
    yield "        )"
    yield f"        _describe '{name}' commands"
    yield "        return"
    yield "    fi"
    yield "    local command=$words[2]"
    yield "    words=(${words[2,-1]}) CURRENT=$((CURRENT - 1))"
    yield "    case $command in"
    for command in commands:
        rest = f"({' '.join(command.choices)})" if command.choices else "_files"
        yield f"        {command.name})"
        yield "            _arguments \\"
        for option in command.options:
            files = "_files" if option.follows == "file" else " "
            values = f"({' '.join(option.choices)})" if option.choices else files
            after = f":{option.name.strip('-')}:{values}" if option.follows else ""
            yield f"                '*{option.name}[{option.text}]{after}' \\"
        yield f"                '*:argument:{rest}' ;;"
    yield "    esac"
    yield "}"
    # Found on the path, the file is the function; sourced, it has to be registered.
    yield f'if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _{name} "$@"'
    yield f"else compdef _{name} {name}; fi"


def _fish(name: str, commands: tuple[_Command, ...], own: tuple[_Option, ...]) -> Iterator[str]:
    """Yield the lines for fish, with what each word means."""
    yield f"# fish completion for {name}"
    for option in own:
        yield _fish_option(f"complete -c {name} -n __fish_use_subcommand", option)
    for command in commands:
        first = f"complete -c {name} -n __fish_use_subcommand -f"
        yield f"{first} -a {command.name} -d '{command.text}'"
        start = f"complete -c {name} -n '__fish_seen_subcommand_from {command.name}'"
        if command.choices:
            yield f"{start} -f -a '{' '.join(command.choices)}'"
        for option in command.options:
            yield _fish_option(start, option)


def _fish_option(start: str, option: _Option) -> str:
    # -r asks for an argument and offers files, -x offers what -a lists alone.
    value = {"": "", "text": " -x", "file": " -r"}[option.follows]
    listed = f" -a '{' '.join(option.choices)}'" if option.choices else ""
    return f"{start} -l {option.name.removeprefix('--')}{value}{listed} -d '{option.text}'"
