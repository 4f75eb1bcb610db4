"""What an evaluation will cost, known before it starts: passes of the encoder, hours of audio, cached features. No weights are loaded."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from speechft.conventions import SAMPLE_RATE
from speechft.encoders import Encoder
from speechft.encoders.directory.layout import empty_backbone, read_config
from speechft.evaluate.data.clips import Clip, CropTable
from speechft.evaluate.data.features import batch_samples, batches_within, clips_on_disk, vector_bytes
from speechft.evaluate.data.folds import Fold, pooled_clips
from speechft.evaluate.engine import resolve_device, resolve_recipe
from speechft.evaluate.probes.bank import Probe, Setting, new_head
from speechft.evaluate.probes.batches import (
    Request,
    all_rows,
    dev_rows,
    evaluations,
    scoring_batches,
    training_batches,
    training_order,
)
from speechft.evaluate.probes.checkpoints import training_bytes
from speechft.evaluate.protocols import OWN_EVALUATION, protocol_of
from speechft.recipes.evaluation import EvaluationRecipe
from speechft.tasks import get_task
from speechft.tasks.base import Task
from speechft.tasks.heads import PooledHead

GB = 1e9


@dataclass(frozen=True)
class EvaluationPlan:
    """Cost of an evaluation that is not interrupted and where no learning rate diverges."""

    task: str
    clips: int
    """Different utterances, and crops that are drawn once."""
    clip_hours: float
    """Their duration, of long utterances that are cropped anew that of a crop."""
    encoder_passes: int
    """Clips sent through the encoder, each as often as it is; `counts.encoder_passes` of the cell."""
    encoder_hours: float
    """Audio sent through the encoder."""
    new_crops: int
    """Passes of crops that are drawn anew at every access, and cannot be kept."""
    head_steps: int
    """Optimizer steps, each of all learning rates at once; all seeds and folds together."""
    memory_gb: float
    """Features kept in memory."""
    memory_gb_to_keep_all: float
    """Features in memory if every clip went through the encoder once: `cache_gb` that is enough."""
    disk_gb: float
    """Features in the work folder, until the cell is written."""
    state_gb: float
    """State of the heads in the work folder, written at each evaluation on dev."""
    estimate: str | None = None
    """Why these numbers are upper bounds, if they are."""

    def to_json(self) -> dict[str, Any]:
        """A plain JSON value."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"encoder: {self.encoder_passes} passes, {self.encoder_hours:.2f} h of audio ({self.clips} clips of {self.clip_hours:.2f} h)",
            f"heads: {self.head_steps} optimizer steps, each of all learning rates",
            f"features in memory: {_size(self.memory_gb)}",
            f"features on disk: {_size(self.disk_gb)}, state of the heads: {_size(self.state_gb)}",
        ]
        if self.new_crops:
            lines.insert(1, f"  of which {self.new_crops} passes are crops that are drawn anew at every access")
        if self.memory_gb < self.memory_gb_to_keep_all:
            enough = math.ceil(100 * self.memory_gb_to_keep_all) / 100
            apart = ", new crops apart" if self.new_crops else ""
            lines.append(f"With `cache_gb: {enough:g}` or more every clip would go through the encoder once{apart}.")
        if self.estimate:
            lines.append(f"At most that much: {self.estimate}.")
        return "\n".join(lines)


def _size(gigabytes: float) -> str:
    return f"{gigabytes:.2f} GB" if gigabytes >= 0.1 else f"{1000 * gigabytes:.2f} MB"


def plan_evaluation(
    model_dir: str | Path,
    task: str | Task,
    manifests: str | Path | Mapping[str, str | Path],
    recipe: EvaluationRecipe | Mapping[str, Any] | None = None,
    *,
    work_dir: str | Path | None = None,
    device: str | None = None,
) -> EvaluationPlan:
    """What `evaluate` with the same arguments will cost. Only the encoder's configuration and the manifests are read, and no audio.

    Raises:
        ConfigError, CheckpointError, CorpusError, TaskError: as the evaluation would, for everything but weights and audio.
    """
    found_recipe = resolve_recipe(task, recipe)
    found_task = get_task(task, **found_recipe.task_options) if isinstance(task, str) else task
    encoder = Encoder(empty_backbone(read_config(Path(model_dir))))
    own = OWN_EVALUATION.get(found_task.name)
    folds = protocol_of(found_task).load(found_task, manifests, encoder, found_recipe, None if work_dir is None else Path(work_dir), False)
    cost = _Cost(encoder, found_recipe, batch_samples(resolve_device(device)))
    parameters = 0
    if own is not None:
        cost.add_requests(own.requests(found_task, found_recipe, folds[0], cost.max_batch_samples))
    if found_recipe.learning_rates:
        head = new_head(found_task, encoder.hidden_size, folds[0].labels, found_recipe.seeds[0])
        parameters = sum(value.numel() for value in Probe(encoder.num_states, head).parameters())
        if own is None and isinstance(head, PooledHead):
            cost.add_means(found_task, folds)
        elif own is None:
            cost.add_frames(found_task, folds)
    trainings = len(found_recipe.seeds) * len(folds) if found_recipe.learning_rates else 0
    return EvaluationPlan(
        task=found_task.name,
        clips=cost.clips,
        clip_hours=cost.clip_samples / SAMPLE_RATE / 3600,
        encoder_passes=cost.passes,
        encoder_hours=cost.samples / SAMPLE_RATE / 3600,
        new_crops=cost.new_crops,
        head_steps=found_recipe.steps * trainings,
        memory_gb=cost.memory / GB,
        memory_gb_to_keep_all=cost.memory_to_keep_all / GB,
        disk_gb=cost.disk / GB,
        state_gb=training_bytes(parameters, len(found_recipe.learning_rates)) * trainings / GB,
        estimate=folds[0].estimate,
    )


class _Cost:
    """Passes of the encoder and bytes of features, as they add up."""

    def __init__(self, encoder: Encoder, recipe: EvaluationRecipe, max_batch_samples: int) -> None:
        self.encoder, self.recipe, self.max_batch_samples = encoder, recipe, max_batch_samples
        self.clips = self.clip_samples = self.passes = self.samples = self.new_crops = 0
        self.memory = self.memory_to_keep_all = self.disk = 0.0

    def add_means(self, task: Task, folds: Sequence[Fold]) -> None:
        """Tasks that train on mean vectors: every clip once, and crops that are drawn anew."""
        size, budget = vector_bytes(self.encoder), self.recipe.disk_gb * GB
        for clips in pooled_clips(folds).values():
            self._count(clips)
            self._visit([range(len(clips))], clips)
            self.memory += size * len(clips)
            self.disk += size * clips_on_disk(len(clips), size, budget - self.disk)
        self.memory_to_keep_all = self.memory
        for train in (fold.splits["train"] for fold in folds):
            if isinstance(train.clips, CropTable):
                for seed in self.recipe.seeds:
                    order = training_order(task, train, self.recipe.batch_size, torch.Generator().manual_seed(seed))
                    steps = range(self.recipe.steps * self.recipe.accumulate)
                    self._visit(([train.first_clip[index] for index in next(order)] for _ in steps), train.clips, range(len(train.clips)))

    def add_frames(self, task: Task, folds: Sequence[Fold]) -> None:
        """Tasks that train on frames: what is not kept, again and again."""
        for clips in pooled_clips(folds).values():
            self._count(clips)
        for fold in folds:
            train, dev, test = (fold.splits[name] for name in ("train", "dev", "test"))
            left = self.recipe.cache_gb * GB
            kept_train, left = self._keep(train.clips, left)
            kept_dev, left = self._keep(dev.clips, left)
            self.memory = max(self.memory, self.recipe.cache_gb * GB - left)
            self.memory_to_keep_all = max(self.memory_to_keep_all, self._frame_bytes(train.clips) + self._frame_bytes(dev.clips))
            setting = Setting(task, fold.labels, self.recipe, torch.device("cpu"))
            for seed in self.recipe.seeds:
                if len(kept_train) < len(train.clips):
                    stream = training_batches(task, train, self.recipe.batch_size, torch.Generator().manual_seed(seed))
                    steps = range(self.recipe.steps * self.recipe.accumulate)
                    self._visit((set(next(stream)[0]) for _ in steps), train.clips, kept_train)
                if len(kept_dev) < len(dev.clips):
                    scored = [set(rows) for rows, _ in scoring_batches(dev, dev_rows(setting, dev, seed), frame_level=True)]
                    self._visit(scored * (evaluations(self.recipe) // len(self.recipe.seeds)), dev.clips, kept_dev)
                self._visit((rows for rows, _ in scoring_batches(test, all_rows(test), frame_level=True)), test.clips)

    def add_requests(self, requests: Iterable[Request]) -> None:
        """Tasks that are evaluated in their own way."""
        left = self.recipe.cache_gb * GB
        for request in requests:
            self._count(request.clips)
            kept: Container[int] = ()
            if request.kept:
                kept, left = self._keep(request.clips, left)
                self.memory_to_keep_all += self._frame_bytes(request.clips)
            self._visit((set(rows) for rows in request.batches), request.clips, kept)
        self.memory = self.recipe.cache_gb * GB - left

    def _count(self, clips: Sequence[Clip]) -> None:
        samples = clips.heard if isinstance(clips, CropTable) else [clip.num_samples for clip in clips]
        self.clips += len(samples)
        self.clip_samples += sum(samples)

    def _keep(self, clips: Sequence[Clip], budget: float) -> tuple[set[int], float]:
        """Rows whose frames are computed once and kept, and what is left of the budget."""
        batches, left = batches_within(budget, self.encoder, clips, self.max_batch_samples)
        self._visit(batches, clips)
        return {row for batch in batches for row in batch}, left

    def _visit(self, batches: Iterable[Iterable[int]], clips: Sequence[Clip], kept: Container[int] = ()) -> None:
        """Clips of rows that are not kept go through the encoder."""
        visits: Counter[int] = Counter()
        for rows in batches:
            visits.update(rows)
        for row, count in visits.items():
            if row not in kept:
                self.passes += count
                self.samples += count * clips[row].num_samples
                self.new_crops += count if row >= len(clips) else 0

    def _frame_bytes(self, clips: Sequence[Clip]) -> int:
        return vector_bytes(self.encoder) * sum(self.encoder.frame_count(clip.num_samples) for clip in clips)
