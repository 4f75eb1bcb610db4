"""What is wrong with lists is reported before a recording is decoded."""

import pytest
import soundfile
from corpora.readers.skeletons import VOXCELEB

from speechft.corpora import inspection, load_split, prepare_corpus
from speechft.errors import CorpusError


@pytest.fixture
def decoded(monkeypatch):
    """Recordings that were read to their end."""
    paths = []
    decode = inspection._decode
    monkeypatch.setattr(inspection, "_decode", lambda path: paths.append(path) or decode(path))
    return paths


def test_a_wrong_list_of_voxceleb1_is_reported_before_decoding(corpus, decoded):
    voxceleb = corpus("voxceleb1")
    path = voxceleb.text("veri_test_class.txt", f"1 {VOXCELEB[0]}", f"3 {VOXCELEB[2]}")
    with pytest.raises(CorpusError) as caught:
        voxceleb.prepare(use="sid", split_list=path, complete=True)
    assert any("differs from s3prl's list of this name" in problem for problem in caught.value.problems)
    assert "train: 1 utterances, published are 138361; look at `split_list`, lines that begin with 1" in caught.value.problems
    assert decoded == []
    voxceleb.prepare(use="sid", split_list=path)
    assert len(decoded) == 2
    # What headers tell is reported with what lists tell.
    soundfile.write(voxceleb.path / f"dev/wav/{VOXCELEB[0]}", [[0.1, 0.1]] * 4800, 16_000)
    voxceleb.text("veri_test_class.txt", f"1 {VOXCELEB[0]}", "3 id10001/1zcIwhmdeo4/00009.wav")
    with pytest.raises(CorpusError) as caught:
        voxceleb.prepare(use="sid", split_list=path)
    assert [problem.split(": ")[1][:14] for problem in caught.value.problems] == ["has 2 channels", "no such file"]
    assert len(decoded) == 2


def test_trials_of_unknown_recordings_are_reported_before_decoding(folder, decoded, tmp_path):
    folder.tone("a.wav")
    folder.tone("b.wav")
    folder.table("path,split,speaker\na.wav,train,x\nb.wav,test,y\n")
    trials = folder.path / "trials.csv"
    trials.write_text("label,enrolment,test\n1,b,c\n")
    with pytest.raises(CorpusError) as caught:
        prepare_corpus(folder.recipe(trials=trials), tmp_path / "out")
    assert "1 unknown id(s)" in caught.value.problems[0]
    assert caught.value.problems[1] == "c: no recording has this id (1 trial(s))"
    assert decoded == []


def test_problems_of_rows_do_not_hide_what_decoding_tells(folder, decoded, tmp_path):
    folder.tone("a.wav", channels=2)
    folder.samples("c.wav", [0.0, float("nan"), 0.0], subtype="FLOAT")
    folder.table("path,split\na.wav,train\nb.wav,train\nc.wav,train\n")
    with pytest.raises(CorpusError) as caught:
        prepare_corpus(folder.recipe(), tmp_path / "out")
    assert [problem.split(": ")[2][:12] for problem in caught.value.problems] == ["has 2 channe", "no such file", "contains NaN"]


def test_manifests_hold_absolute_paths_whatever_the_experiment_says(corpus, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    recipe = corpus("voxceleb1").recipe(use="asv", path="published", trials="published/trials.txt")
    prepare_corpus(recipe, tmp_path / "out")
    monkeypatch.chdir("/")
    sources = [cut.recording.sources[0].source for split in ("train", "test") for cut in load_split(tmp_path / "out", split)]
    assert len(sources) == 6
    assert all(source.startswith(f"{tmp_path}/published/") for source in sources)
    assert load_split(tmp_path / "out", "train")[0].load_audio().shape == (1, 4800)
