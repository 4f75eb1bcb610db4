"""Skeletons of published corpora: their folders, lists and names, with a little noise as speech."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechft.corpora import load_split, prepare_corpus
from speechft.recipes.corpora import corpus_recipe
from speechft.tasks import get_task


class Skeleton:
    """A folder of a corpus, made a file at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seed = 0

    def audio(self, name, seconds=0.3, rate=16_000, **options):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._seed += 1
        samples = 0.1 * np.random.default_rng(self._seed).standard_normal(round(seconds * rate))
        soundfile.write(path, samples, rate, **options)
        return path

    def text(self, name, *lines):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    def recipe(self, kind, **options):
        return corpus_recipe({"kind": kind, "path": self.path, "complete": False, **options}, "recipe")

    def prepare(self, kind, **options):
        """The summary, and the cuts of each split."""
        out = self.path.parent / "manifests"
        summary = prepare_corpus(self.recipe(kind, **options), out)
        return summary, {split: list(load_split(out, split)) for split in summary["splits"]}

    @staticmethod
    def targets(task, splits, **options):
        """Label set of train and the targets of all splits."""
        task = get_task(task, **options)
        labels = task.label_set(splits["train"])
        return labels, {split: [task.target(cut, labels) for cut in cuts] for split, cuts in splits.items()}


@pytest.fixture
def skeleton(tmp_path):
    return Skeleton(tmp_path / "published")
