"""Stand-ins of all published corpora: readers take them, tasks find their targets in them, and what is odd about corpora is there."""

import json
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import ROOT

from speechft.corpora import load_split, prepare_corpus
from speechft.corpora.prepare import read_corpus
from speechft.corpora.readers.crema_d import WITHOUT_SOUND
from speechft.downloads.lexicons import CMUDICT
from speechft.errors import CorpusError
from speechft.files.hashes import sha256_file
from speechft.recipes.corpora import KINDS, corpus_recipe
from speechft.rehearsal.stand_ins import BUILDERS, SIZES, build_stand_in
from speechft.tasks import get_task
from speechft.tasks.ks import SUPERB_CLASSES
from speechft.tasks.lexicon import load_lexicon
from speechft.tasks.sf import slot_values
from speechft.tasks.timit_phones import TIMIT_61

SPEECH = ROOT / "mini/speech"
# Corpus of paper.yaml -> kind, and keys of its recipe beside those that the builder gives.
CORPORA = {
    **{kind: (kind, {}) for kind in KINDS if kind != "voxceleb1"},
    "voxceleb1": ("voxceleb1", {"use": "sid"}),
    "voxceleb1_asv": ("voxceleb1", {"use": "asv"}),
}
TASKS = {
    **{"pr": "librispeech", "asr": "librispeech", "ks": "speech_commands", "sid": "voxceleb1", "asv": "voxceleb1_asv", "sd": "libri2mix"},
    **{"er": "iemocap", "ic": "fluent_speech_commands", "sf": "audio_snips", "asr_zh": "aishell1", "pc": "timit"},
}
SPLITS = ("train", "dev", "test")


def recipe(name, folder, keys):
    kind, options = CORPORA[name]
    files = {key: str(value) if isinstance(value, Path) else list(map(str, value)) for key, value in keys.items()}
    return corpus_recipe({"kind": kind, "path": folder, "complete": False, **files, **options}, name)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Kind -> folder of its stand-in and what the builder returned."""
    root = tmp_path_factory.mktemp("stand_ins")
    return {kind: (root / kind, build_stand_in(kind, root / kind, SPEECH)) for kind in KINDS}


@pytest.fixture(scope="module")
def prepared(built, tmp_path_factory):
    """Corpus -> split -> cuts, and the summary under `summary`."""
    out = tmp_path_factory.mktemp("manifests")
    found = {}
    for name, (kind, _) in CORPORA.items():
        summary = prepare_corpus(recipe(name, *built[kind]), out / name)
        found[name] = {split: list(load_split(out / name, split)) for split in summary["splits"]} | {"summary": summary}
    return found


def test_there_is_one_of_every_kind_and_readers_take_them_without_a_problem(built):
    assert set(BUILDERS) == set(KINDS) == set(SIZES)
    for name, (kind, _) in CORPORA.items():
        listing = read_corpus(recipe(name, *built[kind]))
        assert (name, listing.problems) == (name, [])


def test_sizes_are_those_of_the_table(prepared):
    counts = {name: {split: len(cuts) for split, cuts in found.items() if split != "summary"} for name, found in prepared.items()}
    for kind in ("librispeech", "fluent_speech_commands", "audio_snips", "libri2mix", "timit", "aishell1"):
        assert counts[kind] == {split: SIZES[kind][split] for split in SPLITS}
    sizes = SIZES["voxceleb1"]
    speakers = sizes["dev speakers"] + sizes["test speakers"]
    assert counts["voxceleb1"] == {split: speakers * sizes[f"{split} per speaker"] for split in SPLITS}
    assert prepared["voxceleb1_asv"]["summary"]["trials"]["test"] == sizes["trials"]
    assert counts["iemocap"] == {"train": 5 * 2 * 4 * SIZES["iemocap"]["per class, speaker and session"]}
    assert counts["aishell3"] == {"train": SIZES["aishell3"]["train"] + SIZES["aishell3"]["test"]}
    seconds = [summary["hours"] * 3600 for found in prepared.values() for summary in found["summary"]["splits"].values()]
    assert sum(seconds) < 1200


@pytest.mark.parametrize("name", TASKS)
def test_every_task_finds_its_targets(name, built, prepared):
    options = {"lexicon": list(map(str, built["librispeech"][1]["lexicon"]))} if name == "pr" else {}
    task, splits = get_task(name, **options), prepared[TASKS[name]]
    labels = task.label_set(splits["train"])
    for split, cuts in splits.items():
        # Speakers of asv are those in training alone.
        if split == "train" or (split != "summary" and name != "asv"):
            assert len(task.targets(cuts, labels, split)) == len(cuts)


def test_all_classes_are_in_train_and_what_is_tested_was_seen(prepared):
    def labels(name, split):
        return {cut.supervisions[0].custom["label"] for cut in prepared[name][split]}

    for split in SPLITS:
        assert labels("speech_commands", split) == set(SUPERB_CLASSES)
        assert labels("crema_d", split) == {"angry", "disgusted", "fearful", "happy", "neutral", "sad"}
    assert len(labels("fluent_speech_commands", "train")) == 31
    for split in ("dev", "test"):
        values = zip(*(label.split("|") for label in labels("fluent_speech_commands", split)), strict=True)
        assert all(len(set(value)) > 1 for value in values)
    turns = [(cut.custom["fold"], cut.supervisions[0]) for cut in prepared["iemocap"]["train"]]
    combinations = {(fold, turn.speaker[5], turn.custom["label"]) for fold, turn in turns}
    assert combinations == set(product("12345", "FM", ("neutral", "happy", "angry", "sad")))
    folds = get_task("er").folds(prepared["iemocap"]["train"])
    assert sorted(folds) == list("12345")
    for fold in folds.values():
        assert {cut.supervisions[0].custom["label"] for cut in fold["train"]} == {"neutral", "happy", "angry", "sad"}
    speakers = {split: {cut.supervisions[0].speaker for cut in prepared["voxceleb1"][split]} for split in SPLITS}
    assert len(speakers["train"]) == 8
    assert speakers["train"] == speakers["dev"] == speakers["test"]


def test_librispeech_has_names_that_only_its_own_lexicon_has(built, prepared):
    _, keys = built["librispeech"]
    common, own = load_lexicon([CMUDICT]), load_lexicon(list(map(str, keys["lexicon"])))
    for split in SPLITS:
        words = {word for cut in prepared["librispeech"][split] for word in cut.supervisions[0].text.split()}
        assert words - common.keys()
        assert words <= own.keys()
    first, second = (load_lexicon([str(path)]) for path in keys["lexicon"])
    assert not first.keys() & second.keys()


def test_voxceleb1_trials_are_of_both_kinds_between_speakers_that_asv_does_not_train_on(built, prepared):
    asv = prepared["voxceleb1_asv"]
    trained, tested = ({cut.supervisions[0].speaker for cut in asv[split]} for split in ("train", "test"))
    assert not trained & tested
    assert min(tested) == "id10270"
    # What SUPERB trains on lasts longer than 2 s.
    assert all(cut.duration > 2 for cut in asv["train"])
    trials = built["voxceleb1"][1]["trials"].read_text().splitlines()
    assert [trial.split()[0] for trial in trials] == ["1", "0"] * (len(trials) // 2)
    assert len(set(trials)) == len(trials) >= 20


def test_speech_commands_has_long_noise_and_a_recording_that_the_hash_drops(built, prepared):
    folder = built["speech_commands"][0] / "speech_commands_v0.01"
    noises = list((folder / "_background_noise_").glob("*.wav"))
    assert [soundfile.info(path).duration for path in noises] == [SIZES["speech_commands"]["noise seconds"]] * 6
    recordings = [path for path in folder.glob("*/*.wav") if path not in noises]
    words = [cut for split in ("train", "dev") for cut in prepared["speech_commands"][split] if not cut.id.startswith("_")]
    assert len(recordings) == len(words) + 1


def test_archives_of_macos_left_resource_forks(built):
    for kind in ("audio_snips", "fluent_speech_commands", "iemocap"):
        forks = [path for path in built[kind][0].rglob("._*") if path.is_file()]
        assert forks, kind
        for fork in forks:
            assert fork.with_name(fork.name[2:]).is_file()
            assert fork.read_bytes().startswith(b"\x00\x05\x16\x07")
    assert {path.suffix for path in built["iemocap"][0].rglob("._*")} == {".wav", ".txt"}


def test_iemocap_holds_what_is_left_out_and_an_order_that_is_not_sorted(built, prepared):
    folder, keys = built["iemocap"]
    lines = [line for path in folder.glob("Session*/dialog/EmoEvaluation/Ses*.txt") for line in path.read_text().splitlines()]
    said = {line.split("\t")[2] for line in lines if line.startswith("[")}
    assert {"neu", "hap", "exc", "ang", "sad", "fru", "xxx"} <= said
    assert any(line.startswith("C-E2:") for line in lines)
    ids = [cut.id for cut in prepared["iemocap"]["train"]]
    entries = [
        Path(entry["path"]).stem
        for number in range(1, 6)
        for entry in json.loads((keys["order"] / f"Session{number}/test_meta_data.json").read_text())["meta_data"]
    ]
    assert ids == entries != sorted(ids)


def test_audio_snips_has_voices_of_other_splits_and_words_that_are_none(built, prepared):
    folder = built["audio_snips"][0]
    read = {cut.id for split in SPLITS for cut in prepared["audio_snips"][split]}
    for part in ("train", "valid", "test"):
        assert {path.stem for path in (folder / part).glob("[!.]*.wav")} - read
    table = (folder / "all.iob.snips.txt").read_text()
    assert " & " in table
    assert " ? EOS" in table
    task = get_task("sf")
    labels = task.label_set(prepared["audio_snips"]["train"])
    for split in ("dev", "test"):
        texts = [task.text(target.tolist(), labels) for target in task.targets(prepared["audio_snips"][split], labels, split)]
        assert len({slot for text in texts for slot in slot_values(text)}) > 3


def test_quesst14_has_queries_without_a_document_and_a_document_in_another_language(built, prepared):
    folder = built["quesst14"][0]
    splits, task = prepared["quesst14"], get_task("qbe")
    assert prepared["quesst14"]["summary"]["sampling_rates"].keys() == {"8000"}
    for split in ("dev", "test"):
        queries = [cut for cut in splits[split] if task.role(cut) == "query"]
        assert {bool(task.relevant(cut)) for cut in queries} == {True, False}
        assert all(cut.duration > 0.3 for cut in queries)
    documents = {cut.id for cut in splits["test"] if task.role(cut) == "document"}
    lines = (folder / "scoring/language_key_utterances.lst").read_text().splitlines()
    foreign = {Path(line.split()[0]).stem for line in lines if line.endswith(" albanian")}
    assert foreign
    assert not foreign & documents
    # The ground truth names them all the same.
    truth = (folder / "scoring/groundtruth_quesst14_dev/quesst14_dev.rttm").read_text()
    assert any(f"LEXEME {name} " in truth for name in foreign)


def test_libri2mix_has_speakers_with_the_same_times_and_three_turns(built, prepared):
    folder = built["libri2mix"][0]
    for split in SPLITS:
        turns = [[(turn.start, turn.duration) for turn in cut.supervisions] for cut in prepared["libri2mix"][split]]
        assert turns[0][0] == turns[0][1]
        assert sorted(map(len, turns)) == [2] * (len(turns) - 1) + [3]
        assert len((folder / split / "segments").read_text().splitlines()) == sum(map(len, turns)) - 1
        for cut in prepared["libri2mix"][split]:
            assert len({turn.speaker for turn in cut.supervisions}) == 2
            samples, _ = soundfile.read(cut.recording.sources[0].source)
            assert 0.05 < np.abs(samples).max() < 0.999


def test_timit_is_sphere_in_upper_case_with_all_61_phones(built, prepared):
    folder = built["timit"][0]
    audio = sorted((folder / "TRAIN").glob("*/*/*"))
    assert all(path.name == path.name.upper() for path in audio)
    path = next(path for path in audio if path.suffix == ".WAV")
    assert path.read_bytes().startswith(b"NIST_1A\n   1024\ndatabase_id -s5 TIMIT\n")
    assert (soundfile.info(path).format, soundfile.info(path).subtype) == ("NIST", "PCM_16")
    segments = [item for cut in prepared["timit"]["train"] for item in cut.supervisions[0].alignment["phone"]]
    assert {item.symbol for item in segments} == set(TIMIT_61)
    names = {path.stem for path in folder.rglob("*.WAV")}
    assert {"SA1", "SA2"} <= names
    assert not any("-SA" in cut.id or "MSJS1" in cut.id for split in SPLITS for cut in prepared["timit"][split])
    first = (folder / "TRAIN/DR1/FCJF0").glob("S[IX]*.PHN")
    lines = next(first).read_text().splitlines()
    assert lines[0].endswith(" h#")
    assert lines[-1].endswith(" h#")


def test_tedlium3_has_gaps_unknown_words_short_segments_and_one_past_the_end(built, prepared):
    folder = built["tedlium3"][0] / "legacy"
    for split in SPLITS:
        listed = [line.split(maxsplit=6) for path in folder.glob(f"{split}/stm/*.stm") for line in path.read_text().splitlines()]
        assert any("<unk>" in fields[6] for fields in listed)
        assert any(" 's" in fields[6] for fields in listed)
        assert any(float(fields[4]) - float(fields[3]) < 1 for fields in listed)
        assert any(fields[2] == "inter_segment_gap" for fields in listed) == (split != "train")
        for path in folder.glob(f"{split}/sph/*.sph"):
            last = (folder / split / "stm" / f"{path.stem}.stm").read_text().splitlines()[-1].split()
            assert float(last[4]) > soundfile.info(path).duration
        texts = [cut.supervisions[0].text for cut in prepared["tedlium3"][split]]
        assert not any("<unk>" in text for text in texts)
        assert len(texts) >= 8
    labels = get_task("asr", spelling="tedlium").label_set([])
    assert get_task("asr", spelling="tedlium").targets(prepared["tedlium3"]["train"], labels, "train")


def test_crema_d_has_a_silent_recording_and_a_name_that_is_cut(built, prepared):
    audio = built["crema_d"][0] / "AudioWAV"
    samples, _ = soundfile.read(audio / f"{WITHOUT_SOUND}.wav")
    assert not samples.any()
    ids = {cut.id for split in SPLITS for cut in prepared["crema_d"][split]}
    assert "1040_ITH_SAD_X" in ids
    assert WITHOUT_SOUND not in ids
    assert len((built["crema_d"][0] / "VideoDemographics.csv").read_text().splitlines()) == 92


def test_mandarin_has_letters_in_full_width_and_recordings_without_transcript(built, prepared):
    folder = built["aishell1"][0]
    text = (folder / "transcript/aishell_transcript_v0.8.txt").read_text(encoding="utf-8")
    assert "ｋ" in text  # noqa: RUF001
    recordings = {path.stem for path in folder.rglob("*.wav")}
    assert len(recordings - {line.split()[0] for line in text.splitlines()}) == 4
    train = {symbol for cut in prepared["aishell1"]["train"] for symbol in cut.supervisions[0].text}
    for split in ("dev", "test"):
        assert {symbol for cut in prepared["aishell1"][split] for symbol in cut.supervisions[0].text} <= train
    assert {"K", "T", "V", "我"} <= train
    assert prepared["aishell3"]["summary"]["sampling_rates"] == {"44100": 16}


def test_fluent_speech_commands_counts_its_rows_and_quotes_its_commas(built):
    lines = (built["fluent_speech_commands"][0] / "data/train_data.csv").read_text().splitlines()
    assert lines[0] == ",path,speakerId,transcription,action,object,location"
    assert [line.split(",")[0] for line in lines[1:]] == [str(number) for number in range(len(lines) - 1)]
    assert all(', please",' in line for line in lines[1:])


def test_twice_gives_the_same_bytes(built, tmp_path):
    for kind in KINDS:
        build_stand_in(kind, tmp_path / kind, SPEECH)
        first, second = (
            {path.relative_to(root): sha256_file(path) for path in root.rglob("*") if path.is_file()}
            for root in (built[kind][0], tmp_path / kind)
        )
        assert first == second, kind


def test_other_kinds_and_other_folders_are_refused(tmp_path):
    with pytest.raises(CorpusError, match=r"Unknown stand-in corpus 'timid'. Did you mean 'timit'"):
        build_stand_in("timid", tmp_path / "timid", SPEECH)
    with pytest.raises(CorpusError, match=r"manifest.csv: no such file.*mini/speech"):
        build_stand_in("timit", tmp_path / "timit", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_documentation_shows_how_much_they_are():
    text = (ROOT / "docs/rehearsal.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \| [^|]+ \|$", text, re.M))
    assert rows == {kind: ", ".join(f"{what} {number}" for what, number in sizes.items()) for kind, sizes in SIZES.items()}
