"""A pretended device: 'cuda' without a GPU, which computes on the CPU, checks and counts.

Tensors on it are wrapper subclasses whose `device` is cuda:0 and whose numbers lie in a CPU tensor.
Every aten operation on them passes `_run` (factories through a dispatch mode), where

* an operand on another device raises, as on a GPU (0-dim CPU tensors may mix),
* a generator of another device raises,
* launches, host syncs (item, bool, nonzero, boolean indices, copies to the host) and copies from
  the host are counted, by operation and, with by_line=True, by the line that asked for them.

`.numpy()` raises. Numbers are right, so answers can be compared with those of the CPU. It cannot
show kernels that CUDA lacks, cuDNN's and the fused attention kernels, memory, rounding or speed;
`untyped_storage().data_ptr()` is 0 for every tensor.

    with pretended_cuda() as log:
        mc = mcdrop.wrap(model.to("cuda"))
        log.clear()
        mc.predict_with_uncertainty(x.to("cuda"))
    print(log.launches.total(), log.syncs, log.uploads)

What makes it work on a build of torch without CUDA: torch's table of device guards gets the guard
of meta tensors for CUDA; the mode takes the key of FakeTensorMode, so that torch does not start
CUDA; `Tensor.to` gets an index. It patches the process, so it has to be given one of its own.
"""

# mypy: ignore-errors

from __future__ import annotations

import os
import traceback
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

GPU = torch.device("cuda", 0)
PACKAGE = "/mcdrop/"

_VIEWS = {  # no kernel is launched
    "view", "_unsafe_view", "reshape", "expand", "permute", "transpose", "t", "unsqueeze",
    "squeeze", "select", "slice", "split", "split_with_sizes", "unbind", "detach", "alias",
    "as_strided", "diagonal", "movedim", "unfold", "lift_fresh", "lift", "_reshape_alias",
    "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "narrow",
    "is_same_size", "_fused_sdp_choice", "set_", "_to_copy", "resize_", "view_as_real", "chunk",
    "_conj", "_nested_tensor_from_mask_left_aligned", "sym_size", "unsafe_split", "is_pinned",
    "_has_compatible_shallow_copy_type", "flatten", "unflatten",
}  # fmt: skip
_SYNCS = {"_local_scalar_dense", "nonzero", "equal", "allclose", "masked_select", "unique_dim",
          "_unique2", "item", "is_nonzero"}  # fmt: skip


class Log:
    """What happened on the pretended device."""

    def __init__(self) -> None:
        self.clear()
        self.by_line = False

    def clear(self) -> None:
        self.launches: Counter[str] = Counter()
        self.syncs: Counter[str] = Counter()
        self.uploads: Counter[str] = Counter()
        self.lines: Counter[str] = Counter()
        self.sync_lines: Counter[str] = Counter()
        self.upload_lines: Counter[str] = Counter()


LOG = Log()


def _where() -> str:
    """Name the line of the package, else of what is not torch, that asked for an operation."""
    frames = [f for f in reversed(traceback.extract_stack()) if f.filename != __file__]
    for frame in frames:
        if PACKAGE in frame.filename and "site-packages/torch" not in frame.filename:
            return f"{frame.filename.split(PACKAGE)[-1]}:{frame.lineno}"
    outside = (f for f in frames if "torch/" not in f.filename)
    return next((f"{f.filename.split('/')[-1]}:{f.lineno}" for f in outside), "?")


class Cuda(torch.Tensor):
    """A tensor that says it is on cuda:0."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Cuda:
        meta = torch.empty_strided(held.shape, held.stride(), dtype=held.dtype, device="meta")
        made = torch.Tensor._make_subclass(
            cls, meta, False, dispatch_device=True, device_for_backend_keys=GPU
        )
        made.held = held
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return GPU

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Cuda({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    __torch_function__ = torch._C._disabled_torch_function_impl


class _Factories(TorchDispatchMode):
    """Turns factories with device='cuda' into pretended tensors."""

    def __init__(self) -> None:
        super().__init__()
        # The place of FakeTensorMode: with it set, torch does not try to start CUDA.
        self._mode_key = torch._C._TorchDispatchModeKey.FAKE

    @classmethod
    def is_infra_mode(cls) -> bool:
        return True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = tree_flatten((args, kwargs))[0]
        if (
            any(isinstance(x, Cuda) for x in leaves)
            or _is_gpu(kwargs.get("device"))
            or any(isinstance(x, torch.device) and x.type == "cuda" for x in leaves)
        ):
            return _run(func, args, kwargs)
        _check_generators(leaves, "cpu", func)
        return func(*args, **kwargs)


def _check_generators(leaves: list[Any], wanted: str, func: Any) -> None:
    for x in leaves:
        if isinstance(x, _Real):
            kind = _DEVICE_OF_SEED.get(x.initial_seed(), "cpu")
            if kind != wanted:
                raise RuntimeError(
                    f"Expected a '{wanted}' device type for generator but found '{kind}': {func}"
                )


def _is_gpu(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation with an operand or a result on the device."""
    if func is torch.ops.prim.device.default:
        return GPU
    op = _Operation(func, args, kwargs)
    op.check()
    op.account()
    return op.wrapped(op.computed())


class _Operation:
    """One operation of aten."""

    def __init__(self, func: Any, args: Any, kwargs: dict[str, Any]) -> None:
        self.func, self.args, self.kwargs = func, args, kwargs
        self.name = func._overloadpacket.__name__
        self.leaves = tree_flatten((args, kwargs))[0]
        self.on_gpu = [x for x in self.leaves if isinstance(x, Cuda)]
        self.device = kwargs.get("device")
        self.indexes = self.name in {"index", "index_put", "index_put_", "_unsafe_index"}
        self.packs = self.name in {"_pack_padded_sequence", "_pad_packed_sequence"}
        copies_to_gpu = self.name == "copy_" and isinstance(args[0], Cuda)
        copies_home = self.name == "copy_" and not copies_to_gpu
        moves = self.name == "_to_copy" and self.device is not None
        self.goes_home = (moves and not _is_gpu(self.device)) or (
            copies_home and isinstance(args[1], Cuda)
        )
        self.comes_in = (moves and _is_gpu(self.device) and not self.on_gpu) or (
            copies_to_gpu and isinstance(args[1], torch.Tensor) and not isinstance(args[1], Cuda)
        )

    def check(self) -> None:
        """Raise where operands or generators lie on different devices."""
        _check_generators(self.leaves, "cuda", self.func)
        may_mix = {"_to_copy", "copy_", "lift_fresh", "_has_compatible_shallow_copy_type"}
        # Lengths stay on the CPU.
        if self.name in may_mix or self.packs or "rnn" in self.name or not self.on_gpu:
            return
        others = (x for x in self.leaves if isinstance(x, torch.Tensor) and not isinstance(x, Cuda))
        wrong = [x for x in others if x.ndim > 0]
        if wrong and self.indexes:
            _sync(f"{self.name} with an index on the CPU", upload=True)
        elif wrong:
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices,"
                f" cuda:0 and cpu: {self.func}"
            )

    def account(self) -> None:
        """Count what it costs."""
        picks = tree_flatten(self.args[1:2])[0] if self.indexes else []
        by_booleans = any(isinstance(x, torch.Tensor) and x.dtype in _BOOLEAN for x in picks)
        repeats = self.name == "repeat_interleave" and "Tensor" in str(self.func)
        if self.name in _SYNCS or by_booleans or (repeats and self.on_gpu):
            _sync(self.name + (" by booleans" if by_booleans else ""))
        if self.goes_home:
            _sync("copy to the host")
        elif self.comes_in:
            _sync("copy from the host", upload=True)
        elif self.name not in _VIEWS or (self.name == "_to_copy" and self.on_gpu):
            LOG.launches[self.name] += 1
            if LOG.by_line:
                LOG.lines[_where()] += 1

    def computed(self) -> Any:
        """Compute on the CPU."""
        if self.name == "_fused_sdp_choice":
            return 0
        args, kwargs = tree_map(_held, (self.args, self.kwargs))
        if kwargs.get("pin_memory"):
            kwargs["pin_memory"] = False
        if self.name in _CELLS:
            return _CELLS[self.name](*args)
        if self.comes_in and self.name == "_to_copy":
            kwargs.pop("device", None)
        out = self.func(*args, **kwargs)
        if self.comes_in and self.name == "_to_copy" and out.data_ptr() == args[0].data_ptr():
            out = out.clone()
        if torch.Tag.inplace_view in self.func.tags:
            _same_shape(self.func, self.args, self.kwargs)
        return out

    def wrapped(self, out: Any) -> Any:
        """Return the result as it lies on the device; what was written to is handed back."""
        if self.goes_home:
            return self.args[0] if self.name == "copy_" else out
        returns_given = self.func._schema.is_mutable or self.name == "lift_fresh"
        given = {id(x.held): x for x in self.on_gpu} if returns_given else {}
        stays = bool(self.on_gpu) or _is_gpu(self.device) or self.comes_in

        def outer(x: Any) -> Any:
            if not isinstance(x, torch.Tensor):
                return x
            if id(x) in given:
                return given[id(x)]
            return Cuda(x) if stays else x

        if self.packs:
            return outer(out[0]), out[1]
        return tree_map(outer, out)


_BOOLEAN = (torch.bool, torch.uint8)


def _held(x: Any) -> Any:
    """Return what a CPU computes with in the place of an argument."""
    if isinstance(x, Cuda):
        return x.held
    return torch.device("cpu") if isinstance(x, torch.device) and x.type == "cuda" else x


def _same_shape(func: Any, args: Any, kwargs: dict[str, Any]) -> None:
    """Change the shape of the wrapper, too, after transpose_ and its like."""
    guard = torch._C._DisableTorchDispatch()
    torch._C._set_meta_in_tls_dispatch_include(True)
    try:
        func(*args, **kwargs)
    finally:
        torch._C._set_meta_in_tls_dispatch_include(False)
        del guard


def _sync(what: str, *, upload: bool = False) -> None:
    (LOG.uploads if upload else LOG.syncs)[what] += 1
    if LOG.by_line:
        (LOG.upload_lines if upload else LOG.sync_lines)[f"{_where()} {what}"] += 1


def _lstm_cell(igates, hgates, cx, b_ih=None, b_hh=None):
    gates = igates + hgates
    if b_ih is not None:
        gates = gates + b_ih + b_hh
    i, f, g, o = gates.chunk(4, 1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    cy = f * cx + i * g
    return o * cy.tanh(), cy, torch.cat([i, f, g, o], 1)


def _gru_cell(igates, hgates, hx, b_ih=None, b_hh=None):
    if b_ih is not None:
        igates, hgates = igates + b_ih, hgates + b_hh
    ir, iz, i_n = igates.chunk(3, 1)
    hr, hz, hn = hgates.chunk(3, 1)
    r, z = (ir + hr).sigmoid(), (iz + hz).sigmoid()
    n = (i_n + r * hn).tanh()
    return n + z * (hx - n), torch.cat([r, z, n, hx, hn], 1)


_CELLS = {"_thnn_fused_lstm_cell": _lstm_cell, "_thnn_fused_gru_cell": _gru_cell}

_Real = torch.Generator
# Generators lose their Python identity on the way to the dispatcher; their seeds do not.
_DEVICE_OF_SEED: dict[int, str] = {}


class _Kind(type(_Real)):  # type: ignore[misc]
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _Real)


class PretendedGenerator(_Real, metaclass=_Kind):
    """torch.Generator, of either device."""

    def __new__(cls, device: Any = "cpu") -> Any:
        made = _Real.__new__(cls, "cpu")
        made.kind = torch.device(device).type
        return made

    def __init__(self, device: Any = "cpu") -> None:
        self.manual_seed(int.from_bytes(os.urandom(7), "little"))

    def manual_seed(self, seed: int) -> Any:
        _DEVICE_OF_SEED[seed] = self.kind
        super().manual_seed(seed)
        return self


def _guards() -> Any:
    """torch's table of device guards, by device type; a CPU build has none for CUDA (1)."""
    import ctypes

    for line in Path("/proc/self/maps").read_text().splitlines():
        if "libc10.so" in line:
            library = ctypes.CDLL(line.split()[-1])
            name = "_ZN3c104impl26device_guard_impl_registryE"
            return (ctypes.c_void_p * 15).in_dll(library, name)
    raise RuntimeError("libc10 is not loaded")


_TO = torch.Tensor.to


def _to(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Tensor.to, with an index for 'cuda': torch would ask CUDA which device is current."""

    def indexed(value: Any) -> Any:
        return GPU if isinstance(value, str | torch.device) and _is_gpu(value) else value

    args = tuple(indexed(value) for value in args)
    return _TO(x, *args, **{name: indexed(value) for name, value in kwargs.items()})


@contextmanager
def pretended_cuda(*, by_line: bool = False):
    """Make 'cuda' a device that computes on the CPU and counts; yields the log."""
    moves = torch.Tensor.to, torch.Tensor.cuda, torch.Tensor.tolist
    saved = (
        torch.Generator,
        torch.cuda._lazy_init,
        torch.cuda.is_available,
        torch.cuda.synchronize,
        torch.cuda.get_device_name,
        torch.cuda.empty_cache,
        torch.cuda.mem_get_info,
    )
    torch.Generator = PretendedGenerator  # type: ignore[misc]
    torch.Tensor.to, torch.Tensor.cuda = _to, lambda x, *_, **__: _to(x, GPU)
    tolist = torch.Tensor.tolist
    torch.Tensor.tolist = lambda x: tolist(x.cpu() if isinstance(x, Cuda) else x)
    torch.cuda.is_available = lambda: True
    torch.cuda.synchronize = lambda *_: None
    torch.cuda.get_device_name = lambda *_: "pretended"
    torch.cuda.empty_cache = lambda: None
    torch.cuda.mem_get_info = lambda *_: (2**36, 2**36)
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    guards = _guards()
    guard = guards[1]
    guards[1] = guards[14]  # that of meta tensors, which does nothing
    lift = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    LOG.clear()
    LOG.by_line = by_line
    try:
        with _Factories():
            yield LOG
    finally:
        torch._C._set_only_lift_cpu_tensors(lift)
        guards[1] = guard
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
        torch.Tensor.to, torch.Tensor.cuda, torch.Tensor.tolist = moves
        (
            torch.Generator,
            torch.cuda._lazy_init,
            torch.cuda.is_available,
            torch.cuda.synchronize,
            torch.cuda.get_device_name,
            torch.cuda.empty_cache,
            torch.cuda.mem_get_info,
        ) = saved
