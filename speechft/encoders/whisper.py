"""Whisper's encoder, with the tensor names of transformers' WhisperModel and WhisperForAudioClassification."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder, WhisperPreTrainedModel

__all__ = ["WhisperConfig", "WhisperEncoderModel"]


class WhisperEncoderModel(WhisperPreTrainedModel):  # type: ignore[misc]
    """A WhisperModel without its decoder."""

    main_input_name = "input_features"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.encoder = WhisperEncoder(config)
        self.post_init()

    def forward(self, input_features: Tensor, **options: Any) -> Any:
        """Run WhisperEncoder on log-mel energies (B, bins, frames of the whole window)."""
        return self.encoder(input_features, **options)
