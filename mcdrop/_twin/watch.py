"""Decides by watching a run which modules get their training flag: what draws while training.

Three runs of fresh copies, with all dropout answered by its expectation. The first, in eval mode,
records every module and the dropout that is live already. The second has every flag set; a module
that then returns something else, writes to buffers or branches on a random number switches more
than dropout. What draws in the second run alone, and is dropout, is missing. The third has only
the flags set that make it appear, and must return what the first did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from mcdrop._live.functorch import has_operator_modes
from mcdrop._live.rules.registry import registered_forward
from mcdrop._live.sites import DropoutSite
from mcdrop._twin.flag_readers import may_read_flags
from mcdrop._twin.gates import Gate, gate_of
from mcdrop._twin.noise import Draw
from mcdrop._twin.observe import Inputs, Observation, observe
from mcdrop._twin.recall import Recall

__all__ = ["Lost", "Watched", "watch"]

# Each run that fails in training turns off the flag that made it fail.
_ATTEMPTS = 8
# Runs that look for dropout by numbers of NumPy or Python, which may drop all rows of a few.
_SEEDS = 3


@dataclass(frozen=True)
class Lost:
    """Dropout that fires in training and cannot be made live.

    Attributes:
        path: Path of the module that draws.
        reason: Where it draws, and why its flag cannot be set.
    """

    path: str
    reason: str


@dataclass(frozen=True)
class Watched:
    """What watching a training run decided.

    Attributes:
        gates: Modules that get their training flag, by path: "rate" if it gates calls of dropout
            functions, "random" if it gates random numbers that the module draws itself.
        off: Modules whose flag stays off, whatever was read off their source, and why.
        lost: Dropout that cannot be made live.
        ran: Whether training was watched to its end; otherwise what was read off the source
            stands for the modules that are not listed.
        summary: One sentence for the record of a prediction; empty if there was nothing to watch.
        output: What the model returned in eval mode; None where it was not run.
        sites: The dropout calls with these flags set; empty where they are not known.
        n_rows: Rows of the inputs, if they are known.
    """

    gates: Mapping[str, Gate] = field(default_factory=dict)
    off: Mapping[str, str] = field(default_factory=dict)
    lost: tuple[Lost, ...] = ()
    ran: bool = False
    summary: str = ""
    output: Any = field(default=None, compare=False, repr=False)
    sites: tuple[DropoutSite, ...] = ()
    n_rows: int | None = None


def watch(
    model: nn.Module,
    inputs: Inputs,
    *,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    excluded: Collection[str] = (),
    recall: Recall | None = None,
) -> Watched:
    """Watch a training run of copies of the model.

    Args:
        model: The caller's model, only read.
        inputs: Makes the arguments of a run.
        device: Where to run.
        dtype: Floating point type to run in.
        excluded: Paths of modules that the user has decided about.
        recall: Where to hold what costly operators return.
    """
    if not has_operator_modes() or not may_read_flags(model):
        return Watched()
    modules = dict(model.named_modules())
    run = partial(observe, model, inputs, device=device, dtype=dtype, recall=recall or Recall())
    plain = run()
    if plain.error is not None:
        return Watched(summary=f"could not be watched: it raises {_told(plain.error)}")
    decided = {
        path
        for path, module in modules.items()
        if path in excluded or registered_forward(type(module)) is not None
    }
    candidates = {
        path
        for path, module in modules.items()
        if path not in decided and not _keeps_statistics(module)
    }
    off: dict[str, str] = {}
    for _ in range(_ATTEMPTS):
        flags = candidates - off.keys()
        seen = run(flags, recorded=plain, corrects=True)
        found = _stopped(seen, plain, flags)
        if not found:
            break
        off |= found
    if seen.error is not None:
        text = f"could not be watched: in training it raises {_told(seen.error)}"
        return Watched(summary=text, output=plain.output)
    return _Decision(run, modules, candidates, decided, plain, seen, off).watched()


def _stopped(seen: Observation, plain: Observation, flags: Collection[str]) -> dict[str, str]:
    """Return the modules whose flag keeps others from being judged: they raise, or skip them."""
    if seen.error is not None:
        return {path: why for path, why in seen.differs.items() if why.startswith("it raises")}
    found = {}
    for path, n_calls in plain.calls.items():
        caller = plain.callers[path]
        was_called = caller is not None and seen.calls[caller] >= plain.calls[caller]
        if caller in flags and was_called and seen.calls[path] < n_calls:
            found[str(caller)] = f"it skips {path}"
    return found


class _Decision:
    """What the runs in eval mode and in training say about each module."""

    def __init__(
        self,
        run: partial[Observation],
        modules: Mapping[str, nn.Module],
        candidates: set[str],
        decided: set[str],
        plain: Observation,
        seen: Observation,
        off: Mapping[str, str],
    ) -> None:
        self._run = run
        self._modules = modules
        self._plain = plain
        self._seen = seen
        self._failed = dict(off)
        self._candidates = candidates
        self._training = partial(run, candidates - off.keys(), recorded=plain, corrects=True)
        self._already = Counter(draw.key() for draw in plain.draws)
        self._missing = [
            draw for draw in _beyond(seen.draws, self._already) if not decided & {*draw.callers}
        ]
        self._trusted = {d.path for d in self._missing if _is_layer(modules[d.path])}
        self._arrays: set[str] = set()
        self._hidden = self._found_hidden() - decided
        self._off = {**self._blamed(), **off}
        self._free = candidates - self._off.keys()
        self._kinds: dict[str, Gate] = {}
        self._sites = plain.sites

    def watched(self) -> Watched:
        """Set flags until all that is missing appears, and check that nothing else does."""
        read = self._trusted
        dropout = [draw for draw in self._missing if _is_dropout(draw) and draw.path not in read]
        wanted = [d for d in dropout if d.path not in self._off]
        todo = wanted
        for reach in (_itself, _below, _caller, _above, _all):
            if not todo:
                break
            self._open(reach(todo, self._modules))
            todo = self._unreached(wanted)
        lost = [
            Lost(draw.path, f"it switches more than the dropout at {draw.line}: {why}")
            for draw in dropout
            if (why := self._off.get(draw.path))
        ]
        lost += [
            Lost(draw.path, f"no flag alone switches on the dropout at {draw.line}")
            for draw in todo
        ]
        lost += [Lost(path, self._off[path]) for path in sorted(self._hidden)]
        lost += [
            Lost(path, "it drops units by random numbers that are not torch's")
            for path in self._unseen()
        ]
        gates = {} if todo else self._kinds
        summary, sites = self._summary(gates), () if todo else self._sites
        return Watched(gates, self._off, tuple(lost), True, summary, self._plain.output, sites)

    def _blamed(self) -> dict[str, str]:
        """Return the modules whose flag switches more than dropout, and what."""
        seen, plain = self._seen, self._plain
        found = dict.fromkeys(self._hidden, "it draws random numbers that no operator shows")
        found |= {
            p: why for p, why in seen.differs.items() if p not in self._trusted | found.keys()
        }
        for path, line in seen.branches - plain.branches:
            found.setdefault(path, f"it branches on a random number at {line}")
        for path, names in seen.written.items():
            written = sorted(names - plain.written.get(path, set()))
            if written:
                found.setdefault(path, f"it writes {', '.join(written)}")
        for draw in self._missing:
            if draw.path in self._trusted:
                continue
            if "unknown" in draw.meets:
                found.setdefault(draw.path, f"it computes with random numbers at {draw.line}")
            elif "noise" in draw.meets and "mask" not in draw.meets:
                found.setdefault(draw.path, f"it adds noise at {draw.line}")
        return found

    def _found_hidden(self) -> set[str]:
        """Run once more to name modules that draw from torch's generator in hiding."""
        if not self._seen.outside or self._plain.outside:
            return set()
        again = self._training(finds_hidden=True)
        self._arrays = again.arrays
        return again.hidden

    def _unseen(self) -> list[str]:
        """Return the modules that drop units by numbers of NumPy's, Python's or their own."""
        drawing = {draw.path for draw in self._seen.draws} | self._hidden
        is_outside = self._seen.outside and not self._plain.outside
        found: set[str] = set()
        for seed in range(_SEEDS if is_outside else 1):
            seen = self._seen if seed == 0 else self._training(seed=seed)
            # A factor alone is no sign of dropout, unless numbers were drawn.
            found |= {p for p, how in seen.dropped.items() if is_outside or how == "thinned"}
            found &= self._candidates - drawing
            if found:
                break
        # One number at a time decides whether a layer is skipped; arrays of them are masks.
        found |= self._arrays & self._seen.differs.keys() & self._candidates - drawing
        return sorted(found)

    def _open(self, paths: Mapping[str, Sequence[Draw]]) -> None:
        """Set the flags of modules for the sake of some draws."""
        for path, draws in paths.items():
            if path in self._free:
                own = any(not draw.is_call for draw in draws)
                self._kinds[path] = "random" if own else self._kinds.get(path, "rate")

    def _unreached(self, wanted: Sequence[Draw]) -> list[Draw]:
        """Run with the flags set so far; return the wanted draws that do not appear.

        A module that hands other inputs to those it calls is given the benefit of the doubt once.
        """
        seen = self._run(set(self._kinds), recorded=self._plain)
        if not seen.same_output(self._plain):
            doubtful = self._seen.hands_on.keys() & self._kinds.keys()
            if not doubtful:
                return list(wanted)
            for path in doubtful:
                self._off[path] = f"it {self._seen.hands_on[path]}"
                del self._kinds[path]
            self._free -= doubtful
            seen = self._run(set(self._kinds), recorded=self._plain)
            if not seen.same_output(self._plain):
                return list(wanted)
        self._sites = seen.sites
        appeared = Counter(draw.key() for draw in seen.draws) - self._already
        return _beyond(wanted, appeared)

    def _summary(self, gates: Mapping[str, Gate]) -> str:
        parts = [f"a training run was watched: {len(gates)} modules get their training flag"]
        others = [path for path in self._off if path not in self._failed]
        if others:
            first = others[0]
            more = f", and {len(others) - 1} more" if len(others) > 1 else ""
            parts.append(f"left off: {first or 'the model'} ({self._off[first]}){more}")
        for path, why in self._failed.items():
            parts.append(f"{path or 'the model'} could not be watched: {why}")
        if self._seen.outside and not self._plain.outside:
            parts.append("training draws from NumPy's or Python's generator, which was not judged")
        return "; ".join(parts)


def _is_dropout(draw: Draw) -> bool:
    return "mask" in draw.meets and not draw.meets & {"unknown", "branch"}


def _is_layer(module: nn.Module) -> bool:
    """Whether a module is a dropout layer by name, whose kind of noise its output may show."""
    return next(module.children(), None) is None and gate_of(module) == "random"


def _beyond(draws: Sequence[Draw], counted: Counter[tuple[str, str, str]]) -> list[Draw]:
    """Return the draws that come on top of those counted."""
    left, found = counted.copy(), []
    for draw in draws:
        if left[draw.key()] > 0:
            left[draw.key()] -= 1
        else:
            found.append(draw)
    return found


# Whose flag it may be, nearest first.


def _itself(draws: Sequence[Draw], modules: Mapping[str, nn.Module]) -> dict[str, list[Draw]]:
    return _grouped(draws, {draw: [draw.path] for draw in draws})


def _below(draws: Sequence[Draw], modules: Mapping[str, nn.Module]) -> dict[str, list[Draw]]:
    inside = {
        d: [p for p in modules if p.startswith(f"{d.path}." if d.path else "")] for d in draws
    }
    return _grouped(draws, inside)


def _caller(draws: Sequence[Draw], modules: Mapping[str, nn.Module]) -> dict[str, list[Draw]]:
    return _grouped(draws, {draw: draw.callers[-2:] for draw in draws})


def _above(draws: Sequence[Draw], modules: Mapping[str, nn.Module]) -> dict[str, list[Draw]]:
    return _grouped(draws, {draw: draw.callers for draw in draws})


def _all(draws: Sequence[Draw], modules: Mapping[str, nn.Module]) -> dict[str, list[Draw]]:
    return _grouped(draws, {draw: list(modules) for draw in draws})


def _grouped(draws: Sequence[Draw], paths: Mapping[Draw, Sequence[str]]) -> dict[str, list[Draw]]:
    found: dict[str, list[Draw]] = {}
    for draw in draws:
        for path in paths[draw]:
            found.setdefault(path, []).append(draw)
    return found


def _keeps_statistics(module: nn.Module) -> bool:
    """Whether the flag of a module switches statistics of the batch."""
    return hasattr(module, "running_mean") or "BatchNorm" in type(module).__name__


def _told(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:80]}"
