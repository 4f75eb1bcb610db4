"""FBANK, SUPERB's baseline, as an encoder without learned weights: log-mel filterbanks with time derivatives.

Importing this module registers the family with `transformers.AutoModel`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from speechft.encoders.directory.layout import write_encoder
from speechft.encoders.directory.provenance import make_provenance
from speechft.encoders.families import build_config
from speechft.encoders.filterbank import fbank_features, povey_window
from speechft.recipes.pretraining import FbankRecipe


class FbankConfig(PreTrainedConfig):  # type: ignore[misc]
    """Settings of the filterbanks, by default SUPERB's. `hidden_size` is num_mel_bins * (1 + delta_order)."""

    model_type = "fbank"

    num_mel_bins: int = 80
    delta_order: int = 2
    normalize_utterances: bool = True
    hidden_size: int = 240
    num_hidden_layers: int = 0


class FbankModel(PreTrainedModel):  # type: ignore[misc]
    """Filterbanks of waveforms. The only tensor is the window that multiplies each 25 ms frame."""

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
        """Compute features (T, D) of one waveform (N,), at 50 Hz."""
        config: Any = self.config
        return fbank_features(waveform, self.window, config.num_mel_bins, config.delta_order, normalize=config.normalize_utterances)

    def forward(self, input_values: Tensor, attention_mask: Tensor | None = None, **options: Any) -> Any:  # noqa: ARG002
        """Compute features (B, T, D) of zero-padded waveforms (B, N); `attention_mask` (B, N) is 1 on valid samples."""
        lengths = [len(row) for row in input_values] if attention_mask is None else attention_mask.sum(dim=1).tolist()
        rows = [self.features(row[: int(length)]) for row, length in zip(input_values, lengths, strict=True)]
        return BaseModelOutput(last_hidden_state=pad_sequence(rows, batch_first=True))

    @torch.no_grad()
    def _init_weights(self, module: Any) -> None:
        """Initialize nothing: there are no weights."""


AutoConfig.register("fbank", FbankConfig, exist_ok=True)
AutoModel.register(FbankConfig, FbankModel, exist_ok=True)


def fbank_encoder(out_dir: str | Path, recipe: FbankRecipe | None = None) -> Path:
    """Write an encoder directory of log-mel filterbanks, by default with SUPERB's settings, and return its path.

    It is loaded and evaluated like any other encoder, with one hidden state; it cannot be fine-tuned, merged or exported.

    Raises:
        OutputError: `out_dir` exists and is not a directory of filterbanks.
    """
    recipe = recipe or FbankRecipe()
    settings = {
        "num_mel_bins": recipe.mel_bins,
        "delta_order": recipe.deltas,
        "normalize_utterances": recipe.normalize,
        "hidden_size": recipe.mel_bins * (1 + recipe.deltas),
        "num_hidden_layers": 0,
    }
    backbone = FbankModel(build_config("fbank", settings))
    write_encoder(out_dir, backbone=backbone, provenance=make_provenance("fbank", {}, recipe.model_dump(mode="json")))
    return Path(out_dir)
