import json

import pytest

from speechft.corpora import load_split, prepare_corpus
from speechft.corpora.splits import ted_subset


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_segments_are_those_of_the_released_fine_tuning(split, golden):
    recorded = json.loads((golden / "speechft" / "ted_subset.json").read_text())
    segments = recorded["input"][split]
    chosen = ted_subset(segments, recorded["sampling_rate"], **({} if split == "train" else {"max_hours": None}))
    # The reference sorts by length; here segments stay in the order of the corpus.
    assert chosen == sorted(chosen)
    assert {(position, segments[position][0]) for position in chosen} == {
        tuple(row) for row in recorded["selected_sorted_by_length"][split]
    }


def test_the_segment_that_passes_the_limit_is_the_last():
    minute = 60 * 16000
    assert len(ted_subset([(minute, "a")] * 700, 16000)) == 601
    assert len(ted_subset([(minute, "a")] * 700, 16000, max_hours=0.5)) == 31
    assert len(ted_subset([(minute, "a")] * 700, 16000, max_hours=None)) == 700
    # Bounds are seconds, whatever the sampling rate.
    assert ted_subset([(7999, "a"), (8000, "a"), (480000, "a"), (480001, "a"), (9000, "x <unk>")], 8000) == [1, 2]


def test_a_corpus_is_prepared_by_that_rule(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("speechft.corpora.splits.TRAIN_HOURS", 2.5 / 3600)
    seconds = {"a": 1.0, "b": 0.5, "c": 1.2, "d": 1.1, "e": 1.3, "f": 1.4, "dev1": 1.0, "dev2": 2.0, "dev3": 2.0}
    for name, length in seconds.items():
        folder.tone(f"{name}.wav", length)
    texts = {"d": "an <unk> word", "dev3": "<unk>"}
    rows = [f"{name}.wav,{texts.get(name, 'plain words')},{'dev' if name.startswith('dev') else 'train'}" for name in seconds]
    folder.table("path,text,split\n" + "\n".join(rows) + "\n")
    prepare_corpus(folder.recipe(subset="tedlium"), tmp_path / "out")
    assert [cut.id for cut in load_split(tmp_path / "out", "train")] == ["a", "c", "e"]
    assert [cut.id for cut in load_split(tmp_path / "out", "dev")] == ["dev1", "dev2"]
