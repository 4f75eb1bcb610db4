"""Union of several prepared corpora."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechft.conventions import MANIFEST_SUFFIX, SPLITS
from speechft.corpora.manifests import load_split, values_of, write_manifest
from speechft.corpora.trials import TRIALS, read_trials, write_trials
from speechft.corpora.unchanged import CORPUS, unite_notes
from speechft.errors import CorpusError, missing_file
from speechft.files.atomic import atomic_directory
from speechft.files.hashes import sha256_file, sha256_json
from speechft.files.outputs import check_folder
from speechft.files.structured import read_json_mapping, write_json


def unite_corpora(folders: Sequence[str | Path], out_dir: str | Path) -> dict[str, Any]:
    """Concatenate prepared corpora split by split, in the order of `folders`, with their trials.

    A corpus without a split adds nothing to it. `out_dir` receives the manifests and `corpus.json`, whose content is returned.

    Raises:
        CorpusError: a folder is not a prepared corpus, or two recordings have the same id.
        OutputError: `out_dir` contains something other than an older union, or is an input.
    """
    members = [Path(folder) for folder in folders]
    check_folder(out_dir, "unite", members)
    descriptions = [_description(folder) for folder in members]
    summary: dict[str, Any] = {
        "splits": {},
        "of": [folder.name for folder in members],
        "content_sha256": sha256_json([description["content_sha256"] for description in descriptions]),
    }
    origin: dict[str, Path] = {}
    with atomic_directory(out_dir, "unite") as directory:
        for split in SPLITS:
            cuts = []
            for folder, description in zip(members, descriptions, strict=True):
                for cut in load_split(folder, split) if split in description["splits"] else ():
                    if cut.id in origin:
                        where = f"{folder}: recording id {cut.id!r} is also in {origin[cut.id]}"
                        raise CorpusError(f"{where}. Change the ids in one of the corpora.")
                    origin[cut.id] = folder
                    cuts.append(cut)
            if cuts:
                manifest = directory / f"{split}{MANIFEST_SUFFIX}"
                write_manifest(manifest, map(values_of, cuts))
                hours = round(sum(cut.duration for cut in cuts) / 3600, 6)
                speakers = len({supervision.speaker for cut in cuts for supervision in cut.supervisions} - {None})
                size = {"utterances": len(cuts), "hours": hours, "speakers": speakers}
                summary["splits"][split] = {**size, "sha256": sha256_file(manifest)}
        trials = [trial for folder in members if (folder / TRIALS).is_file() for trial in read_trials(folder / TRIALS)]
        if trials:
            write_trials(directory / TRIALS, trials)
            summary["trials"] = {"sha256": sha256_file(directory / TRIALS)}
        unite_notes(directory, members)
        write_json(directory / CORPUS, summary)
    return summary


def _description(folder: Path) -> dict[str, Any]:
    path = folder / CORPUS
    if not path.is_file():
        raise CorpusError(missing_file(path, "to unite corpora", "Prepare the corpus first: `speechft prepare`."))
    description = read_json_mapping(path)
    if not isinstance(description.get("splits"), dict) or "content_sha256" not in description:
        raise CorpusError(f"{path}: not the description of a prepared corpus. Prepare the corpus again.")
    return description
