"""Infer the sizes of a network from tensor shapes, for layouts without a configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from speechft.errors import CheckpointError

# Published models: attention heads by width, and strides of convolutions by kernel.
_HEADS = {768: 12, 1024: 16}
_STRIDES = {10: 5, 3: 2, 2: 2}


def infer_model_cfg(family: str, tensors: Mapping[str, Tensor], given: Mapping[str, Any]) -> dict[str, Any]:
    """Infer the model configuration, under fairseq's keys, and `normalize` from a state dict under fairseq's names.

    Shapes do not determine the number of attention heads, the strides of the convolutions, pre-norm, and `normalize`. Unless `given`, the
    first two are those of the published models; the last two are true if and only if every convolution has a LayerNorm.
    """
    layers = [int(match[1]) for name in tensors if (match := re.match(r"encoder\.layers\.(\d+)\.", name))]
    width = _shape(tensors, "encoder.layer_norm.weight")[0]
    channels_out, channels_in, conv_pos = _shape(tensors, "encoder.pos_conv.0.weight_v")
    large = "feature_extractor.conv_layers.0.2.1.weight" in tensors
    heads = given.get("encoder_attention_heads", _HEADS.get(width))
    if not heads:
        raise CheckpointError(
            f"No configuration, and width {width} is not a published size, so the number of heads is unknown. "
            "Give config={'encoder_attention_heads': ...}."
        )
    values: dict[str, Any] = {
        "encoder_layers": max(layers, default=-1) + 1,
        "encoder_embed_dim": width,
        "encoder_ffn_embed_dim": _shape(tensors, "encoder.layers.0.fc1.weight")[0],
        "encoder_attention_heads": heads,
        "activation_fn": "gelu",
        "layer_norm_first": large,
        "conv_pos": conv_pos,
        "conv_pos_groups": channels_out // channels_in,
        "normalize": large,
    }
    if family == "decoar2":
        return values | {"input_feat": _shape(tensors, "post_extract_proj.weight")[1]}
    values |= {
        "extractor_mode": "layer_norm" if large else "default",
        "conv_feature_layers": str(_convolutions(tensors)),
        "conv_bias": "feature_extractor.conv_layers.0.0.bias" in tensors,
    }
    if family == "wavlm":
        buckets = _shape(tensors, "encoder.layers.0.self_attn.relative_attention_bias.weight")[0]
        values |= {"relative_position_embedding": True, "gru_rel_pos": True, "num_buckets": buckets, "max_distance": 800}
    return values


def _convolutions(tensors: Mapping[str, Tensor]) -> list[tuple[int, int, int]]:
    layers: list[tuple[int, int, int]] = []
    while (name := f"feature_extractor.conv_layers.{len(layers)}.0.weight") in tensors:
        channels, _, kernel = _shape(tensors, name)
        if kernel not in _STRIDES:
            raise CheckpointError(f"The stride of kernel {kernel} is unknown. Give config={{'conv_feature_layers': ...}}.")
        layers.append((channels, kernel, _STRIDES[kernel]))
    return layers


def _shape(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    if name not in tensors:
        raise CheckpointError(f"Tensor {name} is missing, so the model's sizes cannot be inferred. The checkpoint is incomplete.")
    return tuple(tensors[name].shape)
