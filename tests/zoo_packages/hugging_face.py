"""Every architecture of transformers that a small configuration builds."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from tests.zoo_packages.comparison import first_float

__all__ = ["architectures", "built"]

_WIDTHS = (
    "hidden_size",
    "d_model",
    "embed_dim",
    "dim",
    "n_embd",
    "embedding_size",
    "hidden_dim",
    "encoder_hidden_size",
    "decoder_hidden_size",
    "projection_dim",
    "emb_dim",
    "word_embed_proj_dim",
    "d_embed",
    "conv_dim",
    "encoder_embed_dim",
    "decoder_embed_dim",
    "text_embed_dim",
    "q_lora_rank",
    "n_embed",
    "out_hidden_size",
    "projector_hidden_size",
    "attention_hidden_size",
    "adapter_hidden_size",
)
_HEADS = (
    "num_attention_heads",
    "n_head",
    "num_heads",
    "n_heads",
    "encoder_attention_heads",
    "decoder_attention_heads",
    "num_encoder_attention_heads",
    "num_decoder_attention_heads",
    "encoder_num_attention_heads",
    "decoder_num_attention_heads",
    "attention_heads",
    "heads",
    "num_head",
)
_LAYERS = (
    "num_hidden_layers",
    "n_layer",
    "num_layers",
    "n_layers",
    "encoder_layers",
    "decoder_layers",
    "depth",
    "layers",
    "num_decoder_layers",
    "num_encoder_layers",
    "encoder_num_hidden_layers",
    "decoder_num_hidden_layers",
    "num_block_layers",
)
_INNER = (
    "intermediate_size",
    "ffn_dim",
    "d_ff",
    "encoder_ffn_dim",
    "decoder_ffn_dim",
    "n_inner",
    "ffn_hidden_size",
    "encoder_intermediate_size",
    "moe_intermediate_size",
    "mlp_dim",
    "d_inner",
    "feed_forward_size",
    "shared_expert_intermediate_size",
    "feedforward_dim",
    "dim_feedforward",
)
_SMALL: dict[str, int] = {
    **dict.fromkeys(_WIDTHS, 32),
    **dict.fromkeys(_HEADS, 4),
    **dict.fromkeys(_LAYERS, 2),
    **dict.fromkeys(_INNER, 64),
    "num_key_value_heads": 2,
    "head_dim": 8,
    "d_kv": 8,
    "d_head": 8,
    "vocab_size": 128,
    "image_size": 32,
    "patch_size": 8,
    "num_queries": 8,
    "max_source_positions": 30,
    "max_length": 128,
    "num_mel_bins": 32,
    "max_position_embeddings": 64,
    "n_positions": 64,
    "n_ctx": 64,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "rotary_dim": 4,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "qk_head_dim": 16,
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "kv_lora_rank": 16,
    "index_head_dim": 16,
    "index_n_heads": 2,
    "entity_vocab_size": 64,
    "vocab_size_per_layer_input": 128,
}
_OF_HEADS = (
    "head_dim",
    "d_kv",
    "d_head",
    "qk_rope_head_dim",
    "qk_nope_head_dim",
    "v_head_dim",
    "qk_head_dim",
)
_OWN_HEADS = {key: size for key, size in _SMALL.items() if key not in _OF_HEADS}
# Numbers that some configurations leave to the user.
_MISSING = {
    "prediction_length": 8,
    "context_length": 16,
    "head_dim": 8,
    "num_key_value_heads": 2,
    "vocab_size": 128,
}
_SHALLOW = {**dict.fromkeys(_LAYERS, 2), "vocab_size": 128}
# What training randomizes beside dropout.
_OFF = (
    "layerdrop",
    "layer_drop",
    "mask_time_prob",
    "mask_feature_prob",
    "jitter_noise",
    "quantizer_dropout",
)
_TOO_LARGE = 40_000_000
_N_IDS = 9
_FAILS = (
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    KeyError,
    AssertionError,
    ImportError,
    NotImplementedError,
    ZeroDivisionError,
    OSError,
)


def architectures() -> list[str]:
    """Return the names of the base models, each once."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    names: dict[str, str] = {}
    for kind, found in MODEL_MAPPING_NAMES.items():
        for name in found if isinstance(found, tuple | list) else (found,):
            is_namesake = name.lower().startswith(kind.replace("_", "").replace("-", ""))
            if name not in names or is_namesake:
                names[name] = kind
    return [f"{kind}/{name}" for name, kind in names.items()]


def built(architecture: str) -> tuple[nn.Module, dict[str, Any]]:
    """Build a small model, in eval mode, with inputs that it takes.

    Raises:
        ValueError: If nothing that was tried builds and runs; the text says why.
    """
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    kind, name = architecture.split("/")
    why = []
    for sizes in (_SMALL, _OWN_HEADS, _SHALLOW):
        torch.manual_seed(0)
        try:
            config = CONFIG_MAPPING[kind]()
            _shrink(config, sizes)
            _randomize(config)
            with torch.device("meta"):
                weights = sum(x.numel() for x in getattr(transformers, name)(config).parameters())
            if weights > _TOO_LARGE:
                why.append(f"{weights / 1e6:.0f} million weights")
                continue
            model = getattr(transformers, name)(config).float().eval()
        except _FAILS as error:
            why.append(f"{type(error).__name__}: {error}")
            continue
        _fill(model)
        for inputs in _candidates(model, config):
            try:
                with torch.no_grad():
                    finite = first_float(model(**inputs)).isfinite().all()
                if not finite:
                    raise ValueError("returns NaN or infinity in eval mode")
            except _FAILS as error:
                why.append(f"{sorted(inputs)}: {type(error).__name__}: {error}")
            else:
                return model, inputs
    raise ValueError(" | ".join(" ".join(text.split())[:90] for text in why))


def _parts(config: Any) -> Iterator[Any]:
    """Yield a configuration and those inside it."""
    yield config
    for value in list(vars(config).values()):
        if hasattr(value, "to_dict") and hasattr(value, "model_type"):
            yield from _parts(value)


def _shrink(config: Any, sizes: dict[str, int]) -> None:
    for part in _parts(config):
        for key, value in list(vars(part).items()):
            name = getattr(type(part), "attribute_map", {}).get(key, key)
            if isinstance(value, bool):
                continue
            if value is None and name in _MISSING:
                _put(part, key, _MISSING[name])
            elif name in sizes and isinstance(value, int) and value > sizes[name]:
                _put(part, key, sizes[name])
            elif key == "depths" and isinstance(value, list | tuple):
                _put(part, key, type(value)(1 for _ in value))
            elif key == "layer_types" and isinstance(value, list):
                n = getattr(part, "num_hidden_layers", 2)
                _put(part, key, (list(dict.fromkeys(value)) * n)[:n])
            elif key.endswith(("token_id", "token_index")) and isinstance(value, int):
                _put(part, key, value if value < 100 else 100 + value % 28)
        if "kv_lora_rank" in vars(part):  # latent attention keeps a key for each head
            _put(part, "num_key_value_heads", sizes.get("num_attention_heads", 4))
        if isinstance(getattr(part, "initializer_range", None), float):
            part.initializer_range = 0.15
        _put(part, "use_cache", False)
        part._attn_implementation = "eager"
        with contextlib.suppress(Exception):  # sizes by layer
            _divide_rotary(part)


def _divide_rotary(part: Any) -> None:
    """Let the three sections of a multimodal rotary embedding sum to what is rotated."""
    rotary = getattr(part, "rope_parameters", None)
    if not isinstance(rotary, dict) or not hasattr(part, "num_attention_heads"):
        return
    width = getattr(part, "head_dim", None) or part.hidden_size // part.num_attention_heads
    half = int(width * rotary.get("partial_rotary_factor", 1.0)) // 2
    # Read by multimodal models alone, some of which have a default of their own.
    rotary["mrope_section"] = [half - 2 * (half // 3), half // 3, half // 3]


def _put(part: Any, key: str, value: Any) -> None:
    # Configurations refuse values in ways of their own.
    with contextlib.suppress(Exception):
        setattr(part, key, value)


def _randomize(config: Any) -> None:
    """Set every dropout rate to 0.2 and everything else that training randomizes to zero."""
    for part in _parts(config):
        for key, value in list(vars(part).items()):
            if isinstance(value, bool):
                if key == "apply_spec_augment":
                    _put(part, key, False)
            elif any(word in key for word in _OFF):
                _put(part, key, 0.0)
            elif "drop" in key and isinstance(value, float | int) and value < 1:
                _put(part, key, 0.2)


def _fill(model: nn.Module) -> None:
    """Fill weights that start at zero, which would hide what comes before them."""
    for parameter in model.parameters():
        with torch.no_grad():
            if parameter.ndim >= 2 and not bool(parameter.any()):
                parameter.normal_(0.0, 0.1)
            elif parameter.ndim == 1 and parameter.numel() and _is_tiny(parameter):
                parameter.fill_(0.5)  # layer scale


def _is_tiny(parameter: torch.Tensor) -> bool:
    return 0 < float(parameter.abs().max()) < 1e-3


def _candidates(model: nn.Module, config: Any) -> Iterator[dict[str, Any]]:
    """Yield arguments to try, the likely first."""
    generator = torch.Generator().manual_seed(2)
    takes = set(inspect.signature(model.forward).parameters)
    ids = torch.randint(3, 90, (2, _N_IDS), generator=generator)
    text: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    decoder = {"decoder_input_ids": ids[:, :5]}
    if "bbox" in takes:
        yield {**text, "bbox": torch.tensor([1, 2, 3, 4]).expand(2, _N_IDS, 4)}
    for found in _main(takes, config, text, generator):
        if "decoder_input_ids" in takes:
            yield found | decoder
        yield found
        if "input_ids" in takes and "input_ids" not in found:
            yield text | found
    grid = next((key for key in ("grid_thw", "image_grid_thw") if key in takes), None)
    if grid is not None and "input_ids" not in takes:
        yield from _patches(takes, config, grid, generator)
    if "inputs_embeds" in takes:
        yield {"inputs_embeds": torch.randn(2, _N_IDS, 32, generator=generator)}
    if "past_values" in takes:
        yield from _series(config, generator)


def _main(
    takes: set[str], config: Any, text: dict[str, Any], generator: torch.Generator
) -> Iterator[dict[str, Any]]:
    """Yield what may be the main input."""
    if "input_ids" in takes:
        yield text
        yield {"input_ids": text["input_ids"]}
    for key, values in (
        ("pixel_values", _images),
        ("pixel_values_videos", _images),
        ("input_values", _sounds),
        ("input_features", _features),
    ):
        if key in takes:
            yield from ({key: value} for value in values(config, generator))


def _values(config: Any, key: str, default: Any) -> list[Any]:
    found = [
        getattr(part, key)
        for part in _parts(config)
        if isinstance(getattr(part, key, None), int | list | tuple)
    ]
    return found or [default]


def _images(config: Any, generator: torch.Generator) -> Iterator[torch.Tensor]:
    n_channels = _values(config, "num_channels", 3)[-1]
    n_channels = n_channels if isinstance(n_channels, int) else 3
    for size in dict.fromkeys([*map(_hashable, _values(config, "image_size", 32)), 32, 64, 224]):
        height, width = (size, size) if isinstance(size, int) else (*size, *size)[:2]
        if height > 384:
            continue
        yield torch.randn(2, n_channels, height, width, generator=generator)
        for n_frames in _values(config, "num_frames", 0):
            if isinstance(n_frames, int) and 0 < n_frames <= 16:
                yield torch.randn(2, n_frames, n_channels, height, width, generator=generator)


def _patches(
    takes: set[str], config: Any, grid: str, generator: torch.Generator
) -> Iterator[dict[str, Any]]:
    """Yield images cut into flat patches, with the grid of each (time, height, width)."""
    first = next(key for key in ("pixel_values", "hidden_states") if key in takes)
    channels = (_values(config, key, 3)[0] for key in ("in_channels", "num_channels"))
    n_channels = next((n for n in channels if isinstance(n, int)), 3)
    side = _values(config, "patch_size", 8)[0]
    for n_times in dict.fromkeys((_values(config, "temporal_patch_size", 1)[0], 1)):
        width = n_channels * n_times * side**2
        yield {
            first: torch.randn(32, width, generator=generator),
            grid: torch.tensor([[1, 4, 4], [1, 4, 4]]),
        }


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _sounds(config: Any, generator: torch.Generator) -> Iterator[torch.Tensor]:
    yield torch.randn(2, 2000, generator=generator)
    yield torch.randn(2, 1, 2000, generator=generator)
    length, bins = (_values(config, key, 64)[0] for key in ("max_length", "num_mel_bins"))
    if isinstance(length, int) and isinstance(bins, int):
        yield torch.randn(2, length, bins, generator=generator)
    yield torch.randn(2, 40, 80, generator=generator)


def _features(config: Any, generator: torch.Generator) -> Iterator[torch.Tensor]:
    for key in ("num_mel_bins", "feature_size", "input_size", "input_feat_per_channel"):
        for bins in _values(config, key, 80)[:2]:
            if not isinstance(bins, int):
                continue
            for length in (60, 2 * _values(config, "max_source_positions", 1500)[0], 3000):
                yield torch.randn(2, bins, length, generator=generator)
                yield torch.randn(2, length, bins, generator=generator)


def _series(config: Any, generator: torch.Generator) -> Iterator[dict[str, Any]]:
    context = getattr(config, "context_length", 32) or 32
    for length in (context, context + max(getattr(config, "lags_sequence", [0]) or [0])):
        n_series = getattr(config, "num_input_channels", 1)
        values = torch.randn(2, length, n_series, generator=generator)
        yield {"past_values": values}
        flat = values[..., 0]
        time = torch.randn(2, length, 1, generator=generator)
        yield {
            "past_values": flat,
            "past_time_features": time[..., : getattr(config, "num_time_features", 0)],
            "past_observed_mask": torch.ones_like(flat),
        }
