"""Audio SNIPS (Lai et al., 2021), for SF: the queries of SNIPS, spoken by 16 synthetic voices."""

from __future__ import annotations

from pathlib import Path

from speechft.corpora.published import Reading, published
from speechft.corpora.utterances import Listing
from speechft.recipes.corpora import AudioSnips

SOURCE = (
    "Get Audio SNIPS as s3prl's docs/superb.md (slot filling) says; `path` is its folder SNIPS, with train/, valid/ and test/ of WAV files "
    "and all.iob.snips.txt."
)
LABELS = "all.iob.snips.txt"
FOLDERS = {"train": "train", "dev": "valid", "test": "test"}
SPEAKERS = {
    "train": ("Ivy", "Joanna", "Joey", "Justin", "Kendra", "Kimberly", "Matthew", "Salli"),
    "dev": ("Aditi", "Amy", "Geraint", "Nicole"),
    "test": ("Brian", "Emma", "Raveena", "Russell"),
}

_FILES = {split: f"the WAV files of {folder}/" for split, folder in FOLDERS.items()}
EXPECTED = published(_FILES, ("utterances", "speakers"), train=(104_672, 8), dev=(2_800, 4), test=(2_800, 4))


def read_audio_snips(recipe: AudioSnips) -> Listing:
    """List the recordings of Audio SNIPS by name, of the voices in SUPERB's splits, with words and the slot type of each (`O` for none).

    The prefixes `B-` and `I-` are dropped: adjacent slots of a type become one, as in SUPERB.

    Raises:
        CorpusError: a folder or the table of words and slots is missing.
    """
    reading = Reading("Audio SNIPS", recipe.path, SOURCE)
    reading.folder(recipe.path)
    table = _read_labels(reading, recipe.path / LABELS)
    for split, name in FOLDERS.items():
        for path in sorted(reading.folder(recipe.path / name).glob("*.wav")):
            speaker = next((voice for voice in SPEAKERS[split] if path.name.startswith(voice)), None)
            if speaker is None:
                continue  # this voice is in another split, or in none
            row = table.get(path.stem) or table.get(path.stem.removeprefix(f"{speaker}-"))
            if row is None:
                reading.problem(f"{path}: {recipe.path / LABELS} has no line {path.stem}")
                continue
            words, slots = row
            reading.add(path.stem, path, split, text=" ".join(words).upper(), speaker=speaker, label=" ".join(slots))
    return reading.listing(EXPECTED)


def _read_labels(reading: Reading, path: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Read recording name -> words and the slot type of each word."""
    table: dict[str, tuple[list[str], list[str]]] = {}
    for number, line in reading.lines(path, "as words and slots of Audio SNIPS"):
        words, tab, slots = line.partition("\t")
        name, *spoken = words.split()
        marks = slots.split()
        # One mark each for BOS and the words; in place of a mark for EOS there is the intent.
        if not tab or len(spoken) < 3 or spoken[0] != "BOS" or spoken[-1] != "EOS" or len(marks) != len(spoken):
            reading.bad_line(path, number, f"{line.strip()!r} is not `name BOS words EOS<tab>O slots intent`")
            continue
        table[name] = spoken[1:-1], [mark.removeprefix("B-").removeprefix("I-") for mark in marks[1:-1]]
    return table
