"""What `speechft prepare --check` finds of one corpus."""

import pytest

from speechft.corpora.checking import check_corpus


def test_sizes_problems_and_remarks(corpus):
    aishell3 = corpus("aishell3")
    size = "all splits: 4 utterances, published are 88035; look at train/content.txt and test/content.txt"
    whole, part = (check_corpus("mandarin", aishell3.recipe(complete=complete)) for complete in (True, False))
    (row,) = whole.splits
    assert (row.split, row.found, row.problems) == ("train", "4 utterances, 2 speakers", 1)
    assert row.expected == "in all 88,035 utterances, 218 speakers, 85 hours"
    assert row.hours == pytest.approx(1.2 / 3600)
    assert whole.problems == (size,)
    remarks = ["all splits: 2 speakers, published are 218", "all splits: 0.0003 hours, published are 85"]
    assert [remark.split(";")[0] for remark in whole.remarks] == remarks
    assert (part.problems, part.splits[0].problems, part.remarks[0]) == ((), 0, size)


def test_parts_count_as_long_as_they_are(skeleton):
    talks = skeleton("tedlium3")
    for split in ("train", "dev", "test"):
        talks.audio(f"legacy/{split}/sph/A_2009.sph", seconds=5.4, format="NIST", subtype="PCM_16")
        talks.text(f"legacy/{split}/stm/A_2009.stm", "A_2009 1 A 0.0 1.8 <o> a", "A_2009 1 A 3.6 5.6 <o> b")
    found = check_corpus("talks", talks.recipe())
    assert [row.hours for row in found.splits] == pytest.approx([0.001] * 3)
    assert found.splits[0].expected == "2,351 recordings, 268,263 utterances"


def test_corpora_of_a_user(folder):
    folder.tone("a.wav")
    folder.table("path,split\na.wav,train\nb.wav,test\n")
    mine = check_corpus("mine", folder.recipe())
    assert [problem.endswith("b.wav: no such file") for problem in mine.problems] == [True]
    assert [(row.split, row.expected) for row in mine.splits] == [("train", ""), ("test", "")]
    folder.table("mixture,path,speaker,split,offset\nm,a.wav,x,train,0\nm,a.wav,y,train,1\n")
    mixed = check_corpus("mixed", folder.recipe(kind="mixtures"))
    assert (mixed.splits[0].found, mixed.splits[0].hours, mixed.problems) == ("1 utterances, 2 speakers", None, ())
