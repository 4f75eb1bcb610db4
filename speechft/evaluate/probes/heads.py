"""The evaluation of a task whose heads are trained on frames, but whose data or scores are not those of most tasks."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from torch import Generator

from speechft.corpora.trials import Trial as Listed
from speechft.encoders import Encoder
from speechft.evaluate.data.clips import Clip
from speechft.evaluate.data.features import FrameFeatures, FrozenEncoder
from speechft.evaluate.data.folds import Fold
from speechft.evaluate.data.sampling import length_batches
from speechft.evaluate.probes.bank import Batch, Setting, isolated_rng, new_head
from speechft.evaluate.probes.checkpoints import training_file
from speechft.evaluate.probes.outcome import Run
from speechft.evaluate.probes.separate import SeparateProbes
from speechft.evaluate.probes.training import fit_probes, select
from speechft.recipes.evaluation import EvaluationRecipe
from speechft.tasks.base import Metric, Task

Manifests = str | Path | Mapping[str, str | Path]


@dataclass(frozen=True)
class Request:
    """Clips whose frames an evaluation asks for, in `batches` of rows. `kept` ones stay in memory as far as what is left of it goes."""

    clips: Sequence[Clip]
    batches: Iterable[Sequence[int]]
    kept: bool


class TaskEvaluation(Protocol):
    """A module that evaluates one task in its own way."""

    def check(self, task: Task, cuts: Mapping[str, Sequence[Any]], trials: Sequence[Listed]) -> None:
        """Refuse what `load` would refuse, as far as the lists of a corpus tell."""

    def load(
        self, task: Task, manifests: Manifests, encoder: Encoder, recipe: EvaluationRecipe, work: Path | None = None, measure: bool = True
    ) -> Fold:
        """Read the data; a split that is not used is empty.

        What must be measured on recordings is kept in `work`, for all models. Without `measure` no recording is read.
        """

    def requests(self, task: Task, recipe: EvaluationRecipe, fold: Fold, max_batch_samples: int) -> list[Request]:
        """All that `run` will ask of the encoder, for the plan of an evaluation. Batches for scoring hold `max_batch_samples`."""

    def run(self, task: Task, recipe: EvaluationRecipe, encoder: FrozenEncoder, fold: Fold, folder: Path) -> Run:
        """Compute features, train and choose heads, score test."""


def batches_of(features: FrameFeatures) -> Iterator[list[int]]:
    """All clips once, in batches of similar lengths."""
    return clip_batches(features.clips, features.encoder.batch_samples)


def clip_batches(clips: Sequence[Clip], max_batch_samples: int) -> Iterator[list[int]]:
    """The same without features."""
    return length_batches([clip.num_samples for clip in clips], max_batch_samples)


def training_rows(recipe: EvaluationRecipe, batches: Callable[[Generator], Iterator[Batch]]) -> Iterator[Sequence[int]]:
    """Rows that the training of all seeds asks for."""
    for seed in recipe.seeds:
        stream = batches(Generator().manual_seed(seed))
        for _ in range(recipe.steps * recipe.accumulate):
            yield next(stream)[0]


def evaluations(recipe: EvaluationRecipe) -> int:
    """Times that a training scores the split that selects, all seeds together."""
    return len(recipe.seeds) * -(-recipe.steps // recipe.eval_every)


class HeadTraining(ABC):
    """How heads are trained, chosen and tested on prepared features."""

    features: Any
    """Of train; rows of batches index it."""
    metric: Metric
    """Chooses step and learning rate."""
    selected_on: Literal["dev", "test"] = "dev"

    @abstractmethod
    def batches(self, generator: Generator) -> Iterator[Batch]:
        """The endless stream of training batches."""

    @abstractmethod
    def score(self, bank: SeparateProbes, probes: Sequence[int]) -> list[dict[str, float]]:
        """Scores, among them `metric`, of the chosen probes, fractions."""

    @abstractmethod
    def test(self, bank: SeparateProbes, chosen: int) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """Scores on test of one probe, fractions; and those at other settings of what follows it, by name."""


def train_and_test(
    training: HeadTraining, task: Task, recipe: EvaluationRecipe, encoder: FrozenEncoder, fold: Fold, folder: Path, started: float
) -> Run:
    """Train the probes of every seed with shared features, choose one and test it. `started` is when features were begun (monotonic)."""
    run = Run(selected_on=training.selected_on, feature_seconds=time.monotonic() - started)
    setting = Setting(task, fold.labels, recipe, encoder.device)
    extracted = time.monotonic()
    for seed in recipe.seeds:
        head = new_head(task, encoder.encoder.hidden_size, fold.labels, seed)
        bank = SeparateProbes(setting, encoder.encoder.num_states, head)
        run.trainable_parameters = sum(value.numel() for value in bank.probes[0].parameters())
        file = training_file(folder, encoder, setting, fold, seed)
        with isolated_rng(seed, encoder.device):
            batches = training.batches(Generator().manual_seed(seed))
            trials = fit_probes(bank, training.features, batches, lambda probes: training.score(bank, probes), training.metric, seed, file)  # noqa: B023
        chosen = select(trials, training.metric, seed)
        best_state = trials[chosen].best_state
        assert best_state is not None
        bank.load_state(chosen, best_state)
        scores, alternatives = training.test(bank, chosen)
        run.add(task, trials, chosen, seed, scores, alternatives=alternatives)
    run.average(task, recipe.seeds)
    run.training_seconds = time.monotonic() - extracted
    return run
