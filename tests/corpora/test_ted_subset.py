import json

import pytest

from speechft.corpora.ted_subset import ted_subset


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
