"""Automatic speaker verification (ASV): same speaker or not; equal error rate. SUPERB recipe, as in s3prl 0.4.18."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from speechft.errors import TaskError
from speechft.tasks.base import MINUS_3_DB, Head, LabelSet, check_positive
from speechft.tasks.catalog import TASKS
from speechft.tasks.classification import UtteranceClassification, supervision
from speechft.tasks.metric import Metric
from speechft.tasks.xvector import XVectorHead, additive_margin_loss

SILENCE_LEVEL = 1e-3
"""Root mean square (full scale 1) below which audio is silence."""
SILENCE_SAMPLES = 1_600
"""Shortest silence to remove, and shortest sound to keep between two silences: 0.1 s."""
LEVEL_SAMPLES = 320
"""Window of the level measurement: 20 ms."""


class SpeakerVerification(UtteranceClassification):
    """Speaker verification: the head is trained to classify speakers, and trials compare its embeddings of other speakers' utterances.

    Options:
        margin, scale: parameters of additive-margin softmax.
        min_seconds: training utterances that are not longer are left out and counted. Evaluation measures them without silence.
        width, pooled_width: widths of the head's layers and of its pooled layer. Defaults 512 and 1500 are SUPERB's.
    In stage 1, dev has the speakers of train, and the accuracy among them selects the checkpoint.
    """

    name = "asv"
    metrics = TASKS["asv"].metrics
    train_crop_seconds = 8.0
    gain = MINUS_3_DB

    def __init__(
        self, margin: float = 0.4, scale: float = 30.0, min_seconds: float = 2.0, width: int = 512, pooled_width: int = 1500
    ) -> None:
        if not (0 <= margin < 2 and scale > 0 and min_seconds >= 0):
            values = f"margin={margin!r}, scale={scale!r}, min_seconds={min_seconds!r}"
            raise TaskError(f"asv: {values}: margin must be from 0 to 2, scale above 0, and min_seconds 0 or more.")
        check_positive(self.name, width=width, pooled_width=pooled_width)
        self.margin, self.scale, self.min_seconds, self.width, self.pooled_width = margin, scale, min_seconds, width, pooled_width

    @property
    def dev_metrics(self) -> tuple[Metric, ...]:
        """Accuracy among the training speakers, which can be summed over batches."""
        return (Metric("ASV_ACC", "speaker accuracy", higher_is_better=True),)

    def class_name(self, cut: Any) -> str:
        """Return the speaker of the cut."""
        name = supervision(cut).speaker
        if not name:
            raise TaskError(f"{cut.id}: has no speaker. Fill the corpus's speaker column.")
        return str(name)

    def build_head(self, feature_dim: int, labels: LabelSet) -> Head:
        """Build the x-vector network with one vector per training speaker."""
        return XVectorHead(feature_dim, len(labels), self.width, self.pooled_width)

    def loss(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor]) -> Tensor:  # noqa: ARG002
        """Compute the additive-margin softmax loss, mean over the batch."""
        return additive_margin_loss(logits, targets, self.scale, self.margin)


def without_silence(waveform: Tensor, gain: float = 1.0) -> Tensor:
    """Remove silence of 0.1 s or more (level below 0.1 % of full scale), and sounds shorter than 0.1 s between two silences.

    The waveform is (N,) at 16 kHz; the level is the root mean square of the 20 ms before a sample, times `gain`. s3prl runs sox with
    `silence 1 0.1 0.1% -1 0.1 0.1%`, which uses the same criterion but cuts at slightly different samples.
    """
    power = torch.cat([torch.zeros(LEVEL_SAMPLES, dtype=torch.float64), waveform.double().square()]).cumsum(dim=0)
    loud = power[LEVEL_SAMPLES:] - power[:-LEVEL_SAMPLES] >= LEVEL_SAMPLES * (SILENCE_LEVEL / gain) ** 2
    is_loud, lengths = torch.unique_consecutive(loud, return_counts=True)
    silent = ~is_loud & (lengths >= SILENCE_SAMPLES)
    is_kept, lengths = torch.unique_consecutive(~silent.repeat_interleave(lengths), return_counts=True)
    return waveform[(is_kept & (lengths >= SILENCE_SAMPLES)).repeat_interleave(lengths)]
