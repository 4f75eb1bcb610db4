from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechft.recipes.corpora import CorpusRecipe


class CorpusFolder:
    """A folder with recordings and a table, made a row at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.csv = path / "corpus.csv"

    def tone(self, name, seconds=0.2, rate=16_000, channels=1, frequency=440.0, **options):
        times = np.arange(round(seconds * rate)) / rate
        samples = np.stack([0.5 * np.sin(2 * np.pi * frequency * (channel + 1) * times) for channel in range(channels)], axis=1)
        return self.samples(name, samples, rate, **options)

    def samples(self, name, samples, rate=16_000, **options):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, rate, **options)
        return path

    def table(self, text, encoding="utf-8"):
        self.csv.write_bytes(text.encode(encoding))

    def recipe(self, **options):
        return CorpusRecipe(path=self.csv, **options)


@pytest.fixture
def folder(tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    return CorpusFolder(corpus)
