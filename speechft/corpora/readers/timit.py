"""TIMIT (Garofolo et al., 1993), for PC: sentences with time-aligned phones.

Development and core test speakers are lhotse's lists. Its recipe is not used: it keeps the SA sentences and the order of the file system.
"""

from __future__ import annotations

from pathlib import Path

from lhotse.recipes.timit import get_speakers

from speechft.conventions import SAMPLE_RATE
from speechft.corpora.phones import Phone
from speechft.corpora.published import Reading, published
from speechft.corpora.utterances import Listing
from speechft.recipes.corpora import Timit
from speechft.tasks.timit_phones import TIMIT_61

SOURCE = (
    "Order TIMIT (LDC93S1) at https://catalog.ldc.upenn.edu/LDC93S1; `path` is the folder with TRAIN and TEST, which contain "
    "dialects (DR1), speakers (FCJF0) and for each sentence .WAV, .TXT and .PHN. Case does not matter."
)

_HALVES = {"train": "TRAIN", "dev": "TEST, development speakers", "test": "TEST, core test speakers"}
EXPECTED = published(_HALVES, ("utterances", "speakers"), train=(3_696, 462), dev=(400, 50), test=(192, 24))


def read_timit(recipe: Timit) -> Listing:
    """List the SX and SI sentences of TIMIT by dialect, speaker and name; the SA sentences, equal for all speakers, are left out.

    TRAIN is train. In TEST, the 24 core speakers are test and 50 others dev, as in Kaldi's recipe; the rest is not used. Phones keep their
    61 labels, which PC folds to 39. Ids are `SPEAKER-SENTENCE`.

    Raises:
        CorpusError: the corpus or one of its halves is missing.
    """
    reading = Reading("TIMIT", recipe.path, SOURCE)
    reading.folder(recipe.path)
    dev, core = (frozenset(name.upper() for name in names) for names in get_speakers())
    for half in ("TRAIN", "TEST"):
        folder = reading.folder(next((path for path in recipe.path.iterdir() if path.name.upper() == half), recipe.path / half))
        files = {tuple(part.upper() for part in path.relative_to(folder).parts): path for path in sorted(folder.glob("*/*/*"))}
        for parts, path in files.items():
            dialect, speaker, name = parts
            sentence, _, suffix = name.partition(".")
            split = "train" if half == "TRAIN" else "dev" if speaker in dev else "test" if speaker in core else None
            if suffix != "WAV" or sentence.startswith("SA") or split is None:
                continue
            beside = {kind: files.get((dialect, speaker, f"{sentence}.{kind}")) for kind in ("PHN", "TXT")}
            for kind in (kind for kind in beside if not beside[kind]):
                reading.problem(f"{path}: no {sentence}.{kind} in its folder. {SOURCE}")
            phones = _phones(reading, beside["PHN"]) if beside["PHN"] else ()
            text = " ".join(line for _, line in reading.lines(beside["TXT"], "as a sentence of TIMIT")) if beside["TXT"] else ""
            reading.add(f"{speaker}-{sentence}", path, split, text=" ".join(text.split()[2:]), speaker=speaker, phones=phones)
    return reading.listing(EXPECTED)


def _phones(reading: Reading, path: Path) -> tuple[Phone, ...]:
    """Read the phones of a .PHN file with lines `first-sample end label`."""
    phones: list[Phone] = []
    for number, line in reading.lines(path, "as the phones of a sentence of TIMIT"):
        fields = line.split()
        if len(fields) != 3 or not fields[0].isdigit() or not fields[1].isdigit() or fields[2] not in TIMIT_61:
            reading.bad_line(path, number, f"{line.strip()!r} is not `start end phone` with one of the 61 phones")
            continue
        start, end = int(fields[0]) / SAMPLE_RATE, int(fields[1]) / SAMPLE_RATE
        if end <= start or (phones and start < phones[-1][2]):
            reading.bad_line(path, number, f"{line.strip()!r} ends before it starts, or starts before the previous phone ends")
        phones.append((fields[2], start, end))
    return tuple(phones)
