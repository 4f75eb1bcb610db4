"""Published corpora of which something is missing or wrong: what, and where it comes from."""

import re

import pytest
from corpora.readers.skeletons import COMMANDS_TEST, FLUENT_HEADER, FLUENT_NAME, IEMOCAP_HEADER, SNIPS_LINES, VOXCELEB, VOXCELEB_TEST

from speechft.errors import CorpusError

GONE = None
FLUENT = FLUENT_NAME.format("0a3129c0-4474-11e9-a9a5-00")
MIXTURES = [f"103-1240-0000_{number}-0003" for number in (200, 201, 202)]
IVY = SNIPS_LINES[0].format("Ivy-snips-train-0").replace(" B-playlist", "")
STM, SPH = "legacy/{}/stm/{}.stm", "legacy/{}/sph/{}.sph"
WRONG = {
    # For each kind: files that are gone or have other lines, and a pattern of each problem.
    "aishell1": [
        ({"wav/test/S0764/BAC009S0764W0122.wav": GONE}, ["BAC009S0764W0122 has no recording"]),
        ({"wav/test": GONE}, ["wav/test: no such folder.*speakers' archives"]),
        ({"transcript/aishell_transcript_v0.8.txt": GONE}, ["_transcript_v0.8.txt: no such file.*openslr.org/33"]),
    ],
    "aishell3": [
        ({"test/content.txt": ["SSB00090003.wav\t广 guang3", "a\tb"]}, ["line 2: 'a' is not", "wav/SSB0009/SSB00090003.wav: no such file"]),
        ({"test": GONE}, ["test: no such folder.*openslr.org/93"]),
    ],
    "audio_snips": [
        ({"all.iob.snips.txt": [IVY]}, ["line 1: 'Ivy-snips-train-0 BOS", *[r"snips-\w+-\d\.wav: .* has no line"] * 8]),
        ({"all.iob.snips.txt": GONE}, ["all.iob.snips.txt: no such file.*s3prl"]),
    ],
    "crema_d": [
        ({"AudioWAV/1001_DFA_JOY_XX.wav": []}, ["1001_DFA_JOY_XX.wav: its name is not"]),
        ({"AudioWAV/1099_DFA_ANG_XX.wav": []}, ["actor 1099 is not in "]),
        ({"VideoDemographics.csv": ["Actor,Age"]}, ["has no column ActorID or Sex"]),
        ({"VideoDemographics.csv": GONE}, ["VideoDemographics.csv: no such file.*github.com"]),
    ],
    "fluent_speech_commands": [
        ({FLUENT: GONE}, ["a9a5-00.wav: no such file"]),
        ({"data/test_data.csv": [FLUENT_HEADER, "0,wavs/a.wav,s,,none,none,none"]}, ["test_data.csv, line 2: a cell is empty"]),
        ({"data/test_data.csv": ["path,speaker"]}, ["has no column speakerId, transcription.*fluent.ai"]),
        ({"data/test_data.csv": GONE}, ["test_data.csv: no such file.*fluent.ai"]),
    ],
    "iemocap": [
        ({"Session4/dialog": GONE}, ["Session4/dialog/EmoEvaluation: no such folder.*sail.usc.edu"]),
        (
            {"Session2/dialog/EmoEvaluation/Ses02F_impro01.txt": [IEMOCAP_HEADER, "[1.0 - 2.0] X neu"]},
            [r"line 2: .* is not `\[start - end\]"],
        ),
    ],
    "libri2mix": [
        (
            {"train/segments": [f"{MIXTURES[0]}_9 {MIXTURES[0]} 0.00 0.60", "a b 0 1"]},
            [f"{MIXTURES[0]}_9 is not in utt2spk", "segments, line 2: 'a b 0 1' is not"],
        ),
        (
            {"dev/rttm": ["SPEAKER other 1 0.20 0.70 <NA> <NA> 5 <NA>"]},
            [f"has no turn of {MIXTURES[1]}", "rttm: other is not in wav.scp"],
        ),
        (
            {"test/wav.scp": ["a sph2pipe a.sph |"]},
            ["commands are not supported", *["of a mixture in wav.scp"] * 2, f"rttm: {MIXTURES[2]} is not in wav.scp"],
        ),
        ({"test/rttm": GONE}, ["test/rttm: no such file"]),
        ({"dev": GONE}, ["dev: no such folder.*github.com/s3prl/LibriMix"]),
    ],
    "librispeech": [
        ({"dev-clean/84/121123/84-121123-0001.flac": GONE}, ["84-121123-0001.flac: no such file"]),
        ({"test-clean/61/70968/61-70968-0007.flac": []}, ["61-70968-0007.flac: is in no 61-70968.trans.txt"]),
        ({"test-clean": GONE}, ["test-clean: no such folder.*https://www.openslr.org/12"]),
    ],
    "quesst14": [
        ({"Audio/quesst14_00002.wav": GONE}, ["Audio/quesst14_00002.wav: no such file"]),
        ({"scoring/groundtruth_quesst14_eval/quesst14_eval.rttm": GONE}, ["eval.rttm: no such file.*quesst14Database.tgz"]),
        ({"scoring": GONE}, ["scoring: no such folder.*quesst14Database.tgz"]),
    ],
    "speech_commands": [({COMMANDS_TEST: GONE}, [rf"{COMMANDS_TEST}: no such folder.*{COMMANDS_TEST}.tar.gz"])],
    "tedlium3": [
        (
            {STM.format("dev", "AlGore_2009"): ["AlGore_2009 1 AlGore_2009 five 6 <o> a", "AlGore_2009 1 AlGore_2009 7 8 <o> a"]},
            ["line 1: 'AlGore_2009 1 AlGore_2009 five", "AlGore_2009-0002 is from 7 s to 8 s, but the recording lasts 5.5 s"],
        ),
        ({SPH.format("test", "AimeeMullins_2009P"): GONE}, ["AimeeMullins_2009P.sph: no such file"]),
        (
            {STM.format("train", "AaronHuey_2010X"): GONE},
            ["AaronHuey_2010X.stm: no such file, needed as the transcript of AaronHuey_2010X"],
        ),
        ({"legacy/dev/sph": GONE}, ["legacy/dev/sph: no such folder.*https://www.openslr.org/51"]),
    ],
    "timit": [({"TEST": GONE}, ["TEST: no such folder.*LDC93S1"])],
    "voxceleb1": [
        (
            {"iden_split.txt": [f"4 {VOXCELEB[2]}", f"1 {VOXCELEB[0]}", f"1 {VOXCELEB[0]}", "1 ../../etc.wav"]},
            ["line 1: ", "line 3: .*comes twice", "line 4: "],
        ),
        ({"test": GONE}, ["test/wav: no such folder.*vox1_test_wav.zip"]),
    ],
    "voxceleb1_asv": [
        ({"trials.txt": [f"0 {VOXCELEB_TEST[0]} {VOXCELEB_TEST[1]}", "1 a b"]}, ["line 1: .*contradicts the speakers", "line 2: "]),
    ],
}


@pytest.mark.parametrize(("kind", "changes", "expected"), [(kind, *case) for kind, cases in WRONG.items() for case in cases])
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
