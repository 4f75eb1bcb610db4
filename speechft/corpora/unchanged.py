"""Detect manifests and recordings that have changed since `speechft prepare`.

Manifests and trials are compared by SHA-256 whenever they are read. A recording is compared by size and modification time, and by SHA-256
only if the time differs (a copy), so a replacement of the same size and time is not detected. Foreign manifests have no such records and
are accepted.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from speechft.conventions import SPLITS
from speechft.corpora.inspection import RecordingFacts
from speechft.errors import CorpusError, SpeechFTError
from speechft.files.csv_tables import write_table
from speechft.files.hashes import sha256_bytes, sha256_file
from speechft.files.structured import read_json_mapping

RECORDINGS = "recordings.csv"
CORPUS = "corpus.json"
"""File in a folder of manifests that describes their source, with their hashes."""
logger = logging.getLogger(__name__)
_AGAIN = "Prepare the corpus again."


class Noted(NamedTuple):
    """State of a recording at the time the corpus was prepared."""

    path: str
    bytes: int
    changed_ns: int
    sha256: str


def note_recordings(folder: Path, recordings: Iterable[RecordingFacts]) -> None:
    """Record the state of recordings for `check_recordings`; a recording with several parts is recorded once."""
    noted = {
        path: Noted(path, facts.bytes, facts.changed_ns, facts.sha256) for facts in recordings for path in [str(facts.path.absolute())]
    }
    write_table(folder / RECORDINGS, [Noted._fields, *noted.values()])


def unite_notes(folder: Path, members: Iterable[Path]) -> None:
    """Write the recorded states of several corpora as those of their union, if all have some."""
    members = list(members)
    if all((member / RECORDINGS).is_file() for member in members):
        united = {noted.path: noted for member in members for noted in _read(member)}
        write_table(folder / RECORDINGS, [Noted._fields, *united.values()])


def _read(folder: Path) -> Iterator[Noted]:
    path = folder / RECORDINGS
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            next(rows, None)
            for row in rows:
                yield Noted(row[0], int(row[1]), int(row[2]), row[3])
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise CorpusError(f"{path}: damaged ({error}). {_AGAIN}") from None


def check_content(path: Path, content: bytes) -> None:
    """Compare the content of a file in a prepared corpus with the SHA-256 in its corpus.json.

    Raises:
        CorpusError: the hash differs, or corpus.json is damaged.
    """
    if not (path.parent / CORPUS).is_file():
        return
    try:
        summary = read_json_mapping(path.parent / CORPUS)
    except SpeechFTError as error:
        raise CorpusError(f"{error}") from None
    name, splits = path.name.partition(".")[0], summary.get("splits")
    part = summary.get(name) if name == "trials" else splits.get(name) if isinstance(splits, dict) else None
    expected = part.get("sha256") if isinstance(part, dict) else None
    if expected is None and name in SPLITS:
        raise CorpusError(f"{path.parent / CORPUS}: has no SHA-256 of {path.name}: damaged or changed by hand. {_AGAIN}")
    if expected is not None and sha256_bytes(content) != expected:
        raise CorpusError(f"{path}: its SHA-256 is not the one in {CORPUS}; it is damaged or was edited. {_AGAIN}")


def check_recordings(manifest: Path, paths: Iterable[str]) -> None:
    """Compare the recordings of a manifest with their state when the corpus was prepared.

    Raises:
        CorpusError: recordings are missing or were replaced; all are listed.
    """
    if not (manifest.parent / RECORDINGS).is_file():
        return
    needed, touched, problems = set(paths), 0, []
    for then in _read(manifest.parent):
        if then.path not in needed:
            continue
        needed.remove(then.path)
        try:
            now = Path(then.path).stat()
        except OSError as error:
            problems.append(f"{then.path}: {error.strerror}")
            continue
        if now.st_size != then.bytes:
            problems.append(f"{then.path}: {now.st_size} bytes, but had {then.bytes}")
        elif now.st_mtime_ns != then.changed_ns:
            touched += 1
            if sha256_file(then.path) != then.sha256:
                problems.append(f"{then.path}: different content")
    if needed:
        raise CorpusError(f"{manifest.parent / RECORDINGS}: lacks {min(needed)}: damaged or changed by hand. {_AGAIN}")
    if problems:
        what = f"{len(problems)} recording(s) have changed since the corpus was prepared"
        raise CorpusError(f"{manifest}: {what}. Restore them, or prepare the corpus again.", problems)
    if touched:
        logger.info("%s: %d recordings have a new modification time but the same content", manifest, touched)
