"""Libri2Mix (Cosentino et al., 2020), for SD: mixtures of two speakers with noise, in Kaldi data folders.

lhotse's recipe has transcripts but not who speaks when; the turns come from LibriMix's own preparation for diarization.
"""

from __future__ import annotations

from pathlib import Path

from speechft.conventions import SPLITS
from speechft.corpora.published import Reading, published
from speechft.corpora.rttm import turns_by_recording
from speechft.corpora.utterances import Listing
from speechft.recipes.corpora import Libri2Mix

SOURCE = (
    "Generate Libri2Mix (16 kHz, mode max, mix_both) with https://github.com/s3prl/LibriMix and run its script for diarization; "
    "`path` is the folder with train/, dev/ and test/, each with wav.scp, segments, utt2spk and rttm."
)

EXPECTED = published("{split}/wav.scp", ("utterances",), train=(13_900,), dev=(3_000,), test=(3_000,))


def read_libri2mix(recipe: Libri2Mix) -> Listing:
    """List the mixtures of Libri2Mix in the order of wav.scp, with the turns of rttm.

    s3prl trains on `segments`, where two speakers with equal segment times are merged into one; `rttm` keeps both.

    Raises:
        CorpusError: a folder or file is missing, or rttm is not RTTM.
    """
    reading = Reading("Libri2Mix", recipe.path, SOURCE)
    for split in SPLITS:
        folder = reading.folder(recipe.path / split)
        recordings = _recordings(reading, folder / "wav.scp", recipe.audio_root or recipe.path)
        _check_segments(reading, folder, set(recordings))
        turns = turns_by_recording(folder / "rttm")
        for name, path in recordings.items():
            if name not in turns:
                reading.problem(f"{folder / 'rttm'}: has no turn of {name}")
            reading.add(name, path, split, turns=turns.get(name, ()))
        for name in sorted(turns.keys() - recordings.keys()):
            reading.problem(f"{folder / 'rttm'}: {name} is not in wav.scp")
    return reading.listing(EXPECTED)


def _recordings(reading: Reading, path: Path, root: Path) -> dict[str, Path]:
    recordings: dict[str, Path] = {}
    for number, line in reading.lines(path, "as the list of mixtures"):
        name, _, audio = line.strip().partition(" ")
        if not audio or audio.endswith("|"):
            reading.bad_line(path, number, f"{line.strip()!r} is not `name path`; commands are not supported")
        elif name in recordings:
            reading.bad_line(path, number, f"{name} comes twice")
        else:
            recordings[name] = root / audio.strip()
    return recordings


def _check_segments(reading: Reading, folder: Path, recordings: set[str]) -> None:
    """Report segments without speaker or mixture, and mixtures without segments."""
    path = folder / "segments"
    speakers = {line.split()[0] for _, line in reading.lines(folder / "utt2spk", "for the speakers of segments")}
    covered: set[str] = set()
    for number, line in reading.lines(path, "for the segments of mixtures"):
        fields = line.split()
        if len(fields) != 4 or fields[1] not in recordings:
            reading.bad_line(path, number, f"{line.strip()!r} is not `segment mixture start end` of a mixture in wav.scp")
            continue
        covered.add(fields[1])
        if fields[0] not in speakers:
            reading.bad_line(path, number, f"{fields[0]} is not in utt2spk")
    for name in sorted(recordings - covered):
        reading.problem(f"{path}: has no segment of {name}")
