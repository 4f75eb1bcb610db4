import pytest

from speechft.corpora import load_split, prepare_corpus
from speechft.corpora.rttm import Turn, parse_rttm, read_rttm, rttm_line
from speechft.errors import CorpusError

LINES = """;; a comment
SPKR-INFO mix1 1 <NA> <NA> <NA> unknown ann <NA>
SPEAKER mix1 1 0.500 0.250 <NA> <NA> bob <NA>
SPEAKER mix1 1 0.000 1.000 <NA> <NA> ann <NA> <NA>
SPEAKER mix2 1 0.100 0.200 <NA> <NA> ann <NA>

SPEAKER other 1 0.0 0.2 <NA> <NA> eve <NA>
"""


def test_turns_are_read_and_written():
    turns = parse_rttm(LINES.splitlines(), "x.rttm")
    assert turns[0] == Turn("mix1", 0.5, 0.25, "bob")
    assert [turn.recording for turn in turns] == ["mix1", "mix1", "mix2", "other"]
    assert turns[0].end == 0.75
    assert parse_rttm([rttm_line(turn) for turn in turns], "again") == turns


def test_lines_that_are_not_rttm_are_all_named(tmp_path):
    path = tmp_path / "bad.rttm"
    path.write_text(
        "SPEAKER a 1 0 1 <NA> <NA> x <NA>\nSPEAKER a 1 zero 1 <NA> <NA> x\n"
        "SPEAKER a\nSPEAKER a 1 0 0 <NA> <NA> x\nSPEAKER a 1 nan 1 <NA> <NA> x\n"
    )
    with pytest.raises(CorpusError) as error:
        read_rttm(path)
    assert [problem.split(":")[0] for problem in error.value.problems] == ["line 2", "line 3", "line 4", "line 5"]
    with pytest.raises(CorpusError, match="no such file"):
        read_rttm(tmp_path / "none.rttm")
    path.write_text(";; nothing\n")
    with pytest.raises(CorpusError, match="holds no SPEAKER line"):
        read_rttm(path)


def test_mixtures_get_one_supervision_a_turn(folder, tmp_path):
    for name in ("mix1", "mix2"):
        folder.tone(f"{name}.wav", seconds=1.0)
    folder.table("path,split\nmix1.wav,train\nmix2.wav,test\n")
    rttm = folder.path / "turns.rttm"
    rttm.write_text(LINES)
    summary = prepare_corpus(folder.recipe(rttm=rttm), tmp_path / "out")
    (cut,) = load_split(tmp_path / "out", "train")
    assert [(found.speaker, found.start, found.duration) for found in cut.supervisions] == [("ann", 0.0, 1.0), ("bob", 0.5, 0.25)]
    assert summary["splits"]["train"]["speakers"] == 2
    assert summary["splits"]["train"]["without_speaker"] == 0
    rttm.write_text(LINES.replace("0.500 0.250", "0.400 0.250"))
    assert prepare_corpus(folder.recipe(rttm=rttm), tmp_path / "other")["content_sha256"] != summary["content_sha256"]


def test_missing_and_late_turns_are_named(folder, tmp_path):
    for name in ("mix1", "mix3"):
        folder.tone(f"{name}.wav", seconds=0.5)
    folder.table("path,split\nmix1.wav,train\nmix3.wav,train\n")
    rttm = folder.path / "turns.rttm"
    rttm.write_text(LINES)
    with pytest.raises(CorpusError) as error:
        prepare_corpus(folder.recipe(rttm=rttm), tmp_path / "out")
    late, later, missing = error.value.problems
    assert "a turn ends at 1 s, the recording at 0.5 s" in late + later
    assert "a turn ends at 0.75 s" in late + later
    assert missing.startswith("row 3: mix3: has no turn in")
    assert not (tmp_path / "out").exists()
