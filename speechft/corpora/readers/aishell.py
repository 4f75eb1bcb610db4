"""AISHELL-1 (Bu et al., 2017), for Mandarin ASR, and AISHELL-3 (Shi et al., 2020), without labels.

Transcripts are normalized as in lhotse's recipes, which are not used because they ignore missing recordings silently.
"""

from __future__ import annotations

from speechft.conventions import SPLITS
from speechft.corpora.published import Reading, published
from speechft.corpora.utterances import Count, Listing
from speechft.recipes.corpora import Aishell1, Aishell3

SOURCE_1 = (
    "Get data_aishell.tgz from https://www.openslr.org/33; `path` is its folder data_aishell, with transcript/ and wav/. "
    "Unpack the speakers' archives in wav/ there; this creates wav/train, wav/dev and wav/test."
)
TRANSCRIPTS = "aishell_transcript_v0.8.txt"
# These letters of Latin abbreviations are sometimes full-width.
_NARROW = str.maketrans("ａｂｃｋｔ", "abckt")  # noqa: RUF001
SOURCE_3 = (
    "Get data_aishell3.tgz from https://www.openslr.org/93; `path` is the folder with its train/ and test/, each with content.txt and wav/."
)

EXPECTED = {
    "aishell1": published(
        f"wav/{{split}} and transcript/{TRANSCRIPTS}",
        ("utterances", "speakers"),
        train=(120_098, 340),
        dev=(14_326, 40),
        test=(7_176, 20),
    ),
    "aishell3": (
        Count(None, "utterances", 88_035, "train/content.txt and test/content.txt"),
        Count(None, "speakers", 218, "the folders of train/wav and test/wav", certain=False),
        Count(None, "hours", 85, "data_aishell3.tgz", certain=False),
    ),
}


def read_aishell1(recipe: Aishell1) -> Listing:
    """List the transcribed recordings of AISHELL-1 by speaker and name; characters without spaces, Latin letters in upper case.

    Some recordings have no transcript; they are left out.

    Raises:
        CorpusError: a folder or the transcripts are missing.
    """
    reading = Reading("AISHELL-1", recipe.path, SOURCE_1)
    reading.folder(recipe.path)
    path = recipe.path / "transcript" / TRANSCRIPTS
    texts: dict[str, str] = {}
    for number, line in reading.lines(path, "as the transcripts of AISHELL-1"):
        name, *words = line.split()
        if not words:
            reading.bad_line(path, number, f"{name} has no transcript")
        texts[name] = "".join(words).translate(_NARROW).upper()
    silent = dict.fromkeys(sorted(texts))
    for split in SPLITS:
        for audio in sorted(reading.folder(recipe.path / "wav" / split).glob("*/*.wav")):
            if audio.stem in texts:
                reading.add(audio.stem, audio, split, text=texts[audio.stem], speaker=audio.parent.name)
                silent.pop(audio.stem, None)
    for name in silent:
        reading.problem(f"{path}: {name} has no recording in wav/{{train,dev,test}}/*/{name}.wav")
    return reading.listing(EXPECTED["aishell1"])


def read_aishell3(recipe: Aishell3) -> Listing:
    """List the recordings of AISHELL-3 in the order of the two content.txt, train before test; all are in split train.

    The corpus is for pre-training, so transcripts are dropped. Speakers are kept to count them.

    Raises:
        CorpusError: a folder or a content.txt is missing.
    """
    reading = Reading("AISHELL-3", recipe.path, SOURCE_3)
    for part in ("train", "test"):
        folder = reading.folder(recipe.path / part)
        for number, line in reading.lines(folder / "content.txt", "as the list of recordings of AISHELL-3"):
            name = line.split()[0]
            if not name.endswith(".wav") or len(name) <= 11:
                reading.bad_line(folder / "content.txt", number, f"{name!r} is not SPEAKERNUMBER.wav")
                continue
            reading.add(name.removesuffix(".wav"), folder / "wav" / name[:7] / name, "train", speaker=name[:7])
    return reading.listing(EXPECTED["aishell3"])
