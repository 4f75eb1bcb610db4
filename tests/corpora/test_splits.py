import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechft.corpora.splits import choose_dev, hash_share, ted_subset

ids = st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=30, unique=True)
fractions = st.floats(0.01, 0.99)


@given(ids, fractions)
@settings(deadline=None)
def test_both_sides_have_someone_and_order_does_not_matter(names, fraction):
    dev = choose_dev(names, fraction)
    assert 0 < len(dev) < len(names)
    assert dev <= set(names)
    assert choose_dev(names[::-1], fraction) == dev


@given(ids, ids, fractions)
@settings(deadline=None)
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
    with pytest.raises(ValueError, match="cannot be divided"):
        choose_dev(["a"], 0.5)


def test_dev_fraction_takes_from_train_only(folder):
    folder.corpus("path,split", *(f"{number}.wav,{'test' if number < 5 else 'train'}" for number in range(20)), seconds=0.01)
    ids = {split: [cut.id for cut in cuts] for split, cuts in folder.prepare(dev_fraction=0.3)[1].items()}
    assert ids["test"] == ["0", "1", "2", "3", "4"]
    assert set(ids["dev"]) == choose_dev([str(number) for number in range(5, 20)], 0.3)
    assert sorted(ids["train"] + ids["dev"], key=int) == [str(number) for number in range(5, 20)]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_segments_are_those_of_the_released_fine_tuning(split, golden):
    recorded = json.loads((golden / "speechft" / "ted_subset.json").read_text())
    segments = recorded["input"][split]
    chosen = ted_subset(segments, recorded["sampling_rate"], **({} if split == "train" else {"max_hours": None}))
    # The reference sorts by length; here segments stay in the order of the corpus.
    assert chosen == sorted(chosen)
    expected = {tuple(row) for row in recorded["selected_sorted_by_length"][split]}
    assert {(position, segments[position][0]) for position in chosen} == expected


def test_the_segment_that_passes_the_limit_is_the_last():
    minute = 60 * 16000
    for limit, count in (({}, 601), ({"max_hours": 0.5}, 31), ({"max_hours": None}, 700)):
        assert len(ted_subset([(minute, "a")] * 700, 16000, **limit)) == count
    # Bounds are seconds, whatever the sampling rate.
    assert ted_subset([(7999, "a"), (8000, "a"), (480000, "a"), (480001, "a"), (9000, "x <unk>")], 8000) == [1, 2]


def test_a_corpus_is_prepared_by_that_rule(folder, monkeypatch):
    monkeypatch.setattr("speechft.corpora.splits.TRAIN_HOURS", 2.5 / 3600)
    seconds = {"a": 1.0, "b": 0.5, "c": 1.2, "d": 1.1, "e": 1.3, "f": 1.4, "dev1": 1.0, "dev2": 2.0, "dev3": 2.0}
    for name, length in seconds.items():
        folder.tone(f"{name}.wav", length)
    texts = {"d": "an <unk> word", "dev3": "<unk>"}
    rows = (f"{name}.wav,{texts.get(name, 'plain words')},{'dev' if name.startswith('dev') else 'train'}" for name in seconds)
    _, splits = folder.corpus("path,text,split", *rows).prepare(subset="tedlium")
    assert {split: [cut.id for cut in cuts] for split, cuts in splits.items()} == {"train": ["a", "c", "e"], "dev": ["dev1", "dev2"]}
