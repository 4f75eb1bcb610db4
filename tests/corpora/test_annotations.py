"""Phones, turns, trials and relevant documents, beside or in the table of a corpus."""

import pytest

from speechft.corpora import prepare_corpus, unite_corpora
from speechft.corpora.phones import parse_phones
from speechft.corpora.rttm import Turn, read_rttm, rttm_line
from speechft.corpora.trials import Trial, read_trials, trials_by_split, trials_path, write_trials
from speechft.errors import CorpusError
from speechft.tasks import get_task

RTTM = """;; a comment
SPKR-INFO mix1 1 <NA> <NA> <NA> unknown ann <NA>
SPEAKER mix1 1 0.500 0.250 <NA> <NA> bob <NA>
SPEAKER mix1 1 0.000 1.000 <NA> <NA> ann <NA> <NA>
SPEAKER mix2 1 0.100 0.200 <NA> <NA> ann <NA>

SPEAKER other 1 0.0 0.2 <NA> <NA> eve <NA>
"""


def test_phones_of_a_cell():
    assert parse_phones(" AH0:0.00-0.08  B:0.08-0.15 ") == (("AH0", 0.0, 0.08), ("B", 0.08, 0.15))
    # Labels may hold colons and hyphens; times may leave gaps.
    assert parse_phones("a::0-1 ax-h:1.5-2 h#:2-3") == (("a:", 0.0, 1.0), ("ax-h", 1.5, 2.0), ("h#", 2.0, 3.0))
    assert parse_phones("") == ()


def test_phones_of_a_table_become_the_alignment(folder):
    folder.corpus("path,split,mfa", "x.wav,train,h#:0-0.07 iy:0.07-0.2", "y.wav,train,")
    options = {"columns": {"phones": "mfa"}}
    summary, splits = folder.prepare(**options)
    cut, without = splits["train"]
    phones = [(item.symbol, item.start, item.duration) for item in cut.supervisions[0].alignment["phone"]]
    assert phones == [("h#", 0.0, 0.07), ("iy", 0.07, 0.13)]
    assert not without.supervisions[0].alignment
    task = get_task("pc")
    labels = task.label_set([])
    # 0.2 s are ten frames; the border lies on the center of the fourth.
    assert [labels.symbols[index] for index in task.target(cut, labels).tolist()] == ["sil"] * 3 + ["iy"] * 7
    assert not any(found.alignment for found in folder.train(**options, unlabelled=True))
    folder.corpus("path,split,mfa", "x.wav,train,h#:0-0.08 iy:0.08-0.2", "y.wav,train,")
    assert folder.prepare(**options)[0]["content_sha256"] != summary["content_sha256"]


def test_missing_and_late_phones_and_turns_are_named(folder):
    # Recordings have 0.2 s; ends may be late by the rounding of an aligner.
    folder.corpus("path,split,phones", "mix1.wav,train,a:0-0.1 b", "mix2.wav,train,a:0-0.25", "mix3.wav,train,a:0-0.209")
    assert folder.problems() == [
        "row 2: phones: 'b' is not label:start-end in seconds, such as AH0:0.00-0.08",
        "row 3: mix2.wav: its last phone ends at 0.25 s, but the recording at 0.2 s",
    ]
    folder.corpus("path,split", "mix1.wav,train", "mix3.wav,train")
    (folder.path / "turns.rttm").write_text(RTTM)
    assert folder.problems(rttm=folder.path / "turns.rttm") == [
        "row 2: mix1.wav: a turn ends at 0.75 s, but the recording at 0.2 s",
        "row 2: mix1.wav: a turn ends at 1 s, but the recording at 0.2 s",
        "row 3: mix3: no turn in turns.rttm",
    ]


def test_turns_are_read_and_written(tmp_path):
    path = tmp_path / "x.rttm"
    path.write_text(RTTM)
    turns = read_rttm(path)
    assert turns[0] == Turn("mix1", 0.5, 0.25, "bob")
    assert [turn.recording for turn in turns] == ["mix1", "mix1", "mix2", "other"]
    assert turns[0].end == 0.75
    path.write_text("\n".join(map(rttm_line, turns)))
    assert read_rttm(path) == turns


def test_recordings_get_one_supervision_a_turn(folder):
    folder.corpus("path,split", "mix1.wav,train", "mix2.wav,test", seconds=1.0)
    rttm = folder.path / "turns.rttm"
    rttm.write_text(RTTM)
    summary, splits = folder.prepare(rttm=rttm)
    turns = [(found.speaker, found.start, found.duration) for found in splits["train"][0].supervisions]
    assert turns == [("ann", 0.0, 1.0), ("bob", 0.5, 0.25)]
    assert (summary["splits"]["train"]["speakers"], summary["splits"]["train"]["without_speaker"]) == (2, 0)
    rttm.write_text(RTTM.replace("0.500 0.250", "0.400 0.250"))
    assert folder.prepare(rttm=rttm)[0]["content_sha256"] != summary["content_sha256"]


def test_trials_are_read_and_written(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("enrolment,label,test,note\na, 1 ,b,x\n\n c,0,d,\n", encoding="utf-8")
    trials = read_trials(path)
    assert trials == [Trial(True, "a", "b"), Trial(False, "c", "d")]
    write_trials(tmp_path / "copy.csv", trials)
    assert read_trials(tmp_path / "copy.csv") == trials
    assert (tmp_path / "copy.csv").read_text() == "label,enrolment,test\n1,a,b\n0,c,d\n"


TURN = "SPEAKER a 1 {} <NA> <NA> x\n".format


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (parse_phones, "AH0", "'AH0' is not label:start-end"),
        (parse_phones, "AH0:0.1", "not label:start-end"),
        (parse_phones, "AH0:0.1-x", "not label:start-end"),
        (parse_phones, ":0.1-0.2", "not label:start-end"),
        (parse_phones, "a:0.2-0.2", "does not end after it starts"),
        (parse_phones, "a:0.0-0.2 b:0.1-0.3", "'b:0.1-0.3' starts before the previous phone ends .0.2 s."),
        (read_rttm, f"{TURN('0 1')}{TURN('x 1')}SPEAKER a\n{TURN('0 0')}{TURN('nan 1')}", "(?s)4 line.*line 2:.*line 3:.*line 4:.*line 5:"),
        (read_rttm, ";; nothing\n", "contains no SPEAKER line"),
        (read_rttm, None, "no such file"),
        (read_trials, "", "must name the columns label, enrolment, test; found nothing"),
        (read_trials, "1,a,b\n", "found 1, a, b"),
        (read_trials, "label,enrolment,test\n", "no trials"),
        (read_trials, "label,enrolment,test\n1,a,b\n2,a,b\n1,,b\n1,a\n", "(?s)3 row.*row 3: label '2'.*row 4: .*row 5"),
        (read_trials, None, "no such file"),
    ],
)
def test_damaged_annotations(tmp_path, read, text, message):
    path = tmp_path / "file"
    if text is not None:
        path.write_text(text)
    with pytest.raises((ValueError, CorpusError), match=message):
        read(text if read is parse_phones else path)


def test_trials_go_to_the_split_of_their_recordings():
    split_of = {"a": "dev", "b": "dev", "c": "test", "d": "test", "t": "train"}
    trials = [Trial(True, "a", "b"), Trial(False, "c", "d"), Trial(True, "d", "c")]
    assert trials_by_split(trials, split_of, "x") == {"dev": trials[:1], "test": trials[1:]}
    wrong = [Trial(True, "a", "x"), Trial(False, "y", "x"), Trial(True, "a", "c"), Trial(True, "t", "t"), *trials]
    with pytest.raises(CorpusError) as error:
        trials_by_split(wrong, split_of, "list.csv")
    assert "list.csv: 2 unknown id(s), 2 trial(s) between wrong splits" in str(error.value)
    assert error.value.problems == (
        "x: no recording has this id (2 trial(s))",
        "y: no recording has this id (1 trial(s))",
        "a (dev) with c (test): both must be in dev, or both in test",
        "t (train) with t (train): both must be in dev, or both in test",
    )


def test_the_list_of_trials_is_checked_and_copied(folder, tmp_path):
    folder.corpus("path,speaker,split", "one.wav,a,train", "two.wav,b,test", "three.wav,b,test")
    path = folder.path / "list.csv"
    path.write_text("label,enrolment,test\n1,two,three\n")
    summary, _ = folder.prepare(trials=path)
    assert (summary["trials"]["dev"], summary["trials"]["test"]) == (0, 1)
    unite_corpora([tmp_path / "out"], tmp_path / "union")
    for prepared in ("out", "union"):
        assert read_trials(trials_path(tmp_path / prepared)) == [Trial(True, "two", "three")]
    path.write_text("label,enrolment,test\n1,two,four\n")
    assert folder.problems(trials=path)[-1] == "four: no recording has this id (1 trial(s))"
    assert trials_path({"trials": path}) == path
    with pytest.raises(CorpusError, match="no trials"):
        trials_path({"test": path})


def test_relevant_documents(folder, tmp_path):
    folder.corpus("path,text,label,relevant,split", "q.wav,HELLO,query,d1 d2,test", "d1.wav,,document,,test", "d2.wav,,document,,test")
    _, splits = folder.prepare()
    assert list(splits) == ["test"]
    query, document, _ = splits["test"]
    assert query.supervisions[0].custom == {"label": "query", "relevant": "d1 d2"}
    assert document.supervisions[0].custom == {"label": "document"}
    folder.corpus("path,label,relevant,split", "q.wav,query,d1 d9,test", "d1.wav,document,,test")
    with pytest.raises(CorpusError, match="row 2: relevant: no recording has the id 'd9'"):
        prepare_corpus(folder.recipe(), tmp_path / "other")
