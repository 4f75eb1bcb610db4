"""Cross-validation: the splits of every fold, with one pass of the encoder for all folds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from speechft.conventions import SPLITS, Manifests
from speechft.corpora import load_split, split_names
from speechft.encoders import FeatureEncoder
from speechft.evaluate.data.clips import Clip, CropTable
from speechft.evaluate.data.features import CroppedMeans, FrozenEncoder, MeanVectors, clips_on_disk, mean_vectors, vector_bytes
from speechft.evaluate.data.splits import Split, load_splits, make_splits, manifest_hash
from speechft.recipes.evaluation import CropDraws
from speechft.tasks.base import LabelSet, Task


@dataclass(frozen=True)
class Fold:
    """Division of a corpus into train, dev and test. `name` is None if it is the corpus's own."""

    name: str | None
    labels: LabelSet
    splits: Mapping[str, Split]


def load_folds(task: Task, manifests: Manifests, encoder: FeatureEncoder, crop_draws: CropDraws) -> list[Fold]:
    """Load the folds of a corpus with only a train split, if the task defines folds; else its three splits as a single fold.

    Raises:
        CorpusError, TaskError: as for `load_splits`; train of each fold must have all classes of its dev and test.
    """
    if set(split_names(manifests)) == {"train"}:
        cuts = tuple(load_split(manifests, "train"))
        divided = task.folds(cuts)
        if divided is not None:
            hashes = dict.fromkeys(SPLITS, manifest_hash(cuts))
            return [Fold(name, *make_splits(task, members, hashes, encoder, crop_draws, name)) for name, members in divided.items()]
    return [Fold(None, *load_splits(task, manifests, encoder, crop_draws))]


def pooled_clips(folds: Sequence[Fold]) -> dict[str, Sequence[Clip]]:
    """Return the clips whose mean vectors are kept, by name: those of each split, or the distinct clips of all folds as `all`."""
    if len(folds) == 1:
        return {name: split.clips for name, split in folds[0].splits.items()}
    different = {_key(clip): clip for fold in folds for split in fold.splits.values() for clip in split.clips}
    return {"all": tuple(different.values())}


class FoldMeans:
    """Mean vectors of the clips of all folds, with each clip encoded once."""

    def __init__(self, encoder: FrozenEncoder, folds: Sequence[Fold], folder: Path, disk_bytes: float = math.inf) -> None:
        pools = pooled_clips(folds)
        self.vectors: dict[str, Tensor] = {}
        for name, clips in pools.items():
            self.vectors[name] = mean_vectors(encoder, clips, folder, name, disk_bytes)
            disk_bytes -= clips_on_disk(len(clips), vector_bytes(encoder.encoder), disk_bytes) * vector_bytes(encoder.encoder)
        self.encoder = encoder
        self.rows = {_key(clip): row for row, clip in enumerate(pools["all"])} if len(folds) > 1 else {}

    def of(self, split: Split) -> MeanVectors:
        """Return vectors (clips, num_states, D) of a split; those of random crops are computed on demand."""
        if self.rows:
            kept = self.vectors["all"][torch.tensor([self.rows[_key(clip)] for clip in split.clips], dtype=torch.long)]
        else:
            kept = self.vectors[split.name]
        return CroppedMeans(self.encoder, split.clips, kept) if isinstance(split.clips, CropTable) else kept


def _key(clip: Clip) -> tuple[str, int, int]:
    return clip.cut.id, clip.start, clip.num_samples
