"""Stand-in for TIMIT: SPHERE files and phones by dialect and speaker, upper-case names, all 61 phones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import cycle

from speechft.conventions import SAMPLE_RATE
from speechft.corpora.phones import Phone, parse_phones
from speechft.rehearsal.stand_ins.base import SIZES, Layout, Recording

# Split -> folders of speakers; in TEST those of dev and core test, and one in neither.
_SPEAKERS = {
    "train": ("TRAIN/DR1/FCJF0", "TRAIN/DR1/MCPM0", "TRAIN/DR2/FAEM0", "TRAIN/DR2/MARC0"),
    "dev": ("TEST/DR1/FAKS0", "TEST/DR1/MGWT0", "TEST/DR2/FCMH0", "TEST/DR2/MREB0"),
    "test": ("TEST/DR1/FELC0", "TEST/DR1/MDAB0", "TEST/DR2/FPAS0", "TEST/DR2/MTAS1"),
}
_UNUSED_SPEAKER = "TEST/DR1/MSJS1"
# Phone of the mini speech -> TIMIT labels to alternate; two labels are a closure and a burst.
_VARIANTS = {
    "AH": ("ah", "ax", "ax-h"),
    "B": ("bcl b",),
    "CH": ("tcl ch",),
    "D": ("dcl d", "dx"),
    "ER": ("er", "axr"),
    "G": ("gcl g",),
    "HH": ("hh", "hv"),
    "IH": ("ih", "ix"),
    "JH": ("dcl jh",),
    "K": ("kcl k",),
    "L": ("l", "el"),
    "M": ("m", "em"),
    "N": ("n", "en", "nx"),
    "NG": ("ng", "eng"),
    "P": ("pcl p",),
    "T": ("tcl t", "dx", "q"),
    "UW": ("uw", "ux"),
}
_EDGE, _PAUSES = "h#", ("pau", "epi")
_SHORTEST_EDGE = 160


def build(layout: Layout) -> None:
    """Write SX and SI sentences of train, dev and core test speakers, and SA sentences and another speaker, which PC drops."""
    labels_of = {phone: cycle(labels) for phone, labels in {**_VARIANTS, "": _PAUSES}.items()}
    phones = {row["path"]: parse_phones(row["phones"]) for row in layout.speech.table("phones.csv")}
    for split, speakers in _SPEAKERS.items():
        number = SIZES["timit"][split]
        extra = 2 * len(speakers) + (1 if split == "test" else 0)
        pool = [recording for recording in layout.speech.recordings if recording.path in phones and recording.split == split]
        recordings = _covering(pool, phones, number + extra)
        folders = [speakers[place % len(speakers)] for place in range(number)]
        names = [f"{folder}/{'SX' if place % 2 else 'SI'}{37 + 90 * place}" for place, folder in enumerate(folders)]
        names += [f"{folder}/SA{which}" for folder in speakers for which in (1, 2)]
        names += [f"{_UNUSED_SPEAKER}/SX99"] if split == "test" else []
        for name, recording in zip(names, recordings, strict=True):
            samples = layout.speech.samples(recording)
            speaker, sentence = name.split("/")[-2:]
            fields = {"database_id": "TIMIT", "database_version": "1.0", "utterance_id": f"{speaker[1:]}_{sentence}".lower()}
            layout.sphere(f"{name}.WAV", samples, **fields)
            layout.text(f"{name}.TXT", f"0 {len(samples)} {recording.text.capitalize()}.")
            segments = _segments(phones[recording.path], len(samples), labels_of)
            layout.text(f"{name}.PHN", *(f"{start} {end} {label}" for label, start, end in segments))


def _covering(pool: list[Recording], phones: Mapping[str, tuple[Phone, ...]], number: int) -> list[Recording]:
    """Select `number` recordings; the first contain every phone as often as TIMIT has labels for it."""
    counts = {recording: Counter(phone for phone, _, _ in phones[recording.path]) for recording in pool}
    missing = Counter({phone: len(_VARIANTS.get(phone, (phone,))) for count in counts.values() for phone in count})
    chosen: list[Recording] = []
    for _ in range(number):
        chosen.append(max(counts, key=lambda recording: (missing & counts[recording]).total()))
        missing -= counts.pop(chosen[-1])
    return chosen


def _segments(phones: tuple[Phone, ...], length: int, labels_of: Mapping[str, Iterator[str]]) -> Iterator[tuple[str, int, int]]:
    """Yield labels with first sample and end, covering the recording without gaps; `labels_of` has pauses under ""."""
    last = 0
    for phone, start, end in phones:
        # The last phone may end after the recording; TIMIT begins and ends with silence.
        first, past = max(round(start * SAMPLE_RATE), last, _SHORTEST_EDGE), min(round(end * SAMPLE_RATE), length - _SHORTEST_EDGE)
        if past - first < 2:
            continue
        if first > last:
            yield (_EDGE if last == 0 else next(labels_of[""])), last, first
        labels = next(labels_of[phone]).split() if phone in labels_of else [phone.lower()]
        borders = [first, (first + past) // 2, past] if len(labels) == 2 else [first, past]
        yield from zip(labels, borders[:-1], borders[1:], strict=True)
        last = past
    yield _EDGE, last, length
