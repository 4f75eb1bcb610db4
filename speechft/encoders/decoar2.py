"""DeCoAR 2.0 as a transformers model: log-mel filterbanks, a projection, and wav2vec 2.0's transformer.

Importing this module registers the family with `transformers.AutoModel`. Sizes and structure as in s3prl 0.4.18.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2Encoder, Wav2Vec2EncoderStableLayerNorm


class DeCoAR2Config(PreTrainedConfig):  # type: ignore[misc]
    """Sizes of a DeCoAR 2.0 encoder; defaults of the published model, names as in Wav2Vec2Config."""

    model_type = "decoar2"

    num_mel_bins: int = 80
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout: float = 0.1
    activation_dropout: float = 0.0
    attention_dropout: float = 0.1
    feat_proj_dropout: float = 0.1
    layerdrop: float = 0.0
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    feat_extract_activation: str = "gelu"
    num_conv_pos_embeddings: int = 128
    num_conv_pos_embedding_groups: int = 16
    do_stable_layer_norm: bool = False
    adapter_attn_dim: int | None = None
    speechft_normalize: bool = False


class FilterbankProjection(nn.Module):
    """Linear projection of filterbank frames (B, T, bins) to the transformer's width, with dropout."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.projection = nn.Linear(config.num_mel_bins, config.hidden_size)
        self.dropout = nn.Dropout(config.feat_proj_dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Project (B, T, bins) to (B, T, D)."""
        projected: Tensor = self.dropout(self.projection(features))
        return projected


class DeCoAR2Model(PreTrainedModel):  # type: ignore[misc]
    """DeCoAR 2.0 without its pre-training parts."""

    config_class = DeCoAR2Config
    base_model_prefix = "decoar2"
    main_input_name = "input_features"
    _supports_sdpa = True

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.feature_projection = FilterbankProjection(config)
        self.encoder = Wav2Vec2EncoderStableLayerNorm(config) if config.do_stable_layer_norm else Wav2Vec2Encoder(config)
        self.post_init()

    def forward(self, input_features: Tensor, attention_mask: Tensor | None = None, **options: Any) -> Any:
        """Compute the last hidden state (B, T, D) from normalized filterbank frames (B, T, bins) at 50 Hz.

        `attention_mask` (B, T) is 1 on valid frames. For all hidden states, use speechft.encoders.load_encoder.
        """
        mask = None if attention_mask is None else attention_mask.bool()
        hidden = self.encoder(self.feature_projection(input_features), attention_mask=mask, **options)
        return BaseModelOutput(last_hidden_state=hidden.last_hidden_state)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
            nn.init.zeros_(module.bias)


AutoConfig.register("decoar2", DeCoAR2Config, exist_ok=True)
AutoModel.register(DeCoAR2Config, DeCoAR2Model, exist_ok=True)
