"""Map tensor names between fairseq (also used by s3prl and WavLM) and transformers, and convert dtypes."""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch
from torch import Tensor

from speechft.errors import CheckpointError

HALF_PRECISION = {"fp16": torch.float16, "bf16": torch.bfloat16}


def _pattern(name: str) -> re.Pattern[str]:
    """Compile a pattern of tensor names in which `#` matches an index and `@` weight or bias."""
    return re.compile(re.escape(name).replace(r"\#", r"(\d+)").replace("@", "(weight|bias)"))


# Pairs of fairseq and transformers names.
_TRANSFORMER = [
    ("post_extract_proj.@", "feature_projection.projection.@"),
    ("encoder.pos_conv.0.bias", "encoder.pos_conv_embed.conv.bias"),
    ("encoder.pos_conv.0.weight_g", "encoder.pos_conv_embed.conv.parametrizations.weight.original0"),
    ("encoder.pos_conv.0.weight_v", "encoder.pos_conv_embed.conv.parametrizations.weight.original1"),
    ("encoder.layer_norm.@", "encoder.layer_norm.@"),
    ("encoder.layers.#.self_attn.q_proj.@", "encoder.layers.#.attention.q_proj.@"),
    ("encoder.layers.#.self_attn.k_proj.@", "encoder.layers.#.attention.k_proj.@"),
    ("encoder.layers.#.self_attn.v_proj.@", "encoder.layers.#.attention.v_proj.@"),
    ("encoder.layers.#.self_attn.out_proj.@", "encoder.layers.#.attention.out_proj.@"),
    ("encoder.layers.#.self_attn_layer_norm.@", "encoder.layers.#.layer_norm.@"),
    ("encoder.layers.#.fc1.@", "encoder.layers.#.feed_forward.intermediate_dense.@"),
    ("encoder.layers.#.fc2.@", "encoder.layers.#.feed_forward.output_dense.@"),
    ("encoder.layers.#.final_layer_norm.@", "encoder.layers.#.final_layer_norm.@"),
]
_CONVOLUTIONS = [
    ("mask_emb", "masked_spec_embed"),
    ("layer_norm.@", "feature_projection.layer_norm.@"),
    ("feature_extractor.conv_layers.#.0.@", "feature_extractor.conv_layers.#.conv.@"),
]
_GATED_RELATIVE_POSITION = [
    ("encoder.layers.#.self_attn.grep_a", "encoder.layers.#.attention.gru_rel_pos_const"),
    ("encoder.layers.#.self_attn.grep_linear.@", "encoder.layers.#.attention.gru_rel_pos_linear.@"),
    ("encoder.layers.#.self_attn.relative_attention_bias.weight", "encoder.layers.#.attention.rel_attn_embed.weight"),
]
# fairseq wraps the norm of a convolution in two transpositions in "layer_norm" extractors, not in "default" ones.
_EXTRACTOR_NORM = {
    "group": [("feature_extractor.conv_layers.#.2.@", "feature_extractor.conv_layers.#.layer_norm.@")],
    "layer": [("feature_extractor.conv_layers.#.2.1.@", "feature_extractor.conv_layers.#.layer_norm.@")],
}


class NameMap:
    """Two-way map of the tensor names of one family and one kind of extractor norm ("group", "layer", or None without convolutions)."""

    def __init__(self, family: str, extractor_norm: str | None) -> None:
        self._names = list(_TRANSFORMER)
        if extractor_norm is not None:
            self._names += _CONVOLUTIONS + _EXTRACTOR_NORM[extractor_norm]
        if family == "wavlm":
            self._names += _GATED_RELATIVE_POSITION

    def to_transformers(self, name: str) -> str | None:
        """Return the transformers name of a fairseq tensor; None if the backbone has no such tensor."""
        return _translate(name, self._names)

    def to_fairseq(self, name: str) -> str | None:
        """Return the fairseq name of a transformers tensor; None if fairseq has no such tensor."""
        return _translate(name, [(theirs, ours) for ours, theirs in self._names])


def _translate(name: str, pairs: Iterable[tuple[str, str]]) -> str | None:
    for source, target in pairs:
        if match := _pattern(source).fullmatch(name):
            return target.replace("#", "{}").replace("@", "{}").format(*match.groups())
    return None


def as_float32(tensor: Tensor, name: str, where: str) -> Tensor:
    """Widen a half-precision tensor exactly; raise CheckpointError for float64 and integers, which float32 cannot represent exactly."""
    if tensor.dtype not in (torch.float32, *HALF_PRECISION.values()):
        raise CheckpointError(f"{where}: tensor {name} has dtype {tensor.dtype}, expected float32, float16 or bfloat16. Convert it first.")
    return tensor.to(torch.float32)
