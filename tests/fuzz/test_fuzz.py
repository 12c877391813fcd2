"""Random programs: nothing is lost in silence, nothing of the model changes; and a fuzzer that
finds the faults that are put in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from mcdrop._live.call import ROOT_NAME, Call, Rule, TorchFunction
from mcdrop._live.rules import live_rules
from tests.fuzz.check import FAILURE, outcome
from tests.fuzz.pieces import DROPS, OUTPUTS, PLAIN
from tests.fuzz.program import Program, random_program, shrunk

_AT_ONCE = 50
# A fuzzer whose programs are mostly refused would test nothing.
_REFUSED = 0.05

pytestmark = pytest.mark.filterwarnings("ignore:dropout option adds dropout after all but last")


def check(seeds: range) -> None:
    """Check programs; print the first that fails, shrunk, as source that runs."""
    outcomes = Counter[str]()
    for seed in seeds:
        found = outcome(random_program(seed))
        outcomes[found] += 1
        if found.startswith(FAILURE):
            smallest = shrunk(random_program(seed), _fails_like(found))
            pytest.fail(
                f"seed {seed}: {found}\n\nsmallest program that fails alike:\n\n"
                f"{smallest.source()}\n{outcome(smallest)}",
                pytrace=False,
            )
    refused = sum(n for found, n in outcomes.items() if not found.startswith("agrees"))
    assert refused <= _REFUSED * len(seeds), outcomes


def _fails_like(found: str) -> Callable[[Program], bool]:
    """Tell programs that fail in the same way: the first words of the outcome are the same."""
    kind = found[: len(FAILURE) + 5]
    return lambda program: outcome(program).startswith(kind)


@pytest.mark.parametrize("first", range(0, 200, _AT_ONCE))
def test_random_programs(first: int) -> None:
    check(range(first, first + _AT_ONCE))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(200, 2200, _AT_ONCE))
def test_more_random_programs(first: int) -> None:
    check(range(first, first + _AT_ONCE))


@pytest.mark.parametrize("piece", [*DROPS, *PLAIN], ids=lambda piece: piece.name)
def test_every_piece_is_a_program(piece: Any) -> None:
    program = Program(((piece, 0.5),), OUTPUTS[0], 2, 3, 4, 0)
    model, x = program.made()
    for training in (False, True):
        with torch.random.fork_rng(), torch.no_grad():
            assert model.train(training)(x).shape == (2, 3, 1)


def test_a_program_is_the_same_for_a_seed() -> None:
    assert random_program(7).source() == random_program(7).source()
    assert random_program(7).source() != random_program(8).source()


def test_shrinking_keeps_what_fails_and_nothing_else() -> None:
    pieces = tuple((piece, 0.5) for piece in (PLAIN[0], DROPS[0], PLAIN[3], DROPS[5], PLAIN[9]))
    program = Program(pieces, OUTPUTS[3], 5, 5, 10, 0)
    smallest = shrunk(program, lambda other: any(p is DROPS[5] for p, _ in other.pieces))
    assert smallest == Program((pieces[3],), OUTPUTS[0], 2, 2, 4, 0)


# Faults that are put in: each must be found, in a handful of programs.


def ignored(call: Call, real: Rule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Lists the second site, and returns what it was given."""
    before = len(call.seen.sites)
    out = real(call, F.dropout, args, kwargs)
    return args[0] if before == 1 and args else out


def unlisted(call: Call, real: Rule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Does not see what is called in the model's own `forward`."""
    if call.seen.module_path == ROOT_NAME and args:
        return args[0]
    return real(call, F.dropout, args, kwargs)


def unscaled(call: Call, real: Rule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Drops units, and does not scale the others up."""
    out = call.read(real(call, F.dropout, args, kwargs))
    return out if call.opened else out * 0.5


def uneven(call: Call, real: Rule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Gives single passes other numbers than passes run at once."""
    out = call.read(real(call, F.dropout, args, kwargs))
    return out if call.opened or call.index is not None else out.flip(-1)


def changing(call: Call, real: Rule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Writes to a weight, as nobody should."""
    weight = next(call.seen.modules[0][1].parameters())
    weight.detach().view(-1)[0] += 1e-3
    return real(call, F.dropout, args, kwargs)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (ignored, "z = "),
        (unlisted, "sites for"),
        (unscaled, "z = "),
        (uneven, "apart"),
        (changing, "was changed"),
    ],
)
def test_faults_that_are_put_in_are_found(
    fault: Callable[..., Any], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty() -> Mapping[TorchFunction, Rule]:
        rules = live_rules()

        def rule(
            call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> Any:
            return fault(call, rules[func], args, kwargs)

        return {**rules, F.dropout: rule}

    monkeypatch.setattr("mcdrop._engine.passes.live_rules", faulty)
    programs = (replace(random_program(seed), output=OUTPUTS[0]) for seed in range(12))
    found = next(program for program in programs if text in _failure(program))
    smallest = shrunk(found, lambda program: text in _failure(program))
    assert len(smallest.pieces) <= 2
    monkeypatch.undo()
    assert outcome(smallest).startswith("agrees")


def _failure(program: Program) -> str:
    found = outcome(program)
    return found if found.startswith(FAILURE) else ""
