"""LibriSpeech (Panayotov et al., 2015): train-clean-100, dev-clean and test-clean, for PR and ASR.

lhotse's recipe passes over transcripts without audio in silence and lists chapters as the file system gives them; here both are settled.
"""

from __future__ import annotations

from pathlib import Path

from speechft.corpora.published import bad_line, git_blob_sha1, listing, need_folder, read_lines
from speechft.corpora.utterances import Count, Listing, Problem, Utterance
from speechft.corpus_recipes import LibriSpeech
from speechft.errors import CorpusError, missing_file

PARTS = {"train": "train-clean-100", "dev": "dev-clean", "test": "test-clean"}
SOURCE = (
    "Get train-clean-100.tar.gz, dev-clean.tar.gz and test-clean.tar.gz from https://www.openslr.org/12 and unpack them in one place; "
    "`path` is the folder LibriSpeech that they make."
)
# Name of a lexicon of the SUPERB recipe of PR -> git's SHA-1 of it in s3prl.
LEXICONS = {"librispeech-lexicon-200k-g2p.txt": "a9143b4f90bde7f71221b7e546f780f3b655c8f7"}
_LEXICON_REMEDY = "Give the lexicons of the SUPERB recipe (s3prl/downstream/ctc/lexicon) or others with lines `WORD PHONE PHONE ...`."

EXPECTED = tuple(
    Count(split, what, number, f"{part}.tar.gz")
    for (split, part), numbers in zip(PARTS.items(), ((28_539, 251, 100.6), (2_703, 40, 5.4), (2_620, 40, 5.4)), strict=True)
    for what, number in zip(("utterances", "speakers", "hours"), numbers, strict=True)
)


def read_librispeech(recipe: LibriSpeech) -> Listing:
    """Utterances `speaker-chapter-number` in order of their names as numbers, with their transcripts.

    Raises:
        CorpusError: a part is missing, a list is not text, or a lexicon is missing or another one than its name says.
    """
    utterances: list[Utterance] = []
    problems: list[Problem] = []
    for split, part in PARTS.items():
        folder = need_folder(recipe.path / part, "LibriSpeech", SOURCE)
        heard: set[Path] = set()
        for transcripts in sorted(folder.glob("*/*/*.trans.txt"), key=_place):
            for number, line in read_lines(transcripts, "as transcripts of LibriSpeech", SOURCE):
                name, _, text = line.strip().partition(" ")
                if not text.strip():
                    problems.append(bad_line(transcripts, number, f"{name} has no transcript"))
                path = transcripts.parent / f"{name}.flac"
                heard.add(path)
                utterances.append(Utterance(0, name, path, split, text=text.strip(), speaker=name.split("-")[0]))
        unknown = sorted(set(folder.glob("*/*/*.flac")) - heard)
        problems += [Problem(0, f"{path}: is in no {path.parent.parent.name}-{path.parent.name}.trans.txt") for path in unknown]
    if recipe.lexicon:
        problems += _without_pronunciation(recipe.lexicon, utterances)
    return listing(utterances, problems, EXPECTED, "LibriSpeech", recipe.path, SOURCE)


def _place(transcripts: Path) -> tuple[int, ...]:
    parts = transcripts.parts[-3:-1]
    return tuple(int(part) if part.isdigit() else 0 for part in parts)


def _without_pronunciation(lexicons: tuple[Path, ...], utterances: list[Utterance]) -> list[Problem]:
    """Words that no lexicon has, each with an utterance."""
    known: set[str] = set()
    for path in lexicons:
        if not path.is_file():
            raise CorpusError(missing_file(path, "as a lexicon of PR", _LEXICON_REMEDY))
        identity = LEXICONS.get(path.name)
        if identity is not None and git_blob_sha1(path) != identity:
            raise CorpusError(f"{path}: is not the lexicon of this name that s3prl has (git's SHA-1 {identity}). {_LEXICON_REMEDY}")
        known |= {line.split(maxsplit=1)[0].upper() for _, line in read_lines(path, "as a lexicon of PR", _LEXICON_REMEDY)}
    users: dict[str, str] = {}
    for utterance in utterances:
        for word in (utterance.text or "").upper().split():
            if word not in known:
                users.setdefault(word, utterance.id)
    names = ", ".join(str(path) for path in lexicons)
    return [Problem(0, f"{word}: is in none of {names}, but in {user}") for word, user in sorted(users.items())]
