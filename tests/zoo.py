"""The zoo: every kind of model whose dropout mcdrop keeps alive, in small.

The tests in `test_what_is_live.py` check each entry; `python -m tests.zoo` prints the page
`docs/what-is-live.md`, so that the page says what the tests know.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.zoo_packages.page import section

Select = Callable[[Any], Any] | str | int | None


@dataclass(frozen=True)
class Entry:
    """One model of the zoo.

    Attributes:
        name: What it stands for.
        group: Heading on the page.
        make: Makes the model, in eval mode, and its inputs.
        how: How its dropout is kept alive, for the page.
        select: Which tensor of the output is the prediction.
        sequential: Why passes cannot be batched, if they cannot.
        native: Whether train mode of everything but BatchNorm is the same randomness.
        without: The output without dropout, for models that are random in eval mode themselves.
    """

    name: str
    group: str
    make: Callable[[], tuple[nn.Module, Any]]
    how: str
    select: Select = None
    sequential: str = ""
    native: bool = True
    without: Callable[[torch.Tensor], torch.Tensor] | None = None


class Body(nn.Module):
    """A forward pass written as a function of the module."""

    def __init__(self, forward: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self.function = forward
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, *args: Any) -> Any:
        return self.function(self, *args)


class DropPath(nn.Module):
    """As in timm: fills a new tensor in place, or returns early."""

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep_prob = 1 - self.drop_prob
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep_prob)
        mask.div_(keep_prob)
        return x * mask


class StochasticDepth(nn.Module):
    """As in torchvision: a function draws the noise, told by a flag."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return stochastic_depth(x, self.p, self.training)


def stochastic_depth(x: torch.Tensor, p: float, training: bool) -> torch.Tensor:
    if not training or p == 0.0:
        return x
    noise = torch.empty([x.shape[0], 1, 1], dtype=x.dtype, device=x.device)
    noise = noise.bernoulli_(1 - p)
    noise.div_(1 - p)
    return x * noise


class GatedAttention(nn.Module):
    """Passes a rate of zero in eval mode, as much user code does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.3 if self.training else 0.0)


class InPlaceFunction(nn.Module):
    """Drops out a tensor in place and ignores the result."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.linear(x)
        F.dropout(hidden, 0.3, self.training, inplace=True)
        return hidden * 2


def rows() -> torch.Tensor:
    return torch.randn(3, 7, 8, generator=torch.Generator().manual_seed(1))


def padding() -> torch.Tensor:
    mask = torch.zeros(3, 7, dtype=torch.bool)
    mask[0, 5:] = True
    return mask


def of(module: Callable[[], nn.Module], *more: Any) -> Callable[[], tuple[nn.Module, Any]]:
    """Seed, make the module, and give it the usual rows."""

    def make() -> tuple[nn.Module, Any]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return module().eval(), ((rows(), *more) if more else rows())

    return make


def packed(rnn: nn.Module, *, sort: bool, drop: float) -> nn.Module:
    def forward(body: Any, x: torch.Tensor) -> torch.Tensor:
        lengths = torch.tensor([7, 5, 2] if sort else [5, 7, 2])
        sequence = nn.utils.rnn.pack_padded_sequence(
            body.drop(x), lengths, batch_first=True, enforce_sorted=sort
        )
        out: torch.Tensor = nn.utils.rnn.pad_packed_sequence(body.rnn(sequence)[0], True)[0]
        return out

    return Body(forward, rnn=rnn, drop=nn.Dropout(drop))


def attention(*, weights: bool = True, drop: float = 0.0, **options: Any) -> nn.Module:
    call = {key: options.pop(key) for key in ("key_padding_mask", "attn_mask") if key in options}

    def forward(body: Any, x: torch.Tensor) -> Any:
        key, value = x[..., : options.get("kdim", 8)], x[..., : options.get("vdim", 8)]
        return body.attention(body.drop(x), key, value, need_weights=weights, **call)

    layer = nn.MultiheadAttention(8, 2, dropout=0.3, batch_first=True, **options)
    return Body(forward, attention=layer, drop=nn.Dropout(drop))


def grouped(x: torch.Tensor, p: float, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Four query heads over two key heads."""
    query = x.unflatten(-1, (4, 2)).transpose(1, 2)
    key = x[..., :4].unflatten(-1, (2, 2)).transpose(1, 2)
    return F.scaled_dot_product_attention(
        query, key, key, attn_mask=mask, dropout_p=p, enable_gqa=True
    )


def encoder(n_layers: int = 2) -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True)
    return nn.TransformerEncoder(layer, n_layers)


def exported(module: nn.Module, *, train: bool, dynamic: bool = False) -> nn.Module:
    module.train(train)
    shapes = {0: torch.export.Dim("rows", min=2)} if dynamic else None
    program = torch.export.export(module, (rows(),), dynamic_shapes=(shapes,) if dynamic else None)
    graph: nn.Module = program.module()
    # Graph modules of exported programs refuse eval(); they have nothing that depends on it.
    graph.eval = lambda: graph  # type: ignore[method-assign]
    return graph


def hugging_face(name: str, implementation: str | None, **config: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    settings = getattr(transformers, name.removesuffix("Model") + "Config")(**config)
    if implementation is not None:
        settings._attn_implementation = implementation
    model: nn.Module = getattr(transformers, name)(settings)
    return model


_TEXT = {"vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1}
_SIZE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
_HF: dict[str, tuple[dict[str, Any], str, bool]] = {
    "BertModel": ({**_TEXT, **_SIZE}, "ids", True),
    "DistilBertModel": (
        {"vocab_size": 50, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
        "ids",
        True,
    ),
    "GPT2Model": (
        {**_TEXT, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32},
        "ids",
        True,
    ),
    "T5Model": (
        {**_TEXT, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2},
        "pair",
        True,
    ),
    "ViTModel": (
        {
            **_SIZE,
            "image_size": 32,
            "patch_size": 8,
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
        },
        "image",
        True,
    ),
    "Wav2Vec2Model": (
        {
            **_SIZE,
            "vocab_size": 50,
            "conv_dim": (16, 16),
            "conv_stride": (5, 2),
            "conv_kernel": (10, 3),
            "num_feat_extract_layers": 2,
            "num_conv_pos_embeddings": 8,
            "num_conv_pos_embedding_groups": 2,
        },
        "sound",
        False,  # train mode would also drop whole layers and mask the input
    ),
    "SwinModel": (
        {
            "image_size": 32,
            "patch_size": 4,
            "embed_dim": 16,
            "depths": [1, 2],
            "num_heads": [2, 2],
            "window_size": 4,
            "drop_path_rate": 0.3,
            "attention_probs_dropout_prob": 0.1,
        },
        "image",
        True,
    ),
    "ConvNextModel": (
        {
            "hidden_sizes": [8, 16],
            "depths": [2, 2],
            "num_stages": 2,
            "drop_path_rate": 0.3,
            "layer_scale_init_value": 1.0,
        },
        "image",
        True,
    ),
}


def hugging_face_entry(name: str, implementation: str | None) -> Entry:
    config, kind, native = _HF[name]

    def make() -> tuple[nn.Module, Any]:
        generator = torch.Generator().manual_seed(2)
        ids = torch.randint(0, 50, (2, 9), generator=generator)
        inputs: dict[str, Any] = {
            "ids": {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
            "pair": {"input_ids": ids, "decoder_input_ids": ids},
            "image": {"pixel_values": torch.randn(2, 3, 32, 32, generator=generator)},
            "sound": {"input_values": torch.randn(2, 400, generator=generator)},
        }
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return hugging_face(name, implementation, **config).eval(), inputs[kind]

    label = f"transformers {name}" + (f" ({implementation})" if implementation else "")
    how = "attention layers are opened on the copy, which pass a rate of zero in eval mode"
    if name in {"SwinModel", "ConvNextModel"}:
        how = "DropPath is found by its class name, attention as in the other models"
    return Entry(label, "Hugging Face", make, how, select="last_hidden_state", native=native)


def _normed() -> nn.Module:
    norm = nn.BatchNorm1d(7)
    norm.running_mean = torch.linspace(-1, 1, 7)
    return nn.Sequential(nn.Linear(8, 8), norm, nn.Dropout(0.3))


_FUNCTION = "the function call is answered with a mask"
_LAYERS = "layers run one at a time, with a mask between them"
_EXPLICIT = "the explicit form runs instead of the fused one"
_GATE = "its training flag is set on the copy, and its random numbers are served"

BASIC = [
    Entry("nn.Dropout at the root", "Dropout", of(lambda: nn.Dropout(0.3)), _FUNCTION),
    Entry(
        "in-place modules",
        "Dropout",
        of(lambda: nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.3, inplace=True), nn.ReLU(True))),
        _FUNCTION + ", never written into the caller's tensor",
    ),
    Entry(
        "in-place function, result ignored",
        "Dropout",
        of(InPlaceFunction),
        "written in place, where that is what the model reads",
        sequential="the model reads a tensor after an in-place dropout of it",
    ),
    Entry(
        "F.dropout that is always on",
        "Dropout",
        of(lambda: Body(lambda body, x: F.dropout(x, 0.3))),
        _FUNCTION,
        without=lambda x: x,
    ),
    Entry(
        "BatchNorm beside dropout",
        "Dropout",
        of(lambda: nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(7), nn.Dropout1d(0.3))),
        _FUNCTION + "; the running statistics stay in use",
    ),
    Entry(
        "mcdrop.layers.LockedDropout",
        "Dropout",
        of(lambda: _layer("LockedDropout")),
        _FUNCTION,
    ),
]

RECURRENT = [
    Entry(name, "Recurrent", of(make), _LAYERS, select=0)
    for name, make in {
        "nn.LSTM": lambda: nn.LSTM(8, 6, 3, dropout=0.3, batch_first=True),
        "nn.LSTM, bidirectional with projections": lambda: nn.LSTM(
            8, 6, 2, dropout=0.3, proj_size=4, bidirectional=True
        ),
        "nn.GRU, bidirectional": lambda: nn.GRU(8, 6, 2, dropout=0.3, bidirectional=True),
        "nn.RNN": lambda: nn.RNN(8, 6, 2, dropout=0.3, nonlinearity="relu"),
        "dropout before nn.LSTM": lambda: nn.Sequential(
            nn.Dropout(0.2), nn.LSTM(8, 6, 2, dropout=0.3, batch_first=True)
        ),
    }.items()
]
RECURRENT += [
    Entry(
        "nn.LSTM with a given hidden state",
        "Recurrent",
        of(
            lambda: nn.LSTM(8, 6, 2, dropout=0.3, batch_first=True),
            (torch.ones(2, 3, 6), torch.ones(2, 3, 6)),
        ),
        _LAYERS,
        select=0,
    ),
    Entry(
        "packed sequences",
        "Recurrent",
        of(lambda: packed(nn.LSTM(8, 6, 2, dropout=0.3, batch_first=True), sort=True, drop=0.1)),
        _LAYERS,
    ),
    Entry(
        "packed sequences, unsorted, nn.GRU",
        "Recurrent",
        of(
            lambda: packed(
                nn.GRU(8, 6, 2, dropout=0.3, batch_first=True, bidirectional=True),
                sort=False,
                drop=0.0,
            )
        ),
        _LAYERS,
    ),
]

ATTENTION = [
    Entry("nn.MultiheadAttention with weights", "Attention", of(attention), _EXPLICIT, select=0),
    Entry(
        "nn.MultiheadAttention without weights, after dropout",
        "Attention",
        of(lambda: attention(weights=False, drop=0.2)),
        _EXPLICIT,
        select=0,
    ),
    Entry(
        "key padding, bias_kv, zero attention",
        "Attention",
        of(lambda: attention(key_padding_mask=padding(), add_bias_kv=True, add_zero_attn=True)),
        _EXPLICIT,
        select=0,
    ),
    Entry(
        "causal mask, other key and value sizes",
        "Attention",
        of(lambda: attention(attn_mask=torch.ones(7, 7, dtype=torch.bool).triu(1), kdim=5, vdim=3)),
        _EXPLICIT,
        select=0,
    ),
    Entry(
        "nn.TransformerEncoderLayer",
        "Attention",
        of(lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True)),
        _EXPLICIT,
    ),
    Entry("nn.TransformerEncoder", "Attention", of(encoder), _EXPLICIT),
    Entry(
        "nn.TransformerEncoder with padding (nested tensors)",
        "Attention",
        of(
            lambda: Body(
                lambda body, x: body.encoder(x, src_key_padding_mask=padding()), encoder=encoder()
            )
        ),
        _EXPLICIT,
        # The fused path leaves zeros where there is padding, the explicit one what it computes.
        select=lambda out: out.masked_fill(padding().unsqueeze(-1), 0.0),
    ),
    Entry(
        "nn.TransformerDecoderLayer",
        "Attention",
        of(lambda: nn.TransformerDecoderLayer(8, 2, 16, dropout=0.2, batch_first=True), rows()),
        _EXPLICIT,
    ),
    Entry(
        "nn.Transformer",
        "Attention",
        of(lambda: nn.Transformer(8, 2, 1, 1, 16, batch_first=True), rows()),
        _EXPLICIT,
    ),
    Entry(
        "F.scaled_dot_product_attention, gated by self.training",
        "Attention",
        of(GatedAttention),
        "the flag is set on the copy of that module alone",
    ),
    Entry(
        "F.scaled_dot_product_attention, causal and always on",
        "Attention",
        of(
            lambda: Body(
                lambda body, x: F.scaled_dot_product_attention(
                    x, x, x, dropout_p=0.3, is_causal=True
                )
            )
        ),
        _EXPLICIT,
        without=lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    ),
]

ATTENTION += [
    Entry(
        "grouped-query attention with a mask",
        "Attention",
        of(
            lambda: Body(lambda body, x: grouped(x, 0.3, torch.ones(7, 7, dtype=torch.bool).tril()))
        ),
        _EXPLICIT,
        without=lambda x: grouped(x, 0.0, torch.ones(7, 7, dtype=torch.bool).tril()),
    ),
    Entry(
        "attention without dropout of its own, after dropout",
        "Attention",
        of(
            lambda: Body(
                lambda body, x: grouped(body.drop(x), 0.0, torch.zeros(7, 7)), drop=nn.Dropout(0.3)
            )
        ),
        "the fused kernel runs once, passes folded into the rows",
    ),
]

STOCHASTIC_DEPTH = [
    Entry(
        "DropPath as in timm",
        "Stochastic depth",
        of(lambda: nn.Sequential(nn.Linear(8, 8), DropPath(0.3))),
        _GATE,
    ),
    Entry(
        "StochasticDepth as in torchvision",
        "Stochastic depth",
        of(lambda: nn.Sequential(nn.Linear(8, 8), StochasticDepth(0.3))),
        _GATE,
    ),
    Entry(
        "mcdrop.layers.StochasticDepth",
        "Stochastic depth",
        of(lambda: nn.Sequential(nn.Linear(8, 8), _layer("StochasticDepth"))),
        _FUNCTION,
    ),
]

PROGRAMS = [
    Entry(
        "torch.export in eval mode",
        "Programs",
        of(
            lambda: exported(
                nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.3), nn.Linear(8, 2)), train=False
            )
        ),
        _FUNCTION,
        native=False,
    ),
    Entry(
        "torch.export in train mode, dynamic rows, with BatchNorm",
        "Programs",
        of(lambda: exported(_normed(), train=True, dynamic=True)),
        _FUNCTION + "; BatchNorm goes back to its running statistics",
        native=False,
        without=of(_normed)()[0],
    ),
    Entry(
        "torch.export of nn.LSTM",
        "Programs",
        of(lambda: exported(nn.LSTM(8, 6, 2, dropout=0.3, batch_first=True), train=False)),
        _LAYERS,
        select=0,
        native=False,
    ),
    Entry(
        "torch.compile",
        "Programs",
        of(lambda: torch.compile(nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.3)), backend="eager")),  # type: ignore[arg-type, return-value]
        "the module inside runs",
        native=False,
    ),
    Entry(
        "nn.DataParallel and DistributedDataParallel",
        "Programs",
        of(lambda: nn.DataParallel(nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.3)))),
        "the module inside runs",
    ),
]

TRANSFORMERS = [
    hugging_face_entry(name, implementation)
    for name in _HF
    for implementation in (
        ("eager", "sdpa") if name not in {"SwinModel", "ConvNextModel"} else (None,)
    )
]

ZOO = [*BASIC, *RECURRENT, *ATTENTION, *STOCHASTIC_DEPTH, *PROGRAMS, *TRANSFORMERS]


@functools.lru_cache
def _module_of_layers() -> Any:
    import mcdrop.layers

    return mcdrop.layers


def _layer(name: str) -> nn.Module:
    layer: nn.Module = getattr(_module_of_layers(), name)(0.3)
    return layer


def page() -> str:
    """Return the text of docs/what-is-live.md."""
    lines = [
        "# What is live",
        "",
        "Every row is a model in the test suite. For each, the tests check that every site",
        "spreads the output when it alone is on, that with all rates zero the model is",
        "reproduced, that both strategies give the same numbers, that mean and variance are",
        "those of torch's own train mode where that randomizes nothing else, and that nothing of",
        "the model changes. This page is written by `python -m tests.zoo > docs/what-is-live.md`.",
    ]
    for group in dict.fromkeys(entry.group for entry in ZOO):
        lines += ["", f"## {group}", "", "| model | how | passes run |", "|---|---|---|"]
        for entry in ZOO:
            if entry.group == group:
                runs = f"one by one: {entry.sequential}" if entry.sequential else "all at once"
                lines.append(f"| {entry.name} | {entry.how} | {runs} |")
    lines += [
        "",
        "## Not live, on purpose",
        "",
        "| what | why |",
        "|---|---|",
        "| BatchNorm, spectral norm, observers | they would use and change their statistics |",
        "| LayerDrop, input masking, auxiliary heads and losses | training-time behavior |",
        "| gradient checkpointing | changes nothing but memory; its gradients are refused |",
        "| attention dropout in programs exported in eval mode | the export left out its rate |",
        "",
        "## Refused by name",
        "",
        "| what | what to do |",
        "|---|---|",
        "| TorchScript | wrap the original module, or a `torch.export` program |",
        "| a class whose training flag switches dropout and something else | call dropout with"
        " `training=self.training` there, or accept both with `stochastic=` |",
        "| `masks='shared'` where rows cannot be told apart | use independent masks |",
    ]
    lines += [
        "",
        "## Random programs",
        "",
        "`tests/fuzz` writes random models: dropout of every kind among views, slices, in-place",
        "writes, state, recurrent layers, attention and random numbers of their own. 200 in",
        "the default suite and 2,000 in the slow one are compared with train mode, with passes one",
        "by one, and with themselves afterwards. One that fails is shrunk and printed as source.",
    ]
    lines += section()
    return "\n".join(lines)


if __name__ == "__main__":
    print(page())  # noqa: T201
