"""The user's CSV corpus: a table with one recording per row."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from speechft.conventions import SPLITS
from speechft.corpora.phones import parse_phones
from speechft.corpora.splits import wrong_split
from speechft.corpora.utterances import Listing, Problem, Utterance
from speechft.errors import CorpusError, nearest
from speechft.files.csv_tables import printable, read_table, row_complaints
from speechft.files.text import nfc, on_disk
from speechft.recipes.corpora import COLUMNS, CorpusRecipe

_OF_SUPERVISION = ("text", "speaker", "label", "fold", "relevant")
LIST_OF_RECORDINGS = ("as the list of recordings", "Give the CSV file as `path` of the corpus.")


def read_csv(recipe: CorpusRecipe) -> Listing:
    """Read the table of a CSV corpus; other columns are kept as further labels, and empty cells count as absent.

    Problems in single rows are recorded in the listing.

    Raises:
        CorpusError: the file is missing, has no header or no `path` column, or does not fit `columns`.
    """
    table = read_table(recipe.path, *LIST_OF_RECORDINGS, files=nfc(recipe.columns.get("path", "path")))
    if not table:
        raise CorpusError(f"{recipe.path}: empty file. The first row must name the columns, for example path,text,speaker,label,split.")
    (_, header), rows = table[0], table[1:]
    columns = _find_columns(recipe, header)
    problems: list[Problem] = []
    parsed: list[tuple[int, dict[str, str]]] = []
    labels: dict[int, dict[str, str]] = {}
    further = {name: place for place, name in enumerate(header) if name and place not in columns.values()}
    for row, values in rows:
        complaints = row_complaints(values, header)
        if complaints:
            problems += [Problem(row, complaint) for complaint in complaints]
            continue
        cells = {ours: values[index].strip() for ours, index in columns.items()}
        if not cells["path"]:
            problems.append(Problem(row, f"column {header[columns['path']]!r} is empty"))
            continue
        if not Path(cells["path"]).name:
            problems.append(Problem(row, f"path {cells['path']!r} names no file"))
            continue
        labels[row] = {name: values[place].strip() for name, place in further.items() if values[place].strip()}
        parsed.append((row, cells))
    if not rows:
        problems.append(Problem(0, "has a header but no rows"))
    if parsed and "split" not in columns and recipe.default_split is None and not recipe.unlabelled:
        problems.append(Problem(0, "no row has a split: add a column 'split', or set `default_split` of the corpus"))
    utterances, row_problems = _to_utterances(recipe, parsed)
    if not recipe.unlabelled:
        utterances = [dataclasses.replace(utterance, labels=labels[utterance.row]) for utterance in utterances]
    return Listing(utterances, sorted(problems + row_problems))


def _find_columns(recipe: CorpusRecipe, header: list[str]) -> dict[str, int]:
    """Map our column names to positions in the table."""
    names = [printable(name) for name in header]
    problems = [f"row 1: column {name!r} comes {count} times" for name, count in Counter(filter(None, names)).items() if count > 1]
    theirs_of = {ours: nfc(theirs) for ours, theirs in recipe.columns.items()}
    for ours, theirs in theirs_of.items():
        if ours not in COLUMNS:
            problems.append(f"`columns` maps {ours!r}, which is not one of {', '.join(COLUMNS)}")
        elif theirs not in names:
            hint = f".{nearest(theirs, names)} It has: {', '.join(names)}"
            problems.append(f"`columns` maps {ours!r} to {theirs!r}, which is not a column of the table{hint}")
    places = {ours: names.index(theirs) for ours in COLUMNS if (theirs := theirs_of.get(ours, ours)) in names}
    if "path" not in places and "path" not in recipe.columns:
        remedy = "name the column of audio files in `columns`, for example columns: {path: file}"
        problems.append(f"row 1: there is no column 'path'; {remedy}. Columns: {', '.join(names)}")
    if problems:
        raise CorpusError(f"{recipe.path}: its columns are invalid", problems)
    return places


def _to_utterances(recipe: CorpusRecipe, parsed: list[tuple[int, dict[str, str]]]) -> tuple[list[Utterance], list[Problem]]:
    root = recipe.path.parent if recipe.audio_root is None else recipe.audio_root
    problems: list[Problem] = []
    ids = _default_ids([cells["path"] for _, cells in parsed])
    rows_of_id: dict[str, int] = {}
    rows_of_path: dict[Path, int] = {}
    utterances: list[Utterance] = []
    for row, cells in parsed:
        path = on_disk(root / cells["path"]).resolve()
        identifier = cells.get("id") or ids[cells["path"]]
        if path in rows_of_path:
            problems.append(Problem(row, f"{path}: is already in row {rows_of_path[path]}"))
        elif identifier in rows_of_id:
            problems.append(Problem(row, f"id {identifier!r} is already in row {rows_of_id[identifier]}"))
        rows_of_path.setdefault(path, row)
        rows_of_id.setdefault(identifier, row)
        split = "train" if recipe.unlabelled else cells.get("split") or recipe.default_split or ""
        if split and split not in SPLITS:
            problems.append(Problem(row, wrong_split(split)))
        elif not split and "split" in cells:
            problems.append(Problem(row, f"its split is empty; write one of {', '.join(SPLITS)}"))
        supervision: dict[str, Any] = {} if recipe.unlabelled else {key: cells.get(key) or None for key in _OF_SUPERVISION}
        phones = None
        if cells.get("phones") and not recipe.unlabelled:
            try:
                phones = parse_phones(cells["phones"])
            except ValueError as error:
                problems.append(Problem(row, f"phones: {error}"))
        utterances.append(Utterance(row, identifier, path, split, **supervision, phones=phones))
    return utterances, problems


def _default_ids(paths: list[str]) -> dict[str, str]:
    """Derive ids from paths: without suffix, slashes replaced by underscores, plus a hash of the path if two ids would be equal."""
    plain = {path: nfc(str(Path(path).with_suffix("")).strip("/").replace("/", "_")) for path in paths}
    users: defaultdict[str, list[str]] = defaultdict(list)
    for path, identifier in plain.items():
        users[identifier].append(path)
    return {
        path: identifier if len(users[identifier]) == 1 else f"{identifier}-{hashlib.sha1(path.encode()).hexdigest()[:8]}"
        for path, identifier in plain.items()
    }
