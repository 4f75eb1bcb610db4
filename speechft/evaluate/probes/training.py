"""Train heads on a frozen encoder for all learning rates of a seed at once, and choose step and learning rate."""

from __future__ import annotations

import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from torch import Generator
from tqdm import tqdm

from speechft.errors import TrainingError
from speechft.evaluate.data.features import FrozenEncoder
from speechft.evaluate.data.folds import Fold
from speechft.evaluate.probes.bank import Batch, ProbeBank, Setting, isolated_rng, new_head
from speechft.evaluate.probes.checkpoints import TrainingFile, TrialState, training_file
from speechft.evaluate.probes.outcome import Run, Tested
from speechft.evaluate.probes.separate import SeparateProbes
from speechft.evaluate.probes.stacked import StackedProbes
from speechft.recipes.evaluation import EvaluationRecipe
from speechft.tasks.base import Task
from speechft.tasks.heads import PooledHead
from speechft.tasks.metric import Metric

logger = logging.getLogger(__name__)
FoldType = TypeVar("FoldType", bound=Fold)


class HeadTraining(ABC):
    """Procedure to train, choose and test heads on prepared features."""

    features: Any
    """Features of train, indexed by the rows of batches."""
    metric: Metric
    """Metric that chooses step and learning rate."""
    selected_on: Literal["dev", "test"] = "dev"

    @abstractmethod
    def batches(self, generator: Generator) -> Iterator[Batch]:
        """Yield training batches endlessly."""

    @abstractmethod
    def score(self, bank: Any, probes: Sequence[int], seed: int) -> list[dict[str, float]]:
        """Score the given probes on the selecting split, as fractions that include `metric`."""

    @abstractmethod
    def test(self, bank: Any, chosen: int) -> Tested:
        """Score one probe on test."""


def train_folds(
    task: Task,
    recipe: EvaluationRecipe,
    encoder: FrozenEncoder,
    folds: Sequence[FoldType],
    folder: Path,
    prepare: Callable[[FoldType], HeadTraining],
) -> Run:
    """Train the probes of every fold and seed, choose one and score it on test; `prepare` computes the features of a fold."""
    run = Run()
    for fold in folds:
        started = time.monotonic()
        training = prepare(fold)
        prepared = time.monotonic()
        _train_and_test(run, training, task, recipe, encoder, fold, folder)
        run.selected_on = training.selected_on
        run.feature_seconds += prepared - started
        run.training_seconds += time.monotonic() - prepared
    run.average(task, recipe.seeds)
    return run


def _train_and_test(
    run: Run, training: HeadTraining, task: Task, recipe: EvaluationRecipe, encoder: FrozenEncoder, fold: Fold, folder: Path
) -> None:
    setting = Setting(task, fold.labels, recipe, encoder.device)
    num_states = encoder.encoder.num_states
    bank: ProbeBank[Any]
    for seed in recipe.seeds:
        head = new_head(task, encoder.encoder.hidden_size, fold.labels, seed)
        run.trainable_parameters = num_states + sum(value.numel() for value in head.parameters())
        bank = StackedProbes(setting, num_states, head) if isinstance(head, PooledHead) else SeparateProbes(setting, num_states, head)
        file = training_file(folder, encoder, setting, fold, seed)
        # Dropout draws from the global generator.
        with isolated_rng(seed, encoder.device):
            trials = train_probes(bank, training, seed, file)
        chosen = select(trials, training.metric, seed)
        best_state = trials[chosen].best_state
        assert best_state is not None
        bank.load_state(chosen, best_state)
        run.add(task, trials, chosen, seed, training.test(bank, chosen), fold.name)


def train_probes(bank: ProbeBank[Any], training: HeadTraining, seed: int, file: TrainingFile | None = None) -> list[TrialState]:
    """Train all probes of a bank for the recipe's steps.

    Probes are scored every `eval_every` steps and after the last one. The first evaluation of a probe always counts (s3prl keeps no
    checkpoint at the worst possible value); later ones count if they are strictly better. Scores that are not finite never count. A probe
    whose loss becomes NaN or Inf stops, but its best state so far remains a candidate, like s3prl's best checkpoint.
    With `lr_search: halving`, probes are also scored at each rung, and the worse ones on dev are dropped, diverged ones first.
    The state is saved to `file` after each evaluation, and training resumes from an existing file. On the CPU, the result is bit-equal to
    that of an uninterrupted training.
    """
    recipe = bank.setting.recipe
    steps, scored, rungs = recipe.counts[0], set(recipe.scored_after), recipe.rungs
    batches = training.batches(Generator().manual_seed(seed))
    trials = [TrialState(rate) for rate in recipe.learning_rates]
    done = 0 if file is None else file.load(bank, trials)
    for _ in range(done * recipe.accumulate):
        next(batches)
    remaining = range(done + 1, steps + 1) if bank.living else range(0)
    with tqdm(remaining, desc=f"heads of seed {seed}", unit="step", initial=done, total=steps, disable=None) as progress:
        for step in progress:
            bank.train_step(training.features, [next(batches) for _ in range(recipe.accumulate)])
            if step in scored:
                _score(bank, training, trials, step, seed)
                if step in rungs:
                    _drop(bank, trials, rungs[step], step, training.metric)
                if file is not None:
                    file.save(bank, trials, step)
            if not bank.living:
                break
    for trial, alive in zip(trials, bank.alive, strict=True):
        trial.diverged = not alive
    return trials


def _score(bank: ProbeBank[Any], training: HeadTraining, trials: Sequence[TrialState], step: int, seed: int) -> None:
    metric = training.metric
    for index, scores in zip(bank.living, training.score(bank, bank.living, seed), strict=True):
        trial, new = trials[index], scores[metric.key]
        old = trial.dev.get(metric.key)
        if math.isfinite(new) and (old is None or (new > old if metric.higher_is_better else new < old)):
            trial.dev, trial.best_step, trial.best_state = scores, step, bank.state(index)
    shown = "  ".join(f"{trial.learning_rate:g}: {metric.of_fraction(trial.dev[metric.key]):.2f}" for trial in trials if trial.dev)
    logger.info("step %d, best %s %s by learning rate  %s", step, training.selected_on, metric.key, shown)


def _drop(bank: ProbeBank[Any], trials: Sequence[TrialState], number: int, step: int, metric: Metric) -> None:
    """Keep the `number` best probes. Ties go to larger learning rates, since smaller ones take longer to exceed chance level."""
    ranked = sorted(bank.kept, key=lambda index: (not bank.alive[index], _worse(trials[index], metric), -trials[index].learning_rate))
    bank.keep(sorted(ranked[:number]))
    for index in ranked[number:]:
        trials[index].dropped = step


def _worse(trial: TrialState, metric: Metric) -> float:
    """Return a number that increases as the best score of a trial gets worse."""
    score = trial.dev.get(metric.key)
    return math.inf if score is None else -score if metric.higher_is_better else score


def select(trials: Sequence[TrialState], metric: Metric, seed: int) -> int:
    """Return the index of the trial with the best score; ties go to the smallest learning rate, the most conservative training.

    Trials that the search dropped are excluded.

    Raises:
        TrainingError: every learning rate diverged before its first evaluation.
    """
    scored = [index for index, trial in enumerate(trials) if trial.best_step is not None and trial.dropped is None]
    if not scored:
        rates = ", ".join(f"{trial.learning_rate:g}" for trial in trials)
        raise TrainingError(
            f"The loss became NaN or Inf at every learning rate ({rates}; seed {seed}) before the first evaluation. "
            "Add smaller learning rates to the recipe, or check the encoder."
        )
    return min(scored, key=lambda index: (_worse(trials[index], metric), trials[index].learning_rate))
