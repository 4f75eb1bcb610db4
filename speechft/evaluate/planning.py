"""What an evaluation will cost, known before it starts: passes of the encoder, hours of audio, cached features. No weights are loaded."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from speechft.encoders import Encoder
from speechft.encoders.directory import empty_backbone, read_config
from speechft.evaluate.checkpoints import training_bytes
from speechft.evaluate.engine import OWN_EVALUATION, resolve_device, resolve_recipe
from speechft.evaluate.features import batch_samples, batches_within, clips_on_disk, vector_bytes
from speechft.evaluate.folds import Fold, load_folds, pooled_clips
from speechft.evaluate.heads import TaskEvaluation
from speechft.evaluate.probes import Batch, Probe, Setting, new_head
from speechft.evaluate.splits import SAMPLE_RATE, Clip
from speechft.evaluate.training import all_rows, dev_rows, scoring_batches, training_batches
from speechft.recipes import EvaluationRecipe
from speechft.tasks import get_task
from speechft.tasks.base import Task
from speechft.tasks.heads import PooledHead

GB = 1e9


@dataclass(frozen=True)
class EvaluationPlan:
    """Cost of an evaluation that is not interrupted and where no learning rate diverges."""

    task: str
    clips: int
    """Different utterances and crops."""
    clip_hours: float
    """Their duration."""
    encoder_passes: int
    """Clips sent through the encoder, each as often as it is; `counts.encoder_passes` of the cell."""
    encoder_hours: float
    """Audio sent through the encoder."""
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
        if self.memory_gb < self.memory_gb_to_keep_all:
            enough = math.ceil(100 * self.memory_gb_to_keep_all) / 100
            lines.append(f"With `cache_gb: {enough:g}` or more every clip would go through the encoder once.")
        return "\n".join(lines)


def _size(gigabytes: float) -> str:
    return f"{gigabytes:.2f} GB" if gigabytes >= 0.1 else f"{1000 * gigabytes:.2f} MB"


def plan_evaluation(
    model_dir: str | Path,
    task: str | Task,
    manifests: str | Path | Mapping[str, str | Path],
    recipe: EvaluationRecipe | Mapping[str, Any] | None = None,
    *,
    device: str | None = None,
) -> EvaluationPlan:
    """What `evaluate` with the same arguments will cost. Only the encoder's configuration and the manifests are read.

    Raises:
        ConfigError, CheckpointError, CorpusError, TaskError: as the evaluation would, for everything but weights and audio.
    """
    found_recipe = resolve_recipe(task, recipe)
    found_task = get_task(task, **found_recipe.task_options) if isinstance(task, str) else task
    return _plan(Path(model_dir), found_task, manifests, found_recipe, resolve_device(device))


def _plan(
    model_dir: Path, task: Task, manifests: str | Path | Mapping[str, str | Path], recipe: EvaluationRecipe, device: torch.device
) -> EvaluationPlan:
    encoder = Encoder(empty_backbone(read_config(model_dir)))
    own = OWN_EVALUATION.get(task.name)
    if own is not None:
        return _own_plan(own, task, manifests, recipe, encoder, device)
    folds = load_folds(task, manifests, encoder, recipe.crop_draws)
    head = new_head(task, encoder.hidden_size, folds[0].labels, recipe.seeds[0])
    every = [clip for clips in pooled_clips(folds).values() for clip in clips]
    disk = 0.0
    if isinstance(head, PooledHead):
        passes = _Passes(len(every), _samples(every))
        memory = needed = float(vector_bytes(encoder) * len(every))
        for clips in pooled_clips(folds).values():
            disk += clips_on_disk(len(clips), vector_bytes(encoder), recipe.disk_gb * GB - disk) * vector_bytes(encoder)
    else:
        passes, memory, needed = _Passes(), 0.0, 0.0
        for fold in folds:
            kept_memory, fold_memory = _frame_level(fold, task, recipe, encoder, device, passes)
            memory, needed = max(memory, kept_memory), max(needed, fold_memory)
    parameters = sum(value.numel() for value in Probe(encoder.num_states, head).parameters())
    return EvaluationPlan(
        task=task.name,
        clips=len(every),
        clip_hours=_samples(every) / SAMPLE_RATE / 3600,
        encoder_passes=passes.clips,
        encoder_hours=passes.samples / SAMPLE_RATE / 3600,
        head_steps=recipe.steps * len(recipe.seeds) * len(folds),
        memory_gb=memory / GB,
        memory_gb_to_keep_all=needed / GB,
        disk_gb=disk / GB,
        state_gb=training_bytes(parameters, len(recipe.learning_rates)) * len(recipe.seeds) * len(folds) / GB,
    )


def _own_plan(
    own: TaskEvaluation,
    task: Task,
    manifests: str | Path | Mapping[str, str | Path],
    recipe: EvaluationRecipe,
    encoder: Encoder,
    device: torch.device,
) -> EvaluationPlan:
    fold = own.load(task, manifests, encoder, recipe)
    budget = left = recipe.cache_gb * GB
    passes, frames = _Passes(), 0
    every: list[Clip] = []
    for request in own.requests(task, recipe, fold, batch_samples(device)):
        kept: set[int] = set()
        if request.kept:
            batches, left = batches_within(left, encoder, request.clips, batch_samples(device))
            kept = {row for batch in batches for row in batch}
            passes.add(((batch, ()) for batch in batches), request.clips, frozenset())
            frames += sum(encoder.frame_count(clip.num_samples) for clip in request.clips)
        passes.add(((rows, ()) for rows in request.batches), request.clips, kept)
        every += request.clips
    parameters = 0
    if recipe.learning_rates:
        head = new_head(task, encoder.hidden_size, fold.labels, recipe.seeds[0])
        parameters = sum(value.numel() for value in Probe(encoder.num_states, head).parameters())
    return EvaluationPlan(
        task=task.name,
        clips=len(every),
        clip_hours=_samples(every) / SAMPLE_RATE / 3600,
        encoder_passes=passes.clips,
        encoder_hours=passes.samples / SAMPLE_RATE / 3600,
        head_steps=recipe.steps * len(recipe.seeds) if recipe.learning_rates else 0,
        memory_gb=(budget - left) / GB,
        memory_gb_to_keep_all=frames * vector_bytes(encoder) / GB,
        disk_gb=0.0,
        state_gb=training_bytes(parameters, len(recipe.learning_rates)) * len(recipe.seeds) / GB if recipe.learning_rates else 0.0,
    )


@dataclass
class _Passes:
    """Clips through the encoder, and their samples."""

    clips: int = 0
    samples: int = 0

    def add(self, batches: Iterable[Batch], clips: Sequence[Clip], kept: Set[int]) -> None:
        """What is not kept of each batch, as `FrameFeatures` computes it."""
        for rows, _ in batches:
            missing = [row for row in dict.fromkeys(rows) if row not in kept]
            self.clips += len(missing)
            self.samples += sum(clips[row].num_samples for row in missing)


def _frame_level(
    fold: Fold, task: Task, recipe: EvaluationRecipe, encoder: Encoder, device: torch.device, passes: _Passes
) -> tuple[float, float]:
    """Add the passes of one fold; bytes of the features that are kept, and of those of train and dev altogether."""
    train, dev, test = (fold.splits[name] for name in ("train", "dev", "test"))
    budget = left = recipe.cache_gb * GB
    needed = 0.0
    kept: dict[str, set[int]] = {}
    for split in (train, dev):
        batches, left = batches_within(left, encoder, split.clips, batch_samples(device))
        kept[split.name] = {row for batch in batches for row in batch}
        passes.add(((batch, ()) for batch in batches), split.clips, frozenset())
        needed += sum(encoder.frame_count(clip.num_samples) for clip in split.clips)
    needed *= vector_bytes(encoder)
    setting = Setting(task, fold.labels, recipe, device)
    evaluations = -(-recipe.steps // recipe.eval_every)
    for seed in recipe.seeds:
        if len(kept["train"]) < len(train.clips):
            stream = training_batches(task, train, recipe.batch_size, torch.Generator().manual_seed(seed))
            passes.add((next(stream) for _ in range(recipe.steps * recipe.accumulate)), train.clips, kept["train"])
        for _ in range(evaluations if len(kept["dev"]) < len(dev.clips) else 0):
            passes.add(scoring_batches(dev, dev_rows(setting, dev, seed), frame_level=True), dev.clips, kept["dev"])
        passes.add(scoring_batches(test, all_rows(test), frame_level=True), test.clips, frozenset())
    return budget - left, needed


def _samples(clips: Iterable[Clip]) -> int:
    return sum(clip.num_samples for clip in clips)
