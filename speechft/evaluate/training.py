"""Training of the probes of one seed: batches, evaluation on dev, the best state of each learning rate, the choice among them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor
from tqdm import tqdm

from speechft.errors import TrainingError
from speechft.evaluate.probes import Batch, ProbeBank, Setting, State
from speechft.evaluate.sampling import balanced, balanced_weights, length_batches, shuffled, windows
from speechft.evaluate.splits import Split
from speechft.tasks.base import Metric, Task

logger = logging.getLogger(__name__)

SCORING_SAMPLES = 60 * 16_000
SCORING_CLIPS = 1024


@dataclass
class TrialState:
    """One probe in training: the best evaluation so far and the parameters it had then."""

    learning_rate: float
    dev: dict[str, float] = field(default_factory=dict)
    best_step: int | None = None
    best_state: State | None = None
    diverged: bool = False


def train_probes(bank: ProbeBank[Any], train: Split, train_features: Any, dev: Split, dev_features: Any, seed: int) -> list[TrialState]:
    """Train all probes of a bank for the recipe's steps.

    Dev is scored every `eval_every` steps and after the last one. The first evaluation of a probe always counts (the reference keeps no
    checkpoint when it is at the worst possible value); later ones count when they are strictly better. A probe whose loss becomes NaN or
    Inf stops; its best state until then stays in the competition, as the reference's best checkpoint would.
    """
    setting = bank.setting
    recipe, metric = setting.recipe, setting.task.selection_metric
    generator = Generator().manual_seed(seed)
    batches = training_batches(setting.task, train, recipe.batch_size, generator)
    dev_batches = scoring_batches(dev, dev_rows(setting, dev, seed), bank.frame_level)
    trials = [TrialState(rate) for rate in recipe.learning_rates]
    with tqdm(range(1, recipe.steps + 1), desc=f"heads of seed {seed}", unit="step", disable=None) as progress:
        for step in progress:
            bank.train_step(train_features, [next(batches) for _ in range(recipe.accumulate)])
            if step % recipe.eval_every == 0 or step == recipe.steps:
                _evaluate(bank, dev_features, dev_batches, trials, step, metric)
            if not any(bank.alive):
                break
    for trial, alive in zip(trials, bank.alive, strict=True):
        trial.diverged = not alive
    return trials


def _evaluate(
    bank: ProbeBank[Any], features: Any, batches: Sequence[Batch], trials: Sequence[TrialState], step: int, metric: Metric
) -> None:
    living = [index for index, alive in enumerate(bank.alive) if alive]
    for index, scores in zip(living, bank.scores(features, batches, living), strict=True):
        trial = trials[index]
        if trial.best_step is None or _better(scores[metric.key], trial.dev[metric.key], metric):
            trial.dev, trial.best_step, trial.best_state = scores, step, bank.state(index)
    shown = "  ".join(f"{trial.learning_rate:g}: {metric.shown(trial.dev[metric.key]):.2f}" for trial in trials if trial.dev)
    logger.info("step %d, best dev %s by learning rate  %s", step, metric.key, shown)


def _better(new: float, old: float, metric: Metric) -> bool:
    return new > old if metric.higher_is_better else new < old


def select(trials: Sequence[TrialState], metric: Metric, seed: int) -> int:
    """Index of the trial with the best dev score; of equal ones that with the smallest learning rate, the most cautious training.

    Raises:
        TrainingError: every learning rate diverged before its first evaluation.
    """
    scored = [index for index, trial in enumerate(trials) if trial.best_step is not None]
    if not scored:
        rates = ", ".join(f"{trial.learning_rate:g}" for trial in trials)
        raise TrainingError(
            f"The loss became NaN or Inf at every learning rate ({rates}; seed {seed}) before dev was scored once. "
            "Add smaller learning rates to the recipe, or check the encoder."
        )
    sign = -1.0 if metric.higher_is_better else 1.0
    return min(scored, key=lambda index: (sign * trials[index].dev[metric.key], trials[index].learning_rate))


def training_batches(task: Task, train: Split, batch_size: int, generator: Generator) -> Iterator[Batch]:
    """The endless stream of training batches in the task's order."""
    if task.sampling == "balanced":
        drawn = balanced([int(target) for target in train.targets], batch_size, generator)
    elif task.sampling == "windows":
        samples = [train.clips[first].num_samples for first in train.first_clip[:-1]]
        drawn = windows([len(target) for target in train.targets], samples, batch_size, generator)
    else:
        drawn = shuffled(len(train), batch_size, generator)
    for utterances in drawn:
        yield train.draw_clips(utterances, generator), [train.targets[index] for index in utterances]


def dev_rows(setting: Setting, dev: Split, seed: int) -> list[tuple[int, Tensor]]:
    """Clips and targets that dev scores are made of: every utterance once, or a balanced draw where SUPERB scores one.

    The draw is made once for each seed; the reference resets its generators before each evaluation, so it too draws the same.
    """
    generator = Generator().manual_seed(seed)
    utterances = list(range(len(dev)))
    if setting.task.balanced_dev and setting.recipe.protocol == "superb":
        weights = balanced_weights([int(target) for target in dev.targets])
        utterances = torch.multinomial(weights, len(dev), replacement=True, generator=generator).tolist()
    return list(zip(dev.draw_clips(utterances, generator), (dev.targets[index] for index in utterances), strict=True))


def all_rows(split: Split) -> list[tuple[int, Tensor]]:
    """The first clip of every utterance with its target; splits that are not cropped have one clip for each."""
    return list(zip(split.first_clip[:-1], split.targets, strict=True))


def scoring_batches(split: Split, rows: Sequence[tuple[int, Tensor]], frame_level: bool) -> list[Batch]:
    """Batches of clips and targets for scoring; frame-level heads get clips of similar lengths."""
    if frame_level:
        groups = list(length_batches([split.clips[clip].num_samples for clip, _ in rows], SCORING_SAMPLES))
    else:
        groups = [list(range(len(rows)))[start : start + SCORING_CLIPS] for start in range(0, len(rows), SCORING_CLIPS)]
    return [([rows[index][0] for index in group], [rows[index][1] for index in group]) for group in groups]
