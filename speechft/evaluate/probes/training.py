"""Training of the probes of one seed: batches, evaluation on dev, the best state of each learning rate, the choice among them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor
from tqdm import tqdm

from speechft.conventions import SAMPLE_RATE
from speechft.errors import TrainingError
from speechft.evaluate.data.clips import crop_generator
from speechft.evaluate.data.sampling import balanced, balanced_weights, bucketed, fixed_buckets, length_batches, shuffled, windows
from speechft.evaluate.data.splits import Split
from speechft.evaluate.probes.bank import Batch, ProbeBank, Setting, State
from speechft.evaluate.probes.checkpoints import TrainingFile
from speechft.tasks.base import Metric, Task

logger = logging.getLogger(__name__)

SCORING_SAMPLES = 60 * SAMPLE_RATE
SCORING_CLIPS = 1024


@dataclass
class TrialState:
    """One probe in training: the best evaluation so far and the parameters it had then."""

    learning_rate: float
    dev: dict[str, float] = field(default_factory=dict)
    best_step: int | None = None
    best_state: State | None = None
    diverged: bool = False


def train_probes(
    bank: ProbeBank[Any],
    train: Split,
    train_features: Any,
    dev: Split,
    dev_features: Any,
    seed: int,
    file: TrainingFile | None = None,
) -> list[TrialState]:
    """Train all probes of a bank for the recipe's steps.

    Dev is scored every `eval_every` steps and after the last one. The first evaluation of a probe always counts (the reference keeps no
    checkpoint when it is at the worst possible value); later ones count when they are strictly better. A probe whose loss becomes NaN or
    Inf stops; its best state until then stays in the competition, as the reference's best checkpoint would.

    With `file` the state is kept there after each evaluation, and a training that finds one goes on from it: on the CPU the rest is
    bit-equal to that of a training that was never interrupted.
    """
    setting = bank.setting
    batches = training_batches(setting.task, train, setting.recipe.batch_size, Generator().manual_seed(seed))
    dev_batches = scoring_batches(dev, dev_rows(setting, dev, seed), bank.frame_level)

    def score(probes: Sequence[int]) -> list[dict[str, float]]:
        return bank.scores(dev_features, dev_batches, probes)

    return fit_probes(bank, train_features, batches, score, setting.task.selection_metric, seed, file)


def fit_probes(
    bank: ProbeBank[Any],
    features: Any,
    batches: Iterator[Batch],
    score: Callable[[Sequence[int]], list[dict[str, float]]],
    metric: Metric,
    seed: int,
    file: TrainingFile | None = None,
) -> list[TrialState]:
    """The same on any stream of batches; `score` gives the scores of probes by index, and `metric` among them decides."""
    recipe = bank.setting.recipe
    trials = [TrialState(rate) for rate in recipe.learning_rates]
    done = 0 if file is None else file.load(bank, trials)
    for _ in range(done * recipe.accumulate):
        next(batches)
    remaining = range(done + 1, recipe.steps + 1) if any(bank.alive) else range(0)
    with tqdm(remaining, desc=f"heads of seed {seed}", unit="step", initial=done, total=recipe.steps, disable=None) as progress:
        for step in progress:
            bank.train_step(features, [next(batches) for _ in range(recipe.accumulate)])
            if step % recipe.eval_every == 0 or step == recipe.steps:
                _evaluate(bank, score, trials, step, metric)
                if file is not None:
                    file.save(bank, trials, step)
            if not any(bank.alive):
                break
    for trial, alive in zip(trials, bank.alive, strict=True):
        trial.diverged = not alive
    return trials


def _evaluate(
    bank: ProbeBank[Any],
    score: Callable[[Sequence[int]], list[dict[str, float]]],
    trials: Sequence[TrialState],
    step: int,
    metric: Metric,
) -> None:
    living = [index for index, alive in enumerate(bank.alive) if alive]
    for index, scores in zip(living, score(living), strict=True):
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
    crops = crop_generator(generator)
    for utterances in training_order(task, train, batch_size, generator):
        yield train.draw_clips(utterances, crops), [train.targets[index] for index in utterances]


def training_order(task: Task, train: Split, batch_size: int, generator: Generator) -> Iterator[list[int]]:
    """The utterances of these batches."""
    if task.sampling == "balanced":
        return balanced([int(target) for target in train.targets], batch_size, generator)
    if task.sampling == "windows":
        return windows([len(target) for target in train.targets], train.num_samples, batch_size, generator)
    if task.sampling == "buckets":
        return bucketed(train.num_samples, batch_size, generator)
    return shuffled(len(train), batch_size, generator)


def never_drawn(task: Task, train: Split, batch_size: int) -> dict[str, int]:
    """Reason -> utterances that the task's order leaves out of every epoch."""
    if task.sampling != "buckets":
        return {}
    left_over = len(train) - sum(map(len, fixed_buckets(train.num_samples, batch_size)))
    return {"alone in the last bucket": left_over} if left_over else {}


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
