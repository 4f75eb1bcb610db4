"""How large the corpora of an experiment are: by their manifests, else by their tables and headers of recordings, else as published."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from speechft.conventions import SPLITS
from speechft.cost.published_sizes import PUBLISHED
from speechft.errors import CorpusError
from speechft.files.csv_tables import read_table
from speechft.files.text import nfc, on_disk, read_text
from speechft.recipes.corpora import CorpusRecipe

Source = Literal["manifests", "table", "published", "unknown"]


@dataclass(frozen=True)
class SplitSize:
    """Utterances and hours of a split; `durations` (seconds, ascending) where they are known one by one."""

    utterances: float = 0.0
    hours: float = 0.0
    durations: tuple[float, ...] = ()

    @classmethod
    def of(cls, durations: Iterable[float]) -> Self:
        """The split that has these utterances."""
        found = tuple(sorted(durations))
        return cls(len(found), sum(found) / 3600, found)

    def __add__(self, other: SplitSize) -> SplitSize:
        """Both together."""
        known = bool(self.durations or not self.utterances) and bool(other.durations or not other.utterances)
        durations = tuple(sorted(self.durations + other.durations)) if known else ()
        return SplitSize(self.utterances + other.utterances, self.hours + other.hours, durations)

    def share(self, part: float) -> SplitSize:
        """A part of it in which long and short utterances are as frequent as in the whole."""
        return SplitSize(self.utterances * part, self.hours * part)

    @property
    def mean_seconds(self) -> float:
        """Mean duration; 0 of an empty split."""
        return 3600 * self.hours / self.utterances if self.utterances else 0.0

    def cropped(self, seconds: float | None) -> SplitSize:
        """The same utterances, none longer than `seconds`. Where durations are not known the mean is cropped."""
        if seconds is None:
            return self
        if self.durations:
            return SplitSize.of(min(duration, seconds) for duration in self.durations)
        return SplitSize(self.utterances, self.utterances * min(self.mean_seconds, seconds) / 3600)

    def longer(self, seconds: float) -> SplitSize:
        """The utterances longer than `seconds`; where durations are not known, all of them, which is an upper bound."""
        return SplitSize.of(duration for duration in self.durations if duration > seconds) if self.durations else self

    def within(self, hours: float) -> SplitSize:
        """The shortest utterances that last no longer than `hours` together."""
        if self.hours <= hours:
            return self
        if not self.durations:
            return self.share(max(0.0, hours) / self.hours)
        kept, total = [], 0.0
        for duration in self.durations:
            total += duration / 3600
            if total > hours:
                break
            kept.append(duration)
        return SplitSize.of(kept)


@dataclass(frozen=True)
class CorpusSize:
    """Sizes of the splits of a corpus, and where they come from; `folds` of a corpus with folds in place of splits."""

    splits: Mapping[str, SplitSize] = field(default_factory=dict)
    source: Source = "unknown"
    folds: int = 0
    note: str = ""

    def __getitem__(self, split: str) -> SplitSize:
        """A split; of size 0 where there is none."""
        return self.splits.get(split, SplitSize())

    @cached_property
    def whole(self) -> SplitSize:
        """All splits together."""
        return sum(self.splits.values(), SplitSize())

    def fold(self, split: str) -> SplitSize:
        """A split of one fold in cross-validation: each fold is test once, of the others a fifth is dev."""
        shares = {"test": 1 / self.folds, "dev": 0.2 * (1 - 1 / self.folds), "train": 0.8 * (1 - 1 / self.folds)}
        return self.whole.share(shares[split])


def corpus_size(name: str, corpora: Mapping[str, Any], manifests: Path) -> CorpusSize:
    """Size of the corpus `name` of an experiment whose manifests lie in (or will lie in) `manifests`/NAME.

    Raises:
        CorpusError: a manifest or a table is there and cannot be read.
    """
    recipe, folder = corpora[name], manifests / name
    if (folder / "corpus.json").is_file():
        return _of_manifests(folder)
    if recipe.kind == "union":
        return _united([corpus_size(member, corpora, manifests) for member in recipe.of])
    if isinstance(recipe, CorpusRecipe):
        return _of_table(recipe) if recipe.path.is_file() else CorpusSize(note=f"{recipe.path} is not there")
    key = "/".join(filter(None, (recipe.kind, getattr(recipe, "use", None))))
    whole = recipe.kind == "tedlium3" and recipe.subset is None
    found = PUBLISHED["tedlium3/all" if whole else key]
    return CorpusSize(
        {split: SplitSize(utterances, hours) for split, (utterances, hours) in found.splits.items()}, "published", found.folds, found.source
    )


def _united(members: Sequence[CorpusSize]) -> CorpusSize:
    unknown = [member.note for member in members if member.source == "unknown"]
    if unknown:
        return CorpusSize(note="; ".join(unknown))
    splits = {split: sum((member[split] for member in members), SplitSize()) for split in SPLITS}
    worst = max((member.source for member in members), key=("manifests", "table", "published").index)
    return CorpusSize({split: size for split, size in splits.items() if size.utterances}, worst, 0, "a union")


def _of_manifests(folder: Path) -> CorpusSize:
    """By the durations in the manifests that `speechft prepare` wrote."""
    try:
        summary = json.loads(read_text(folder / "corpus.json"))
        named = _named_in_trials(folder / "trials.csv") if "trials" in summary else None
        splits, folds = {}, 0
        for split, facts in summary["splits"].items():
            with gzip.open(folder / f"{split}.jsonl.gz", "rt", encoding="utf-8") as file:
                cuts = [json.loads(line) for line in file]
            wanted = [cut["duration"] for cut in cuts if split == "train" or named is None or cut["id"] in named]
            splits[split] = SplitSize.of(wanted)
            folds = max(folds, len(facts.get("folds", ())))
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise CorpusError(f"{folder}: its manifests cannot be read ({error}). Prepare the corpus again, or remove the folder.") from None
    return CorpusSize(splits, "manifests", folds)


def _of_table(recipe: CorpusRecipe) -> CorpusSize:
    """By the rows of a table and the headers of its recordings; nothing is decoded."""
    columns = {ours: nfc(recipe.columns.get(ours, ours)) for ours in ("path", "split", "fold", "id", "mixture", "offset")}
    rows = _rows(recipe.path, columns["path"])
    root = recipe.audio_root or recipe.path.parent
    missing = "path" not in columns or any(not row.get(columns["path"]) for row in rows)
    if missing:
        raise CorpusError(f"{recipe.path}: rows without a path. `speechft prepare --check` lists all problems of a table.")
    paths = list(dict.fromkeys(row[columns["path"]] for row in rows))
    with ThreadPoolExecutor(4) as pool:
        seconds = dict(zip(paths, pool.map(lambda path: _seconds(on_disk(root / path)), paths), strict=True))
    unread = sum(value is None for value in seconds.values())
    known = {path: value or 0.0 for path, value in seconds.items()}
    named = _named_in_trials(recipe.trials) if recipe.trials is not None and recipe.trials.is_file() else None
    durations: dict[str, dict[str, float]] = {}
    for number, row in enumerate(rows):
        path = row[columns["path"]]
        split = "train" if recipe.unlabelled else row.get(columns["split"]) or recipe.default_split or "train"
        name = row.get(columns["mixture"]) if recipe.kind == "mixtures" else str(number)
        if named is not None and split != "train" and (row.get(columns["id"]) or path.rsplit(".", 1)[0].replace("/", "_")) not in named:
            continue
        end = known[path] + (float(row.get(columns["offset"]) or 0) if recipe.kind == "mixtures" else 0.0)
        of_split = durations.setdefault(split, {})
        of_split[str(name)] = max(end, of_split.get(str(name), 0.0))
    splits = {split: SplitSize.of(found.values()) for split, found in durations.items()}
    if recipe.dev_fraction is not None and "dev" not in splits:
        splits |= {"dev": splits["train"].share(recipe.dev_fraction), "train": splits["train"].share(1 - recipe.dev_fraction)}
    folds = {row.get(columns["fold"]) for row in rows} - {None, ""}
    return CorpusSize(splits, "table", len(folds), f"{unread} recordings cannot be read and count as 0 s" if unread else "")


def _rows(path: Path, files: str = "path") -> list[dict[str, str]]:
    (_, header), *rows = read_table(path, "for the size of the corpus", "Give the CSV file in the experiment.", files=files) or [(1, [])]
    return [dict(zip(header, (cell.strip() for cell in row), strict=False)) for _, row in rows]


def _named_in_trials(path: Path) -> set[str]:
    return {row[column] for row in _rows(path) for column in ("enrolment", "test") if row.get(column)}


def _seconds(path: Path) -> float | None:
    from speechft.corpora.inspection import inspect_recording

    found = inspect_recording(path, 0, decode=False)
    return None if isinstance(found, str) else found.num_samples / found.sampling_rate
