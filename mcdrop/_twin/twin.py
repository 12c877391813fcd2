"""One private copy of a model with all that belongs to it, kept for later predictions."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from typing import Any

import torch
from torch import nn

from mcdrop._live.functorch import has_hooks
from mcdrop._live.memory import address
from mcdrop._twin.copy import recorded_copy
from mcdrop._twin.flag_readers import may_read_flags, may_write_unseen
from mcdrop._twin.state import TwinState
from mcdrop._twin.tracking import Tracker

__all__ = ["Spares", "Twin"]

# Modules of torch's that drop units within one call.
_FUSED = (nn.MultiheadAttention, nn.RNNBase)

# Threads that predict with one wrapper at a time find a copy each, up to so many.
_MOST = 4


class Twin:
    """A structural copy of a model, its hooks, and the state it is put back to after each pass.

    Args:
        function: Public function to name in errors.
        model: The caller's model, only read.
        stochastic: Module types and names whose own `training` flag gates their randomness.
        device: Where the copy's tensors live.
        dtype: Floating point type of the copy's tensors; None leaves it.
        own: Identities of parameters that the copy may write to, and so does not share.

    Attributes:
        model: As given.
        module: The copy.
        tracker: Tells which module is running.
        state: Puts the copy back.
        has_hooks: Whether the model has hooks of the caller's.
        may_read_flags: Whether code of the model could read a training flag.
        structure: What plans depend on, kept by whoever asked for it; None before.
    """

    def __init__(
        self,
        function: str,
        model: nn.Module,
        stochastic: Iterable[type[nn.Module] | str],
        *,
        device: torch.device,
        dtype: torch.dtype | None,
        own: Collection[int] = (),
    ) -> None:
        self.model = model
        self.module, made = recorded_copy(model, device=device, dtype=dtype, own=own)
        self.has_hooks = has_hooks(self.module)
        self.may_read_flags = may_read_flags(self.module)
        self.tracker = Tracker(function, self.module, stochastic)
        self.structure: Hashable = None
        self._fuses = any(isinstance(each, _FUSED) for each in self.module.modules())
        self._original = made.original
        self._parameters = list(self.module.parameters())
        self._buffers = list(self.module.buffers())
        theirs = set(map(address, model.parameters()))
        self._shared = [x for x in self._parameters if address(x) in theirs]
        of_its_own = [x for x in self._parameters if address(x) not in theirs]
        self.state = TwinState(made, of_its_own if own else ())
        # Below vmap, torch does not count what such calls write.
        self.state.by_content = may_write_unseen(model)

    @property
    def hides_sites(self) -> bool:
        """Tell whether sites of the model do not show while it runs as it is."""
        return self.tracker.has_random_gates or self._fuses

    @property
    def n_weights(self) -> int:
        """Return the number of weights of all parameters."""
        return sum(x.numel() for x in self._parameters)

    @property
    def weights(self) -> frozenset[int]:
        """Storage addresses of parameters and buffers, where there are any."""
        return frozenset(map(address, (*self._parameters, *self._buffers))) - {0}

    @property
    def shared(self) -> frozenset[int]:
        """Storage addresses of the parameters that are shared with the caller's model."""
        return frozenset(map(address, self._shared))

    def is_current(self, model: nn.Module) -> bool:
        """Tell whether this still is a copy of a model; take over what its tensors hold now."""
        if model is not self.model or not self._original.is_unchanged():
            return False
        self.state.renew(self._original.tensors)
        return True

    def can_be_kept(self) -> bool:
        """Tell whether a change of the model would be noticed."""
        return not self._original.is_opaque


class Spares:
    """Copies that no prediction uses now; threads may take them at any time."""

    def __init__(self) -> None:
        self._spare: list[tuple[Hashable, Twin]] = []

    def take(self, key: Hashable, model: nn.Module) -> Twin | None:
        """Return a copy of the model as it is now, or None.

        Args:
            key: What the copy depends on besides the model.
            model: The caller's model.
        """
        for held in reversed(tuple(self._spare)):
            if held[0] != key:
                continue
            try:
                self._spare.remove(held)
            except ValueError:  # another thread was faster
                continue
            if held[1].is_current(model):
                return held[1]
        return None

    def keep(self, key: Hashable, twin: Twin) -> None:
        """Keep a copy for later predictions, if changes of its model would be noticed."""
        if not twin.can_be_kept():
            return
        twin.tracker.begin(None)
        self._spare.append((key, twin))
        del self._spare[:-_MOST]

    def __len__(self) -> int:
        return len(self._spare)

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep nothing in a copy or in another process."""
        return Spares, ()
