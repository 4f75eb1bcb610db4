"""Tensor names (fairseq's, which s3prl and WavLM share, against those of the transformers models) and dtypes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from speechft.errors import CheckpointError


class _Rule(NamedTuple):
    """A pair of names; the groups of each pattern fill the template of the other name."""

    fairseq: re.Pattern[str]
    fairseq_template: str
    transformers: re.Pattern[str]
    transformers_template: str


def _rule(fairseq: str, transformers: str) -> _Rule:
    """A pair of names in which `#` stands for an index and `@` for weight or bias."""
    return _Rule(_pattern(fairseq), _template(fairseq), _pattern(transformers), _template(transformers))


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text).replace(r"\#", r"(\d+)").replace("@", "(weight|bias)"))


def _template(text: str) -> str:
    return text.replace("#", "{}").replace("@", "{}")


_TRANSFORMER = [
    _rule("post_extract_proj.@", "feature_projection.projection.@"),
    _rule("encoder.pos_conv.0.bias", "encoder.pos_conv_embed.conv.bias"),
    _rule("encoder.pos_conv.0.weight_g", "encoder.pos_conv_embed.conv.parametrizations.weight.original0"),
    _rule("encoder.pos_conv.0.weight_v", "encoder.pos_conv_embed.conv.parametrizations.weight.original1"),
    _rule("encoder.layer_norm.@", "encoder.layer_norm.@"),
    _rule("encoder.layers.#.self_attn.q_proj.@", "encoder.layers.#.attention.q_proj.@"),
    _rule("encoder.layers.#.self_attn.k_proj.@", "encoder.layers.#.attention.k_proj.@"),
    _rule("encoder.layers.#.self_attn.v_proj.@", "encoder.layers.#.attention.v_proj.@"),
    _rule("encoder.layers.#.self_attn.out_proj.@", "encoder.layers.#.attention.out_proj.@"),
    _rule("encoder.layers.#.self_attn_layer_norm.@", "encoder.layers.#.layer_norm.@"),
    _rule("encoder.layers.#.fc1.@", "encoder.layers.#.feed_forward.intermediate_dense.@"),
    _rule("encoder.layers.#.fc2.@", "encoder.layers.#.feed_forward.output_dense.@"),
    _rule("encoder.layers.#.final_layer_norm.@", "encoder.layers.#.final_layer_norm.@"),
]
_CONVOLUTIONS = [
    _rule("mask_emb", "masked_spec_embed"),
    _rule("layer_norm.@", "feature_projection.layer_norm.@"),
    _rule("feature_extractor.conv_layers.#.0.@", "feature_extractor.conv_layers.#.conv.@"),
]
_GATED_RELATIVE_POSITION = [
    _rule("encoder.layers.#.self_attn.grep_a", "encoder.layers.#.attention.gru_rel_pos_const"),
    _rule("encoder.layers.#.self_attn.grep_linear.@", "encoder.layers.#.attention.gru_rel_pos_linear.@"),
    _rule("encoder.layers.#.self_attn.relative_attention_bias.weight", "encoder.layers.#.attention.rel_attn_embed.weight"),
]
# The norm of a convolution stands alone in "default" extractors and between two transpositions in "layer_norm" ones.
_EXTRACTOR_NORM = {
    "group": [_rule("feature_extractor.conv_layers.#.2.@", "feature_extractor.conv_layers.#.layer_norm.@")],
    "layer": [_rule("feature_extractor.conv_layers.#.2.1.@", "feature_extractor.conv_layers.#.layer_norm.@")],
}


class NameMap:
    """Both directions of the names of one family with one kind of extractor norm ("group", "layer", or None without convolutions)."""

    def __init__(self, family: str, extractor_norm: str | None) -> None:
        self._rules = list(_TRANSFORMER)
        if extractor_norm is not None:
            self._rules += _CONVOLUTIONS + _EXTRACTOR_NORM[extractor_norm]
        if family == "wavlm":
            self._rules += _GATED_RELATIVE_POSITION

    def to_transformers(self, name: str) -> str | None:
        """The transformers name of a fairseq tensor, None when the backbone has no such tensor."""
        return _translate(name, ((rule.fairseq, rule.transformers_template) for rule in self._rules))

    def to_fairseq(self, name: str) -> str | None:
        """The fairseq name of a transformers tensor, None when fairseq has no such tensor."""
        return _translate(name, ((rule.transformers, rule.fairseq_template) for rule in self._rules))


def _translate(name: str, rules: Iterable[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, template in rules:
        found = pattern.fullmatch(name)
        if found:
            return template.format(*found.groups())
    return None


def as_float32(tensor: Tensor, name: str, where: str) -> Tensor:
    """Widen a half-precision tensor, which is exact.

    Raises:
        CheckpointError: float64 or integers, which float32 cannot hold exactly.
    """
    if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise CheckpointError(f"{where}: tensor {name} has dtype {tensor.dtype}, need float32, float16 or bfloat16. Convert it first.")
    return tensor.to(torch.float32)
