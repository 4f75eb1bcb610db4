import pytest

from speechft.corpora import prepare_corpus
from speechft.corpora.checking import check_corpus
from speechft.corpora.readers.librispeech import EXPECTED
from speechft.errors import CorpusError, TaskError

PARTS = {"train-clean-100": "103-1240", "dev-clean": "84-121123", "test-clean": "61-70968"}


def build_librispeech(skeleton):
    for part, chapter in PARTS.items():
        folder = f"{part}/{chapter.replace('-', '/')}"
        for number in range(2):
            skeleton.audio(f"{folder}/{chapter}-{number:04d}.flac")
        skeleton.text(f"{folder}/{chapter}.trans.txt", f"{chapter}-0000 TURN THE LIGHT ON", f"{chapter}-0001 IT'S OFF")
    return skeleton


librispeech = pytest.fixture(build_librispeech)


def test_parts_become_splits_with_text_and_speaker(librispeech):
    summary, splits = librispeech.prepare("librispeech")
    assert [cut.id for cut in splits["train"]] == ["103-1240-0000", "103-1240-0001"]
    found = splits["test"][1].supervisions[0]
    assert (found.text, found.speaker) == ("IT'S OFF", "61")
    assert {split: found["utterances"] for split, found in summary["splits"].items()} == {"train": 2, "dev": 2, "test": 2}
    assert {size["agrees"] for size in summary["published"]} == {False}


def test_asr_and_pr_read_it(librispeech):
    lexicon = librispeech.text("../lexicon.txt", "TURN T ER1 N", "THE DH AH0", "LIGHT L AY1 T", "ON AA1 N", "IT'S IH1 T S", "OFF AO1 F")
    _, splits = librispeech.prepare("librispeech", lexicon=[str(lexicon)])
    _, found = librispeech.targets("asr", splits)
    assert len(found["train"][1]) == len("IT'S|OFF|") + 1
    _, found = librispeech.targets("pr", splits, lexicon=[str(lexicon)])
    assert len(found["dev"][1]) == 3 + 2 + 1


def test_words_without_pronunciation_are_one_problem_of_all_splits(librispeech):
    lexicon = librispeech.text("../lexicon.txt", "TURN T ER1 N", "THE DH AH0", "LIGHT L AY1 T", "ON AA1 N")
    librispeech.text("test-clean/61/70968/61-70968.trans.txt", "61-70968-0000 TURN THE LIGHT ON", "61-70968-0001 IT'S ORION")
    with pytest.raises(CorpusError) as caught:
        librispeech.prepare("librispeech", lexicon=[str(lexicon)])
    (problem,) = caught.value.problems
    assert problem.startswith(f"PR: 3 word(s) are in none of the lexicons {lexicon} (train 2, dev 2, test 2). Name a file ")
    assert problem.endswith(
        "E.g. IT'S: 103-1240-0001, 84-121123-0001, 61-70968-0001; OFF: 103-1240-0001, 84-121123-0001; ORION: 61-70968-0001."
    )
    found = check_corpus("read", librispeech.recipe("librispeech", lexicon=[str(lexicon)]))
    assert problem in found.problems
    second = librispeech.text("../second.txt", "IT'S IH1 T S", "OFF AO1 F", "ORION AO0 R AY1 AH0 N")
    librispeech.prepare("librispeech", lexicon=[str(lexicon), str(second)])


def test_words_that_the_training_lacks_are_listed_by_the_task(librispeech):
    lexicon = librispeech.text("../lexicon.txt", "TURN T ER1 N", "THE DH AH0", "LIGHT L AY1 T", "ON AA1 N")
    _, splits = librispeech.prepare("librispeech")
    with pytest.raises(TaskError):
        librispeech.targets("pr", splits, lexicon=[str(lexicon)])


def test_a_lexicon_of_superb_must_be_the_one_of_its_name(librispeech):
    lexicon = librispeech.text("../librispeech-lexicon-200k-g2p.txt", "TURN T ER1 N")
    with pytest.raises(CorpusError) as caught:
        librispeech.prepare("librispeech", lexicon=[str(lexicon), str(librispeech.path / "none.txt")])
    other, absent = caught.value.problems
    assert "is not the public lexicon of this name (git SHA-1 a9143b4f90bde7f71221b7e546f780f3b655c8f7)" in other
    assert other.endswith("; move it away and run `speechft fetch superb_lexicon_200k`, or give a file of your own another name.")
    assert "none.txt: no such file, needed as a lexicon of PR" in absent


def test_a_lexicon_that_the_workflow_brings_stops_only_what_needs_it(librispeech, monkeypatch):
    monkeypatch.chdir(librispeech.path.parent)
    lexicons = ["lexicons/librispeech-lexicon-200k-g2p.txt", "lexicons/librispeech-lexicon-allothers-g2p.txt"]
    recipe = librispeech.recipe("librispeech", lexicon=lexicons)
    found = check_corpus("read", recipe)
    assert not [problem for problem in found.problems if "lexicon" in problem]
    assert [note.split(". ")[0] for note in found.notes] == [f"{path}: not there" for path in lexicons]
    assert "`speechft fetch superb_lexicon_200k --out lexicons/librispeech-lexicon-200k-g2p.txt`" in found.notes[0]
    with pytest.raises(CorpusError) as caught:
        prepare_corpus(recipe, librispeech.path.parent / "out")
    assert caught.value.problems == found.notes


def test_what_is_missing_is_named_with_its_source(librispeech):
    (librispeech.path / "dev-clean/84/121123/84-121123-0001.flac").unlink()
    librispeech.audio("test-clean/61/70968/61-70968-0007.flac")
    with pytest.raises(CorpusError) as caught:
        librispeech.prepare("librispeech")
    first, second = caught.value.problems
    assert "84-121123-0001.flac: no such file" in first
    assert "61-70968-0007.flac: is in no 61-70968.trans.txt" in second
    for file in sorted((librispeech.path / "test-clean").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    (librispeech.path / "test-clean").rmdir()
    with pytest.raises(CorpusError, match=r"test-clean: no such folder.*https://www.openslr.org/12"):
        librispeech.prepare("librispeech")


def test_a_complete_corpus_must_have_its_published_size(librispeech, tmp_path):
    with pytest.raises(CorpusError) as caught:
        prepare_corpus(librispeech.recipe("librispeech", complete=True), tmp_path / "out")
    assert len(caught.value.problems) == len(EXPECTED)
    assert "train: 2 utterances, published are 28539; look at train-clean-100.tar.gz" in caught.value.problems
    assert not (tmp_path / "out").exists()
