"""Sizes of an experiment's corpora: from manifests, otherwise from their CSV, otherwise as published (config/sizes.tsv)."""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from typing_extensions import Self

from speechft.conventions import MANIFEST_SUFFIX, SPLITS
from speechft.errors import CorpusError
from speechft.files.csv_tables import read_table
from speechft.files.text import read_text
from speechft.recipes.corpora import CorpusRecipe, PluginCorpus
from speechft.shipped import shipped

TABLE = Path("config/sizes.tsv")
Source = Literal["manifests", "table", "published", "unknown"]
"""Source of a size, from most to least certain."""


@dataclass(frozen=True)
class SplitSize:
    """Utterances and hours of audio; `durations` (seconds, ascending) if known for each utterance."""

    utterances: float = 0.0
    hours: float = 0.0
    durations: tuple[float, ...] = ()

    @classmethod
    def of(cls, durations: Iterable[float]) -> Self:
        """Size of utterances with these durations."""
        ascending = tuple(sorted(durations))
        return cls(len(ascending), sum(ascending) / 3600, ascending)

    def __add__(self, other: SplitSize) -> SplitSize:
        """Size of both together."""
        known = all(part.durations or not part.utterances for part in (self, other))
        durations = tuple(sorted(self.durations + other.durations)) if known else ()
        return SplitSize(self.utterances + other.utterances, self.hours + other.hours, durations)

    def __sub__(self, part: SplitSize) -> SplitSize:
        """Size without a part of it; the shortest durations are kept."""
        left = max(0.0, self.utterances - part.utterances)
        return SplitSize(left, max(0.0, self.hours - part.hours), self.durations[: round(left)])

    def __mul__(self, times: float) -> SplitSize:
        """Size of a multiple of the audio, or of a share of it with the same mix of long and short utterances."""
        return SplitSize(self.utterances * times, self.hours * times)

    @property
    def mean_seconds(self) -> float:
        """Mean duration; 0 for an empty split."""
        return 3600 * self.hours / self.utterances if self.utterances else 0.0

    def cropped(self, seconds: float | None) -> SplitSize:
        """Size with utterances cropped to `seconds`; without durations, their mean is cropped."""
        if seconds is None:
            return self
        if self.durations:
            return SplitSize.of(min(duration, seconds) for duration in self.durations)
        return SplitSize(self.utterances, self.utterances * min(self.mean_seconds, seconds) / 3600)

    def chunked(self, seconds: float) -> SplitSize:
        """Size with utterances cut into parts of at most `seconds`; unchanged without durations."""
        starts = ((duration, part * seconds) for duration in self.durations for part in range(math.ceil(duration / seconds)))
        return SplitSize.of(min(seconds, duration - start) for duration, start in starts) if self.durations else self

    def longer(self, seconds: float | None) -> SplitSize:
        """Size of the utterances longer than `seconds`; without durations, of all, which is an upper bound."""
        if seconds is None:
            return SplitSize()
        return SplitSize.of(duration for duration in self.durations if duration > seconds) if self.durations else self

    def within(self, hours: float) -> SplitSize:
        """Size of the shortest utterances that fit into `hours`."""
        if self.hours <= hours:
            return self
        if not self.durations:
            return self * (max(0.0, hours) / self.hours)
        kept, total = [], 0.0
        for duration in self.durations:
            total += duration / 3600
            if total > hours:
                break
            kept.append(duration)
        return SplitSize.of(kept)


@dataclass(frozen=True)
class CorpusSize:
    """Sizes of the splits of a corpus and their source; `folds` is the number of folds if it is cross-validated, otherwise 0."""

    splits: Mapping[str, SplitSize] = field(default_factory=dict)
    source: Source = "unknown"
    folds: int = 0
    note: str = ""

    def __getitem__(self, split: str) -> SplitSize:
        """Size of a split; 0 if it does not exist."""
        return self.splits.get(split, SplitSize())

    @cached_property
    def whole(self) -> SplitSize:
        """Size of all splits together."""
        return sum(self.splits.values(), SplitSize())

    def fold(self, split: str) -> SplitSize:
        """Size of a split within one fold (each fold is test once, a fifth of the rest is dev); without folds, of the split."""
        if not self.folds:
            return self[split]
        rest = 1 - 1 / self.folds
        return self.whole * {"test": 1 / self.folds, "dev": 0.2 * rest, "train": 0.8 * rest}[split]


def corpus_size(name: str, corpora: Mapping[str, Any], manifests: Path) -> CorpusSize:
    """Find the size of corpus `name`, whose manifests are (or will be) in `manifests`/NAME.

    Raises:
        CorpusError: an existing manifest or CSV cannot be read.
    """
    recipe, folder = corpora[name], manifests / name
    if (folder / "corpus.json").is_file():
        return size_of_manifests(folder)
    if recipe.kind == "union":
        return _united([corpus_size(member, corpora, manifests) for member in recipe.of])
    if isinstance(recipe, CorpusRecipe | PluginCorpus):
        return _size_of_table(name, recipe) if recipe.path.exists() else CorpusSize(note=f"{recipe.path} is missing")
    whole = recipe.kind == "tedlium3" and recipe.subset is None
    return published_size("tedlium3/all" if whole else "/".join(filter(None, (recipe.kind, getattr(recipe, "use", None)))))


def published_size(key: str) -> CorpusSize:
    """Return the published size of a corpus by its `kind` (for VoxCeleb1 `kind/use`), with its source as the note."""
    lines = read_text(shipped(TABLE)).splitlines()
    rows = [row for row in csv.DictReader(lines, delimiter="\t") if row["corpus"] == key]
    splits = {row["split"]: SplitSize(float(row["utterances"]), float(row["hours"])) for row in rows}
    return CorpusSize(splits, "published", int(rows[0]["folds"] or 0), rows[0]["source"])


def _united(members: list[CorpusSize]) -> CorpusSize:
    unknown = [member.note for member in members if member.source == "unknown"]
    if unknown:
        return CorpusSize(note="; ".join(unknown))
    splits = {split: sum((member[split] for member in members), SplitSize()) for split in SPLITS}
    worst = max((member.source for member in members), key=get_args(Source).index)
    return CorpusSize({split: size for split, size in splits.items() if size.utterances}, worst, 0, "a union")


def size_of_manifests(folder: Path) -> CorpusSize:
    """Sum the durations in the manifests of a folder; with trials, dev and test count only utterances in them.

    Raises:
        CorpusError: no manifests, or one is damaged.
    """
    try:
        trials = folder / "trials.csv"
        header, *rows = [row for _, row in read_table(trials, "for the trials", "")] if trials.is_file() else [[]]
        named = {name for row in rows for column, name in zip(header, row, strict=False) if column in ("enrolment", "test")}
        splits, folds = {}, {None}
        for path in (path for path in (folder / f"{split}{MANIFEST_SUFFIX}" for split in SPLITS) if path.is_file()):
            durations, split = [], path.name.removesuffix(MANIFEST_SUFFIX)
            with gzip.open(path, "rt", encoding="utf-8") as file:
                for cut in map(json.loads, file):
                    folds.add((cut.get("custom") or {}).get("fold"))
                    if split == "train" or not named or cut["id"] in named:
                        durations.append(cut["duration"])
            splits[split] = SplitSize.of(durations)
        if not splits:
            raise ValueError("no such files")
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise CorpusError(f"{folder}: its manifests cannot be read ({error}). Prepare the corpus again, or remove the folder.") from None
    return CorpusSize(splits, "manifests", len(folds) - 1 if set(splits) == {"train"} else 0)


def _size_of_table(name: str, recipe: CorpusRecipe | PluginCorpus) -> CorpusSize:
    """Size from a CSV or a plug-in's listing, and the headers of the recordings; nothing is decoded."""
    from speechft.corpora.checking import check_corpus  # imports torch, which other plans do not need

    checked = check_corpus(name, recipe)
    if checked.listed is None:
        raise CorpusError(f"{checked.problems[0].rstrip('.')}. `speechft prepare --check` lists all problems.")
    utterances, trials = checked.listed.utterances, checked.listed.trials
    named = {id_ for trial in trials for id_ in (trial.enrolment, trial.test)}
    durations: dict[str, list[float]] = {}
    for utterance, seconds in zip(utterances, checked.listed.seconds, strict=True):
        if utterance.split == "train" or not named or utterance.id in named:
            durations.setdefault(utterance.split, []).append(seconds)
    folds = {utterance.fold for utterance in utterances} - {None, ""}
    unread = sum(not seconds for seconds in checked.listed.seconds)
    note = f"{unread} recordings cannot be read and count as 0 s" if unread else ""
    return CorpusSize({split: SplitSize.of(of_split) for split, of_split in durations.items()}, "table", len(folds), note)
