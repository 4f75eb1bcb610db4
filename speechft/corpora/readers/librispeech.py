"""LibriSpeech (Panayotov et al., 2015): train-clean-100, dev-clean and test-clean, for PR and ASR.

lhotse's recipe is not used: it ignores transcripts without audio silently and lists chapters in the order of the file system.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from speechft.corpora.published import Reading, published
from speechft.corpora.utterances import Listing, Problem, Utterance
from speechft.downloads.lexicons import check_identity, how_to_get, will_be_fetched
from speechft.errors import SpeechFTError
from speechft.recipes.corpora import LibriSpeech

PARTS = {"train": "train-clean-100", "dev": "dev-clean", "test": "test-clean"}
SOURCE = (
    "Get train-clean-100.tar.gz, dev-clean.tar.gz and test-clean.tar.gz from https://www.openslr.org/12 and unpack them in one place; "
    "`path` is the folder LibriSpeech that they make."
)

_ARCHIVES = {split: f"{part}.tar.gz" for split, part in PARTS.items()}
_WHATS = ("utterances", "speakers", "hours")
EXPECTED = published(_ARCHIVES, _WHATS, train=(28_539, 251, 100.6), dev=(2_703, 40, 5.4), test=(2_620, 40, 5.4))


def read_librispeech(recipe: LibriSpeech) -> Listing:
    """List the utterances of LibriSpeech with their transcripts, by speaker, chapter and number.

    Raises:
        CorpusError: a part is missing, or a list is not text.
    """
    reading = Reading("LibriSpeech", recipe.path, SOURCE)
    for split, part in PARTS.items():
        folder = reading.folder(recipe.path / part)
        heard: set[Path] = set()
        for transcripts in sorted(folder.glob("*/*/*.trans.txt"), key=_place):
            for number, line in reading.lines(transcripts, "as transcripts of LibriSpeech"):
                name, _, text = line.strip().partition(" ")
                if not text.strip():
                    reading.bad_line(transcripts, number, f"{name} has no transcript")
                path = transcripts.parent / f"{name}.flac"
                heard.add(path)
                reading.add(name, path, split, text=text.strip(), speaker=name.split("-")[0])
        for path in sorted(set(folder.glob("*/*/*.flac")) - heard):
            reading.problem(f"{path}: is in no {path.parent.parent.name}-{path.parent.name}.trans.txt")
    to_fetch = tuple(f"{source}: no such file. {how_to_get(source)}" for source in recipe.lexicon if will_be_fetched(source))
    reading.problems += [] if to_fetch else _without_pronunciation(recipe.lexicon, reading.utterances)
    return reading.listing(EXPECTED, to_fetch=to_fetch)


def _place(transcripts: Path) -> tuple[int, ...]:
    parts = transcripts.parts[-3:-1]
    return tuple(int(part) if part.isdigit() else 0 for part in parts)


def _without_pronunciation(lexicons: Sequence[str], utterances: Iterable[Utterance]) -> list[Problem]:
    """Report lexicons that are missing, damaged or misnamed; else words without a pronunciation."""
    if not lexicons:
        return []
    from speechft.tasks.lexicon import load_lexicon, missing_words  # imports torch

    problems: list[Problem] = []
    pronunciations: dict[str, tuple[str, ...]] = {}
    for source in lexicons:
        try:
            check_identity(Path(source))
            pronunciations = {**load_lexicon([source]), **pronunciations}
        except SpeechFTError as error:
            problems += [Problem(0, line.strip()) for line in str(error).splitlines()]
    transcripts = ((utterance.split, utterance.id, utterance.text or "") for utterance in utterances)
    missing = None if problems else missing_words(pronunciations, lexicons, transcripts, 5)
    return problems if missing is None else [Problem(0, f"PR: {missing[0]} For example {'; '.join(missing[1])}.")]
