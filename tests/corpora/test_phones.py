import pytest

from speechft.corpora import load_split, prepare_corpus
from speechft.corpora.phones import parse_phones
from speechft.errors import CorpusError
from speechft.tasks import get_task


def test_items_are_label_start_end():
    assert parse_phones(" AH0:0.00-0.08  B:0.08-0.15 ") == (("AH0", 0.0, 0.08), ("B", 0.08, 0.15))
    # Labels may hold colons and hyphens; times may leave gaps.
    assert parse_phones("a::0-1 ax-h:1.5-2 h#:2-3") == (("a:", 0.0, 1.0), ("ax-h", 1.5, 2.0), ("h#", 2.0, 3.0))
    assert parse_phones("") == ()


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("AH0", "'AH0' is not label:start-end"),
        ("AH0:0.1", "not label:start-end"),
        ("AH0:0.1-x", "not label:start-end"),
        (":0.1-0.2", "not label:start-end"),
        ("a:0.2-0.2", "does not end after it starts"),
        ("a:0.0-0.2 b:0.1-0.3", "'b:0.1-0.3' begins before the phone before it ends .0.2 s."),
    ],
)
def test_damaged_items(cell, message):
    with pytest.raises(ValueError, match=message):
        parse_phones(cell)


def test_phones_of_a_table_become_the_alignment(folder, tmp_path):
    for name in ("x.wav", "y.wav"):
        folder.tone(name)
    folder.table("path,split,phones\nx.wav,train,h#:0-0.07 iy:0.07-0.2\ny.wav,train,\n")
    summary = prepare_corpus(folder.recipe(), tmp_path / "out")
    cut, without = load_split(tmp_path / "out", "train")
    assert [(item.symbol, item.start, item.duration) for item in cut.supervisions[0].alignment["phone"]] == [
        ("h#", 0.0, 0.07),
        ("iy", 0.07, 0.13),
    ]
    assert not without.supervisions[0].alignment
    task = get_task("pc")
    labels = task.label_set([])
    # 0.2 s are ten frames; the border lies on the center of the fourth.
    assert [labels.symbols[index] for index in task.target(cut, labels).tolist()] == ["sil"] * 3 + ["iy"] * 7
    folder.table("path,split,phones\nx.wav,train,h#:0-0.08 iy:0.08-0.2\ny.wav,train,\n")
    assert prepare_corpus(folder.recipe(), tmp_path / "again")["content_sha256"] != summary["content_sha256"]


def test_phones_of_another_column_and_of_unlabelled_corpora(folder, tmp_path):
    folder.tone("x.wav")
    folder.table("path,split,mfa\nx.wav,train,a:0-0.1\n")
    prepare_corpus(folder.recipe(columns={"phones": "mfa"}), tmp_path / "out")
    assert load_split(tmp_path / "out", "train")[0].supervisions[0].alignment["phone"][0].symbol == "a"
    prepare_corpus(folder.recipe(columns={"phones": "mfa"}, unlabelled=True), tmp_path / "plain")
    assert not load_split(tmp_path / "plain", "train")[0].supervisions[0].alignment


def test_problems_name_their_rows(folder, tmp_path):
    for name in ("x.wav", "y.wav", "z.wav"):
        folder.tone(name)
    # z.wav has 0.2 s; ends may be late by the rounding of an aligner.
    folder.table("path,split,phones\nx.wav,train,a:0-0.1 b\ny.wav,train,a:0-0.25\nz.wav,train,a:0-0.209\n")
    with pytest.raises(CorpusError) as caught:
        prepare_corpus(folder.recipe(), tmp_path / "out")
    first, second = caught.value.problems
    assert first == "row 2: phones: 'b' is not label:start-end in seconds, e.g. AH0:0.00-0.08"
    assert second.startswith("row 3: ")
    assert second.endswith("y.wav: its last phone ends at 0.25 s, the recording at 0.2 s")
