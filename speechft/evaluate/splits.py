"""The splits of an evaluation: cuts with targets, and the clips of audio that stand for them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from speechft.corpora import load_audio, load_split, num_samples_16k
from speechft.encoders import Encoder
from speechft.errors import TaskError
from speechft.tasks.base import LabelSet, Task, listing

SAMPLE_RATE = 16_000
SPLITS = ("train", "dev", "test")
TOO_SHORT = "shorter than one frame"


@dataclass(frozen=True)
class Clip:
    """A cut, or a part of it: first sample and number of samples at 16 kHz."""

    cut: Any
    start: int
    num_samples: int

    def load(self) -> Tensor:
        """The waveform (num_samples,)."""
        return load_audio(self.cut)[self.start : self.start + self.num_samples]


@dataclass(frozen=True)
class Split:
    """One split. Utterance i is clips[first_clip[i]:first_clip[i + 1]]: one clip, or several random crops."""

    name: str
    cuts: tuple[Any, ...]
    targets: tuple[Tensor, ...]
    clips: tuple[Clip, ...]
    first_clip: tuple[int, ...]
    dropped: Mapping[str, int]
    sha256: str
    """Of the content of the manifest."""

    def __len__(self) -> int:
        return len(self.cuts)

    @property
    def num_samples(self) -> list[int]:
        """Samples of the first clip of each utterance."""
        return [self.clips[first].num_samples for first in self.first_clip[:-1]]

    @property
    def hours(self) -> float:
        """Duration of all utterances before cropping."""
        return sum(float(cut.duration) for cut in self.cuts) / 3600

    def draw_clips(self, utterances: Sequence[int], generator: Generator) -> list[int]:
        """One clip of each utterance, at random where there are several."""
        drawn = []
        for utterance in utterances:
            first, end = self.first_clip[utterance], self.first_clip[utterance + 1]
            drawn.append(first if end - first == 1 else first + int(torch.randint(end - first, (), generator=generator)))
        return drawn


def load_splits(
    task: Task, manifests: str | Path | Mapping[str, str | Path], encoder: Encoder, crop_draws: int
) -> tuple[LabelSet, dict[str, Split]]:
    """Read the three splits, encode their targets and fix their crops.

    An utterance too short for a single frame is left out of train, and counted; in dev and test it is an error, because scores over
    different utterances can not be compared.

    Raises:
        CorpusError: a manifest is missing or damaged.
        TaskError: labels or targets that the task needs are missing, or a dev or test utterance is too short; all are listed. The corpus
            has folds besides the three splits.
    """
    cuts = {name: tuple(load_split(manifests, name)) for name in SPLITS}
    if task.folds(cuts["train"]) is not None:
        raise TaskError(
            f"The corpus of task {task.name!r} has both folds and a dev and a test split. To cross-validate, put all recordings into train "
            "(`default_split: train`); to use the splits, leave the fold column out."
        )
    return make_splits(task, cuts, {name: manifest_hash(found) for name, found in cuts.items()}, encoder, crop_draws)


def make_splits(
    task: Task, cuts: Mapping[str, tuple[Any, ...]], hashes: Mapping[str, str], encoder: Encoder, crop_draws: int, fold: str | None = None
) -> tuple[LabelSet, dict[str, Split]]:
    """The same from cuts of each split; `fold` is named in errors."""
    where = {name: f"The {name} split" + (f" of fold {fold!r}" if fold else "") for name in SPLITS}
    short = {name: [cut for cut in cuts[name] if num_samples_16k(cut) < encoder.min_samples] for name in SPLITS}
    for name in ("dev", "test"):
        if short[name]:
            problems = [f"{cut.id}: {num_samples_16k(cut)} samples at 16 kHz" for cut in short[name]]
            heading = f"{where[name]}: {len(problems)} utterance(s) are shorter than one frame ({encoder.min_samples} samples)."
            raise TaskError(listing(heading + " Leave them out of the corpus, for all models.", problems))
    left_out = {cut.id for cut in short["train"]}
    used = {**cuts, "train": tuple(cut for cut in cuts["train"] if cut.id not in left_out)}
    if not used["train"]:
        raise TaskError(f"{where['train']}: all {len(left_out)} utterances are shorter than one frame ({encoder.min_samples} samples).")
    labels = task.label_set(used["train"])
    splits = {}
    for name in SPLITS:
        targets = tuple(task.targets(used[name], labels, where[name]))
        clips, first_clip = _clips(task, name, used[name], crop_draws)
        dropped = Counter({TOO_SHORT: len(short[name])} if short[name] else {})
        if name == "train":
            dropped += _without_gradient(task, encoder, targets, clips, first_clip)
        splits[name] = Split(name, used[name], targets, clips, first_clip, dict(dropped), hashes[name])
    for name in ("dev", "test"):
        _check_trained(task, labels, splits["train"], splits[name], where[name])
    return labels, splits


def _check_trained(task: Task, labels: LabelSet, train: Split, scored: Split, where: str) -> None:
    """Classes may be given by an option of the task; scores over one that no training utterance has would mean nothing."""
    trained = {int(target) for target in train.targets if target.dim() == 0}
    problems = [
        f"{cut.id}: class {labels.symbols[int(target)]!r}"
        for cut, target in zip(scored.cuts, scored.targets, strict=True)
        if target.dim() == 0 and int(target) not in trained
    ]
    if problems:
        heading = f"{where}: {len(problems)} utterance(s) are of a class of task {task.name!r} that no utterance of train has."
        raise TaskError(listing(heading + " Leave the class out, or add training utterances.", problems))


def _clips(task: Task, split: str, cuts: Sequence[Any], crop_draws: int) -> tuple[tuple[Clip, ...], tuple[int, ...]]:
    clips: list[Clip] = []
    first_clip = [0]
    for cut in cuts:
        crop, available = task.crop(cut, split), num_samples_16k(cut)
        length = available if crop is None else min(available, round(crop.seconds * SAMPLE_RATE))
        draws = 1 if crop is None or length == available else max(crop.draws, crop_draws)
        clips += [Clip(cut, _crop_start(cut.id, draw, available - length), length) for draw in range(draws)]
        first_clip.append(len(clips))
    return tuple(clips), tuple(first_clip)


def _crop_start(cut_id: str, draw: int, largest: int) -> int:
    """A start in 0..largest that depends on the utterance and the draw alone, so that features are shared by seeds and restarts."""
    digest = hashlib.sha256(f"{cut_id} {draw}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") % (largest + 1)


def _without_gradient(
    task: Task, encoder: Encoder, targets: Sequence[Tensor], clips: Sequence[Clip], first_clip: Sequence[int]
) -> Counter[str]:
    reasons = (
        task.without_gradient(target, encoder.frame_count(clips[first].num_samples))
        for target, first in zip(targets, first_clip[:-1], strict=True)
    )
    return Counter(reason for reason in reasons if reason is not None)


def manifest_hash(cuts: Sequence[Any]) -> str:
    """SHA-256 of the content of a manifest."""
    digest = hashlib.sha256()
    for cut in cuts:
        digest.update(json.dumps(cut.to_dict(), ensure_ascii=False, sort_keys=True, default=str).encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()
