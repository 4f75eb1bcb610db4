"""The splits of an evaluation: cuts with targets and their audio clips."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from speechft.conventions import SAMPLE_RATE, SPLITS, Manifests
from speechft.corpora import load_split, num_samples_16k
from speechft.corpora.manifests import values_of
from speechft.encoders import FeatureEncoder
from speechft.errors import CorpusError, TaskError, listing
from speechft.evaluate.data.clips import Clip, CropTable, crop_start
from speechft.recipes.evaluation import CropDraws
from speechft.tasks.base import LabelSet, Task

TOO_SHORT = "shorter than one frame"


@dataclass(frozen=True)
class Split:
    """A split. Utterance i is clips[first_clip[i]:first_clip[i + 1]]: one clip, or several random crops.

    If long utterances are cropped at every visit, `clips` is a `CropTable` and clips[first_clip[i]] a clip of utterance i.
    """

    name: str
    cuts: tuple[Any, ...]
    targets: tuple[Tensor, ...]
    clips: Sequence[Clip]
    first_clip: tuple[int, ...]
    dropped: Mapping[str, int]
    sha256: str
    """SHA-256 of the content of the manifest."""

    def __len__(self) -> int:
        return len(self.cuts)

    @property
    def num_samples(self) -> list[int]:
        """Return the samples of the first clip of each utterance."""
        return [self.clips[first].num_samples for first in self.first_clip[:-1]]

    @property
    def hours(self) -> float:
        """Duration of all utterances before cropping."""
        return sum(float(cut.duration) for cut in self.cuts) / 3600

    def draw_clips(self, utterances: Sequence[int], generator: Generator) -> list[int]:
        """Draw one clip per utterance, at random if it has several, and return their rows."""
        if isinstance(self.clips, CropTable):
            return [self.clips.draw(utterance, generator) for utterance in utterances]
        drawn = []
        for utterance in utterances:
            first, end = self.first_clip[utterance], self.first_clip[utterance + 1]
            drawn.append(first if end - first == 1 else first + int(torch.randint(end - first, (), generator=generator)))
        return drawn


def load_splits(task: Task, manifests: Manifests, encoder: FeatureEncoder, crop_draws: CropDraws) -> tuple[LabelSet, dict[str, Split]]:
    """Read the three splits, encode their targets and fix their crops.

    An utterance too short for a single frame is left out of train and counted. In dev and test it is an error, because scores over
    different utterances are not comparable.

    Raises:
        CorpusError: a manifest is missing or damaged.
        TaskError: required labels or targets are missing, or a dev or test utterance is too short (all are listed), or the corpus has folds
            in addition to the three splits.
    """
    cuts = {name: tuple(load_split(manifests, name)) for name in SPLITS}
    refuse_folds(task, cuts["train"])
    return make_splits(task, cuts, {name: manifest_hash(members) for name, members in cuts.items()}, encoder, crop_draws)


def refuse_folds(task: Task, train: Sequence[Any]) -> None:
    """Raise TaskError for a corpus that has both splits and folds."""
    if task.folds(train) is not None:
        raise TaskError(
            f"The corpus of task {task.name!r} has both folds and a dev and a test split. To cross-validate, put all recordings into train "
            "(`default_split: train`); to use the splits, leave the fold column out."
        )


def make_splits(
    task: Task,
    cuts: Mapping[str, tuple[Any, ...]],
    hashes: Mapping[str, str],
    encoder: FeatureEncoder,
    crop_draws: CropDraws,
    fold: str | None = None,
) -> tuple[LabelSet, dict[str, Split]]:
    """Build labels and splits from the cuts of each split, which must include train; errors name the `fold`."""
    where = split_titles(fold)
    short = {name: [cut for cut in members if num_samples_16k(cut) < encoder.min_samples] for name, members in cuts.items()}
    for name in [name for name in cuts if name != "train"]:
        lengths = ((cut.id, num_samples_16k(cut)) for cut in short[name])
        refuse_short(lengths, encoder, where[name], "Leave them out of the corpus")
    left_out = {cut.id for cut in short["train"]}
    used = {**cuts, "train": tuple(cut for cut in cuts["train"] if cut.id not in left_out)}
    if not used["train"]:
        raise TaskError(f"{where['train']}: all {len(left_out)} utterances are shorter than one frame ({encoder.min_samples} samples).")
    labels, targets = encode_targets(task, used, where)
    splits = {}
    for name in cuts:
        clips, first_clip = _clips(task, name, used[name], crop_draws)
        dropped = Counter({TOO_SHORT: len(short[name])} if short[name] else {})
        if name == "train":
            frames = (encoder.frame_count(clips[first].num_samples) for first in first_clip[:-1])
            reasons = (task.without_gradient(*pair) for pair in zip(targets[name], frames, strict=True))
            dropped += Counter(reason for reason in reasons if reason is not None)
        splits[name] = Split(name, used[name], targets[name], clips, first_clip, dict(dropped), hashes[name])
    return labels, splits


def refuse_short(lengths: Iterable[tuple[str, int]], encoder: FeatureEncoder, where: str, remedy: str) -> None:
    """Raise TaskError if recordings (id, samples at 16 kHz) are shorter than a frame, and list them."""
    short = [f"{name}: {samples} samples at 16 kHz" for name, samples in lengths if samples < encoder.min_samples]
    if short:
        heading = f"{where}: {len(short)} recording(s) are shorter than one frame ({encoder.min_samples} samples)."
        raise TaskError(listing(f"{heading} {remedy}, for all models.", short))


def split_titles(fold: str | None = None) -> dict[str, str]:
    """Return the name of each split in error messages."""
    return {name: f"The {name} split" + (f" of fold {fold!r}" if fold else "") for name in SPLITS}


def need_splits(cuts: Mapping[str, Sequence[Any]], needed: Sequence[str]) -> None:
    """Raise CorpusError if needed splits are missing, and name the missing and the existing ones."""
    missing = [name for name in needed if not cuts.get(name)]
    if missing:
        raise CorpusError(f"The corpus has no split {' and no split '.join(missing)}. Splits there: {', '.join(cuts) or 'none'}.")


def encode_targets(
    task: Task, cuts: Mapping[str, Sequence[Any]], where: Mapping[str, str]
) -> tuple[LabelSet, dict[str, tuple[Tensor, ...]]]:
    """Return the head's labels and the targets of every split in `cuts`; `where` names the splits in errors.

    Raises:
        TaskError: labels or targets are missing in a split, or a class does not occur in train.
    """
    labels = task.label_set(cuts["train"])
    task.check(cuts)
    targets: dict[str, tuple[Tensor, ...]] = {}
    problems: list[str] = []
    for name, members in cuts.items():
        try:
            targets[name] = tuple(task.targets(members, labels, where[name]))
        except TaskError as error:
            problems.append(str(error))
    if problems:
        raise TaskError("\n".join(problems))
    trained = _classes(targets["train"])
    for name, members in cuts.items():
        # Scores on classes without training utterances would be meaningless.
        pairs = [(cut.id, int(target)) for cut, target in zip(members, targets[name], strict=True) if _is_class(target)]
        if untrained := [f"{cut_id}: class {labels.symbols[target]!r}" for cut_id, target in pairs if target not in trained]:
            heading = f"{where[name]}: {len(untrained)} utterance(s) have a class of task {task.name!r} that does not occur in train."
            raise TaskError(listing(heading + " Leave the class out, or add training utterances.", untrained))
    return labels, targets


def _classes(targets: Sequence[Tensor]) -> set[int]:
    return {int(target) for target in targets if _is_class(target)}


def _is_class(target: Tensor) -> bool:
    """Whether the target is a class index of the whole utterance, not a regression target or a sequence."""
    return target.dim() == 0 and not target.is_floating_point()


def check_targets(task: Task, cuts: Mapping[str, Sequence[Any]], where: Mapping[str, str]) -> None:
    """Check targets as `encode_targets` does, and that every class in the task's options occurs in train."""
    labels, targets = encode_targets(task, cuts, where)
    trained = _classes(targets["train"])
    absent = [symbol for index, symbol in enumerate(labels.symbols) if trained and index not in trained]
    if absent:
        raise TaskError(f"{where['train']}: no utterance has class {', '.join(map(repr, absent))}, which is in the task's options.")


def _clips(task: Task, split: str, cuts: Sequence[Any], crop_draws: CropDraws) -> tuple[Sequence[Clip], tuple[int, ...]]:
    whole = [Clip(cut, 0, num_samples_16k(cut)) for cut in cuts]
    crops = [task.crop(cut, split) for cut in cuts]
    heard = [clip.num_samples if crop is None else round(crop.seconds * SAMPLE_RATE) for clip, crop in zip(whole, crops, strict=True)]
    if crop_draws == "every" and split == "train" and any(clip.num_samples > length for clip, length in zip(whole, heard, strict=True)):
        table = CropTable(whole, heard)
        return table, (*(table.row(utterance) for utterance in range(len(cuts))), len(table))
    # Clips of dev are drawn once; s3prl also draws the same ones at every evaluation.
    fewest = 1 if crop_draws == "every" else crop_draws
    clips: list[Clip] = []
    first_clip = [0]
    for clip, crop, length in zip(whole, crops, heard, strict=True):
        spare = clip.num_samples - length
        if crop is None or spare <= 0:
            clips.append(clip)
        else:
            clips += [Clip(clip.cut, crop_start(clip.cut.id, draw, spare), length) for draw in range(max(crop.draws, fewest))]
        first_clip.append(len(clips))
    return tuple(clips), tuple(first_clip)


def manifest_hash(cuts: Sequence[Any]) -> str:
    """Compute the SHA-256 of the content of a manifest."""
    digest = hashlib.sha256()
    for cut in cuts:
        digest.update(
            json.dumps(values_of(cut), ensure_ascii=False, sort_keys=True, default=str).encode("utf-8", "surrogateescape") + b"\n"
        )
    return digest.hexdigest()
