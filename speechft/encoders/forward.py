"""Run the transformer of a backbone layer by layer.

This takes every hidden state exactly where SUPERB defines it: the input of each transformer layer, then the output of the encoder.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def transformer_states(backbone: nn.Module, features: Tensor, valid: Tensor | None) -> tuple[Tensor, ...]:
    """Compute hidden states (B, T, D): the input of every layer, then the encoder output (after the final LayerNorm of pre-norm models).

    `features` (B, T, C) is the frontend's output; for filterbanks (`fbank`), which have no transformer, it is the only hidden state.
    `valid`, bool (B, T), marks valid frames; None means that all are. Padded frames are zeroed before every convolution over time and never
    attended to.
    """
    model: Any = backbone
    family = model.config.model_type
    if family == "fbank":
        return (features,)
    encoder = model.encoder
    if family == "whisper":
        hidden = F.dropout(features, encoder.dropout, encoder.training)
        unused = {"layer_head_mask": None} if "layer_head_mask" in inspect.signature(encoder.layers[0].forward).parameters else {}
        return _states(encoder.layers, hidden, lambda layer, hidden: layer(hidden, None, **unused), encoder.layer_norm)
    pre_norm = bool(getattr(model.config, "do_stable_layer_norm", False))
    projected = model.feature_projection(features)
    # Most models also return the features for quantization.
    hidden = projected[0] if isinstance(projected, tuple) else projected
    if valid is not None:
        hidden = hidden.masked_fill(~valid[..., None], 0.0)
    mask = None if valid is None else valid[:, None, None, :].expand(-1, -1, valid.shape[1], -1)
    if family in ("wav2vec2-conformer", "wav2vec2-bert"):
        return _conformer_states(encoder, encoder.dropout(hidden), valid, mask)
    hidden = hidden + _convolved_positions(encoder.pos_conv_embed, hidden, valid)
    if not pre_norm:
        hidden = encoder.layer_norm(hidden)
    hidden = encoder.dropout(hidden)
    norm = encoder.layer_norm if pre_norm else None
    if family == "wavlm":
        bias = encoder.layers[0].attention.compute_bias(hidden.shape[1], hidden.shape[1])
        return _states(encoder.layers, hidden, lambda layer, hidden: _wavlm_layer(layer, hidden, bias, valid, pre_norm), norm)
    return _states(encoder.layers, hidden, lambda layer, hidden: layer(hidden, attention_mask=mask), norm)


def _states(layers: Any, hidden: Tensor, run: Callable[[Any, Tensor], Any], norm: Any = None) -> tuple[Tensor, ...]:
    """Collect the input of every layer, then the output of the last one, after `norm` if given."""
    states = []
    for layer in layers:
        states.append(hidden)
        output = run(layer, hidden)
        hidden = output[0] if isinstance(output, tuple) else output  # transformers 4 returns attention weights too
    return (*states, norm(hidden) if norm else hidden)


def _convolved_positions(embedding: Any, hidden: Tensor, valid: Tensor | None) -> Tensor:
    """Compute positions (B, T, D) by convolution. data2vec has several, so padding is zeroed before each one."""
    if not hasattr(embedding, "layers") or valid is None:
        return cast(Tensor, embedding(hidden))
    hidden = hidden.transpose(1, 2)
    for layer in embedding.layers:
        hidden = layer(hidden.masked_fill(~valid[:, None, :], 0.0))
    return hidden.transpose(1, 2)


def _conformer_states(encoder: Any, hidden: Tensor, valid: Tensor | None, mask: Tensor | None) -> tuple[Tensor, ...]:
    """Compute hidden states of transformers' conformers, whose positions are relative, rotary, or part of the attention."""
    options: dict[str, Any] = {"relative_position_embeddings": None}
    if encoder.embed_positions is not None:
        encoder.embed_positions.cached_sequence_length = None  # the cache may be on another device
        # The positions are cached for later batches, which may need gradients.
        with torch.inference_mode(False), torch.no_grad():
            options["relative_position_embeddings"] = encoder.embed_positions(hidden)
    convolving: Any = encoder.layers
    if encoder.config.model_type == "wav2vec2-bert":
        options["conv_attention_mask"], convolving = valid, ()  # its layers mask padding themselves
    if mask is not None and encoder.config._attn_implementation != "sdpa":
        mask = torch.zeros_like(mask, dtype=hidden.dtype).masked_fill(~mask, torch.finfo(hidden.dtype).min)  # eager attention adds it
    norm = getattr(encoder, "layer_norm", None)
    with _padding_kept_out(convolving, valid):
        return _states(encoder.layers, hidden, lambda layer, hidden: layer(hidden, attention_mask=mask, **options), norm)


@contextmanager
def _padding_kept_out(layers: Any, valid: Tensor | None) -> Iterator[None]:
    """Zero padded frames before convolutions over time; in Wav2Vec2ConformerModel itself they leak into valid frames."""

    def zero(_module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return given if valid is None else (given[0].masked_fill(~valid[:, None, :], 0.0),)

    handles = [layer.conv_module.depthwise_conv.register_forward_pre_hook(zero) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _wavlm_layer(layer: Any, hidden: Tensor, bias: Tensor, valid: Tensor | None, pre_norm: bool) -> Tensor:
    """Run a WavLM layer with torch's fused attention; transformers only has the slow one, which materializes all attention weights."""
    attended = layer.dropout(_gated_attention(layer.attention, layer.layer_norm(hidden) if pre_norm else hidden, bias, valid))
    hidden = hidden + attended
    if pre_norm:
        return cast(Tensor, hidden + layer.feed_forward(layer.final_layer_norm(hidden)))
    hidden = layer.layer_norm(hidden)
    return cast(Tensor, layer.final_layer_norm(hidden + layer.feed_forward(hidden)))


def _gated_attention(attention: Any, hidden: Tensor, bias: Tensor, valid: Tensor | None) -> Tensor:
    """Compute self-attention of a transformers WavLMAttention with WavLM's gated relative position bias (paper: model structure).

    `hidden` is (B, T, D), `bias` (heads, T, T) is shared by all layers, `valid` is bool (B, T) or None.
    """
    batch, frames, width = hidden.shape
    heads = hidden.view(batch, frames, attention.num_heads, -1).transpose(1, 2)
    # Two gates per head and query frame, each the sum of four projections.
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
