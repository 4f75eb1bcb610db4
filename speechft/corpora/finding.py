"""Find published corpora below a folder, by the folder names of their archives, else by their files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from speechft.corpora.prepare import read_corpus, reader_of
from speechft.corpora.published import differences, sizes_of_lists
from speechft.corpora.utterances import Listing
from speechft.errors import CorpusError
from speechft.recipes.corpora import PublishedCorpus


@dataclass
class Found:
    """Result of a search for corpora, by name."""

    there: dict[str, PublishedCorpus] = field(default_factory=dict)
    """Recipes of the corpora found, with their paths."""
    absent: dict[str, str] = field(default_factory=dict)
    """Why a corpus cannot be used, and where to get it."""
    remarks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Differences from the published corpus or from SUPERB's use of it."""


def find_corpora(folder: Path, wanted: Mapping[str, PublishedCorpus], *, partial: bool = False) -> Found:
    """Look for corpora in `folder` and two levels below. Lists are read, recordings are not.

    Args:
        folder: where the archives were unpacked.
        wanted: recipes by name. The last part of each `path` is the folder name of the published archive; other files inside `path` are
            looked for in the folder found.
        partial: also accept corpora whose sizes differ from the published ones, with `complete: false`.

    Raises:
        CorpusError: `folder` is not a folder.
    """
    if not folder.is_dir():
        raise CorpusError(f"{folder}: no such folder, needed to look for corpora. Give the folder that their archives were unpacked in.")
    folders = list(_folders(folder, depth=2))
    corpora = Found()
    for name, recipe in wanted.items():
        try:
            corpora.there[name], corpora.remarks[name] = _find(folders, recipe, partial)
        except CorpusError as error:
            corpora.absent[name] = str(error)
    return corpora


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    """Yield `folder` and the folders below it, by name, without hidden and unreadable ones."""
    yield folder
    try:
        below = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir()) if depth else []
    except OSError:
        return
    for path in below:
        yield from _folders(path, depth - 1)


def _find(folders: list[Path], wanted: PublishedCorpus, partial: bool) -> tuple[PublishedCorpus, tuple[str, ...]]:
    """Return the recipe of the first folder that contains the whole corpus, trying folders of its name first, and the differences.

    Raises:
        CorpusError: there is none; says what is missing if one is incomplete.
    """
    own_name = wanted.path.name.casefold()
    problems: list[str] = []
    for folder in sorted(folders, key=lambda path: path.name.casefold() != own_name):
        recipe = _moved(wanted, folder)
        try:
            listing = _listed(recipe)
        except (CorpusError, OSError) as error:  # not this corpus
            problems += [str(error)] if folder.name.casefold() == own_name else []
            continue
        different, remarks = differences(sizes_of_lists(listing), complete=True)
        if not listing.problems and (partial or not different):
            changes = {"complete": False} if different else {}
            return recipe.model_copy(update=changes), (*different, *remarks, *listing.notes)
        problems.append(f"{folder}: incomplete. {[*map(str, listing.problems), *different][0]}.")
    raise CorpusError(problems[0] if problems else f"{wanted.path.name} was not found. {reader_of(wanted).SOURCE}")


def _listed(recipe: PublishedCorpus) -> Listing:
    # Lexicons may not be downloaded yet; preparing the corpus checks them.
    return read_corpus(recipe.model_copy(update={"lexicon": ()}) if hasattr(recipe, "lexicon") else recipe)


def _moved(wanted: PublishedCorpus, folder: Path) -> PublishedCorpus:
    """Point the recipe to the corpus in `folder`, and its lists to the files there under any of their published names."""
    changes: dict[str, Any] = {"path": folder}
    others: Mapping[str, tuple[str, ...]] = getattr(reader_of(wanted), "LISTS", {})
    for key in type(wanted).model_fields:
        value = getattr(wanted, key)
        if key != "path" and isinstance(value, Path) and value.is_relative_to(wanted.path):
            places = [folder / value.relative_to(wanted.path), *(folder / name for name in others.get(key, ()))]
            changes[key] = next((place for place in places if place.is_file()), places[0])
    return wanted.model_copy(update=changes)
