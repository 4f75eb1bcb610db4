import pytest

from speechft.corpora import load_split, prepare_corpus, unite_corpora
from speechft.errors import CorpusError


@pytest.fixture
def prepared(folder):
    """Make a prepared corpus of tones, with rows (id, split)."""

    def make(name, rows):
        for identity, _ in rows:
            folder.tone(f"{identity}.wav")
        folder.table("path,speaker,split\n" + "".join(f"{identity}.wav,{name},{split}\n" for identity, split in rows))
        prepare_corpus(folder.recipe(), folder.path / name)
        return folder.path / name

    return make


def ids(folder, split):
    return [cut.id for cut in load_split(folder, split)]


def test_splits_are_joined_in_order_and_a_missing_one_adds_nothing(prepared, tmp_path):
    first = prepared("first", [("a1", "train"), ("a2", "dev"), ("a3", "test")])
    second = prepared("second", [("b1", "train"), ("b2", "dev"), ("b3", "train")])
    summary = unite_corpora([first, second], tmp_path / "both")
    assert ids(tmp_path / "both", "train") == ["a1", "b1", "b3"]
    assert ids(tmp_path / "both", "dev") == ["a2", "b2"]
    assert ids(tmp_path / "both", "test") == ["a3"]
    assert summary["splits"]["train"]["utterances"] == 3
    assert summary["splits"]["train"]["speakers"] == 2


def test_the_same_id_twice_is_an_error_and_leaves_nothing(prepared, tmp_path):
    first = prepared("first", [("a1", "train")])
    second = prepared("second", [("a1", "train")])
    with pytest.raises(CorpusError, match=r"second: recording id 'a1' is also in .*first"):
        unite_corpora([first, second], tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_a_folder_that_was_not_prepared_is_named(tmp_path):
    with pytest.raises(CorpusError, match=r"nothing/corpus\.json: no such file"):
        unite_corpora([tmp_path / "nothing"], tmp_path / "both")
