"""Find published corpora below a folder: by the names that their archives unpack to, else by what lies in them."""

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
    """Corpora that were looked for, by name."""

    there: dict[str, PublishedCorpus] = field(default_factory=dict)
    """Their recipes, with the paths at which they were found."""
    absent: dict[str, str] = field(default_factory=dict)
    """Why a corpus cannot be used, and where it can be had."""
    remarks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """What differs from the published corpus, or from SUPERB's reading of it."""


def find_corpora(folder: Path, wanted: Mapping[str, PublishedCorpus], *, partial: bool = False) -> Found:
    """Look for corpora in `folder`, in the folders in it and in those in them. Lists are read, recordings are not.

    Args:
        folder: where the archives were unpacked, each anywhere in it.
        wanted: recipes by name. The last part of each `path` is the name of the folder that the corpus comes in; other files that lie in
            `path` are looked for in the folder that is found.
        partial: take corpora of other sizes than the published ones too, with `complete: false`.

    Raises:
        CorpusError: `folder` is no folder.
    """
    if not folder.is_dir():
        raise CorpusError(f"{folder}: no such folder, needed to look for corpora in. Name the folder that their archives were unpacked in.")
    folders = list(_folders(folder, depth=2))
    corpora = Found()
    for name, recipe in wanted.items():
        try:
            corpora.there[name], corpora.remarks[name] = _find(folders, recipe, partial)
        except CorpusError as error:
            corpora.absent[name] = str(error)
    return corpora


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    """`folder` and the folders below it, by name; hidden ones and those that may not be read are left out."""
    yield folder
    try:
        below = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir()) if depth else []
    except OSError:
        return
    for path in below:
        yield from _folders(path, depth - 1)


def _find(folders: list[Path], wanted: PublishedCorpus, partial: bool) -> tuple[PublishedCorpus, tuple[str, ...]]:
    """The recipe of the first folder that holds the whole corpus, those of its own name first, and what differs.

    Raises:
        CorpusError: there is none; if one is incomplete, it says what is missing.
    """
    own_name = wanted.path.name.casefold()
    problems: list[str] = []
    for folder in sorted(folders, key=lambda path: path.name.casefold() != own_name):
        recipe = _moved(wanted, folder)
        try:
            listing = _listed(recipe)
        except (CorpusError, OSError) as error:  # another corpus, or none
            problems += [str(error)] if folder.name.casefold() == own_name else []
            continue
        different, remarks = differences(sizes_of_lists(listing), complete=True)
        if not listing.problems and (partial or not different):
            changes = {"complete": False} if different else {}
            return recipe.model_copy(update=changes), (*different, *remarks, *listing.notes)
        problems.append(f"{folder}: is not complete. {[*map(str, listing.problems), *different][0]}.")
    raise CorpusError(problems[0] if problems else f"{wanted.path.name} is not there. {reader_of(wanted).SOURCE}")


def _listed(recipe: PublishedCorpus) -> Listing:
    # Pronunciations are looked up when the corpus is prepared: their files may have yet to be downloaded.
    return read_corpus(recipe.model_copy(update={"lexicon": ()}) if hasattr(recipe, "lexicon") else recipe)


def _moved(wanted: PublishedCorpus, folder: Path) -> PublishedCorpus:
    """The recipe with `folder` as the corpus, and with the lists in it, under any of the names that they are known by."""
    changes: dict[str, Any] = {"path": folder}
    others: Mapping[str, tuple[str, ...]] = getattr(reader_of(wanted), "LISTS", {})
    for key in type(wanted).model_fields:
        value = getattr(wanted, key)
        if key != "path" and isinstance(value, Path) and value.is_relative_to(wanted.path):
            places = [folder / value.relative_to(wanted.path), *(folder / name for name in others.get(key, ()))]
            changes[key] = next((place for place in places if place.is_file()), places[0])
    return wanted.model_copy(update=changes)
