"""Kernels that Triton compiles for a CUDA device: patterns; mask and product in one launch.

They are compiled in the background, so that no prediction waits for them; until then, and where
torch comes without Triton or it cannot compile, `device_kernels` makes the same bits in more
launches. They have run under Triton's interpreter and have been compiled for a GPU, but not timed.
"""

from __future__ import annotations

from dataclasses import dataclass
from subprocess import SubprocessError
from typing import Any

import torch
from torch import Tensor

from mcdrop._masks.background import Background

__all__ = ["FLOATS_THERE", "UNITS_WORTH_COMPILING_THERE", "OnDevice", "load", "prepare", "ready"]

FLOATS_THERE = (torch.float32, torch.float16)
"""Types of values that the kernels multiply: Triton passes the scale as a float32, and its
interpreter, under which the kernels are tested, does not round to bfloat16."""

UNITS_WORTH_COMPILING_THERE = 2**32
"""Units of masks that a wrapper draws before it asks for the kernels. Without them a unit moves 6
bytes more, 26 GB for these; compiling keeps a core of the host busy for about a second."""

_BLOCK = 1024
# Products and sums are rounded each, as torch does it.
_EXACT = {"enable_fp_fusion": False}
# The language, a global of this file because kernels look names up there.
tl: Any = None


@dataclass(frozen=True)
class OnDevice:
    """The compiled kernels, for all numbers of rows, units and passes.

    Attributes:
        drop: See `_drop_by_pattern`.
        choose: See `_choose_patterns`.
    """

    drop: Any
    choose: Any

    def drop_by_pattern(
        self, x: Tensor, patterns: Tensor, first: int, scale: float, out: Tensor
    ) -> None:
        """Write ``x * keep * scale``, where bit s of pattern [b, i] drops unit i in pass 16 b + s.

        Args:
            x: Contiguous, (passes, units), or (1, units) where it is the same for all passes.
            patterns: Contiguous, (strata, units).
            first: Number of the first pass within the patterns.
            scale: Factor of the kept units.
            out: The product, contiguous, (passes, units).
        """
        n_passes, units = out.shape
        blocks = -(-units // _BLOCK)
        numbers = units, 0 if len(x) == 1 else units, first, blocks
        with torch.cuda.device_of(x):
            self.drop[(n_passes * blocks,)](
                x, patterns, out, scale, *numbers, BLOCK=_BLOCK, **_EXACT
            )

    def choose_patterns(
        self,
        table: Tensor,
        picks: Tensor,
        starts: Tensor | None,
        numbers: tuple[int, int, int],
        extra: tuple[int, int],
    ) -> Tensor:
        """Look patterns up, (strata, rows, units); see `stratified.drop_patterns`.

        Args:
            table: 2^16 patterns, then 2^16 with a drop more.
            picks: (strata, rows, units), contiguous but for gaps between strata.
            starts: (cycles, rows, units), as the picks; None where no stratum drops once more.
            numbers: Of the first stratum in all, of it in the stream, and of strata in a cycle.
            extra: The extra drops, and the bits of a start.
        """
        n_strata, rows, units = picks.shape
        blocks = -(-rows * units // _BLOCK)
        out = torch.empty(picks.shape, dtype=torch.int16, device=picks.device)
        steps = picks.stride(0), 0 if starts is None else starts.stride(0)
        given = table, picks, picks if starts is None else starts, out
        whole = extra[0] if starts is not None else 0, *numbers, *steps, rows * units, blocks
        with torch.cuda.device_of(picks):
            self.choose[(n_strata * blocks,)](*given, *whole, BITS=extra[1], BLOCK=_BLOCK, **_EXACT)
        return out


def prepare(*, wait: bool = False) -> None:
    """Compile the kernels in the background, once per process.

    Args:
        wait: Return only when that is done.
    """
    if wait:
        _loader.wait()
    else:
        _loader.start()


def ready(device: torch.device) -> OnDevice | None:
    """Return the kernels for a device if they are ready and it is one of theirs."""
    return _loader.found if device.type == "cuda" else None


def load() -> OnDevice | None:
    """Compile the kernels for the current CUDA device and return them; None where that fails."""
    try:
        import triton
    except ImportError:
        return None
    kernels = made()
    try:
        _use(kernels, torch.device("cuda"))
    except (triton.TritonError, RuntimeError, OSError, SubprocessError):
        # Launching takes a compiler of C on the host, and a GPU that this Triton knows.
        return None
    return kernels


def made() -> OnDevice:
    """Return the kernels, which Triton compiles when they are first used."""
    import triton

    globals()["tl"] = triton.language
    sizes = ["scale", "units", "x_step", "first", "blocks"]
    drop = triton.jit(_drop_by_pattern, do_not_specialize=["x", "patterns", "out", *sizes])
    names = ["table", "picks", "starts", "out", "extra", "first", "begin", "per_cycle"]
    names += ["picks_step", "starts_step", "units", "blocks"]
    return OnDevice(drop, triton.jit(_choose_patterns, do_not_specialize=names))


def _use(kernels: OnDevice, device: torch.device) -> None:
    """Run every kernel once for each type of its arguments."""
    table = torch.zeros(2**17, dtype=torch.int16, device=device)
    picks = torch.zeros((1, 1, 1), dtype=torch.int16, device=device)
    for bits, dtype in ((16, torch.int16), (32, torch.int32)):
        patterns = kernels.choose_patterns(table, picks, picks.to(dtype), (0, 0, 1), (1, bits))
    kernels.choose_patterns(table, picks, None, (0, 0, 1), (0, 16))
    for dtype in FLOATS_THERE:
        x = torch.ones((1, 1), dtype=dtype, device=device)
        kernels.drop_by_pattern(x, patterns.view(1, 1), 0, 1.0, torch.empty_like(x))


_loader = Background(load)


def _drop_by_pattern(  # type: ignore[no-untyped-def]
    x, patterns, out, scale, units, x_step, first, blocks, BLOCK: tl.constexpr
):
    """Multiply some units of one pass; see `OnDevice.drop_by_pattern`."""
    block = tl.program_id(0).to(tl.int64)
    number = block // blocks
    unit = block % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = unit < units
    place = first + number
    pattern = tl.load(patterns + place // 16 * units + unit, mask=inside, other=0)
    dropped = (pattern.to(tl.int32) >> (place % 16).to(tl.int32)) & 1
    values = tl.load(x + number * x_step + unit, mask=inside, other=0).to(tl.float32)
    # The sum makes a zero positive, as that of `device_kernels.scaled` does.
    product = values * tl.where(dropped == 1, 0.0, scale) + 0.0
    tl.store(out + number * units + unit, product.to(out.dtype.element_ty), mask=inside)


def _choose_patterns(  # type: ignore[no-untyped-def]
    table, picks, starts, out, extra, first, begin, per_cycle, picks_step, starts_step, units,
    blocks, BITS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Look up patterns of some units in one stratum; see `OnDevice.choose_patterns`."""
    block = tl.program_id(0).to(tl.int64)
    stratum = block // blocks
    unit = block % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = unit < units
    pick = tl.load(picks + stratum * picks_step + unit, mask=inside, other=0)
    cycle = (begin + stratum) // per_cycle
    start = tl.load(starts + cycle * starts_step + unit, mask=inside, other=0)
    # Signed integers are half the range below those that are compared with the extra drops.
    moved = start.to(tl.int64) + (first + stratum + 1) * extra + 2 ** (BITS - 1)
    once_more = (moved & (2**BITS - 1)) < extra
    where = (pick.to(tl.int64) & 0xFFFF) + tl.where(once_more, 65536, 0)
    tl.store(out + stratum * units + unit, tl.load(table + where, mask=inside), mask=inside)
