"""Speaker diarization (SD) of two speakers: diarization error rate. SUPERB recipe, as in s3prl 0.4.18."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from speechft.conventions import SAMPLE_RATE
from speechft.corpora import num_samples_16k
from speechft.corpora.rttm import Turn
from speechft.errors import TaskError
from speechft.tasks.base import Head, LabelSet, Task, check_positive
from speechft.tasks.catalog import TASKS
from speechft.tasks.heads import DiarizationHead, fit_frames, frame_mask
from speechft.tasks.metric import Metric

FRAME_SHIFT = 320
"""Samples between labels."""
CHUNK_FRAMES = 2_000
"""Frames per chunk (40 s); longer recordings are trained and scored in chunks."""
NUM_SPEAKERS = 2


class SpeakerDiarization(Task):
    """Speaker diarization. Cuts are recordings of two speakers; each supervision is a turn with start, duration and speaker.

    In stage 1, it is trained on whole recordings. Frame accuracy on dev selects checkpoints and learning rates.

    Options:
        hidden: units of the head's LSTM. The default 512 is SUPERB's.
    """

    name = "sd"
    metrics = TASKS["sd"].metrics
    item = "recording"

    def __init__(self, hidden: int = 512) -> None:
        check_positive(self.name, hidden=hidden)
        self.hidden = hidden

    @property
    def dev_metrics(self) -> tuple[Metric, ...]:
        """Frame-level metrics on dev; the first one selects."""
        return (
            Metric("SD_ACC", "frame accuracy", higher_is_better=True),
            Metric("SD_FRAME_DER", "frame diarization error rate", higher_is_better=False),
        )

    def label_set(self, train_cuts: Iterable[Any]) -> LabelSet:  # noqa: ARG002
        """Return two outputs, which are assigned to speakers freely."""
        return LabelSet(("speaker 1", "speaker 2"))

    def turns(self, cut: Any) -> list[Turn]:
        """Return the turns of a recording; raise TaskError unless it has exactly two speakers and every turn has one."""
        turns = [
            Turn(cut.id, float(supervision.start), float(supervision.duration), supervision.speaker) for supervision in cut.supervisions
        ]
        if not all(turn.speaker for turn in turns):
            raise TaskError(f"{cut.id}: a turn has no speaker. Prepare the corpus with an RTTM file (`rttm` of the corpus).")
        speakers = sorted({turn.speaker for turn in turns})
        if len(speakers) != NUM_SPEAKERS:
            raise TaskError(
                f"{cut.id}: has {len(speakers)} speaker(s) ({', '.join(speakers[:5])}), expected {NUM_SPEAKERS}. Correct or leave it out."
            )
        return turns

    def target(self, cut: Any, labels: LabelSet) -> Tensor:  # noqa: ARG002
        """Encode the labels of all frames of a recording, float32 (T, 2)."""
        return frame_labels(self.turns(cut), 0, num_samples_16k(cut) // FRAME_SHIFT)

    def build_head(self, feature_dim: int, labels: LabelSet) -> Head:
        """Build LSTM(D, hidden), Linear(hidden, 2)."""
        return DiarizationHead(feature_dim, len(labels), self.hidden)

    def loss(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor]) -> Tensor:
        """Compute the binary cross entropy with the better assignment of speakers to outputs, divided by the batch's frames."""
        best = best_assignment(logits, logit_lengths, targets)
        return best.losses.sum() / best.lengths.sum()

    def statistics(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor], labels: LabelSet) -> dict[str, float]:  # noqa: ARG002
        """Sum frame accuracy over chunks, and count chunks, reference speaker time and errors in frames."""
        best = best_assignment(logits, logit_lengths, targets)
        errors = frame_errors(best)
        return {
            "accuracy": float((errors.correct / best.lengths).sum()),
            "chunks": float(len(targets)),
            "speaker_frames": float(errors.scored.sum()),
            "speaker_errors": float((errors.missed + errors.false_alarm + errors.confused).sum()),
        }

    def scores(self, statistics: Mapping[str, float]) -> dict[str, float]:
        """Compute the mean frame accuracy of chunks and the frame error rate, as fractions."""
        return {
            "SD_ACC": statistics["accuracy"] / statistics["chunks"],
            "SD_FRAME_DER": statistics["speaker_errors"] / max(1.0, statistics["speaker_frames"]),
        }


def chunk_bounds(num_samples: int, chunk_frames: int = CHUNK_FRAMES, frame_shift: int = FRAME_SHIFT) -> list[tuple[int, int]]:
    """Return first frame and end of each chunk of a recording; the last one may be shorter, and an incomplete last frame is ignored."""
    frames = num_samples // frame_shift
    return [(start, min(start + chunk_frames, frames)) for start in range(0, frames, chunk_frames)]


def frame_labels(turns: Sequence[Turn], start: int, end: int, frame_shift: int = FRAME_SHIFT) -> Tensor:
    """Return 1 if a speaker talks, float32 (end - start, speakers), for frames `start` to `end` of a recording.

    Columns are the speakers of all turns, sorted. Times are rounded to the nearest frame, ties to even. As in s3prl, a turn that begins
    before the chunk and ends after it gives no label; with 40 s chunks this is rare.
    """
    speakers = sorted({turn.speaker for turn in turns})
    labels = torch.zeros(end - start, len(speakers))
    for turn in turns:
        # Eight decimals remove rounding errors of start + duration, which would break ties.
        first, last = (int(np.rint(round(time, 8) * SAMPLE_RATE / frame_shift)) for time in (turn.start, turn.end))
        begins_here, ends_here = start <= first < end, start < last <= end
        if begins_here or ends_here:
            labels[first - start if begins_here else 0 : last - start if ends_here else end - start, speakers.index(turn.speaker)] = 1
    return labels


@dataclass(frozen=True)
class Assignment:
    """Logits and labels of a batch, with the columns of the labels in the better order.

    `losses` (B,): sum over frames, mean over speakers; `order` (B,): 0 for the given order, 1 for the reverse; `logits` and `labels`
    (B, T, 2); `lengths` (B,).
    """

    losses: Tensor
    order: Tensor
    logits: Tensor
    labels: Tensor
    lengths: Tensor


def best_assignment(logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor]) -> Assignment:
    """Order the columns of each item's labels to minimize its binary cross entropy.

    Targets are (T, 2). Logits (B, T', 2) with another number of frames are adjusted by `fit_frames`.
    """
    lengths = torch.tensor([len(target) for target in targets], device=logits.device)
    labels = pad_sequence(list(targets), batch_first=True).to(logits)
    if not (logits.shape[1] == labels.shape[1] and torch.equal(lengths, logit_lengths.to(lengths))):
        logits = fit_frames(logits, logit_lengths, lengths)
    valid = frame_mask(lengths, labels.shape[1])
    orders = [labels[..., list(order)] for order in permutations(range(labels.shape[-1]))]
    losses = torch.stack(
        [
            F.binary_cross_entropy_with_logits(logits, order, reduction="none").mean(dim=-1).masked_fill(~valid, 0.0).sum(dim=1)
            for order in orders
        ]
    )
    least, chosen = losses.min(dim=0)
    ordered = torch.stack(orders)[chosen, torch.arange(len(labels), device=chosen.device)]
    return Assignment(least, chosen, logits, ordered, lengths)


@dataclass(frozen=True)
class FrameErrors:
    """Frame counts of each item (B,): agreement with the labels (mean over speakers), reference speaker time, and errors."""

    correct: Tensor
    scored: Tensor
    missed: Tensor
    false_alarm: Tensor
    confused: Tensor


def frame_errors(best: Assignment) -> FrameErrors:
    """Compare decisions (logit above 0) with labels in the chosen order."""
    valid = frame_mask(best.lengths, best.labels.shape[1])
    talks, active = best.labels > 0.5, best.logits > 0
    speaking, detected = talks.sum(dim=-1), active.sum(dim=-1)
    mapped = (talks & active).sum(dim=-1)

    def total(frames: Tensor) -> Tensor:
        return frames.double().masked_fill(~valid, 0.0).sum(dim=1)

    return FrameErrors(
        correct=total((talks == active).double().mean(dim=-1)),
        scored=total(speaking),
        missed=total((speaking - detected).clamp(min=0)),
        false_alarm=total((detected - speaking).clamp(min=0)),
        confused=total(torch.minimum(speaking, detected) - mapped),
    )
