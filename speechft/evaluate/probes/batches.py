"""Batches of clips to train heads, to score them, and to estimate costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Generator, Tensor

from speechft.conventions import SAMPLE_RATE
from speechft.evaluate.data.clips import crop_generator
from speechft.evaluate.data.sampling import balanced, balanced_weights, bucketed, fixed_buckets, length_batches, shuffled, windows
from speechft.evaluate.data.splits import Split
from speechft.evaluate.probes.bank import Batch, Setting
from speechft.tasks.base import Task

SCORING_SAMPLES = 60 * SAMPLE_RATE
SCORING_CLIPS = 1024


def training_batches(task: Task, train: Split, batch_size: int, generator: Generator) -> Iterator[Batch]:
    """Yield training batches endlessly, in the task's order."""
    crops = crop_generator(generator)
    for utterances in training_order(task, train, batch_size, generator):
        yield train.draw_clips(utterances, crops), [train.targets[index] for index in utterances]


def training_order(task: Task, train: Split, batch_size: int, generator: Generator) -> Iterator[list[int]]:
    """Yield the utterances of each training batch."""
    if task.sampling == "balanced":
        return balanced([int(target) for target in train.targets], batch_size, generator)
    if task.sampling == "windows":
        return windows([len(target) for target in train.targets], train.num_samples, batch_size, generator)
    if task.sampling == "buckets":
        return bucketed(train.num_samples, batch_size, generator)
    return shuffled(len(train), batch_size, generator)


def never_drawn(task: Task, train: Split, batch_size: int) -> dict[str, int]:
    """Return the number of utterances that the task's order leaves out of every epoch, by reason."""
    if task.sampling != "buckets":
        return {}
    left_over = len(train) - sum(map(len, fixed_buckets(train.num_samples, batch_size)))
    return {"alone in the last bucket": left_over} if left_over else {}


def dev_rows(setting: Setting, dev: Split, seed: int) -> list[tuple[int, Tensor]]:
    """Return the clips and targets of dev scores: every utterance once, or a balanced draw if SUPERB uses one.

    There is one draw per seed. s3prl resets its generators before each evaluation, so it also draws the same every time.
    """
    generator = Generator().manual_seed(seed)
    utterances = list(range(len(dev)))
    if setting.task.balanced_dev and setting.recipe.protocol == "superb":
        weights = balanced_weights([int(target) for target in dev.targets])
        utterances = torch.multinomial(weights, len(dev), replacement=True, generator=generator).tolist()
    return list(zip(dev.draw_clips(utterances, generator), (dev.targets[index] for index in utterances), strict=True))


def all_rows(split: Split) -> list[tuple[int, Tensor]]:
    """Return the first clip of every utterance with its target."""
    return list(zip(split.first_clip[:-1], split.targets, strict=True))


def scoring_batches(split: Split, rows: Sequence[tuple[int, Tensor]], frame_level: bool) -> list[Batch]:
    """Divide clips and targets into batches for scoring, of similar lengths for frame-level heads."""
    if frame_level:
        groups = list(length_batches([split.clips[clip].num_samples for clip, _ in rows], SCORING_SAMPLES))
    else:
        groups = [list(range(len(rows)))[start : start + SCORING_CLIPS] for start in range(0, len(rows), SCORING_CLIPS)]
    return [([rows[index][0] for index in group], [rows[index][1] for index in group]) for group in groups]
