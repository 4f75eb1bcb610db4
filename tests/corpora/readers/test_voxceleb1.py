import pytest

from speechft.corpora.trials import read_trials
from speechft.errors import CorpusError

RECORDINGS = ["dev/wav/id10001/1zcIwhmdeo4/00001.wav", "dev/wav/id10002/0_laIeN-Q44/00001.wav", "dev/wav/id10001/1zcIwhmdeo4/00002.wav"]
TESTED = ["test/wav/id10270/5r0dWxy17C8/00001.wav", "test/wav/id10270/5r0dWxy17C8/00002.wav", "test/wav/id10271/1gtz-CUIygI/00001.wav"]


def build_voxceleb(skeleton):
    for name in (*RECORDINGS, *TESTED):
        skeleton.audio(name)
    return skeleton


voxceleb = pytest.fixture(build_voxceleb)


def split_list(skeleton, *lines, name="iden_split.txt"):
    return skeleton.text(name, *lines)


def test_identification_follows_the_list_over_both_folders(voxceleb):
    path = split_list(
        voxceleb,
        "1 id10001/1zcIwhmdeo4/00002.wav",
        "3 id10001/1zcIwhmdeo4/00001.wav",
        "1 id10270/5r0dWxy17C8/00001.wav",
        "2 id10270/5r0dWxy17C8/00002.wav",
    )
    summary, splits = voxceleb.prepare("voxceleb1", use="sid", split_list=path)
    assert [cut.id for cut in splits["train"]] == ["id10001-1zcIwhmdeo4-00002", "id10270-5r0dWxy17C8-00001"]
    labels, found = voxceleb.targets("sid", splits)
    assert labels.symbols == ("id10001", "id10270")
    assert [int(target) for target in found["test"]] == [0]
    assert summary["published"][-1] == {"split": None, "what": "speakers", "published": 1251, "found": 2, "agrees": False}


def test_a_wrong_list_is_reported_by_line(voxceleb):
    path = split_list(
        voxceleb, "4 id10001/1zcIwhmdeo4/00002.wav", "1 id10001/1zcIwhmdeo4/00001.wav", "1 id10001/1zcIwhmdeo4/00001.wav", "1 ../../etc.wav"
    )
    with pytest.raises(CorpusError) as caught:
        voxceleb.prepare("voxceleb1", use="sid", split_list=path)
    assert [problem.split("line ")[1][0] for problem in caught.value.problems] == ["1", "3", "4"]
    path = split_list(voxceleb, "1 id10001/1zcIwhmdeo4/00001.wav", name="veri_test_class.txt")
    with pytest.raises(CorpusError, match="is not the list of this name that s3prl has"):
        voxceleb.prepare("voxceleb1", use="sid", split_list=path, complete=True)
    # A part of the corpus has a part of the list.
    _, splits = voxceleb.prepare("voxceleb1", use="sid", split_list=path)
    assert [cut.id for cut in splits["train"]] == ["id10001-1zcIwhmdeo4-00001"]
    with pytest.raises(CorpusError, match="`split_list` is not given"):
        voxceleb.prepare("voxceleb1", use="sid")


def test_verification_has_the_trials_as_test(voxceleb):
    trials = voxceleb.text(
        "voxceleb1_test_v2.txt",
        "1 id10270/5r0dWxy17C8/00001.wav id10270/5r0dWxy17C8/00002.wav",
        "0 id10270/5r0dWxy17C8/00001.wav id10271/1gtz-CUIygI/00001.wav",
    )
    summary, splits = voxceleb.prepare("voxceleb1", use="asv", trials=trials)
    assert set(splits) == {"train", "test"}
    assert (len(splits["train"]), len(splits["test"]), summary["trials"]["test"]) == (3, 3, 2)
    written = read_trials(voxceleb.path.parent / "manifests/trials.csv")
    assert [(trial.same, trial.enrolment, trial.test) for trial in written] == [
        (True, "id10270-5r0dWxy17C8-00001", "id10270-5r0dWxy17C8-00002"),
        (False, "id10270-5r0dWxy17C8-00001", "id10271-1gtz-CUIygI-00001"),
    ]
    labels, _ = voxceleb.targets("asv", {"train": splits["train"]})
    assert labels.symbols == ("id10001", "id10002")


def test_trials_are_checked_against_names_and_published_number(voxceleb):
    trials = voxceleb.text("trials.txt", "0 id10270/5r0dWxy17C8/00001.wav id10270/5r0dWxy17C8/00002.wav", "1 a b")
    with pytest.raises(CorpusError) as caught:
        voxceleb.prepare("voxceleb1", use="asv", trials=trials)
    assert "line 1:" in caught.value.problems[0]
    assert "contradicts the speakers" in caught.value.problems[0]
    assert "line 2:" in caught.value.problems[1]
    with pytest.raises(CorpusError, match="all splits: 1 trials, published are 37720; look at `trials`: s3prl's"):
        voxceleb.prepare("voxceleb1", use="asv", trials=trials, complete=True)


def test_a_missing_half_names_its_archive(skeleton):
    skeleton.audio(RECORDINGS[0])
    with pytest.raises(CorpusError, match=r"test/wav: no such folder.*vox1_test_wav.zip"):
        skeleton.prepare("voxceleb1", use="asv")
