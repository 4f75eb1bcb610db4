"""Phoneme classification (PC): the phone of every frame; frame accuracy.

Not a SUPERB task. The Speech-FT paper fine-tunes on it (TIMIT, frame level) without publishing a recipe; head and training are ours,
modeled on PR.
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
"""Target of frames without a class, which are ignored in loss and accuracy."""


class PhonemeClassification(Task):
    """Phoneme classification. Frame t, which begins at 20 t ms, has the phone whose segment covers its center, 20 t + 10 ms.

    Segments are lhotse's `supervision.alignment["phone"]`, in seconds from the start of the cut. Frames outside all segments are ignored.
    Options:
        inventory: "timit39" (default): the 61 labels of TIMIT, folded to 39 classes; frames of the glottal stop `q`, which folding deletes,
            are ignored. "corpus": the unchanged labels of the training split.
    """

    name = "pc"
    metrics = TASKS["pc"].metrics
    quotients: ClassVar = {"PC": ("correct", "frames")}

    def __init__(self, inventory: Literal["timit39", "corpus"] = "timit39") -> None:
        check_choice(self.name, "inventory", inventory, ("timit39", "corpus"))
        self.inventory = inventory

    def label_set(self, train_cuts: Iterable[Any]) -> LabelSet:
        """Return the 39 classes of TIMIT, or the labels of the training split, sorted; at least two."""
        if self.inventory == "timit39":
            return LabelSet(TIMIT_39)
        return LabelSet(distinct_labels(train_cuts, lambda cut: [phone for phone, _, _ in self.segments(cut)], self.name, "phones"))

    def segments(self, cut: Any) -> list[tuple[str, float, float]]:
        """Return phone, start and end in seconds of each segment, in order of time; raise TaskError if there are none or they overlap."""
        items = (supervision(cut).alignment or {}).get(TIER) or []
        if not items:
            raise TaskError(f"{cut.id}: has no phone segments. Fill the corpus's phones column, or lhotse's `alignment[{TIER!r}]`.")
        return ordered(cut, [(str(item.symbol), float(item.start), float(item.start + item.duration)) for item in items])

    def target(self, cut: Any, labels: LabelSet) -> Tensor:
        """Encode the class of every frame, int64 (T,), `OUTSIDE` without a class. Encoders return up to one frame less.

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
            raise TaskError(f"{cut.id}: no frame of {1000 * FRAME_SECONDS:g} ms has a phone. Correct its segments or leave it out.")
        return frames

    def without_gradient(self, target: Tensor, num_frames: int) -> str | None:
        """Say if all labeled frames are after the encoder's last frame."""
        return None if bool((target[:num_frames] != OUTSIDE).any()) else "no labelled frame (loss 0)"

    def build_head(self, feature_dim: int, labels: LabelSet) -> Head:
        """Build Linear(D, 256), Linear(256, classes) on every frame."""
        return FrameHead(feature_dim, len(labels))

    def loss(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor]) -> Tensor:
        """Compute the cross entropy, mean over the labeled frames of the batch."""
        padded = padded_targets(logits, logit_lengths, targets)
        summed = F.cross_entropy(logits.float().flatten(0, 1), padded.flatten(), ignore_index=OUTSIDE, reduction="sum")
        return summed / (padded != OUTSIDE).sum().clamp(min=1)

    def statistics(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor], labels: LabelSet) -> dict[str, float]:  # noqa: ARG002
        """Count correct frames and labeled frames."""
        padded = padded_targets(logits, logit_lengths, targets)
        correct = logits.argmax(dim=-1) == padded
        return {"correct": float(correct.sum()), "frames": float((padded != OUTSIDE).sum())}

    def scores(self, statistics: Mapping[str, float]) -> dict[str, float]:
        """Compute the accuracy over the labeled frames of the split, a fraction."""
        if not statistics["frames"]:
            raise TaskError("The split has no frame with a phone, so its accuracy is undefined.")
        return {"PC": statistics["correct"] / statistics["frames"]}


def padded_targets(logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor]) -> Tensor:
    """Pad targets to (B, T) of the logits; frames past an utterance's end are `OUTSIDE`."""
    cut = [target[:length] for target, length in zip(targets, logit_lengths.tolist(), strict=True)]
    padded = pad_sequence(cut, batch_first=True, padding_value=OUTSIDE)
    return F.pad(padded, (0, logits.shape[1] - padded.shape[1]), value=OUTSIDE).to(logits.device)


def _first_frame(seconds: float) -> int:
    """Return the first frame whose center is not before `seconds`; segment [start, end) covers frames from start's to before end's."""
    # Rounded, so that binary fractions do not move a center on the border across it.
    return max(0, math.ceil(round(seconds / FRAME_SECONDS - 0.5, 6)))


def ordered(cut: Any, unordered: Iterable[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """Sort segments by time; raise TaskError if they overlap."""
    segments = sorted(unordered, key=lambda segment: segment[1:])
    for (_, _, end), (phone, start, _) in pairwise(segments):
        if start < end - 1e-6:
            raise TaskError(f"{cut.id}: phone {phone!r} starts at {start:g} s, before the previous one ends ({end:g} s).")
    return segments
