"""Libri2Mix (Cosentino et al., 2020), for SD: mixtures of two speakers with noise, described by folders in Kaldi's manner.

lhotse's recipe lists mixtures with transcripts, not who speaks when; the turns come from LibriMix' own preparation for diarization.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from speechft.conventions import SPLITS
from speechft.corpora.published import bad_line, listing, need_folder, read_lines
from speechft.corpora.rttm import Turn, read_rttm
from speechft.corpora.utterances import Count, Listing, Problem, Utterance
from speechft.recipes.corpora import Libri2Mix

SOURCE = (
    "Make Libri2Mix (16 kHz, mode max, mix_both) with https://github.com/s3prl/LibriMix and describe it with its script for diarization; "
    "`path` is the folder with train/, dev/ and test/, each with wav.scp, segments, utt2spk and rttm."
)

EXPECTED = tuple(
    Count(split, "utterances", number, f"{split}/wav.scp") for split, number in (("train", 13_900), ("dev", 3_000), ("test", 3_000))
)


def read_libri2mix(recipe: Libri2Mix) -> Listing:
    """Mixtures in the order of wav.scp, with the turns of the file rttm.

    The reference trains on `segments`, in which two speakers with equal times of a segment become one; `rttm` keeps both.

    Raises:
        CorpusError: a folder or file is missing, or rttm is not RTTM.
    """
    utterances: list[Utterance] = []
    problems: list[Problem] = []
    for split in SPLITS:
        folder = need_folder(recipe.path / split, "Libri2Mix", SOURCE)
        recordings, complaints = _recordings(folder / "wav.scp", recipe.audio_root or recipe.path)
        problems += complaints + _segment_problems(folder, set(recordings))
        turns: defaultdict[str, list[Turn]] = defaultdict(list)
        for turn in read_rttm(folder / "rttm"):
            turns[turn.recording].append(turn)
        for name, path in recordings.items():
            if not turns[name]:
                problems.append(Problem(0, f"{folder / 'rttm'}: has no turn of {name}"))
            utterances.append(Utterance(0, name, path, split, turns=tuple(sorted(turns[name]))))
        unknown = sorted(turns.keys() - recordings.keys())
        problems += [Problem(0, f"{folder / 'rttm'}: {name} is not in wav.scp") for name in unknown]
    return listing(utterances, problems, EXPECTED, "Libri2Mix", recipe.path, SOURCE)


def _recordings(path: Path, root: Path) -> tuple[dict[str, Path], list[Problem]]:
    found: dict[str, Path] = {}
    problems: list[Problem] = []
    for number, line in read_lines(path, "as the list of mixtures", SOURCE):
        name, _, audio = line.strip().partition(" ")
        if not audio or audio.endswith("|"):
            problems.append(bad_line(path, number, f"{line.strip()!r} is not `name path`; commands are not run"))
        elif name in found:
            problems.append(bad_line(path, number, f"{name} comes twice"))
        else:
            found[name] = root / audio.strip()
    return found, problems


def _segment_problems(folder: Path, recordings: set[str]) -> list[Problem]:
    """Segments without speaker or mixture, and mixtures without segments."""
    speakers = {line.split()[0] for _, line in read_lines(folder / "utt2spk", "for the speakers of segments", SOURCE)}
    problems: list[Problem] = []
    covered: set[str] = set()
    for number, line in read_lines(folder / "segments", "for the segments of mixtures", SOURCE):
        fields = line.split()
        if len(fields) != 4 or fields[1] not in recordings:
            problems.append(
                bad_line(folder / "segments", number, f"{line.strip()!r} is not `segment mixture start end` of a mixture in wav.scp")
            )
            continue
        covered.add(fields[1])
        if fields[0] not in speakers:
            problems.append(bad_line(folder / "segments", number, f"{fields[0]} is not in utt2spk"))
    return problems + [Problem(0, f"{folder / 'segments'}: has no segment of {name}") for name in sorted(recordings - covered)]
