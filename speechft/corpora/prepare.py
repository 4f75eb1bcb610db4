"""Prepare a corpus on disk: check it and write its manifests."""

from __future__ import annotations

import dataclasses
import inspect
from collections import Counter
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from speechft.conventions import MANIFEST_SUFFIX, SPLITS
from speechft.corpora.annotations import checked_trials, with_turns
from speechft.corpora.examination import Checked, Recipe, examine
from speechft.corpora.first import first_utterances
from speechft.corpora.manifests import cut_values, write_manifest
from speechft.corpora.published import agrees
from speechft.corpora.readers.mixtures import render_mixtures
from speechft.corpora.splits import final_splits
from speechft.corpora.trials import TRIALS, Trial, read_trials, write_trials
from speechft.corpora.unchanged import CORPUS, note_recordings
from speechft.corpora.utterances import Count, Listing
from speechft.errors import CorpusError, SpeechFTError
from speechft.files.atomic import atomic_directory
from speechft.files.hashes import sha256_file, sha256_json
from speechft.files.outputs import check_folder
from speechft.files.structured import write_json
from speechft.files.text import on_disk
from speechft.own_code import line_of, said
from speechft.recipes.corpora import READERS, CorpusRecipe, PluginCorpus
from speechft.tasks.unknown import unknown_text

_MODULES = {"csv": "csv_corpus", "aishell1": "aishell", "aishell3": "aishell"}
"""Kind of corpus -> module of `speechft.corpora.readers`, if the names differ."""
MADE_BY = "prepare"


def prepare_corpus(recipe: Recipe, out_dir: Path, threads: int = 1) -> dict[str, Any]:
    """Check a corpus completely and write its manifests.

    Recordings are decoded in `threads` processes. A script that uses more than one must run its own code under
    `if __name__ == "__main__":`, as Python's `multiprocessing` requires.

    `out_dir` receives `{train,dev,test}.jsonl.gz` for the splits that exist, `trials.csv` if the corpus has trials, `audio/*.flac` and
    `turns.rttm` for `kind: mixtures`, and `corpus.json`, whose content is returned:

    - `splits`: for each, utterances, hours, speakers, rows without text / speaker / label, recordings in each fold, sha256 of the manifest;
    - `sampling_rates` (Hz -> recordings), `recipe`, `trials` (number for each split, sha256);
    - `content_sha256` of ids, splits, text, speakers, labels, further columns, folds, phones, turns, relevant documents, channels and the
      bytes of every recording. It does not depend on where the corpus is; the hashes of the manifests do, since these contain absolute
      paths;
    - `published`: sizes of a published corpus, as published and as found; `order`, if the corpus can be read in several orders; `notes`
      on differences from SUPERB; `unknown`: what becomes `<unk>` in transcripts (`speechft.tasks.unknown`).

    Raises:
        CorpusError: the corpus has problems, all listed in `problems`. Nothing is written.
        OutputError: `out_dir` contains something other than older manifests, or an input.
    """
    check_folder(out_dir, MADE_BY, [recipe.path, getattr(recipe, "rttm", None), getattr(recipe, "trials", None)])
    if not isinstance(recipe, CorpusRecipe) or recipe.kind != "mixtures":
        listing = with_turns(recipe, read_corpus(recipe))
        check_folder(out_dir, MADE_BY, dict.fromkeys(utterance.path for utterance in listing.utterances))
        checked, trials, sizes = _check(recipe, listing, threads)
        with atomic_directory(out_dir, MADE_BY) as directory:
            return _write(recipe, checked, trials, directory, sizes, listing)
    with atomic_directory(out_dir, MADE_BY) as directory:
        listing = render_mixtures(recipe, directory)
        checked, trials, sizes = _check(recipe, listing, threads)
        return _write(recipe, [_moved(pair, directory, out_dir) for pair in checked], trials, directory, sizes, listing)


def _moved(pair: Checked, directory: Path, out_dir: Path) -> Checked:
    """Rename a recording of `directory` to its path after the directory is moved to `out_dir`."""
    utterance, facts = pair
    path = out_dir.resolve() / facts.path.relative_to(directory)
    return dataclasses.replace(utterance, path=path), dataclasses.replace(facts, path=path)


def _check(recipe: Recipe, listing: Listing, threads: int) -> tuple[list[Checked], dict[str, list[Trial]], list[tuple[Count, float]]]:
    """Return the intact recordings, trials, and published sizes with those found; report all problems in one error."""
    examination = examine(recipe, listing, decode=True, threads=threads)
    if problems := sorted(examination.problems):
        rows = len({problem.row for problem in problems if problem.row})
        where = f" in {rows} row{'s' if rows > 1 else ''}" if rows else ""
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}{where}"
        raise CorpusError(f"{recipe.path}: {count}; no manifest was written.", [str(problem) for problem in problems])
    final = final_splits(recipe, listing.utterances, examination.seconds)
    checked = [(utterance, examination.checked[place][1]) for place, utterance in final.items()]
    return checked, checked_trials(recipe, listing.trials, [utterance for utterance, _ in checked]), examination.sizes


def read_corpus(recipe: Recipe) -> Listing:
    """List a corpus, or its `first` utterances, without reading recordings.

    Raises:
        CorpusError: its folder or a list is missing or unreadable, or the reader of a plug-in fails.
    """
    listing = _listing(recipe)
    spelt = ((utterance, on_disk(utterance.path)) for utterance in listing.utterances)
    utterances = [utterance if path is utterance.path else dataclasses.replace(utterance, path=path) for utterance, path in spelt]
    listing = dataclasses.replace(listing, utterances=utterances)
    if recipe.first is None:
        return listing
    if isinstance(recipe, CorpusRecipe) and recipe.trials:
        listing = dataclasses.replace(listing, trials=tuple(read_trials(recipe.trials)))
    return first_utterances(listing, recipe.first, str(recipe.path))


def _listing(recipe: Recipe) -> Listing:
    """Run the reader of the corpus."""
    if not isinstance(recipe, PluginCorpus):
        ours: Listing = getattr(reader_of(recipe), f"read_{_kind(recipe)}")(recipe)
        return ours
    reader, name = READERS[recipe.reader], f"reader {recipe.reader!r}"
    try:
        listing = reader(recipe.path, **recipe.options)
    except SpeechFTError:
        raise
    except Exception as error:
        source = Path(inspect.getsourcefile(reader) or "")
        raise CorpusError(f"{recipe.path}: {name} fails ({said(error)}; {source}, line {line_of(error, source)}).") from error
    if not isinstance(listing, Listing):
        raise CorpusError(f"{recipe.path}: {name} returns a {type(listing).__name__}. Return a Listing, for example Reading.listing().")
    return listing


def published_sizes(recipe: Recipe) -> tuple[Count, ...]:
    """Return the published sizes of a corpus, which need not exist on disk."""
    if isinstance(recipe, PluginCorpus):
        return ()
    sizes: Any = getattr(reader_of(recipe), "EXPECTED", ())
    # AISHELL is two corpora, and VoxCeleb1 has two sets of splits.
    return tuple(sizes[getattr(recipe, "use", _kind(recipe))] if isinstance(sizes, dict) else sizes)


def reader_of(recipe: Recipe) -> ModuleType:
    """Return the module of `speechft.corpora.readers` that reads a corpus. SOURCE in it says where to get a published corpus."""
    kind = _kind(recipe)
    return import_module(f"speechft.corpora.readers.{_MODULES.get(kind, kind)}")


def _kind(recipe: Recipe) -> str:
    return str(getattr(recipe, "kind"))  # noqa: B009 (every class of recipe has a kind, and their base has none)


def _write(
    recipe: Recipe,
    checked: list[Checked],
    trials: dict[str, list[Trial]],
    directory: Path,
    sizes: list[tuple[Count, float]],
    listing: Listing,
) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "splits": {},
        "sampling_rates": {str(rate): count for rate, count in sorted(Counter(facts.sampling_rate for _, facts in checked).items())},
        "content_sha256": _content_sha256(checked),
        "recipe": recipe.model_dump(mode="json"),
    }
    for split in SPLITS:
        members = [(utterance, facts) for utterance, facts in checked if utterance.split == split]
        if members:
            manifest = directory / f"{split}{MANIFEST_SUFFIX}"
            write_manifest(manifest, (cut_values(utterance, facts) for utterance, facts in members))
            summary["splits"][split] = {**_describe(members), "sha256": sha256_file(manifest)}
    texts = {split: [utterance.text for utterance, _ in checked if utterance.split == split and utterance.text] for split in SPLITS}
    if unknown := unknown_text({split: of_split for split, of_split in texts.items() if of_split}):
        summary["unknown"] = unknown
    note_recordings(directory, (facts for _, facts in checked))
    if trials:
        write_trials(directory / TRIALS, (trial for of_split in trials.values() for trial in of_split))
        summary["trials"] = {**{split: len(of_split) for split, of_split in trials.items()}, "sha256": sha256_file(directory / TRIALS)}
    if sizes:
        summary["published"] = [
            {"split": count.split, "what": count.what, "published": count.number, "found": found, "agrees": agrees(count, found)}
            for count, found in sizes
        ]
    if listing.order is not None:
        summary["order"] = listing.order
    if listing.notes:
        summary["notes"] = list(listing.notes)
    write_json(directory / CORPUS, summary)
    return summary


def _describe(members: list[Checked]) -> dict[str, Any]:
    utterances = [utterance for utterance, _ in members]
    folds = Counter(utterance.fold for utterance in utterances if utterance.fold is not None)
    seconds = sum(facts.num_samples / facts.sampling_rate for _, facts in members)
    return {
        "utterances": len(members),
        "hours": round(seconds / 3600, 6),
        "speakers": len({speaker for utterance in utterances for speaker in utterance.speakers}),
        "without_text": sum(utterance.text is None for utterance in utterances),
        "without_speaker": sum(not utterance.speakers for utterance in utterances),
        "without_label": sum(utterance.label is None for utterance in utterances),
        **({"folds": dict(sorted(folds.items()))} if folds else {}),
    }


def _content_sha256(checked: list[Checked]) -> str:
    rows = []
    for utterance, facts in checked:
        values = [utterance.id, utterance.split, utterance.text, utterance.speaker, utterance.label, facts.channel, facts.sha256]
        rows.append(values if utterance.fold is None and not utterance.phones else [*values, utterance.fold, *(utterance.phones or ())])
        if facts.of_samples is not None:
            rows[-1] = [*rows[-1], facts.first_sample, facts.num_samples]
        if utterance.labels:
            rows[-1] = [*rows[-1], dict(sorted(utterance.labels.items()))]
        if utterance.turns or utterance.relevant:
            rows[-1] = [*rows[-1], utterance.relevant, *(dataclasses.astuple(turn) for turn in utterance.turns)]
    return sha256_json(rows)
