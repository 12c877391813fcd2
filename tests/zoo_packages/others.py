"""Small models of other packages, each built by a function that is called when it is its turn."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MODELS", "declare_kernels"]

Built = tuple[nn.Module, Any]
MODELS: dict[tuple[str, str], Callable[[], Built]] = {}
_IDS = torch.arange(18).reshape(2, 9) % 11 + 3


def _model(package: str, name: str) -> Callable[[Callable[[], Built]], Callable[[], Built]]:
    """Enter a function into the table; weights are those of a fixed seed."""

    def enter(build: Callable[[], Built]) -> Callable[[], Built]:
        @functools.wraps(build)
        def seeded() -> Built:
            torch.manual_seed(0)
            # Weights that are computed from others stay copyable without gradients.
            with torch.no_grad():
                return build()

        MODELS[package, name] = seeded
        return seeded

    return enter


# peft


def _adapted(kind: str, **options: Any) -> Built:
    import peft
    import transformers

    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    size |= {"vocab_size": 50, "intermediate_size": 32}
    base: Any
    if kind == "bert":
        config: Any = transformers.BertConfig
        base, targets = transformers.BertModel(config(**size)), ["query", "value"]
    else:
        config = transformers.LlamaConfig
        base = transformers.LlamaModel(config(**size, attention_dropout=0.2))
        targets = ["q_proj", "v_proj"]
    adapter = peft.LoraConfig(
        r=4, lora_dropout=0.2, target_modules=targets, init_lora_weights=False, **options
    )
    model = peft.get_peft_model(base, adapter)
    return model, {"input_ids": _IDS}


for _kind in ("bert", "llama"):
    _model("peft", f"LoRA on {_kind}")(functools.partial(_adapted, _kind))
    _model("peft", f"rsLoRA on {_kind}")(functools.partial(_adapted, _kind, use_rslora=True))
    _model("peft", f"DoRA on {_kind}")(functools.partial(_adapted, _kind, use_dora=True))


# torch_geometric


class _DroppedEdges(nn.Module):
    """Drops edges, as graph models are trained."""

    def __init__(self) -> None:
        super().__init__()
        from torch_geometric.nn import GCNConv

        self.first, self.second = GCNConv(6, 8), GCNConv(8, 3)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        from torch_geometric.utils import dropout_edge

        kept, _ = dropout_edge(edges, p=0.4, training=self.training)
        hidden = F.dropout(self.first(x, kept).relu(), 0.2, self.training)
        out: Tensor = self.second(hidden, kept)
        return out


def _graph() -> tuple[Tensor, Tensor]:
    x = torch.randn(7, 6)
    edges = torch.randint(0, 7, (2, 20))
    return x, edges


def _of_graphs(name: str, **options: Any) -> Built:
    import torch_geometric.nn as geometric

    model: nn.Module = getattr(geometric, name)(6, 8, 2, 3, dropout=0.3, **options)
    return model, _graph()


for _name in ("GCN", "GAT", "GIN", "GraphSAGE", "PNA", "EdgeCNN"):
    _more: dict[str, Any] = (
        {"aggregators": ["mean"], "scalers": ["identity"], "deg": torch.ones(5, dtype=torch.long)}
        if _name == "PNA"
        else {}
    )
    _model("torch_geometric", _name)(functools.partial(_of_graphs, _name, **_more))


@_model("torch_geometric", "dropout_edge")
def _edges() -> Built:
    return _DroppedEdges(), _graph()


@_model("torch_geometric", "GATv2Conv, TransformerConv")
def _convolutions() -> Built:
    from torch_geometric.nn import GATv2Conv, Sequential, TransformerConv

    layers = [
        (GATv2Conv(6, 4, heads=2, dropout=0.3), "x, edges -> x"),
        nn.ReLU(),
        (TransformerConv(8, 3, dropout=0.3), "x, edges -> x"),
    ]
    return Sequential("x, edges", layers), _graph()


@_model("torch_geometric", "MLP")
def _perceptron() -> Built:
    from torch_geometric.nn import MLP

    return MLP([6, 8, 8, 3], dropout=0.3, norm="layer_norm"), torch.randn(7, 6)


# x-transformers


def _crossed(**options: Any) -> Built:
    from x_transformers import Encoder, TransformerWrapper

    layers = Encoder(dim=16, depth=2, heads=2, attn_dim_head=8, **options)
    model = TransformerWrapper(num_tokens=20, max_seq_len=16, attn_layers=layers, emb_dropout=0.1)
    return model, _IDS


for _label, _settings in {
    "attention and feed-forward": {"attn_dropout": 0.2, "ff_dropout": 0.2},
    "flash": {"attn_dropout": 0.2, "attn_flash": True},
    "rotary, GLU": {"attn_dropout": 0.2, "ff_dropout": 0.2, "rotary_pos_emb": True, "ff_glu": True},
    "talking heads": {"attn_dropout": 0.2, "attn_pre_talking_heads": True},
}.items():
    _model("x-transformers", _label)(functools.partial(_crossed, **_settings))


# monai


def _of_monai(name: str, shape: tuple[int, ...], **options: Any) -> Built:
    from monai.networks import nets

    model: nn.Module = getattr(nets, name)(**options)
    return model, torch.randn(shape)


_FLAT: dict[str, Any] = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2}
_MONAI: tuple[tuple[str, tuple[int, ...], dict[str, Any]], ...] = (
    ("UNet", (2, 1, 16, 16), _FLAT | {"channels": (4, 8), "strides": (2,), "dropout": 0.2}),
    ("BasicUNet", (2, 1, 32, 32), _FLAT | {"features": (4, 4, 8, 8, 8, 4), "dropout": 0.2}),
    ("SegResNet", (2, 1, 16, 16), _FLAT | {"init_filters": 8, "dropout_prob": 0.2}),
    ("DenseNet121", (2, 1, 32, 32), _FLAT | {"dropout_prob": 0.2}),
    ("AttentionUnet", (2, 1, 16, 16),
     _FLAT | {"channels": (4, 8), "strides": (2,), "dropout": 0.2}),
    ("HighResNet", (2, 1, 16, 16), _FLAT | {"dropout_prob": 0.2}),
    ("FullyConnectedNet", (4, 6), {"in_channels": 6, "out_channels": 2, "hidden_channels": (8, 8),
                                   "dropout": 0.2}),
    ("ViT", (2, 1, 16, 16), {"in_channels": 1, "img_size": 16, "patch_size": 8, "hidden_size": 16,
                             "mlp_dim": 32, "num_layers": 2, "num_heads": 2, "spatial_dims": 2,
                             "dropout_rate": 0.2, "classification": True}),
    ("SwinUNETR", (1, 1, 64, 64), _FLAT | {"feature_size": 12, "drop_rate": 0.2,
                                           "attn_drop_rate": 0.2, "dropout_path_rate": 0.2}),
    ("UNETR", (1, 1, 32, 32), _FLAT | {"img_size": 32, "feature_size": 4, "hidden_size": 24,
                                       "mlp_dim": 48, "num_heads": 2, "dropout_rate": 0.2}),
)  # fmt: skip
for _name, _shape, _settings in _MONAI:
    _model("monai", _name)(functools.partial(_of_monai, _name, _shape, **_settings))


# sentence-transformers


@_model("sentence-transformers", "Transformer, Pooling, Dense, Dropout")
def _sentences() -> Built:
    import transformers
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    settings: Any = transformers.BertConfig
    bert = transformers.BertModel(settings(vocab_size=50, intermediate_size=32, **size))

    class Offline(nn.Module):
        """Stands where the module stands that downloads a model: features in, features out."""

        def __init__(self) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, features: dict[str, Tensor], **_: Any) -> dict[str, Tensor]:
            found = self.bert(features["input_ids"], features["attention_mask"])
            features["token_embeddings"] = found.last_hidden_state
            return features

    layers = [Offline(), modules.Pooling(16), modules.Dense(16, 8), modules.Dropout(0.2)]
    model = SentenceTransformer(modules=layers, device="cpu")
    features = {"input_ids": _IDS, "attention_mask": torch.ones_like(_IDS)}
    return _Picked(model, "sentence_embedding"), (features,)


class _Picked(nn.Module):
    """Returns one entry of what a model returns."""

    def __init__(self, model: nn.Module, key: str) -> None:
        super().__init__()
        self.model, self.key = model, key

    def forward(self, *args: Any) -> Tensor:
        out: Tensor = self.model(*args)[self.key]
        return out


# diffusers


@_model("diffusers", "UNet2DModel")
def _unet() -> Built:
    from diffusers import UNet2DModel

    model = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, norm_num_groups=4,
        block_out_channels=(8, 16), down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"), dropout=0.2,
    )  # fmt: skip
    return model, (torch.randn(2, 1, 8, 8), torch.tensor(3))


@_model("diffusers", "Transformer2DModel")
def _transformer() -> Built:
    from diffusers import Transformer2DModel

    model = Transformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=8, num_layers=1, dropout=0.2,
        norm_num_groups=4, sample_size=8,
    )  # fmt: skip
    return model, (torch.randn(2, 8, 4, 4),)


@_model("diffusers", "UNet2DConditionModel")
def _conditional() -> Built:
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, norm_num_groups=4,
        block_out_channels=(8, 16), cross_attention_dim=8, attention_head_dim=4, dropout=0.2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    return model, (torch.randn(2, 1, 8, 8), torch.tensor(3), torch.randn(2, 4, 8))


# timm


def _of_timm(name: str, **options: Any) -> Built:
    import timm

    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=3, **options)
    size = options.get("img_size", 32)
    return model, torch.randn(2, 3, size, size)


def declare_kernels() -> None:
    """Let torchvision be imported beside a build of torch that its kernels were not made for."""
    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)


_KEPT: list[Any] = []

_SIDES: dict[str, Any] = {"drop_rate": 0.2, "drop_path_rate": 0.2}
_ATTENDS: dict[str, Any] = {"img_size": 32, "attn_drop_rate": 0.2, "proj_drop_rate": 0.2}
for _name, _settings in {
    "resnet10t": _SIDES | {"drop_block_rate": 0.1},
    "convnext_atto": _SIDES,
    "efficientnet_b0": _SIDES,
    "mobilenetv3_small_050": _SIDES,
    "regnetx_002": _SIDES,
    "vit_tiny_patch16_224": _SIDES | _ATTENDS | {"pos_drop_rate": 0.2, "depth": 2},
    "deit_tiny_patch16_224": _SIDES | _ATTENDS | {"depth": 2},
    "mixer_s32_224": {"drop_rate": 0.2, "proj_drop_rate": 0.2, "img_size": 32},
    "poolformer_s12": _SIDES,
}.items():
    _model("timm", _name)(functools.partial(_of_timm, _name, **_settings))


# fastai


@_model("fastai", "AWD_LSTM")
def _awd_lstm() -> Built:
    from fastai.text.models.awdlstm import AWD_LSTM

    return AWD_LSTM(20, 8, 12, 2, hidden_p=0.2, input_p=0.3, embed_p=0.1, weight_p=0.4), _IDS


@_model("fastai", "SequentialRNN with a classifier")
def _classifier() -> Built:
    from fastai.text.models.awdlstm import AWD_LSTM, awd_lstm_clas_config
    from fastai.text.models.core import get_text_classifier

    config = awd_lstm_clas_config | {"emb_sz": 8, "n_hid": 12, "n_layers": 2}
    model: nn.Module = get_text_classifier(AWD_LSTM, 20, 3, config=config, seq_len=9, max_len=9)
    return model, _IDS
