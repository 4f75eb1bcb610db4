"""FBANK, the baseline of SUPERB, as an encoder: log-mel filterbanks with time derivatives. Nothing in it is learned.

Importing this module makes `transformers.AutoModel` know the family.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from speechft.encoders.filterbank import fbank_features, povey_window


class FbankConfig(PreTrainedConfig):  # type: ignore[misc]
    """Settings of the filterbanks; the defaults are SUPERB's. `hidden_size` is num_mel_bins * (1 + delta_order)."""

    model_type = "fbank"

    num_mel_bins: int = 80
    delta_order: int = 2
    normalize_utterances: bool = True
    hidden_size: int = 240
    num_hidden_layers: int = 0


class FbankModel(PreTrainedModel):  # type: ignore[misc]
    """Filterbanks of waveforms. The only tensor is the window that each frame of 25 ms is multiplied by."""

    config_class = FbankConfig
    base_model_prefix = "fbank"
    main_input_name = "input_values"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        if config.num_hidden_layers != 0 or config.hidden_size != config.num_mel_bins * (1 + config.delta_order):
            raise ValueError("hidden_size must be num_mel_bins * (1 + delta_order), and num_hidden_layers 0")
        self.window: Tensor
        self.register_buffer("window", povey_window())
        self.post_init()

    def features(self, waveform: Tensor) -> Tensor:
        """Features (T, D) of one waveform (N,), at 50 Hz."""
        config: Any = self.config
        return fbank_features(waveform, self.window, config.num_mel_bins, config.delta_order, normalize=config.normalize_utterances)

    def forward(self, input_values: Tensor, attention_mask: Tensor | None = None, **options: Any) -> Any:  # noqa: ARG002
        """Features (B, T, D) of waveforms (B, N), zero-padded; `attention_mask` (B, N) is 1 on their own samples."""
        lengths = [len(row) for row in input_values] if attention_mask is None else attention_mask.sum(dim=1).tolist()
        rows = [self.features(row[: int(length)]) for row, length in zip(input_values, lengths, strict=True)]
        return BaseModelOutput(last_hidden_state=pad_sequence(rows, batch_first=True))

    @torch.no_grad()
    def _init_weights(self, module: Any) -> None:
        """There is nothing to initialise."""


AutoConfig.register("fbank", FbankConfig, exist_ok=True)
AutoModel.register(FbankConfig, FbankModel, exist_ok=True)
