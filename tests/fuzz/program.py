"""Random programs: drawn from a seed, made into a model, shrunk while they fail."""

from __future__ import annotations

import linecache
import random
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from tests.fuzz.pieces import DROPS, OUTPUTS, PLAIN, Output, Piece

__all__ = ["Program", "random_program", "shrunk"]

_RATES = (0.1, 0.3, 0.5, 0.5, 0.9)


@dataclass(frozen=True)
class Program:
    """A model as a list of pieces.

    Attributes:
        pieces: The steps, each with its rate.
        output: What it returns.
        n_rows: N of its input, (N, T, D).
        length: T.
        width: D, even.
        seed: Seed of weights and input.
    """

    pieces: tuple[tuple[Piece, float], ...]
    output: Output
    n_rows: int
    length: int
    width: int
    seed: int

    @property
    def has_state(self) -> bool:
        """Whether a pass changes the model, in train mode."""
        return any(piece.state for piece, _ in self.pieces)

    @property
    def draws_its_own(self) -> bool:
        """Whether modules draw the numbers of their dropout, so that sites cannot be counted."""
        return any(piece.own for piece, _ in self.pieces)

    @property
    def n_raw(self) -> int:
        """How many random numbers a pass draws that are no dropout."""
        return sum(piece.raw for piece, _ in self.pieces)

    def source(self) -> str:
        """Return the program as a file that runs."""
        tops = dict.fromkeys(piece.top.strip() for piece, _ in self.pieces if piece.top)
        inits = [self._filled(piece.init, i) for i, (piece, _) in enumerate(self.pieces)]
        steps = [self._filled(piece.forward, i) for i, (piece, _) in enumerate(self.pieces)]
        init = textwrap.indent("\n".join(filter(None, inits)), " " * 8)
        body = textwrap.indent("\n".join([*steps, self.output.lines]), " " * 8)
        shape = (self.n_rows, self.length, self.width)
        return "\n\n".join(
            [
                "import functools\n\nimport torch\nimport torch.nn.functional as F\n"
                "from torch import nn",
                *tops,
                "class Model(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
                f"        self.enter = nn.Linear({self.width}, {self.width})\n"
                f"        self.shared = nn.Linear({self.width}, {self.width})\n"
                f"        self.leave = nn.Linear({self.width}, 1)\n{init}",
                "    def forward(self, x):\n        h = r = torch.tanh(self.enter(x))\n" + body,
                f"torch.manual_seed({self.seed})\nmodel = Model().eval()\nx = torch.randn{shape}\n",
            ]
        )

    def _filled(self, template: str, i: int) -> str:
        values = {"@i": i, "@p": self.pieces[i][1], "@d": self.width, "@t": self.length}
        for key, value in values.items():
            template = template.replace(key, str(value))
        return template

    def made(self) -> tuple[nn.Module, Tensor]:
        """Run the source; return the model, in eval mode, and its input."""
        source = self.source()
        # Where `inspect` looks for the source of a class, as it does for files.
        name = f"<program {abs(hash(source))}>"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        # `inspect` finds the file of a class through its module.
        space: dict[str, Any] = {"__name__": name, "__file__": name}
        with torch.random.fork_rng():
            exec(compile(source, name, "exec"), space)  # noqa: S102
        return space["model"], space["x"]


def random_program(seed: int) -> Program:
    """Draw a program: up to six pieces, of which one at least drops units."""
    draw = random.Random(seed)
    pieces = [draw.choice(DROPS)]
    pieces += [draw.choice(draw.choice((DROPS, PLAIN, PLAIN))) for _ in range(draw.randint(0, 5))]
    draw.shuffle(pieces)
    return Program(
        tuple((piece, draw.choice(_RATES)) for piece in pieces),
        draw.choice(OUTPUTS),
        n_rows=draw.choice((1, 2, 3, 5)),
        length=draw.choice((1, 2, 3, 5)),
        width=draw.choice((4, 6, 10)),
        seed=seed,
    )


def shrunk(program: Program, fails: Callable[[Program], bool]) -> Program:
    """Drop pieces, and make the rest plainer, as long as it still fails."""
    while True:
        for smaller in _smaller(program):
            if fails(smaller):
                program = smaller
                break
        else:
            return program


def _smaller(program: Program) -> Iterator[Program]:
    for i in range(len(program.pieces)):
        yield replace(program, pieces=program.pieces[:i] + program.pieces[i + 1 :])
    if program.output != OUTPUTS[0]:
        yield replace(program, output=OUTPUTS[0])
    for name, least in (("n_rows", 2), ("length", 2), ("width", 4)):
        if getattr(program, name) > least:
            yield replace(program, **{name: least})  # type: ignore[arg-type]
