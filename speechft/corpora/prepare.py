"""From a corpus on disk to checked manifests."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from speechft.corpora.annotations import checked_trials, relevance_problems, turn_problems, with_turns
from speechft.corpora.first import first_utterances
from speechft.corpora.inspection import NO_SUCH_FILE, RecordingFacts, inspect_all
from speechft.corpora.manifests import SUFFIX, make_cut, write_manifest
from speechft.corpora.mixtures import render_mixtures
from speechft.corpora.phones import TOLERANCE_SECONDS
from speechft.corpora.published import agrees, counted, difference
from speechft.corpora.splits import SPLITS, choose_dev
from speechft.corpora.ted_subset import TRAIN_HOURS, ted_subset
from speechft.corpora.trials import TRIALS, Trial, read_trials, write_trials
from speechft.corpora.utterances import Count, Listing, Problem, Utterance
from speechft.corpus_recipes import PublishedCorpus
from speechft.errors import CorpusError
from speechft.files import atomic_directory, sha256_file, sha256_json, write_json
from speechft.recipes import CorpusRecipe

# Kind of corpus -> module, and in it the function that lists the recordings and, of a published corpus, the sizes that were published.
# Everything after the listing is common to all kinds; mixtures, which
# are made on the way, have no recordings to list before.
_READERS: dict[str, tuple[str, str, str | None]] = {
    "csv": ("speechft.corpora.csv_corpus", "read_csv_corpus", None),
    "librispeech": ("speechft.corpora.librispeech", "read_librispeech", "EXPECTED"),
    "voxceleb1": ("speechft.corpora.voxceleb1", "read_voxceleb1", "SIZES"),
    "speech_commands": ("speechft.corpora.speech_commands", "read_speech_commands", "EXPECTED"),
    "fluent_speech_commands": ("speechft.corpora.fluent_speech_commands", "read_fluent_speech_commands", "EXPECTED"),
    "iemocap": ("speechft.corpora.iemocap", "read_iemocap", "EXPECTED"),
    "audio_snips": ("speechft.corpora.audio_snips", "read_audio_snips", "EXPECTED"),
    "quesst14": ("speechft.corpora.quesst14", "read_quesst14", "EXPECTED"),
    "libri2mix": ("speechft.corpora.libri2mix", "read_libri2mix", "EXPECTED"),
    "timit": ("speechft.corpora.timit", "read_timit", "EXPECTED"),
    "tedlium3": ("speechft.corpora.tedlium3", "read_tedlium3", "EXPECTED"),
    "crema_d": ("speechft.corpora.crema_d", "read_crema_d", "EXPECTED"),
    "aishell3": ("speechft.corpora.aishell", "read_aishell3", "EXPECTED_3"),
    "aishell1": ("speechft.corpora.aishell", "read_aishell1", "EXPECTED_1"),
}
Recipe = CorpusRecipe | PublishedCorpus
TOLERANCE_PART_SECONDS = 1.0
"""By which a part may end after its recording; it then ends with it. Transcribers of talks mark the last segment past the end."""
Checked = tuple[Utterance, RecordingFacts]


def prepare_corpus(recipe: Recipe, out_dir: Path) -> dict[str, Any]:
    """Check a corpus completely and write its manifests.

    `out_dir` receives `{train,dev,test}.jsonl.gz` for the splits that exist, and `corpus.json`, which is also returned:
    `splits` (each: utterances, hours, speakers, rows without text / speaker / label, sha256 of the manifest), `sampling_rates`
    (Hz -> recordings), `recipe` and `content_sha256`. The last one covers ids, splits, text, speakers, labels, folds, phones, turns,
    relevant documents, channels and the bytes of every recording, but not where the corpus lies; manifests hold absolute paths, so their
    hashes do change with it. A split whose recordings name folds has `folds` too: fold -> recordings. With `trials` of the recipe there
    is a copy of the list, `trials.csv`, and `trials` in the summary: number for each split, sha256. With `kind: mixtures` there are the
    mixtures too, `audio/*.flac`, and their turns, `turns.rttm`. A published corpus has `published`: its sizes as they were published and
    as they are; `order`, where it can be read in several orders; and `notes`, where what was read is not what SUPERB reads.

    Raises:
        CorpusError: anything is wrong; every problem of every row is in `problems`. Nothing is written then.
    """
    if not isinstance(recipe, CorpusRecipe) or recipe.kind != "mixtures":
        listing = with_turns(recipe, read_corpus(recipe))
        checked, trials, sizes = _check(recipe, listing)
        with atomic_directory(out_dir) as directory:
            return _write(recipe, checked, trials, directory, sizes, listing)
    with atomic_directory(out_dir) as directory:
        listing = render_mixtures(recipe, directory)
        checked, trials, sizes = _check(recipe, listing)
        return _write(recipe, [_moved(found, directory, out_dir) for found in checked], trials, directory, sizes, listing)


def _moved(found: Checked, directory: Path, out_dir: Path) -> Checked:
    """A recording of `directory`, named as it will be once the directory has become `out_dir`."""
    utterance, facts = found
    path = out_dir.resolve() / facts.path.relative_to(directory)
    return dataclasses.replace(utterance, path=path), dataclasses.replace(facts, path=path)


def _check(recipe: Recipe, listing: Listing) -> tuple[list[Checked], dict[str, list[Trial]], list[tuple[Count, float]]]:
    """Recordings that are intact, trials, and published sizes with what was found; everything wrong is one error."""
    problems = [*listing.problems, *_split_problems(recipe, listing), *relevance_problems(listing.utterances)]
    problems += [Problem(0, sentence) for sentence in listing.to_fetch]
    paths = list(dict.fromkeys(utterance.path for utterance in listing.utterances))
    of_path = dict(zip(paths, inspect_all(paths, recipe.channel, f"checking {recipe.path.name}"), strict=True))
    results = [of_path[utterance.path] for utterance in listing.utterances]
    unfound = all(isinstance(result, str) and result.endswith(NO_SUCH_FILE) for result in results)
    if isinstance(recipe, CorpusRecipe) and len(results) > 1 and unfound:
        problems.append(Problem(0, "not one recording is where the table says; set `audio_root` to the folder that its paths start from"))
    checked: list[Checked] = []
    for utterance, result in zip(listing.utterances, results, strict=True):
        if not isinstance(result, str):
            result = _part(utterance, result)
        if isinstance(result, str):
            problems.append(Problem(utterance.row, result))
        else:
            problems += [*_phone_problems(utterance, result), *turn_problems(utterance, result)]
            checked.append((utterance, result))
    seconds = [facts.num_samples / facts.sampling_rate for _, facts in checked]
    sizes = [(count, counted(count, [utterance for utterance, _ in checked], seconds)) for count in listing.expected]
    if isinstance(recipe, PublishedCorpus) and recipe.complete and len(checked) == len(results):
        problems += [Problem(0, difference(count, found)) for count, found in sizes if count.certain and not agrees(count, found)]
    if problems:
        raise _report(recipe, sorted(set(problems)))
    if getattr(recipe, "subset", None) == "tedlium":
        checked = _ted_subset(checked)
    if recipe.dev_fraction is not None:
        checked = _with_dev_split(checked, recipe.dev_fraction)
    return checked, checked_trials(recipe, listing.trials, [utterance for utterance, _ in checked]), sizes


def _part(utterance: Utterance, facts: RecordingFacts) -> RecordingFacts | str:
    """Facts about the part of a recording that an utterance is, or why there is none; the whole recording where no time is given."""
    if utterance.start is None or utterance.end is None:
        return facts
    first, end = round(utterance.start * facts.sampling_rate), round(utterance.end * facts.sampling_rate)
    seconds = facts.num_samples / facts.sampling_rate
    if not 0 <= first < end or end > facts.num_samples + TOLERANCE_PART_SECONDS * facts.sampling_rate or first >= facts.num_samples:
        return f"{facts.path}: {utterance.id} is from {utterance.start:g} s to {utterance.end:g} s, the recording lasts {seconds:g} s"
    end = min(end, facts.num_samples)
    return dataclasses.replace(facts, num_samples=end - first, first_sample=first, of_samples=facts.num_samples)


def _phone_problems(utterance: Utterance, facts: RecordingFacts) -> list[Problem]:
    seconds = facts.num_samples / facts.sampling_rate
    if not utterance.phones or utterance.phones[-1][2] <= seconds + TOLERANCE_SECONDS:
        return []
    return [Problem(utterance.row, f"{facts.path}: its last phone ends at {utterance.phones[-1][2]:g} s, the recording at {seconds:g} s")]


def _report(recipe: Recipe, problems: list[Problem]) -> CorpusError:
    rows = len({problem.row for problem in problems if problem.row})
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    where = f" in {rows} row{'s' if rows > 1 else ''}" if rows else ""
    return CorpusError(f"{recipe.path}: {count}{where}; no manifest was written.", [str(problem) for problem in problems])


def read_corpus(recipe: Recipe) -> Listing:
    """What a corpus lists, or the `first` of it, before any recording is looked at.

    Raises:
        CorpusError: its folder or a list in it is missing or can not be read.
    """
    module, function, _ = _READERS[_kind(recipe)]
    reader: Callable[[Recipe], Listing] = getattr(import_module(module), function)
    listing = reader(recipe)
    if recipe.first is None:
        return listing
    if isinstance(recipe, CorpusRecipe) and recipe.trials:
        listing = dataclasses.replace(listing, trials=tuple(read_trials(recipe.trials)))
    return first_utterances(listing, recipe.first, str(recipe.path))


def published_sizes(recipe: Recipe) -> tuple[Count, ...]:
    """Sizes that were published of a corpus, whether or not it is there."""
    module, _, name = _READERS.get(_kind(recipe), ("", "", None))
    if name is None:
        return ()
    sizes: Any = getattr(import_module(module), name)
    # VoxCeleb1 has two divisions.
    return tuple(sizes[getattr(recipe, "use", "")] if isinstance(sizes, dict) else sizes)


def _kind(recipe: Recipe) -> str:
    return str(getattr(recipe, "kind"))  # noqa: B009 (every class of recipe has a kind, and their base has none)


def _split_problems(recipe: Recipe, listing: Listing) -> list[Problem]:
    """Splits that must have rows and have none."""
    sizes = Counter(utterance.split for utterance in listing.utterances)
    if not sizes or not any(split in sizes for split in SPLITS):
        return []  # there are no rows, or none with a valid split: reported already
    problems = []
    searched = any(utterance.relevant for utterance in listing.utterances)  # queries and documents: nothing is trained on them
    if not sizes["train"] and recipe.default_split in (None, "train") and not searched:
        problems.append(Problem(0, "split 'train' is empty: no row belongs to it"))
    if recipe.dev_fraction is not None:
        if sizes["dev"]:
            problems.append(Problem(0, f"`dev_fraction` is set, but {sizes['dev']} rows are in split 'dev' already; remove one of the two"))
        elif sizes["train"] < 2:
            problems.append(Problem(0, f"`dev_fraction` divides split 'train', which has {sizes['train']} row(s); it takes 2"))
    return problems


def _ted_subset(checked: list[Checked]) -> list[Checked]:
    """What the fine-tuning on TED-LIUM 3 uses of each split: ten hours of train, all of the others."""
    kept: set[int] = set()
    for split in SPLITS:
        members = [(number, found) for number, found in enumerate(checked) if found[0].split == split]
        # Rates may differ within a corpus; lengths are compared in samples of 16 kHz.
        segments = [(round(facts.num_samples * 16_000 / facts.sampling_rate), utterance.text or "") for _, (utterance, facts) in members]
        chosen = ted_subset(segments, 16_000, TRAIN_HOURS if split == "train" else None)
        kept |= {members[position][0] for position in chosen}
    return [found for number, found in enumerate(checked) if number in kept]


def _with_dev_split(checked: list[Checked], fraction: float) -> list[Checked]:
    dev = choose_dev([utterance.id for utterance, _ in checked if utterance.split == "train"], fraction)
    return [(dataclasses.replace(utterance, split="dev") if utterance.id in dev else utterance, facts) for utterance, facts in checked]


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
            manifest = directory / f"{split}{SUFFIX}"
            write_manifest(manifest, (make_cut(utterance, facts) for utterance, facts in members))
            summary["splits"][split] = {**_describe(members), "sha256": sha256_file(manifest)}
    if trials:
        write_trials(directory / TRIALS, (trial for found in trials.values() for trial in found))
        summary["trials"] = {**{split: len(found) for split, found in trials.items()}, "sha256": sha256_file(directory / TRIALS)}
    if sizes:
        summary["published"] = [
            {"split": count.split, "what": count.what, "published": count.number, "found": found, "agrees": agrees(count, found)}
            for count, found in sizes
        ]
    if listing.order is not None:
        summary["order"] = listing.order
    if listing.notes:
        summary["notes"] = list(listing.notes)
    write_json(directory / "corpus.json", summary)
    return summary


def _describe(members: list[Checked]) -> dict[str, Any]:
    utterances = [utterance for utterance, _ in members]
    folds = Counter(utterance.fold for utterance in utterances if utterance.fold is not None)
    seconds = sum(facts.num_samples / facts.sampling_rate for _, facts in members)
    return {
        "utterances": len(members),
        "hours": round(seconds / 3600, 6),
        "speakers": len({speaker for utterance in utterances for speaker in _speakers(utterance)}),
        "without_text": sum(utterance.text is None for utterance in utterances),
        "without_speaker": sum(not _speakers(utterance) for utterance in utterances),
        "without_label": sum(utterance.label is None for utterance in utterances),
        **({"folds": dict(sorted(folds.items()))} if folds else {}),
    }


def _speakers(utterance: Utterance) -> set[str]:
    named: list[str | None] = [turn.speaker for turn in utterance.turns]
    return {speaker for speaker in named or [utterance.speaker] if speaker is not None}


def _content_sha256(checked: list[Checked]) -> str:
    rows = []
    for utterance, facts in checked:
        values = [utterance.id, utterance.split, utterance.text, utterance.speaker, utterance.label, facts.channel, facts.sha256]
        rows.append(values if utterance.fold is None and not utterance.phones else [*values, utterance.fold, *(utterance.phones or ())])
        if facts.of_samples is not None:
            rows[-1] = [*rows[-1], facts.first_sample, facts.num_samples]
        if utterance.turns or utterance.relevant:
            rows[-1] = [*rows[-1], utterance.relevant, *(dataclasses.astuple(turn) for turn in utterance.turns)]
    return sha256_json(rows)
