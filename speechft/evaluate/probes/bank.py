"""Probes: the trained part of an evaluation, layer weights and a head. A bank has one probe per learning rate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from speechft.recipes.evaluation import EvaluationRecipe
from speechft.tasks.base import Head, LabelSet, Task, WeightedSum
from speechft.tasks.heads import PooledHead

State = dict[str, Tensor]
Counts = dict[str, float]
"""Statistics of a task, see `Task.statistics`."""
Batch = tuple[Sequence[int], Sequence[Tensor]]
"""Clips (rows of the features) and their targets."""
FeaturesType = TypeVar("FeaturesType")


def under(state: State, prefix: str) -> State:
    """Return the tensors whose names begin with `prefix`, under names without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


@contextmanager
def isolated_rng(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators inside the block and restore them after it."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


class Probe(nn.Module):
    """Softmax-weighted sum of the hidden states, then a head."""

    def __init__(self, num_states: int, head: Head) -> None:
        super().__init__()
        self.weighted_sum = WeightedSum(num_states)
        self.head = head

    def forward(self, hidden_states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits and their lengths from hidden states (num_states, B, T, D) with `lengths` (B,) valid frames."""
        logits, logit_lengths = self.head(self.weighted_sum(hidden_states), lengths)
        return logits, logit_lengths


class MeanProbe(nn.Module):
    """Probe with the parameters of `Probe`, applied to mean vectors (num_states, B, D) of the hidden states.

    The mean over frames, the sum over layers and the head's projection are affine and commute, so logits, loss and gradients equal those of
    `Probe` on the frames, up to rounding.
    """

    def __init__(self, num_states: int, head: PooledHead) -> None:
        super().__init__()
        self.weighted_sum = WeightedSum(num_states)
        self.head = head

    def forward(self, means: Tensor) -> Tensor:
        """Compute logits (B, C) from mean vectors (num_states, B, D)."""
        return self.head.from_means(self.weighted_sum(means))


def new_head(task: Task, feature_dim: int, labels: LabelSet, seed: int) -> Head:
    """Create a head initialized from `seed`, without changing the global generator."""
    with isolated_rng(seed, torch.device("cpu")):
        return task.build_head(feature_dim, labels)


@dataclass(frozen=True)
class Setting:
    """Settings shared by all probes of a bank."""

    task: Task
    labels: LabelSet
    recipe: EvaluationRecipe
    device: torch.device


class ProbeBank(ABC, Generic[FeaturesType]):
    """One probe per learning rate, with equal initial weights, equal batches and independent optimizers.

    `alive[i]` becomes false when the loss of probe i is NaN or Inf; the probe then no longer changes. A step with a NaN gradient norm is
    skipped, as in s3prl 0.4.18. `kept` are the probes that the search has not dropped.
    """

    frame_level: ClassVar[bool]
    """Whether features are frames or mean vectors."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.alive = [True] * len(setting.recipe.learning_rates)
        self.kept = list(range(len(self.alive)))

    @property
    def living(self) -> list[int]:
        """Return the probes still in training, neither diverged nor dropped."""
        return [index for index in self.kept if self.alive[index]]

    def keep(self, probes: Sequence[int]) -> None:
        """Drop all other probes; they cost nothing afterwards and cannot be scored."""
        self.kept = list(probes)

    @abstractmethod
    def train_step(self, features: FeaturesType, batches: Sequence[Batch]) -> list[float]:
        """Take one optimizer step on the mean loss of `accumulate` batches, and return the loss of every kept probe."""

    @abstractmethod
    def logits(self, features: FeaturesType, rows: Sequence[int], probes: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the logits of each chosen probe for B clips and their lengths (B,); call it without gradients."""

    @abstractmethod
    def state(self, index: int) -> State:
        """Copy the parameters of one probe to the CPU."""

    @abstractmethod
    def load_state(self, index: int, state: State) -> None:
        """Set the parameters of one probe."""

    @abstractmethod
    def training_state(self) -> State:
        """Return all tensors that later steps depend on: parameters and optimizer states of all probes."""

    @abstractmethod
    def load_training_state(self, state: State) -> None:
        """Restore the tensors of `training_state`."""

    @torch.no_grad()
    def scores(self, features: FeaturesType, batches: Sequence[Batch], probes: Sequence[int]) -> list[dict[str, float]]:
        """Score the chosen probes; return metric key -> fraction for each."""
        task, labels = self.setting.task, self.setting.labels
        counts: list[list[Counts]] = [[] for _ in probes]
        for rows, targets in batches:
            for of_probe, logits in zip(counts, self.logits(features, rows, probes), strict=True):
                of_probe.append(task.statistics(*logits, targets, labels))
        return [task.scores(summed(of_probe)) for of_probe in counts]

    @torch.no_grad()
    def outcomes(self, features: FeaturesType, batches: Sequence[Batch], probe: int) -> tuple[dict[int, Counts], Counts]:
        """Return one probe's statistics per clip, without zeros (frequent with many classes), and their sum, with zeros."""
        task, labels = self.setting.task, self.setting.labels
        by_clip: dict[int, Counts] = {}
        total: Counts = defaultdict(float)
        for rows, targets in batches:
            ((logits, lengths),) = self.logits(features, rows, [probe])
            for place, (row, target) in enumerate(zip(rows, targets, strict=True)):
                one = slice(place, place + 1)
                counts = task.statistics(logits[one], lengths[one], [target], labels)
                add(total, counts)
                by_clip[row] = {name: value for name, value in counts.items() if value}
        return by_clip, total


def summed(counts: Iterable[Counts]) -> Counts:
    """Sum statistics."""
    total: Counts = defaultdict(float)
    for one in counts:
        add(total, one)
    return total


def add(total: Counts, counts: Counts) -> None:
    """Add statistics to a sum in place."""
    for name, value in counts.items():
        total[name] += value
