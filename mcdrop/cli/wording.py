"""Errors of the library in the words of the command line: options for Python's arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args, get_type_hints

from typer.models import OptionInfo

__all__ = ["command_of", "in_words_of", "options_of"]

# Arguments of the library that a command asks for under another name.
_OTHER_NAMES = {
    "acceptance": "accept",
    "baselines": "baseline",
    "columns": "column",
    "groups": "group",
    "id_columns": "id_column",
    "ids": "id_column",
    "inputs": "data",
    "path": "out",
}


def command_of(app: Any, arguments: Sequence[str]) -> Callable[..., Any] | None:
    """Return the function of the command that a command line names first, or None."""
    commands = {each.callback.__name__: each.callback for each in app.registered_commands}
    return next((commands[each] for each in arguments if each in commands), None)


def options_of(command: Callable[..., Any]) -> dict[str, str]:
    """Return the options of a command by the argument of the library that they set."""
    options = {
        name: f"--{name.replace('_', '-')}"
        for name, hint in get_type_hints(command, include_extras=True).items()
        if any(isinstance(extra, OptionInfo) for extra in get_args(hint)[1:])
    }
    others = {name: options[own] for name, own in _OTHER_NAMES.items() if own in options}
    return {**others, **options}


def in_words_of(command: str, options: Mapping[str, str], text: str) -> str:
    """Return an error text as the user of a command would say it.

    Args:
        command: Name of the command, such as "predict".
        options: Its options by argument, from `options_of`.
        text: The text of an `McdropError`.

    Example:
        >>> text = "wrap: expected `masks` to be shared, but got 'own'. Pass masks='shared'."
        >>> in_words_of("predict", {"masks": "--masks"}, text)
        "mcdrop predict: expected `--masks` to be shared, but got 'own'. Pass --masks shared."
    """
    function, colon, rest = text.partition(": ")
    if not colon or not rest.startswith("expected `"):
        return text
    # What has to be installed is a package, though an option may have its name.
    if not re.match(r"expected `\w+` to be (installed|importable)", rest):
        rest = _renamed(options, rest)
    own = function.startswith("mcdrop ")
    return f"{function if own else f'mcdrop {command}'}: {rest}"


def _renamed(options: Mapping[str, str], text: str) -> str:
    """Write options for arguments in backticks, before a value, and of several words."""
    names = "|".join(sorted(options, key=len, reverse=True))
    if not names:
        return text

    def option(match: re.Match[str]) -> str:
        return options[match[1]]

    text = re.sub(rf"`({names})\[\"(.+?)\"\]`", lambda m: f"`{options[m[1]]} {m[2]}`", text)
    text = re.sub(rf"`({names})`", lambda m: f"`{option(m)}`", text)
    value = r"(?:'([^']*)'|\"([^\"]*)\"|([\w.]+))"
    text = re.sub(
        rf"(?<![\w.])({names})={value}",
        lambda m: f"{option(m)} {m[2] or m[3] or m[4]}",
        text,
    )
    with_underscore = "|".join(name for name in options if "_" in name)
    if with_underscore:
        text = re.sub(rf"(?<![\w-])({with_underscore})(?![\w=])", option, text)
    # What a function of the caller would do, the model has to do itself.
    text = re.sub(r"\. [A-Z][^.]*\bselect=.*$", ". Export a model that returns it so.", text)
    # On a command line nothing is None.
    return text.replace("be None for", "be left out for").replace(", or None for", ", or none for")
