import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechft.corpora import load_split, prepare_corpus
from speechft.corpora.splits import choose_dev, hash_share

ids = st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=60, unique=True)
fractions = st.floats(0.01, 0.99)


@given(ids, fractions)
def test_both_sides_have_someone_and_order_does_not_matter(names, fraction):
    dev = choose_dev(names, fraction)
    assert 0 < len(dev) < len(names)
    assert dev <= set(names)
    assert choose_dev(names[::-1], fraction) == dev


@given(ids, ids, fractions)
def test_further_rows_move_nobody(names, others, fraction):
    together = list(dict.fromkeys([*names, *others]))
    by_hash = {name for name in names if hash_share(name) < fraction}
    if 0 < len(by_hash) < len(names):
        assert choose_dev(together, fraction) & set(names) == by_hash == choose_dev(names, fraction)


def test_share_and_known_hash():
    # sha1("a") begins with 86f7e437faa5
    assert hash_share("a") == 0x86F7E437FAA5 / 2**48
    names = [f"utterance{number}" for number in range(10_000)]
    assert len(choose_dev(names, 0.1)) == pytest.approx(1000, abs=100)


def test_one_utterance_can_not_be_divided():
    with pytest.raises(ValueError, match="cannot be divided"):
        choose_dev(["a"], 0.5)


def test_dev_fraction_takes_from_train_only(folder, tmp_path):
    for number in range(20):
        folder.tone(f"{number}.wav", seconds=0.01)
    folder.table("path,split\n" + "".join(f"{number}.wav,{'test' if number < 5 else 'train'}\n" for number in range(20)))
    prepare_corpus(folder.recipe(dev_fraction=0.3), tmp_path / "out")
    ids = {split: [cut.id for cut in load_split(tmp_path / "out", split)] for split in ("train", "dev", "test")}
    assert ids["test"] == ["0", "1", "2", "3", "4"]
    assert set(ids["dev"]) == choose_dev([str(number) for number in range(5, 20)], 0.3)
    assert sorted(ids["train"] + ids["dev"], key=int) == [str(number) for number in range(5, 20)]
