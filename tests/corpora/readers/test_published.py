"""What readers make of published corpora: splits, ids, supervisions, and the targets that tasks get from them."""

import numpy as np
import pytest
import soundfile
from corpora.readers.skeletons import COMMANDS_TEST, SNIPS_LINES, VOXCELEB, VOXCELEB_TEST, build_timit, command_speakers

from speechft.corpora import load_audio
from speechft.corpora.trials import read_trials
from speechft.errors import CorpusError
from speechft.tasks import get_task


def ids(splits):
    return {split: [cut.id for cut in cuts] for split, cuts in splits.items()}


def test_aishell1_has_transcribed_recordings_without_spaces(corpus):
    _, splits = corpus("aishell1").prepare()
    found = splits["dev"][0].supervisions[0]
    assert (len(splits["dev"]), splits["dev"][0].id, found.text, found.speaker) == (1, "BAC009S0724W0122", "而对楼市KTV", "S0724")


def test_all_of_aishell3_is_unlabelled_train(corpus):
    summary, splits = corpus("aishell3").prepare()
    assert ids(splits) == {"train": ["SSB00050001", "SSB00050002", "SSB00090001", "SSB00090002"]}
    assert (splits["train"][0].supervisions[0].text, splits["train"][0].sampling_rate) == (None, 44_100)
    assert [size["found"] for size in summary["published"]][:2] == [4, 2]


def test_audio_snips_has_words_and_slot_types_of_every_voice(corpus):
    snips = corpus("audio_snips")
    snips.audio("train/Brian-snips-train-0.wav")  # a voice of the test split
    _, splits = snips.prepare()
    assert {split: len(cuts) for split, cuts in splits.items()} == {"train": 4, "dev": 2, "test": 2}
    found = splits["train"][0].supervisions[0]
    assert (found.text, found.speaker) == ("ADD NINE INCH NAILS TO PARTY", "Ivy")
    assert found.custom["label"] == "O artist artist artist O playlist"
    labels, targets = snips.targets("sf", splits)
    assert labels.extra["slot_types"] == ["artist", "playlist"]
    text = "".join(labels.symbols[index] for index in targets["test"][0])
    assert text == "ADD B-artist NINE INCH NAILS E-artist TO B-playlist PARTY E-playlist<eos>"
    lines = [line.format(f"snips-{folder}-{number}") for folder in ("train", "valid", "test") for number, line in enumerate(SNIPS_LINES)]
    snips.text("all.iob.snips.txt", *lines)  # without the voice in its names, it serves all voices
    assert snips.prepare()[1]["dev"][1].supervisions[0].text == "PLAY IT"


def test_no_speaker_of_crema_d_is_on_two_sides_and_both_sexes_are_on_each(corpus):
    crema = corpus("crema_d")
    _, splits = crema.prepare()
    speakers = {split: {cut.supervisions[0].speaker for cut in cuts} for split, cuts in splits.items()}
    assert (len(speakers["train"]), speakers["dev"], speakers["test"]) == (16, {"1017", "1018"}, {"1019", "1020"})
    labels, targets = crema.targets("er", splits)
    assert labels.symbols == ("angry", "neutral")
    assert [int(target) for target in targets["test"]] == [0, 1, 0, 1]


def test_odd_recordings_of_crema_d(corpus):
    crema = corpus("crema_d")
    with (crema.path / "VideoDemographics.csv").open("a") as file:
        file.write("1076,25,Female,Asian,Hispanic\n")
    crema.audio("AudioWAV/1076_MTI_SAD_XX.wav", seconds=0)  # the one without sound, which is left out
    crema.audio("AudioWAV/1010_ITH_SAD_X.wav")  # the one whose level has one letter
    _, splits = crema.prepare()
    assert sum(map(len, splits.values())) == 41
    assert "1010_ITH_SAD_X" in ids(splits)["train"]


def test_tables_of_fluent_speech_commands_become_splits_with_three_slots(corpus):
    fluent = corpus("fluent_speech_commands")
    _, splits = fluent.prepare()
    found = splits["dev"][1].supervisions[0]
    assert (found.text, found.speaker, found.custom["label"]) == ("Turn up, please", "speaker1", "increase|volume|none")
    assert splits["test"][0].id == "0a3129c0-4474-11e9-a9a5-20"
    labels, targets = fluent.targets("ic", splits)
    assert labels.extra["values_per_slot"] == [2, 2, 1]
    assert targets["test"][1].tolist() == [1, 1, 0]


def test_turns_of_libri2mix_come_from_rttm_and_its_audio_may_lie_elsewhere(corpus):
    libri2mix = corpus("libri2mix")
    summary, splits = libri2mix.prepare()
    turns = [(turn.speaker, turn.start, turn.duration) for turn in splits["dev"][0].supervisions]
    assert turns == [("103", 0.0, 0.6), ("201", 0.2, 0.7)]
    assert {split: found["speakers"] for split, found in summary["splits"].items()} == {"train": 2, "dev": 2, "test": 2}
    _, targets = libri2mix.targets("sd", splits)
    assert targets["train"][0].sum(dim=0).tolist() == [30, 35]
    (libri2mix.path / "Libri2Mix").rename(libri2mix.path.parent / "Libri2Mix")
    with pytest.raises(CorpusError, match="no such file"):
        libri2mix.prepare()
    _, splits = libri2mix.prepare(audio_root=libri2mix.path.parent)
    assert len(splits["test"]) == 1


def test_two_speakers_of_libri2mix_with_equal_times_stay_two(corpus):
    """LibriMix names a segment by mixture and times, so that there one of the two overwrites the other."""
    libri2mix, name = corpus("libri2mix"), "103-1240-0000_201-0003"
    files = {
        "segments": f"{name}_1 {name} 0.00 0.60",
        "utt2spk": f"{name}_1 201",
        "rttm": "\n".join(f"SPEAKER {name} 1 0.00 0.60 <NA> <NA> {speaker} <NA> <NA>" for speaker in (103, 201)),
    }
    for file, text in files.items():
        (libri2mix.path / "dev" / file).write_text(f"{text}\n")
    _, splits = libri2mix.prepare()
    turns = [(turn.speaker, turn.start, turn.duration) for turn in splits["dev"][0].supervisions]
    assert turns == [("103", 0.0, 0.6), ("201", 0.0, 0.6)]


def test_quesst14_has_english_queries_and_documents_with_what_is_relevant(corpus):
    quesst, task = corpus("quesst14"), get_task("qbe")
    _, splits = quesst.prepare()
    assert ids(splits) == {"dev": ["quesst14_dev_0001"], "test": ["quesst14_eval_0001", "quesst14_00001", "quesst14_00002"]}
    assert [task.role(cut) for cut in splits["test"]] == ["query", "document", "document"]
    assert task.relevant(splits["dev"][0]) == ("quesst14_00002",)
    assert task.label_set(splits["test"]).symbols == ()
    truth = "scoring/groundtruth_quesst14_dev/quesst14_dev"
    quesst.text(f"{truth}.rttm", (quesst.path / f"{truth}.rttm").read_text().replace("quesst14_dev_0001", "hello"))
    with pytest.raises(CorpusError, match="no query of dev in nnenglish is in a document"):
        quesst.prepare()
    quesst.text(f"{truth}.tlist.xml", '<t><term termid="quesst14_dev_0001"><termtext>hello</termtext></term></t>')
    assert task.relevant(quesst.prepare()[1]["dev"][0]) == ("quesst14_00002",)


def test_speech_commands_are_divided_by_the_hash_and_noise_is_on_both_sides(corpus):
    commands, speakers = corpus("speech_commands"), command_speakers()
    _, splits = commands.prepare()
    assert {split: len(cuts) for split, cuts in splits.items()} == {"train": 12, "dev": 12, "test": 12}
    assert {cut.supervisions[0].speaker for cut in splits["train"]} == {speakers["train"], None}
    _, found = commands.targets("ks", splits, classes="superb")
    assert [sorted(map(int, targets)) for targets in found.values()] == [list(range(12))] * 3
    unknown = next(cut for cut in splits["dev"] if cut.supervisions[0].custom["label"] == "_unknown_")
    assert (unknown.id, unknown.supervisions[0].text) == (f"bed_{speakers['dev']}_nohash_0", "bed")
    assert {cut.id for cut in splits["train"]}.isdisjoint(cut.id for cut in splits["dev"])
    commands.remove(f"{COMMANDS_TEST}/go")
    commands.audio(f"{COMMANDS_TEST}/maybe/1.wav")
    with pytest.raises(CorpusError) as caught:
        commands.prepare()
    assert "/go: no such folder" in caught.value.problems[0]
    assert "maybe/1.wav: its folder is not one of the 12 classes" in caught.value.problems[1]


def test_segments_of_tedlium3_are_parts_of_talks(corpus):
    tedlium = corpus("tedlium3")
    summary, splits = tedlium.prepare(subset=None)
    assert ids(splits)["dev"] == [f"AlGore_2009-000{line}" for line in range(2, 7)]
    assert ids(splits)["train"][:6:5] == ["911Mothers_2010W-0002", "AaronHuey_2010X-0002"]
    cut = splits["dev"][4]
    assert (cut.start, round(cut.duration, 4), cut.supervisions[0].text) == (4.0, 1.5, "and so on")  # ends with the talk
    whole, _ = soundfile.read(tedlium.path / "legacy/dev/sph/AlGore_2009.sph", dtype="float32")
    assert np.array_equal(load_audio(cut).numpy(), whole[64_000:])
    assert summary["splits"]["dev"]["hours"] == round((1.5 + 0.5 + 1.0 + 1.5 + 1.5) / 3600, 6)
    assert [size["found"] for size in summary["published"]] == [2, 1, 1, 10]


def test_the_subset_of_the_released_fine_tuning_on_tedlium3(corpus, monkeypatch):
    tedlium = corpus("tedlium3")
    _, splits = tedlium.prepare()
    assert [cut.supervisions[0].text for cut in splits["dev"]] == ["i am here today", "ignore_time_segment_in_scoring", "and so on"]
    _, targets = tedlium.targets("asr", splits)
    assert all(len(target) for target in targets["train"])
    # Ten hours of train, in the order of the corpus.
    monkeypatch.setattr("speechft.corpora.splits.TRAIN_HOURS", 2.0 / 3600)
    _, splits = tedlium.prepare()
    assert ids(splits)["train"] == ["911Mothers_2010W-0002", "911Mothers_2010W-0004"]
    assert len(splits["test"]) == 3


@pytest.mark.parametrize("spelled", [str.upper, str.lower])
def test_timit_has_core_and_development_speakers_without_sa_and_39_classes(skeleton, spelled):
    timit = skeleton("timit")
    build_timit(timit, spelled)
    summary, splits = timit.prepare()
    speakers = {"train": "FCJF0", "dev": "FAKS0", "test": "FELC0"}
    assert ids(splits) == {split: [f"{speaker}-SI648", f"{speaker}-SX37"] for split, speaker in speakers.items()}
    assert splits["dev"][0].supervisions[0].text == "She is."
    assert [size["published"] for size in summary["published"]] == [3696, 462, 400, 50, 192, 24]
    labels, targets = timit.targets("pc", splits)
    assert len(labels) == 39
    names = [labels.symbols[index] if index >= 0 else None for index in targets["test"][0].tolist()]
    # Centers of frames: 10, 30, ... ms; phones end at 50.4, 150.4, 206.9, 250.1 and 300.2 ms.
    assert names == ["sil"] * 3 + ["sh"] * 5 + ["iy"] * 2 + ["ih"] * 3 + [None] * 2
    (timit.path / spelled("TRAIN/DR1/FCJF0/SI648.phn")).unlink()
    timit.text(spelled("TRAIN/DR1/FCJF0/SX37.phn"), "0 807 h#", "700 2407 sh", "2407 3000 zz")
    with pytest.raises(CorpusError) as caught:
        timit.prepare()
    text = "\n".join(caught.value.problems)
    assert "no SI648.PHN in its folder" in text
    assert "line 2: '700 2407 sh' ends before it starts, or starts before the previous phone ends" in text
    assert "line 3: '2407 3000 zz' is not" in text


def test_identification_by_voxceleb1_follows_the_list_over_both_folders(corpus):
    voxceleb = corpus("voxceleb1")
    lines = [f"{split} {name}" for split, name in zip((1, 3, 1, 2), (VOXCELEB[2], VOXCELEB[0], *VOXCELEB_TEST[:2]), strict=True)]
    summary, splits = voxceleb.prepare(use="sid", split_list=voxceleb.text("list.txt", *lines))
    assert ids(splits)["train"] == ["id10001-1zcIwhmdeo4-00002", "id10270-5r0dWxy17C8-00001"]
    labels, found = voxceleb.targets("sid", splits)
    assert labels.symbols == ("id10001", "id10270")
    assert [int(target) for target in found["test"]] == [0]
    assert summary["published"][-1] == {"split": None, "what": "speakers", "published": 1251, "found": 2, "agrees": False}


def test_verification_by_voxceleb1_has_the_trials_as_test(corpus):
    voxceleb = corpus("voxceleb1")
    trials = voxceleb.path / "trials.txt"
    summary, splits = voxceleb.prepare(use="asv", trials=trials)
    assert {split: len(cuts) for split, cuts in splits.items()} == {"train": 3, "test": 3}
    assert summary["trials"]["test"] == 2
    written = read_trials(voxceleb.path.parent / "out/trials.csv")
    assert [(trial.same, trial.enrolment, trial.test) for trial in written] == [
        (True, "id10270-5r0dWxy17C8-00001", "id10270-5r0dWxy17C8-00002"),
        (False, "id10270-5r0dWxy17C8-00001", "id10271-1gtz-CUIygI-00001"),
    ]
    labels, _ = voxceleb.targets("asv", {"train": splits["train"]})
    assert labels.symbols == ("id10001", "id10002")
    with pytest.raises(CorpusError, match="all splits: 2 trials, published are 37720; look at `trials`: s3prl's"):
        voxceleb.prepare(use="asv", trials=trials, complete=True)
