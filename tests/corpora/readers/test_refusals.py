"""Published corpora of which something is missing or wrong: what, and where it comes from."""

import re

import pytest
from corpora.readers.skeletons import COMMANDS_TEST, FLUENT_HEADER, FLUENT_NAME, IEMOCAP_HEADER, SNIPS_LINES, VOXCELEB, VOXCELEB_TEST

from speechft.errors import CorpusError

GONE = None
FLUENT, MIXTURE = "0a3129c0-4474-11e9-a9a5-00", "103-1240-0000_{}-0003"
IVY = SNIPS_LINES[0].format("Ivy-snips-train-0")
WRONG = [
    # Kind, files that are gone or have other lines, and a pattern of each problem.
    ("aishell1", {"wav/test/S0764/BAC009S0764W0122.wav": GONE}, ["BAC009S0764W0122 has no recording"]),
    ("aishell1", {"wav/test": GONE}, ["wav/test: no such folder.*archives of speakers"]),
    ("aishell1", {"transcript/aishell_transcript_v0.8.txt": GONE}, ["_transcript_v0.8.txt: no such file.*openslr.org/33"]),
    (
        "aishell3",
        {"test/content.txt": ["SSB00090003.wav\t广 guang3", "a\tb"]},
        ["content.txt, line 2: 'a' is not", "test/wav/SSB0009/SSB00090003.wav: no such file"],
    ),
    ("aishell3", {"test": GONE}, ["test: no such folder.*openslr.org/93"]),
    (
        "audio_snips",
        {"all.iob.snips.txt": [IVY.replace(" B-playlist", "")]},
        ["line 1: 'Ivy-snips-train-0 BOS", *[r"snips-\w+-\d\.wav: .* has no line"] * 8],
    ),
    ("audio_snips", {"all.iob.snips.txt": GONE}, ["all.iob.snips.txt: no such file.*s3prl"]),
    (
        "crema_d",
        {"AudioWAV/1001_DFA_JOY_XX.wav": [], "AudioWAV/1099_DFA_ANG_XX.wav": []},
        ["1001_DFA_JOY_XX.wav: its name is not", "VideoDemographics.csv does not have actor 1099"],
    ),
    ("crema_d", {"VideoDemographics.csv": ["Actor,Age"]}, ["has no column ActorID or Sex"]),
    ("crema_d", {"VideoDemographics.csv": GONE}, ["VideoDemographics.csv: no such file.*github.com"]),
    ("fluent_speech_commands", {FLUENT_NAME.format(FLUENT): GONE}, ["a9a5-00.wav: no such file"]),
    (
        "fluent_speech_commands",
        {"data/test_data.csv": [FLUENT_HEADER, "0,wavs/a.wav,s,,none,none,none"]},
        ["test_data.csv, line 2: a cell is empty"],
    ),
    ("fluent_speech_commands", {"data/test_data.csv": ["path,speaker"]}, ["has no column speakerId, transcription.*fluent.ai"]),
    ("fluent_speech_commands", {"data/test_data.csv": GONE}, ["test_data.csv: no such file.*fluent.ai"]),
    ("iemocap", {"Session4/dialog": GONE}, ["Session4/dialog/EmoEvaluation: no such folder.*sail.usc.edu"]),
    (
        "iemocap",
        {"Session2/dialog/EmoEvaluation/Ses02F_impro01.txt": [IEMOCAP_HEADER, "[1.0 - 2.0] Ses02F_impro01_F000 neu"]},
        [r"Ses02F_impro01.txt, line 2: .* is not `\[start - end\] turn label"],
    ),
    (
        "libri2mix",
        {
            "train/segments": [f"{MIXTURE.format(200)}_9 {MIXTURE.format(200)} 0.00 0.60", "a b 0 1"],
            "dev/rttm": ["SPEAKER other 1 0.20 0.70 <NA> <NA> 5 <NA>"],
            "test/wav.scp": ["a sph2pipe a.sph |"],
        },
        [
            f"{MIXTURE.format(200)}_9 is not in utt2spk",
            "segments, line 2: 'a b 0 1' is not",
            f"has no turn of {MIXTURE.format(201)}",
            "rttm: other is not in wav.scp",
            "commands are not run",
            *["is not `segment mixture start end` of a mixture in wav.scp"] * 2,
            f"rttm: {MIXTURE.format(202)} is not in wav.scp",
        ],
    ),
    ("libri2mix", {"test/rttm": GONE}, ["test/rttm: no such file"]),
    ("libri2mix", {"dev": GONE}, ["dev: no such folder.*github.com/s3prl/LibriMix"]),
    (
        "librispeech",
        {"dev-clean/84/121123/84-121123-0001.flac": GONE, "test-clean/61/70968/61-70968-0007.flac": []},
        ["84-121123-0001.flac: no such file", "61-70968-0007.flac: is in no 61-70968.trans.txt"],
    ),
    ("librispeech", {"test-clean": GONE}, ["test-clean: no such folder.*https://www.openslr.org/12"]),
    ("quesst14", {"Audio/quesst14_00002.wav": GONE}, ["Audio/quesst14_00002.wav: no such file"]),
    (
        "quesst14",
        {"scoring/groundtruth_quesst14_eval/quesst14_eval.rttm": GONE},
        ["quesst14_eval.rttm: no such file.*quesst14Database.tgz"],
    ),
    ("quesst14", {"scoring": GONE}, ["scoring: no such folder.*quesst14Database.tgz"]),
    ("speech_commands", {COMMANDS_TEST: GONE}, [rf"{COMMANDS_TEST}: no such folder.*{COMMANDS_TEST}.tar.gz"]),
    (
        "tedlium3",
        {
            "legacy/dev/stm/AlGore_2009.stm": ["AlGore_2009 1 AlGore_2009 five 6 <o> a", "AlGore_2009 1 AlGore_2009 7 8 <o> a"],
            "legacy/test/stm/AimeeMullins_2009P.stm": ["AimeeMullins_2009P 1 AimeeMullins_2009P 0 2 <o> a"],
            "legacy/test/sph/AimeeMullins_2009P.sph": GONE,
            "legacy/train/stm/AaronHuey_2010X.stm": GONE,
        },
        [
            "AlGore_2009.stm, line 1: 'AlGore_2009 1 AlGore_2009 five",
            "AlGore_2009-0002 is from 7 s to 8 s, the recording lasts 5.5 s",
            "AimeeMullins_2009P.sph: no such file",
            "AaronHuey_2010X.stm: no such file, needed as the transcript of AaronHuey_2010X.sph",
        ],
    ),
    ("tedlium3", {"legacy/dev/sph": GONE}, ["legacy/dev/sph: no such folder.*https://www.openslr.org/51"]),
    ("timit", {"TEST": GONE}, ["TEST: no such folder.*LDC93S1"]),
    (
        "voxceleb1",
        {"iden_split.txt": [f"4 {VOXCELEB[2]}", f"1 {VOXCELEB[0]}", f"1 {VOXCELEB[0]}", "1 ../../etc.wav"]},
        ["line 1: ", "line 3: .*comes twice", "line 4: "],
    ),
    ("voxceleb1", {"test": GONE}, ["test/wav: no such folder.*vox1_test_wav.zip"]),
    (
        "voxceleb1_asv",
        {"trials.txt": [f"0 {VOXCELEB_TEST[0]} {VOXCELEB_TEST[1]}", "1 a b"]},
        ["line 1: .*contradicts the speakers", "line 2: "],
    ),
]


@pytest.mark.parametrize(("kind", "changes", "expected"), WRONG)
def test_what_is_missing_or_wrong_is_named(corpus, kind, changes, expected):
    found = corpus(kind.removesuffix("_asv"))
    options = {"voxceleb1": {"use": "sid", "split_list": found.path / "iden_split.txt"}}.get(kind, {})
    options |= {"voxceleb1_asv": {"use": "asv", "trials": found.path / "trials.txt"}}.get(kind, {})
    for name, lines in changes.items():
        if lines is GONE:
            found.remove(name)
        else:
            found.text(name, *lines)
    with pytest.raises(CorpusError) as caught:
        found.prepare(**options)
    problems = list(caught.value.problems or [str(caught.value)])
    for pattern in expected:
        problems.remove(next((problem for problem in problems if re.search(pattern, problem)), pattern))
    assert problems == []


def test_lists_of_voxceleb1_must_be_given(corpus):
    with pytest.raises(CorpusError, match="`split_list` is not given"):
        corpus("voxceleb1").prepare(use="sid")
