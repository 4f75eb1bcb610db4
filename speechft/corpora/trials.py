"""Speaker verification trials: pairs of recordings with whether their speaker is the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from speechft.conventions import Manifests
from speechft.errors import CorpusError
from speechft.files.csv_tables import read_table, row_complaints, write_table

TRIALS = "trials.csv"
"""File name of the trials in a folder of manifests."""
COLUMNS = ("label", "enrolment", "test")
SCORED_SPLITS = ("dev", "test")


@dataclass(frozen=True)
class Trial:
    """Ids of two recordings; `same` if both have the same speaker."""

    same: bool
    enrolment: str
    test: str


def read_trials(path: Path) -> list[Trial]:
    """Read a CSV file with the columns label (1 = same speaker, 0 = different), enrolment and test (ids of recordings).

    Raises:
        CorpusError: the file is missing or empty, or has other columns or invalid rows (all listed).
    """
    rows = read_table(path, "as the list of trials", "Give the CSV file as `trials` of the corpus.")
    header = rows[0][1] if rows else []
    if any(header.count(name) != 1 for name in COLUMNS):
        raise CorpusError(f"{path}: its first row must name the columns {', '.join(COLUMNS)}; found {', '.join(header) or 'nothing'}.")
    trials: list[Trial] = []
    problems: list[str] = []
    for number, row in rows[1:]:
        if complaints := row_complaints(row, header):
            problems += [f"row {number}: {complaint}" for complaint in complaints]
            continue
        cells = dict(zip(header, (cell.strip() for cell in row), strict=False))
        label, enrolment, test = (cells.get(name, "") for name in COLUMNS)
        if label not in ("0", "1") or not enrolment or not test:
            problems.append(f"row {number}: label {label!r}, enrolment {enrolment!r}, test {test!r}; write 1 or 0 and two ids")
        trials.append(Trial(label == "1", enrolment, test))
    if problems:
        raise CorpusError(f"{path}: {len(problems)} row(s) are not trials", problems)
    if not trials:
        raise CorpusError(f"{path}: has a header but no trials.")
    return trials


def write_trials(path: Path, trials: Iterable[Trial]) -> None:
    """Write trials as a CSV file for `read_trials`."""
    write_table(path, [COLUMNS, *((int(trial.same), trial.enrolment, trial.test) for trial in trials)])


def trials_by_split(trials: Sequence[Trial], split_of: Mapping[str, str], source: str) -> dict[str, list[Trial]]:
    """Divide trials into those of dev and test. `split_of` maps ids of recordings to splits.

    Raises:
        CorpusError: an id is unknown, or the recordings of a trial are not both in dev or both in test; all are listed.
    """
    by_split: dict[str, list[Trial]] = {split: [] for split in SCORED_SPLITS}
    unknown: Counter[str] = Counter()
    problems: list[str] = []
    for trial in trials:
        missing = {trial.enrolment, trial.test} - split_of.keys()
        if missing:
            unknown.update(missing)
            continue
        splits = split_of[trial.enrolment], split_of[trial.test]
        if splits[0] == splits[1] and splits[0] in by_split:
            by_split[splits[0]].append(trial)
        else:
            problems.append(f"{trial.enrolment} ({splits[0]}) with {trial.test} ({splits[1]}): both must be in dev, or both in test")
    if unknown or problems:
        lines = [f"{name}: no recording has this id ({count} trial(s))" for name, count in sorted(unknown.items())]
        heading = f"{source}: {len(unknown)} unknown id(s), {len(problems)} trial(s) between wrong splits. Correct the list or the corpus."
        raise CorpusError(heading, [*lines, *problems])
    return by_split


def trials_path(manifests: Manifests) -> Path:
    """Return the path of a prepared corpus's trials: `trials.csv` in its folder, or the entry `trials` of a mapping of splits.

    Raises:
        CorpusError: a mapping has no `trials`.
    """
    if not isinstance(manifests, Mapping):
        return Path(manifests) / TRIALS
    if "trials" not in manifests:
        there = ", ".join(manifests)
        raise CorpusError(f"the given manifests: no trials, which ASV needs. Add their file as 'trials'; given: {there}.")
    return Path(manifests["trials"])
