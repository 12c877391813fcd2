"""Dropout for a model that has none: a copy that shares its weights and has dropout added."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from typing import Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop._live.compiler import compiled_module
from mcdrop._twin.copy import structural_copy
from mcdrop.checks import checked_rate, require_choice
from mcdrop.errors import NoDropoutError, OutputError, RangeError, UnsupportedError

__all__ = ["ACTIVATIONS", "inject_dropout"]

DropoutKind = Literal["dropout", "dropout2d"]
ModuleT = TypeVar("ModuleT", bound=nn.Module)

# Activations of hidden units. Not SELU, whose statistics plain dropout would break, nor what
# usually comes last (Sigmoid, Softmax, Softplus).
ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Hardswish,
    nn.Tanh,
)

_CHILD = "injected_dropout"


def inject_dropout(
    model: ModuleT,
    p: float,
    after: Collection[type[nn.Module] | str] = ACTIVATIONS,
    *,
    kind: DropoutKind = "dropout",
) -> ModuleT:
    """Put dropout into a model that has none, or not enough: a copy that shares its weights.

    Each matched module gets a dropout as its child `injected_dropout`, applied to what the module
    returns, wherever it is called from; a `torch.nn.Sequential` gets it as its last step. RNN, GRU
    and LSTM drop units of their output sequence and of the last hidden state, not of the cell
    state; `torch.nn.MultiheadAttention` of its output. An instance used in several places is
    followed by dropout in all of them, with independent masks. Classes, attributes and state-dict
    keys are those of `model`, and so are the training flags: in `eval()` the copy computes what
    the model does.

    Args:
        model: Any module; it is only read. Parameters are shared, so training or moving the
            result trains or moves them for both; buffers (such as the running statistics of
            BatchNorm) are copied.
        p: Rate of every dropout, in [0, 1).
        after: Module types (subclasses included) and names as in ``model.named_modules()``.
        kind: "dropout" drops single elements; "dropout2d" drops whole channels of outputs of
            four dimensions (N, C, height, width), and single elements of others.

    Returns:
        A module of the class of `model`, whose attribute `injected` is the tuple of names of the
        new dropouts, as ``sites()`` lists them and ``wrap(model, p={...})`` takes them.

    Raises:
        NoDropoutError: If nothing in the model matches `after`.
        RangeError: If `p` lies outside [0, 1), `kind` is unknown, or a name does not exist.
        UnsupportedError: If dropout was injected before, or a module cannot be followed by it.

    Warns:
        UserWarning: Always: the model was not trained with this dropout, so the spread of its
            predictions is not that of a trained posterior.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     dropped = inject_dropout(net, p=0.1)
        >>> dropped.injected, dropped[0].weight is net[0].weight
        (('1.injected_dropout',), True)
    """
    rate = checked_rate("inject_dropout", p)
    require_choice("inject_dropout", "kind", kind, ("dropout", "dropout2d"))
    _check_model(model)
    paths = _matching(model, after)
    copy = structural_copy(model)
    for own, copied in zip(model.modules(), copy.modules(), strict=True):
        copied.__dict__["training"] = own.training
    for path in paths:
        _attach(copy.get_submodule(path), path, rate, kind)
    names = tuple(f"{path}.{_CHILD}" if path else _CHILD for path in paths)
    copy.__dict__["injected"] = names
    warnings.warn(
        f"inject_dropout: put {kind} with p={rate:g} at {', '.join(names)} ({len(names)} in all). "
        "The model was not trained with it, so the spread of its predictions is not that of a "
        "trained posterior. Train the returned model, or choose p on held-out data.",
        UserWarning,
        stacklevel=2,
    )
    return copy  # type: ignore[return-value]


class _ChannelDropout(nn.Dropout2d):
    """Drops whole channels of (N, C, height, width), and single elements of anything else."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch's own name)
        if input.ndim == 4:
            return super().forward(input)
        return F.dropout(input, self.p, self.training)


def _attach(module: nn.Module, path: str, rate: float, kind: DropoutKind) -> None:
    """Let a dropout follow a module of the copy."""
    if isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        if type(module).forward is not nn.Sequential.forward:
            raise UnsupportedError.of(
                "inject_dropout",
                "after",
                "name modules whose output can be dropped",
                f"{path or 'the model'}, a {type(module).__name__} that runs in code of its own",
                "Name the modules inside it",
            )
    elif isinstance(module, nn.RNNCellBase | nn.Transformer):
        raise UnsupportedError.of(
            "inject_dropout",
            "after",
            "name modules whose output can be dropped",
            f"{path or 'the model'}, a {type(module).__name__}",
            "Name a module behind it, or set its own dropout",
        )
    else:
        module.register_forward_hook(_drop_output)
    dropout = nn.Dropout(rate) if kind == "dropout" else _ChannelDropout(rate)
    module.add_module(_CHILD, dropout.train(module.training))


def _drop_output(module: nn.Module, args: Any, output: Any) -> Any:
    """Forward hook of a module that has a dropout injected; a function, so that it pickles."""
    drop = module.get_submodule(_CHILD)
    if isinstance(output, Tensor):
        return drop(output)
    if isinstance(module, nn.RNNBase):
        sequence, state = output
        if isinstance(state, tuple):
            return _drop_sequence(drop, sequence), (drop(state[0]), state[1])
        return _drop_sequence(drop, sequence), drop(state)
    if isinstance(module, nn.MultiheadAttention):
        return drop(output[0]), output[1]
    raise OutputError.of(
        "inject_dropout",
        "after",
        "name modules that return one tensor",
        f"{type(module).__name__}, which returns {type(output).__name__}",
        "Name a module before or behind it",
    )


def _drop_sequence(drop: nn.Module, sequence: Any) -> Any:
    """Drop units of a padded or packed sequence."""
    return sequence._replace(data=drop(sequence.data)) if _is_packed(sequence) else drop(sequence)


def _is_packed(sequence: Any) -> bool:
    return isinstance(sequence, nn.utils.rnn.PackedSequence)


def _matching(model: nn.Module, after: Collection[type[nn.Module] | str]) -> tuple[str, ...]:
    """Return the names of the modules that `after` asks for, one per instance, in order."""
    asked = (after,) if isinstance(after, str | type) else tuple(after)
    types = tuple(item for item in asked if isinstance(item, type))
    # An instance under several names is listed under each of them here, but only once below.
    aliases = {path: id(m) for path, m in model.named_modules(remove_duplicate=False)}
    names = [item for item in asked if isinstance(item, str)]
    missing = [name for name in names if name not in aliases]
    if missing:
        known = [path for path in aliases if path]
        shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
        raise RangeError.of(
            "inject_dropout",
            "after",
            f"hold module types or names among {shown}",
            ", ".join(map(repr, missing)),
            "Take the names from model.named_modules()",
        )
    wanted = {aliases[name] for name in names}
    paths = tuple(
        path for path, m in model.named_modules() if isinstance(m, types) or id(m) in wanted
    )
    if not paths:
        looked_for = ", ".join(kind.__name__ for kind in types) or "nothing"
        raise NoDropoutError.of(
            "inject_dropout",
            "model",
            f"have modules to put dropout after ({looked_for})",
            f"{type(model).__name__} without any",
            "Name modules of model.named_modules() in `after`; functions such as F.relu are none",
        )
    return paths


def _check_model(model: nn.Module) -> None:
    """Refuse what is not a tree of plain modules whose calls can be changed."""
    if not isinstance(model, nn.Module):
        raise UnsupportedError.of(
            "inject_dropout",
            "model",
            "be a torch.nn.Module",
            type(model).__name__,
            "Pass the trained model itself",
        )
    if hasattr(model, "injected") or any(_CHILD in m._modules for m in model.modules()):
        raise UnsupportedError.of(
            "inject_dropout",
            "model",
            "have neither injected dropout nor an attribute `injected`",
            f"{type(model).__name__} that has",
            "Pass the model from before the first injection, with all of `after` at once",
        )
    wrappers = (torch.jit.ScriptModule, nn.DataParallel, nn.parallel.DistributedDataParallel)
    found = [
        f"{type(module).__name__} at {path or 'the root'}"
        for path, module in model.named_modules()
        if isinstance(module, wrappers) or compiled_module(module) is not None
    ]
    if found:
        raise UnsupportedError.of(
            "inject_dropout",
            "model",
            "consist of plain modules",
            ", ".join(found[:5]),
            "Pass the original that was compiled, or `module` of a parallel one",
        )
