import pytest

from speechft.errors import CorpusError

MIXTURE = "103-1240-0000_{}-0003"


def build_libri2mix(skeleton):
    for number, split in enumerate(("train", "dev", "test")):
        name = MIXTURE.format(200 + number)
        skeleton.audio(f"Libri2Mix/wav16k/max/{split}/mix_both/{name}.wav", seconds=1.0)
        skeleton.text(f"{split}/wav.scp", f"{name} Libri2Mix/wav16k/max/{split}/mix_both/{name}.wav")
        skeleton.text(f"{split}/segments", f"{name}_1 {name} 0.00 0.60", f"{name}_2 {name} 0.20 0.90")
        skeleton.text(f"{split}/utt2spk", f"{name}_1 103", f"{name}_2 {200 + number}")
        skeleton.text(f"{split}/spk2utt", f"103 {name}_1", f"{200 + number} {name}_2")
        skeleton.text(f"{split}/reco2dur", f"{name} 1.00")
        skeleton.text(
            f"{split}/rttm",
            f"SPEAKER {name} 1 0.20 0.70 <NA> <NA> {200 + number} <NA> <NA>",
            f"SPEAKER {name} 1 0.00 0.60 <NA> <NA> 103 <NA> <NA>",
        )
    return skeleton


libri2mix = pytest.fixture(build_libri2mix)


def test_turns_come_from_rttm(libri2mix):
    summary, splits = libri2mix.prepare("libri2mix")
    turns = [(turn.speaker, turn.start, turn.duration) for turn in splits["dev"][0].supervisions]
    assert turns == [("103", 0.0, 0.6), ("201", 0.2, 0.7)]
    assert {split: found["speakers"] for split, found in summary["splits"].items()} == {"train": 2, "dev": 2, "test": 2}
    _, targets = libri2mix.targets("sd", splits)
    assert targets["train"][0].sum(dim=0).tolist() == [30, 35]


def test_audio_may_lie_elsewhere(libri2mix):
    (libri2mix.path / "Libri2Mix").rename(libri2mix.path.parent / "Libri2Mix")
    with pytest.raises(CorpusError, match="no such file"):
        libri2mix.prepare("libri2mix")
    _, splits = libri2mix.prepare("libri2mix", audio_root=libri2mix.path.parent)
    assert len(splits["test"]) == 1


def test_files_that_contradict_each_other_are_listed(libri2mix):
    name = MIXTURE.format(200)
    libri2mix.text("train/segments", f"{name}_9 {name} 0.00 0.60", "a b 0 1")
    libri2mix.text("dev/rttm", "SPEAKER other 1 0.20 0.70 <NA> <NA> 5 <NA>")
    libri2mix.text("test/wav.scp", "a sph2pipe a.sph |")
    with pytest.raises(CorpusError) as caught:
        libri2mix.prepare("libri2mix")
    text = "\n".join(caught.value.problems)
    assert f"{name}_9 is not in utt2spk" in text
    assert "line 2: 'a b 0 1' is not" in text
    assert f"has no turn of {MIXTURE.format(201)}" in text
    assert "other is not in wav.scp" in text
    assert "commands are not run" in text
    (libri2mix.path / "test/rttm").unlink()
    with pytest.raises(CorpusError, match="test/rttm: no such file"):
        libri2mix.prepare("libri2mix")
    (libri2mix.path / "dev").rename(libri2mix.path / "development")
    with pytest.raises(CorpusError, match=r"dev: no such folder.*github.com/s3prl/LibriMix"):
        libri2mix.prepare("libri2mix")
