from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechft.corpora import load_split, prepare_corpus
from speechft.errors import CorpusError
from speechft.recipes.corpora import CorpusRecipe


class CorpusFolder:
    """A folder with recordings and a table."""

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

    def corpus(self, header, *rows, seconds=0.2):
        """Write a table whose first column names recordings, and a tone for each that is not there."""
        for name in (row.split(",")[0] for row in rows):
            if not (self.path / name).exists():
                self.tone(name, seconds)
        self.table("".join(f"{line}\n" for line in (header, *rows)))
        return self

    def recipe(self, **options):
        return CorpusRecipe(path=self.csv, **options)

    def prepare(self, out="out", **options):
        """The summary, and the cuts of each split, whose manifests are in `out` beside this folder."""
        out = self.path.parent / out
        summary = prepare_corpus(self.recipe(**options), out)
        return summary, {split: list(load_split(out, split)) for split in summary["splits"]}

    def train(self, **options):
        """The only supervision of each cut of train."""
        return [supervision for cut in self.prepare(**options)[1]["train"] for supervision in cut.supervisions]

    def problems(self, **options):
        """Problems of a corpus that must be refused, without the folder in front of file names."""
        before = sorted(self.path.parent.iterdir())
        with pytest.raises(CorpusError) as caught:
            prepare_corpus(self.recipe(**options), self.path.parent / "refused")
        assert sorted(self.path.parent.iterdir()) == before
        return [problem.replace(f"{self.path}/", "") for problem in caught.value.problems or [str(caught.value)]]


@pytest.fixture
def folder(tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    return CorpusFolder(corpus)


def matches(found, expected):
    """Whether each problem has its (beginning, part), in order."""
    assert len(found) == len(expected), found
    for problem, (start, part) in zip(found, expected, strict=True):
        assert problem.startswith(start), problem
        assert part in problem, problem
    return True
