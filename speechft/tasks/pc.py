"""Phoneme classification (PC): the phone of every frame; frame accuracy.

Not a SUPERB task. The Speech-FT paper fine-tunes on it (TIMIT, frame level) without publishing a recipe; head and training here are ours,
modelled on PR.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from speechft.errors import TaskError
from speechft.tasks.base import Head, LabelSet, Task, check_choice, distinct_labels
from speechft.tasks.catalog import TASKS
from speechft.tasks.classification import supervision
from speechft.tasks.heads import FrameHead
from speechft.tasks.timit_phones import FOLDED, TIMIT_39

FRAME_SECONDS = 0.02
TIER = "phone"
"""Key of the segments in lhotse's `supervision.alignment`."""
OUTSIDE = -100
"""Target of frames without a class; they have no influence on loss and accuracy."""


class PhonemeClassification(Task):
    """PC. Frame t, which begins at 20 t ms, has the phone whose segment covers its center, 20 t + 10 ms.

    Segments are those of lhotse's `supervision.alignment["phone"]`, in seconds from the start of the cut. Frames outside of all segments
    are ignored.

    Options:
        inventory: "timit39" (default): the 61 labels of TIMIT, folded to 39 classes; frames of the glottal stop `q`, which folding
            deletes, are ignored. "corpus": the labels of the training split as they are.
    """

    name = "pc"
    metrics = TASKS["pc"].metrics
    quotients: ClassVar = {"PC": ("correct", "frames")}

    def __init__(self, inventory: Literal["timit39", "corpus"] = "timit39") -> None:
        check_choice(self.name, "inventory", inventory, ("timit39", "corpus"))
        self.inventory = inventory

    def label_set(self, train_cuts: Iterable[Any]) -> LabelSet:
        """The 39 classes of TIMIT, or the labels of the training split, sorted; at least two."""
        if self.inventory == "timit39":
            return LabelSet(TIMIT_39)
        return LabelSet(distinct_labels(train_cuts, lambda cut: [phone for phone, _, _ in self.segments(cut)], self.name, "phones"))

    def segments(self, cut: Any) -> list[tuple[str, float, float]]:
        """Phone, start and end in seconds, in order of time; TaskError if there are none or they overlap."""
        items = (supervision(cut).alignment or {}).get(TIER) or []
        if not items:
            raise TaskError(f"{cut.id}: has no phone segments. Fill the corpus' phones column, or lhotse's `alignment[{TIER!r}]`.")
        return ordered(cut, [(str(item.symbol), float(item.start), float(item.start + item.duration)) for item in items])

    def target(self, cut: Any, labels: LabelSet) -> Tensor:
        """Class of every frame, int64 (T,), `OUTSIDE` where there is none. Encoders give up to one frame fewer.

        Raises:
            TaskError: the cut has no segments, segments overlap, a label is unknown, or no frame has a class.
        """
        frames = torch.full((_first_frame(cut.duration),), OUTSIDE, dtype=torch.int64)
        index = {phone: position for position, phone in enumerate(labels.symbols)}
        unknown = set()
        for phone, start, end in self.segments(cut):
            folded = FOLDED.get(phone, "") if self.inventory == "timit39" else phone
            if folded is not None and folded not in index:
                unknown.add(phone)
            elif folded is not None:
                frames[_first_frame(start) : _first_frame(end)] = index[folded]
        if unknown:
            names = ", ".join(sorted(unknown))
            where = "TIMIT's 61; set the task option `inventory: corpus`" if self.inventory == "timit39" else "those of the training data"
            raise TaskError(f"{cut.id}: phones {names} are not among {where}.")
        if not bool((frames != OUTSIDE).any()):
            raise TaskError(f"{cut.id}: not one frame of {1000 * FRAME_SECONDS:g} ms has a phone. Correct its segments or leave it out.")
        return frames

    def without_gradient(self, target: Tensor, num_frames: int) -> str | None:
        """Every labelled frame may lie behind the last frame of the encoder."""
        return None if bool((target[:num_frames] != OUTSIDE).any()) else "no labelled frame (loss 0)"

    def build_head(self, feature_dim: int, labels: LabelSet) -> Head:
        """Linear(D, 256), Linear(256, classes) on every frame."""
        return FrameHead(feature_dim, len(labels))

    def loss(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor]) -> Tensor:
        """Cross entropy, mean over the labelled frames of the batch."""
        padded = padded_targets(logits, logit_lengths, targets)
        summed = F.cross_entropy(logits.float().flatten(0, 1), padded.flatten(), ignore_index=OUTSIDE, reduction="sum")
        return summed / (padded != OUTSIDE).sum().clamp(min=1)

    def statistics(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor], labels: LabelSet) -> dict[str, float]:  # noqa: ARG002
        """Correct frames and labelled frames."""
        padded = padded_targets(logits, logit_lengths, targets)
        correct = logits.argmax(dim=-1) == padded
        return {"correct": float(correct.sum()), "frames": float((padded != OUTSIDE).sum())}

    def scores(self, statistics: Mapping[str, float]) -> dict[str, float]:
        """Accuracy over the labelled frames of the split, a fraction."""
        if not statistics["frames"]:
            raise TaskError("The split has no frame with a phone, so that its accuracy is not defined.")
        return {"PC": statistics["correct"] / statistics["frames"]}


def padded_targets(logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor]) -> Tensor:
    """Targets as (B, T) of the logits; frames past an utterance's end are `OUTSIDE`."""
    cut = [target[:length] for target, length in zip(targets, logit_lengths.tolist(), strict=True)]
    padded = pad_sequence(cut, batch_first=True, padding_value=OUTSIDE)
    return F.pad(padded, (0, logits.shape[1] - padded.shape[1]), value=OUTSIDE).to(logits.device)


def _first_frame(seconds: float) -> int:
    """First frame whose center is not before `seconds`; segment [start, end) has the frames from that of start to that of end."""
    # Rounded, so that a center exactly on the border is not moved across it by binary fractions.
    return max(0, math.ceil(round(seconds / FRAME_SECONDS - 0.5, 6)))


def ordered(cut: Any, unordered: Iterable[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """Segments in order of time; TaskError if they overlap."""
    segments = sorted(unordered, key=lambda segment: segment[1:])
    for (_, _, end), (phone, start, _) in pairwise(segments):
        if start < end - 1e-6:
            raise TaskError(f"{cut.id}: phone {phone!r} begins at {start:g} s, before the one before it ends ({end:g} s).")
    return segments
