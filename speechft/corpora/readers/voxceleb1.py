"""VoxCeleb1 (Nagrani et al., 2017), for SID with its identification split and for ASV with its trials.

lhotse's recipe is not used: it splits by verification speakers and downloads the trials when it runs.
"""

from __future__ import annotations

import re
from pathlib import Path

from speechft.corpora.published import Reading
from speechft.corpora.trials import Trial
from speechft.corpora.utterances import Count, Listing
from speechft.errors import CorpusError
from speechft.files.hashes import git_blob_sha1
from speechft.recipes.corpora import VoxCeleb1

SOURCE = (
    "Request VoxCeleb1 at https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox1.html; unpack vox1_dev_wav.zip in dev/ and "
    "vox1_test_wav.zip in test/ of `path`, so that dev/wav/id10001 and test/wav/id10270 exist."
)
_LIST = "For SID, give `split_list`: iden_split.txt of VoxCeleb1, which s3prl calls veri_test_class.txt."
_TRIALS = "For ASV, give `trials`: s3prl's voxceleb1_test_v2.txt, or veri_test.txt of VoxCeleb1."
SPLIT_LIST, SPLIT_LIST_SHA1 = "veri_test_class.txt", "bff103cfe2b4e0ec42b2ed658ead99cea5e6cf51"
"""Name of the split list in s3prl, and git's SHA-1 of it."""
LISTS = {"split_list": (SPLIT_LIST, "iden_split.txt"), "trials": ("voxceleb1_test_v2.txt", "veri_test.txt")}
"""Key of the recipe -> names under which its list is published."""
_SPLITS = {"1": "train", "2": "dev", "3": "test"}
_RECORDING = re.compile(r"id\d{5}/[^/\s]+/[^/\s]+\.wav")

SID_EXPECTED = (
    Count("train", "utterances", 138_361, "`split_list`, lines that begin with 1"),
    Count("dev", "utterances", 6_904, "`split_list`, lines that begin with 2"),
    Count("test", "utterances", 8_251, "`split_list`, lines that begin with 3"),
    Count(None, "speakers", 1_251, "the folders of dev/wav and test/wav"),
)
ASV_EXPECTED = (
    Count("train", "speakers", 1_211, "the folders of dev/wav", certain=False),
    Count("train", "utterances", 148_642, "vox1_dev_wav.zip", certain=False),
    Count("test", "speakers", 40, "the folders of test/wav"),
    Count("test", "utterances", 4_715, "`trials`", certain=False),
    Count(None, "trials", 37_720, "`trials`: s3prl's voxceleb1_test_v2.txt, or veri_test.txt of VoxCeleb1"),
)
EXPECTED = {"sid": SID_EXPECTED, "asv": ASV_EXPECTED}


def read_voxceleb1(recipe: VoxCeleb1) -> Listing:
    """List the recordings of VoxCeleb1. Ids are `idXXXXX-video-utterance`, speakers `idXXXXX`.

    For SID: the recordings of the split list, in its order. For ASV: all of dev/wav as train and the recordings of the trials as test, by
    name.

    Raises:
        CorpusError: a folder or the list is missing, or the list is not text.
    """
    reading = Reading("VoxCeleb1", recipe.path, SOURCE)
    folders = [reading.folder(recipe.path / part / "wav") for part in ("dev", "test")]
    return _identification(reading, recipe, folders) if recipe.use == "sid" else _verification(reading, recipe, *folders)


def _identification(reading: Reading, recipe: VoxCeleb1, folders: list[Path]) -> Listing:
    if recipe.split_list is None:
        raise CorpusError(f"{recipe.path}: `split_list` is not given. {_LIST}")
    folder_of = {speaker.name: folder for folder in folders for speaker in folder.iterdir()}
    seen: set[str] = set()
    for number, line in reading.lines(recipe.split_list, "as the identification split of VoxCeleb1", _LIST):
        part, _, name = line.strip().partition(" ")
        if part not in _SPLITS or not _RECORDING.fullmatch(name):
            reading.bad_line(recipe.split_list, number, f"{line.strip()!r} is not `1|2|3 idXXXXX/video/utterance.wav`")
        elif name in seen:
            reading.bad_line(recipe.split_list, number, f"{name} comes twice")
        else:
            seen.add(name)
            _add(reading, folder_of.get(name[:7], folders[0]), name, _SPLITS[part])
    if recipe.complete and recipe.split_list.name == SPLIT_LIST and git_blob_sha1(recipe.split_list) != SPLIT_LIST_SHA1:
        reading.problem(f"{recipe.split_list}: differs from s3prl's list of this name (git's SHA-1 {SPLIT_LIST_SHA1})")
    return reading.listing(SID_EXPECTED)


def _verification(reading: Reading, recipe: VoxCeleb1, dev: Path, test: Path) -> Listing:
    if recipe.trials is None:
        raise CorpusError(f"{recipe.path}: `trials` is not given. {_TRIALS}")
    trials: list[Trial] = []
    tested: set[str] = set()
    for number, line in reading.lines(recipe.trials, "as the trials of VoxCeleb1", _TRIALS):
        fields = line.split()
        if len(fields) != 3 or fields[0] not in ("0", "1") or not all(map(_RECORDING.fullmatch, fields[1:])):
            complaint = f"{line.strip()!r} is not `1|0 idXXXXX/video/utterance.wav idXXXXX/video/utterance.wav`"
            reading.bad_line(recipe.trials, number, complaint)
            continue
        tested |= set(fields[1:])
        trials.append(Trial(fields[0] == "1", *map(_identifier, fields[1:])))
        if (fields[1][:7] == fields[2][:7]) != trials[-1].same:
            reading.bad_line(recipe.trials, number, f"{line.strip()!r} contradicts the speakers in its names")
    for path in sorted(dev.glob("*/*/*.wav")):
        _add(reading, dev, path.relative_to(dev).as_posix(), "train")
    for name in sorted(tested):
        _add(reading, test, name, "test")
    return reading.listing(ASV_EXPECTED, trials=tuple(trials))


def _identifier(name: str) -> str:
    return name.removesuffix(".wav").replace("/", "-")


def _add(reading: Reading, folder: Path, name: str, split: str) -> None:
    reading.add(_identifier(name), folder / name, split, speaker=name[:7])
