"""The transformer of the backbones, run layer by layer.

Written out so that every hidden state is taken exactly where SUPERB defines it: the input of each transformer layer, then the output of
the encoder.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def transformer_states(backbone: nn.Module, features: Tensor, valid: Tensor | None) -> tuple[Tensor, ...]:
    """Hidden states, each (B, T, D): the input of every layer, then the encoder output (after the final LayerNorm of pre-norm models).

    Filterbanks (`fbank`) have no transformer: their features are the only hidden state.

    Args:
        backbone: the model.
        features: output of the frontend (B, T, C).
        valid: frames that are not padding, bool (B, T), or None when all are valid. Padded frames are zeroed before the positional
            convolution and never attended to.
    """
    model: Any = backbone
    if model.config.model_type == "fbank":
        return (features,)
    encoder = model.encoder
    pre_norm = bool(model.config.do_stable_layer_norm)
    projected = model.feature_projection(features)
    # Wav2Vec2Model and WavLMModel also return the features that quantization needs.
    hidden: Tensor = projected[0] if isinstance(projected, tuple) else projected
    if valid is not None:
        hidden = hidden.masked_fill(~valid[..., None], 0.0)
    hidden = hidden + encoder.pos_conv_embed(hidden)
    if not pre_norm:
        hidden = encoder.layer_norm(hidden)
    hidden = encoder.dropout(hidden)
    states = []
    if model.config.model_type == "wavlm":
        bias = encoder.layers[0].attention.compute_bias(hidden.shape[1], hidden.shape[1])
        for layer in encoder.layers:
            states.append(hidden)
            hidden = _wavlm_layer(layer, hidden, bias, valid, pre_norm)
    else:
        mask = None if valid is None else valid[:, None, None, :].expand(-1, -1, valid.shape[1], -1)
        for layer in encoder.layers:
            states.append(hidden)
            output = layer(hidden, attention_mask=mask)
            hidden = output[0] if isinstance(output, tuple) else output  # transformers 4 returns attention weights too
    states.append(encoder.layer_norm(hidden) if pre_norm else hidden)
    return tuple(states)


def _wavlm_layer(layer: Any, hidden: Tensor, bias: Tensor, valid: Tensor | None, pre_norm: bool) -> Tensor:
    """One WavLM layer with torch's fused attention; transformers only has the slow one, which materialises all attention weights."""
    attended = layer.dropout(_gated_attention(layer.attention, layer.layer_norm(hidden) if pre_norm else hidden, bias, valid))
    hidden = hidden + attended
    if pre_norm:
        return cast(Tensor, hidden + layer.feed_forward(layer.final_layer_norm(hidden)))
    hidden = layer.layer_norm(hidden)
    return cast(Tensor, layer.final_layer_norm(hidden + layer.feed_forward(hidden)))


def _gated_attention(attention: Any, hidden: Tensor, bias: Tensor, valid: Tensor | None) -> Tensor:
    """Self-attention with WavLM's gated relative position bias (WavLM, section on the model structure).

    Args:
        attention: a transformers WavLMAttention.
        hidden: (B, T, D).
        bias: relative position bias (heads, T, T), shared by all layers.
        valid: bool (B, T) or None.
    """
    batch, frames, width = hidden.shape
    heads = hidden.view(batch, frames, attention.num_heads, -1).transpose(1, 2)
    # Two gates for each head and query frame, each the sum of four projections.
    gates = torch.sigmoid(attention.gru_rel_pos_linear(heads).unflatten(-1, (2, 4)).sum(-1))
    gate = gates[..., :1] * (gates[..., 1:] * attention.gru_rel_pos_const - 1.0) + 2.0
    scores = gate * bias
    if valid is not None:
        scores = scores.masked_fill(~valid[:, None, None, :], float("-inf"))

    def split(projected: Tensor) -> Tensor:
        return projected.view(batch, frames, attention.num_heads, -1).transpose(1, 2)

    query = split(attention.q_proj(hidden))
    attended = F.scaled_dot_product_attention(
        query,
        split(attention.k_proj(hidden)),
        split(attention.v_proj(hidden)),
        attn_mask=scores.to(query.dtype),
        dropout_p=attention.dropout if attention.training else 0.0,
    )
    return cast(Tensor, attention.out_proj(attended.transpose(1, 2).reshape(batch, frames, width)))
