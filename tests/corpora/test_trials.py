import pytest

from speechft.corpora import load_split, prepare_corpus, unite_corpora
from speechft.corpora.trials import Trial, read_trials, trials_by_split, trials_path, write_trials
from speechft.errors import CorpusError

SPLIT_OF = {"a": "dev", "b": "dev", "c": "test", "d": "test", "t": "train"}


def test_trials_are_read_and_written(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("enrolment,label,test,note\na, 1 ,b,x\n\n c,0,d,\n", encoding="utf-8")
    trials = read_trials(path)
    assert trials == [Trial(True, "a", "b"), Trial(False, "c", "d")]
    write_trials(tmp_path / "copy.csv", trials)
    assert read_trials(tmp_path / "copy.csv") == trials
    assert (tmp_path / "copy.csv").read_text() == "label,enrolment,test\n1,a,b\n0,c,d\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"must name the columns label, enrolment, test; found nothing"),
        ("1,a,b\n", r"found 1, a, b"),
        ("label,enrolment,test\n", r"no trials"),
        ("label,enrolment,test\n1,a,b\n2,a,b\n1,,b\n1,a\n", r"(?s)3 row\(s\).*row 3: label '2'.*row 4: .*row 5"),
    ],
)
def test_lists_that_are_none(tmp_path, text, message):
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(CorpusError, match=message):
        read_trials(path)
    with pytest.raises(CorpusError, match="no such file"):
        read_trials(tmp_path / "none.csv")


def test_trials_go_to_the_split_of_their_recordings():
    trials = [Trial(True, "a", "b"), Trial(False, "c", "d"), Trial(True, "d", "c")]
    assert trials_by_split(trials, SPLIT_OF, "x") == {"dev": trials[:1], "test": trials[1:]}
    wrong = [Trial(True, "a", "x"), Trial(False, "y", "x"), Trial(True, "a", "c"), Trial(True, "t", "t"), *trials]
    with pytest.raises(CorpusError) as error:
        trials_by_split(wrong, SPLIT_OF, "list.csv")
    assert "list.csv: 2 unknown id(s), 2 trial(s) between wrong splits" in str(error.value)
    assert error.value.problems == (
        "x: no recording has this id (2 trial(s))",
        "y: no recording has this id (1 trial(s))",
        "a (dev) with c (test): both must be in dev, or both in test",
        "t (train) with t (train): both must be in dev, or both in test",
    )


@pytest.fixture
def speakers(folder):
    for name in ("one", "two", "three"):
        folder.tone(f"{name}.wav")
    folder.table("path,speaker,split\none.wav,a,train\ntwo.wav,b,test\nthree.wav,b,test\n")
    (folder.path / "list.csv").write_text("label,enrolment,test\n1,two,three\n")
    return folder


def test_the_list_is_checked_and_copied(speakers, tmp_path):
    recipe = speakers.recipe(trials=speakers.path / "list.csv")
    summary = prepare_corpus(recipe, tmp_path / "out")
    assert (summary["trials"]["dev"], summary["trials"]["test"]) == (0, 1)
    assert read_trials(trials_path(tmp_path / "out")) == [Trial(True, "two", "three")]
    unite_corpora([tmp_path / "out"], tmp_path / "union")
    assert read_trials(trials_path(tmp_path / "union")) == [Trial(True, "two", "three")]
    (speakers.path / "list.csv").write_text("label,enrolment,test\n1,two,four\n")
    with pytest.raises(CorpusError, match="four: no recording has this id"):
        prepare_corpus(recipe, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_mapping_names_the_list(tmp_path):
    assert trials_path({"trials": tmp_path / "x.csv"}) == tmp_path / "x.csv"
    with pytest.raises(CorpusError, match="no trials"):
        trials_path({"test": tmp_path / "x"})


def test_relevant_documents(folder, tmp_path):
    for name in ("q", "d1", "d2"):
        folder.tone(f"{name}.wav")
    folder.table("path,text,label,relevant,split\nq.wav,HELLO,query,d1 d2,test\nd1.wav,,document,,test\nd2.wav,,document,,test\n")
    summary = prepare_corpus(folder.recipe(), tmp_path / "out")
    query, document, _ = load_split(tmp_path / "out", "test")
    assert query.supervisions[0].custom == {"label": "query", "relevant": "d1 d2"}
    assert document.supervisions[0].custom == {"label": "document"}
    assert list(summary["splits"]) == ["test"]
    folder.table("path,label,relevant,split\nq.wav,query,d1 d9,test\nd1.wav,document,,test\n")
    with pytest.raises(CorpusError, match="row 2: relevant: no recording has the id 'd9'"):
        prepare_corpus(folder.recipe(), tmp_path / "other")
