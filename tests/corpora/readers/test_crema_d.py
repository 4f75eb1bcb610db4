import pytest

from speechft.errors import CorpusError

ACTORS = {number: "Male" if number % 2 else "Female" for number in range(1001, 1021)}


def build_crema(skeleton):
    rows = [f'{actor},{51},"{sex}","Caucasian","Not Hispanic"' for actor, sex in ACTORS.items()]
    skeleton.text("VideoDemographics.csv", '"ActorID","Age","Sex","Race","Ethnicity"', *rows)
    for actor in ACTORS:
        for emotion in ("ANG", "NEU"):
            skeleton.audio(f"AudioWAV/{actor}_DFA_{emotion}_XX.wav")
    return skeleton


crema = pytest.fixture(build_crema)


def test_no_speaker_is_on_two_sides_and_both_sexes_are_on_each(crema):
    _, splits = crema.prepare("crema_d")
    speakers = {split: {cut.supervisions[0].speaker for cut in cuts} for split, cuts in splits.items()}
    assert speakers["dev"] == {"1017", "1018"}
    assert speakers["test"] == {"1019", "1020"}
    assert len(speakers["train"]) == 16
    labels, targets = crema.targets("er", splits)
    assert labels.symbols == ("angry", "neutral")
    assert [int(target) for target in targets["test"]] == [0, 1, 0, 1]


def test_the_recording_without_sound_is_left_out(crema):
    crema.text("VideoDemographics.csv", "ActorID,Age,Sex", *(f"{actor},1,{sex}" for actor, sex in ACTORS.items()), "1076,25,Female")
    crema.audio("AudioWAV/1076_MTI_SAD_XX.wav", seconds=0)
    _, splits = crema.prepare("crema_d")
    assert sum(map(len, splits.values())) == 40


def test_the_level_of_one_letter_that_the_corpus_has_once_is_taken(crema):
    crema.audio("AudioWAV/1010_ITH_SAD_X.wav")
    _, splits = crema.prepare("crema_d")
    assert "1010_ITH_SAD_X" in {cut.id for cut in splits["train"]}


def test_names_and_actors_that_are_unknown_are_listed(crema):
    crema.audio("AudioWAV/1001_DFA_JOY_XX.wav")
    crema.audio("AudioWAV/1099_DFA_ANG_XX.wav")
    with pytest.raises(CorpusError) as caught:
        crema.prepare("crema_d")
    assert "1001_DFA_JOY_XX.wav: its name is not" in caught.value.problems[0]
    assert "VideoDemographics.csv does not have actor 1099" in caught.value.problems[1]
    crema.text("VideoDemographics.csv", "Actor,Age")
    with pytest.raises(CorpusError, match="has no column ActorID or Sex"):
        crema.prepare("crema_d")
    (crema.path / "VideoDemographics.csv").unlink()
    with pytest.raises(CorpusError, match=r"VideoDemographics.csv: no such file.*github.com"):
        crema.prepare("crema_d")
