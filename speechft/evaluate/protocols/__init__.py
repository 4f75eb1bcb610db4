"""Evaluation protocols: `default` for most tasks, and one each for ASV, QbE and SD, which have other data or scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from speechft.conventions import Manifests
from speechft.corpora.trials import Trial
from speechft.encoders import FeatureEncoder
from speechft.evaluate.data.features import FrozenEncoder
from speechft.evaluate.data.folds import Fold
from speechft.evaluate.probes.outcome import Run
from speechft.evaluate.protocols import default, diarization, qbe, verification
from speechft.recipes.evaluation import EvaluationRecipe
from speechft.tasks.base import Task
from speechft.tasks.catalog import task_entry


class EvaluationProtocol(Protocol):
    """Interface of the modules in this package."""

    def check(self, task: Any, cuts: Mapping[str, Sequence[Any]], trials: Sequence[Trial], /) -> None:
        """Raise the errors of `load` that the lists of a corpus already reveal; `cuts` has the existing splits."""

    def load(
        self, task: Any, manifests: Manifests, encoder: FeatureEncoder, recipe: EvaluationRecipe, work: Path | None, /
    ) -> Sequence[Fold]:
        """Read the data; unused splits are empty.

        Measurements on recordings are cached in `work`, for all models.
        """

    def run(self, task: Any, recipe: EvaluationRecipe, encoder: FrozenEncoder, folds: Sequence[Any], folder: Path, /) -> Run:
        """Compute features, train and choose heads, and score test."""


_PROTOCOLS: Mapping[str, EvaluationProtocol] = {"default": default, "verification": verification, "qbe": qbe, "diarization": diarization}


def protocol_of(task: Task) -> EvaluationProtocol:
    """Return the protocol of a task."""
    return _PROTOCOLS[task_entry(task.name, task.kind).protocol]
