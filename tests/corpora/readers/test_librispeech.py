import pytest

from speechft.corpora import prepare_corpus
from speechft.corpora.checking import check_corpus
from speechft.corpora.readers.librispeech import EXPECTED
from speechft.errors import CorpusError, TaskError

LEXICON = ("TURN T ER1 N", "THE DH AH0", "LIGHT L AY1 T", "ON AA1 N")


@pytest.fixture
def librispeech(corpus):
    return corpus("librispeech")


def test_parts_become_splits_which_asr_and_pr_read(librispeech):
    summary, splits = librispeech.prepare()
    assert [cut.id for cut in splits["train"]] == ["103-1240-0000", "103-1240-0001"]
    found = splits["test"][1].supervisions[0]
    assert (found.text, found.speaker) == ("IT'S OFF", "61")
    assert {split: found["utterances"] for split, found in summary["splits"].items()} == {"train": 2, "dev": 2, "test": 2}
    assert {size["agrees"] for size in summary["published"]} == {False}
    _, found = librispeech.targets("asr", splits)
    assert len(found["train"][1]) == len("IT'S|OFF|") + 1
    lexicon = librispeech.text("../lexicon.txt", *LEXICON)
    with pytest.raises(TaskError):
        librispeech.targets("pr", splits, lexicon=[str(lexicon)])
    librispeech.text("../lexicon.txt", *LEXICON, "IT'S IH1 T S", "OFF AO1 F")
    _, found = librispeech.targets("pr", splits, lexicon=[str(lexicon)])
    assert len(found["dev"][1]) == 3 + 2 + 1


def test_words_without_pronunciation_are_one_problem_of_all_splits(librispeech):
    lexicon = librispeech.text("../lexicon.txt", *LEXICON)
    librispeech.text("test-clean/61/70968/61-70968.trans.txt", "61-70968-0000 TURN THE LIGHT ON", "61-70968-0001 IT'S ORION")
    with pytest.raises(CorpusError) as caught:
        librispeech.prepare(lexicon=[str(lexicon)])
    (problem,) = caught.value.problems
    assert problem.startswith(f"PR: 3 word(s) are in none of the lexicons {lexicon} (train 2, dev 2, test 2). Name a file ")
    assert problem.endswith(
        "For example IT'S: 103-1240-0001, 84-121123-0001, 61-70968-0001; OFF: 103-1240-0001, 84-121123-0001; ORION: 61-70968-0001."
    )
    assert problem in check_corpus("read", librispeech.recipe(lexicon=[str(lexicon)])).problems
    second = librispeech.text("../second.txt", "IT'S IH1 T S", "OFF AO1 F", "ORION AO0 R AY1 AH0 N")
    librispeech.prepare(lexicon=[str(lexicon), str(second)])


def test_a_lexicon_of_superb_must_be_the_one_of_its_name(librispeech):
    lexicon = librispeech.text("../librispeech-lexicon-200k-g2p.txt", "TURN T ER1 N")
    with pytest.raises(CorpusError) as caught:
        librispeech.prepare(lexicon=[str(lexicon), str(librispeech.path / "none.txt")])
    other, absent = caught.value.problems
    assert "is not the public lexicon of this name (git SHA-1 a9143b4f90bde7f71221b7e546f780f3b655c8f7)" in other
    assert other.endswith("; move it away and run `speechft fetch superb_lexicon_200k`, or give a file of your own another name.")
    assert "none.txt: no such file, needed as a lexicon of PR" in absent


def test_a_lexicon_that_the_workflow_brings_stops_only_what_needs_it(librispeech, monkeypatch):
    monkeypatch.chdir(librispeech.path.parent)
    lexicons = ["lexicons/librispeech-lexicon-200k-g2p.txt", "lexicons/librispeech-lexicon-allothers-g2p.txt"]
    found = check_corpus("read", librispeech.recipe(lexicon=lexicons))
    assert not [problem for problem in found.problems if "lexicon" in problem]
    assert [note.split(". ")[0] for note in found.notes] == [f"{path}: no such file" for path in lexicons]
    assert "`speechft fetch superb_lexicon_200k --out lexicons/librispeech-lexicon-200k-g2p.txt`" in found.notes[0]
    with pytest.raises(CorpusError) as caught:
        librispeech.prepare(lexicon=lexicons)
    assert caught.value.problems == found.notes


def test_a_complete_corpus_must_have_its_published_size(librispeech, tmp_path):
    with pytest.raises(CorpusError) as caught:
        prepare_corpus(librispeech.recipe(complete=True), tmp_path / "out")
    assert len(caught.value.problems) == len(EXPECTED)
    assert "train: 2 utterances, published are 28539; look at train-clean-100.tar.gz" in caught.value.problems
    assert not (tmp_path / "out").exists()
