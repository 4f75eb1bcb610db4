"""TED-LIUM 3 (Hernandez et al., 2018), for ASR: segments of talks (SPH) with transcripts (STM), legacy splits.

lhotse's recipe is not used: it drops segments that the paper's released code counts, and lists talks in the order of the file system.
"""

from __future__ import annotations

from pathlib import Path

from speechft.conventions import SPLITS
from speechft.corpora.published import Reading, published
from speechft.corpora.utterances import Count, Listing
from speechft.recipes.corpora import TedLium3

SOURCE = (
    "Get TEDLIUM_release-3.tgz from https://www.openslr.org/51; `path` is its folder TEDLIUM_release-3, with "
    "legacy/{train,dev,test}/{sph,stm}."
)

EXPECTED = (
    *published("legacy/{split}/sph", ("recordings",), train=(2_351,), dev=(8,), test=(11,)),
    Count("train", "utterances", 268_263, "legacy/train/stm", certain=False),
)


def read_tedlium3(recipe: TedLium3) -> Listing:
    """List the segments of TED-LIUM 3 by talk and time, with raw transcripts; ids are `talk-0001`, ... by line of the STM file.

    Raises:
        CorpusError: a folder is missing or an STM file is not text.
    """
    reading = Reading("TED-LIUM 3", recipe.path, SOURCE)
    for split in SPLITS:
        audio = reading.folder(recipe.path / "legacy" / split / "sph")
        transcripts = reading.folder(recipe.path / "legacy" / split / "stm")
        talks = sorted(transcripts.glob("*.stm"))
        for path in talks:
            _read_segments(reading, path, audio / f"{path.stem}.sph", split)
        for name in sorted({talk.stem for talk in audio.glob("*.sph")} - {talk.stem for talk in talks}):
            reading.problem(f"{transcripts / name}.stm: no such file, needed as the transcript of {name}.sph")
    return reading.listing(EXPECTED)


def _read_segments(reading: Reading, path: Path, audio: Path, split: str) -> None:
    """Add the segments of an STM file with lines `talk channel speaker start end <labels> words`."""
    for number, line in reading.lines(path, "as the transcript of a talk"):
        if line.startswith(";;"):
            continue
        fields = line.split(maxsplit=6)
        try:
            start, end = float(fields[3]), float(fields[4])
        except (IndexError, ValueError):
            reading.bad_line(path, number, f"{line.strip()!r} is not `talk channel speaker start end <labels> words`")
            continue
        text = fields[6].strip() if len(fields) > 6 else ""
        reading.add(f"{path.stem}-{number:04d}", audio, split, text=text, speaker=fields[2], start=start, end=end)
