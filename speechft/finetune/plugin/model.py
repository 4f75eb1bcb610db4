"""The model of stage 1: an encoder with a task head on its last hidden state."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.models import BaseFairseqModel, register_model
from torch import Tensor

from speechft.encoders import Encoder, load_encoder
from speechft.encoders.model import Padding
from speechft.finetune.freezing import freeze, frozen_parameters
from speechft.tasks.base import Head

HALF_PRECISION = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass
class EncoderWithHeadConfig(FairseqDataclass):  # type: ignore[misc]
    """Options of `speechft_encoder_with_head`; the job that the task was given holds everything else."""


@register_model("speechft_encoder_with_head", dataclass=EncoderWithHeadConfig)
class EncoderWithHead(BaseFairseqModel):  # type: ignore[misc]
    """Waveforms -> encoder -> last hidden state -> head -> logits.

    Parameters stay in float32 whatever the precision; the forward pass runs under autocast. (fairseq's `fp16` and `bf16` options would
    turn waveforms and weights themselves into half precision, and give frozen parameters a gradient of zero instead of none.)
    """

    def __init__(self, encoder: Encoder, head: Head, precision: str, freeze_extractor: bool, padding: Padding = "alone") -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.precision = precision
        self.padding: Padding = padding
        self.freeze_extractor = freeze_extractor
        encoder.train_extractor = not freeze_extractor
        self.extractor = frozenset(encoder.extractor_parameter_names())
        # fairseq hands the parameters that require a gradient now to the optimizer: all that will train at some time.
        self.freeze_for(completed_updates=0, head_only=0)

    @classmethod
    def build_model(cls, cfg: EncoderWithHeadConfig, task: Any) -> EncoderWithHead:  # noqa: ARG003
        """Load theta0 and make the head that the task needs; its weights are drawn from torch's seeded generator."""
        encoder = load_encoder(task.job.encoder)
        head = task.speech_task.build_head(encoder.hidden_size, task.labels)
        recipe = task.job.recipe
        return cls(encoder, head, recipe.precision, recipe.freeze_extractor, recipe.padding)

    def freeze_for(self, completed_updates: int, head_only: int) -> None:
        """Freeze what the next update must not change."""
        names = [name for name, _ in self.encoder.backbone.named_parameters()]
        freeze(self.encoder.backbone, frozen_parameters(names, self.extractor, completed_updates, head_only, self.freeze_extractor))

    def forward(self, waveforms: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits and their lengths, as the head gives them, in float32."""
        half = HALF_PRECISION.get(self.precision)
        device_type = self.encoder.device.type
        with torch.autocast(device_type, dtype=half) if half is not None else contextlib.nullcontext():
            states = self.encoder.encode(waveforms, self.padding)
            logits, lengths = self.head(states.hidden_states[-1], states.lengths)
        return logits.float(), lengths

    def max_positions(self) -> None:
        """Any length."""
        return
