"""TIMIT (Garofolo et al., 1993), for PC: sentences with time-aligned phones.

The development and core test speakers are those that lhotse lists; its recipe itself keeps the SA sentences and lists files as they come.
"""

from __future__ import annotations

from pathlib import Path

from lhotse.recipes.timit import get_speakers

from speechft.conventions import SAMPLE_RATE
from speechft.corpora.phones import Phone
from speechft.corpora.published import bad_line, listing, need_folder, read_lines
from speechft.corpora.utterances import Count, Listing, Problem, Utterance
from speechft.recipes.corpora import Timit
from speechft.tasks.timit_phones import TIMIT_61

SOURCE = (
    "Order TIMIT (LDC93S1) at https://catalog.ldc.upenn.edu/LDC93S1; `path` is the folder that holds TRAIN and TEST, in which there are "
    "dialects (DR1), speakers (FCJF0) and for each sentence .WAV, .TXT and .PHN. Upper or lower case is the same."
)

EXPECTED = tuple(
    Count(split, what, number, where)
    for split, numbers, where in (
        ("train", (3_696, 462), "TRAIN"),
        ("dev", (400, 50), "TEST, development speakers"),
        ("test", (192, 24), "TEST, core test speakers"),
    )
    for what, number in zip(("utterances", "speakers"), numbers, strict=True)
)


def read_timit(recipe: Timit) -> Listing:
    """Sentences SX and SI (the same two SA sentences of all speakers are left out), by dialect, speaker and name.

    Train is TRAIN; of TEST, test are the 24 core speakers and dev 50 others, as in Kaldi's recipe; the rest is not used. Phones keep their
    61 labels, which PC folds to 39. Ids are `SPEAKER-SENTENCE`.

    Raises:
        CorpusError: the corpus or one of its halves is missing.
    """
    need_folder(recipe.path, "TIMIT", SOURCE)
    dev, core = (frozenset(name.upper() for name in names) for names in get_speakers())
    utterances: list[Utterance] = []
    problems: list[Problem] = []
    for half in ("TRAIN", "TEST"):
        folder = need_folder(
            next((path for path in recipe.path.iterdir() if path.name.upper() == half), recipe.path / half), "TIMIT", SOURCE
        )
        files = {tuple(part.upper() for part in path.relative_to(folder).parts): path for path in sorted(folder.glob("*/*/*"))}
        for parts, path in files.items():
            dialect, speaker, name = parts
            sentence, _, suffix = name.partition(".")
            split = "train" if half == "TRAIN" else "dev" if speaker in dev else "test" if speaker in core else None
            if suffix != "WAV" or sentence.startswith("SA") or split is None:
                continue
            beside = {kind: files.get((dialect, speaker, f"{sentence}.{kind}")) for kind in ("PHN", "TXT")}
            problems += [Problem(0, f"{path}: there is no {sentence}.{kind} beside it. {SOURCE}") for kind in beside if not beside[kind]]
            phones, complaints = _phones(beside["PHN"]) if beside["PHN"] else ((), [])
            text = " ".join(line for _, line in read_lines(beside["TXT"], "as a sentence of TIMIT", SOURCE)) if beside["TXT"] else ""
            problems += complaints
            utterances.append(
                Utterance(0, f"{speaker}-{sentence}", path, split, text=" ".join(text.split()[2:]), speaker=speaker, phones=phones)
            )
    return listing(utterances, problems, EXPECTED, "TIMIT", recipe.path, SOURCE)


def _phones(path: Path) -> tuple[tuple[Phone, ...], list[Problem]]:
    """The phones of a .PHN file: lines `first-sample end label`."""
    phones: list[Phone] = []
    problems: list[Problem] = []
    for number, line in read_lines(path, "as the phones of a sentence of TIMIT", SOURCE):
        fields = line.split()
        if len(fields) != 3 or not fields[0].isdigit() or not fields[1].isdigit() or fields[2] not in TIMIT_61:
            problems.append(bad_line(path, number, f"{line.strip()!r} is not `start end phone` with one of the 61 phones"))
            continue
        start, end = int(fields[0]) / SAMPLE_RATE, int(fields[1]) / SAMPLE_RATE
        if end <= start or (phones and start < phones[-1][2]):
            problems.append(bad_line(path, number, f"{line.strip()!r} ends before it starts, or starts before the phone before it ends"))
        phones.append((fields[2], start, end))
    return tuple(phones), problems
