import json
from collections import Counter
from itertools import chain, islice

import pytest
import torch

from speechft.evaluate.data.sampling import (
    HALVED_BUCKET_SAMPLES,
    LONG_WINDOW_SAMPLES,
    balanced,
    balanced_weights,
    bucketed,
    fixed_buckets,
    length_batches,
    shuffled,
    windows,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_shuffled_epochs_hold_every_utterance_once():
    stream = shuffled(7, 3, generator())
    for _ in range(3):
        epoch = list(islice(stream, 3))
        assert [len(batch) for batch in epoch] == [3, 3, 1]
        assert sorted(chain.from_iterable(epoch)) == list(range(7))
    first, again, other = (list(islice(shuffled(7, 3, generator(seed)), 6)) for seed in (1, 1, 2))
    assert first == again != other


def test_weights_equal_the_reference(golden):
    recorded = json.loads((golden / "metrics" / "ks_split.json").read_text())
    classes = [name for name, count in recorded["train_class_counts_with_noise"].items() for _ in range(count)]
    assert len(classes) == recorded["train_total_with_noise"]
    found = dict(zip(classes, balanced_weights(classes).tolist(), strict=True))
    assert found == pytest.approx(recorded["sample_weight_by_class"], abs=1e-9)


def test_balanced_draws_weigh_classes_alike_and_drop_the_last_batch():
    classes = [0] * 90 + [1] * 10
    drawn = list(islice(balanced(classes, 32, generator()), 300))
    assert {len(batch) for batch in drawn} == {32}
    counts = Counter(classes[index] for batch in drawn for index in batch)
    # Binomial with n = 9600: 4 standard deviations are 2 %.
    assert counts[1] / sum(counts.values()) == pytest.approx(0.5, abs=0.02)
    # One epoch has 100 draws, so 3 batches; the fourth comes from a new draw, which must not repeat the old one.
    assert drawn[:3] != drawn[3:6]
    assert [len(batch) for batch in islice(balanced([0, 1, 1], 32, generator()), 4)] == [3] * 4


def test_windows_are_those_of_the_reference(golden):
    trace = json.loads((golden / "replay" / "pr.trace.json").read_text())
    phones = {word: len(phones) for word, phones in trace["corpus"]["lexicon"].items()}
    names = sorted(name for name in trace["corpus"]["texts"] if name.startswith("1-"))
    tokens = [1 + sum(phones[word] for word in trace["corpus"]["texts"][name].split()) for name in names]
    samples = {}
    for batch in trace["micro_batches"]:
        # Any lengths with these numbers of frames keep the order inside a batch.
        samples.update(zip(batch["utterances"], (320 * frames for frames in batch["feature_lengths"]), strict=True))
    assert len(set(tokens)) == len(names), "without ties the windows are determined"
    epoch = islice(windows(tokens, [samples[name] for name in names], 4, generator()), len(names))
    found = {frozenset(names[index] for index in window) for window in epoch}
    assert found == {frozenset(batch["utterances"]) for batch in trace["micro_batches"]}


def test_windows_of_an_epoch():
    tokens, samples = [5, 9, 7, 1, 3], [50, 90, 10, 30, 20]
    epoch = list(islice(windows(tokens, samples, 2, generator()), 5))
    # Sorted by tokens: 1 2 0 4 3. Starts 0 1 2 3, and 3 again for the last utterance; inside by samples, descending.
    assert sorted(epoch) == sorted([[1, 2], [0, 2], [0, 4], [3, 4], [3, 4]])


# Only the first utterance, the one with the longest text, decides.
@pytest.mark.parametrize(
    ("first", "second", "kept"), [(LONG_WINDOW_SAMPLES + 1, 10, 2), (10, LONG_WINDOW_SAMPLES + 1, 4), (LONG_WINDOW_SAMPLES, 10, 4)]
)
def test_long_windows_keep_their_first_half(first, second, kept):
    found = list(islice(windows([4, 3, 2, 1], [first, second, 20, 30], 4, generator()), 4))
    assert {frozenset(window) for window in found} == {frozenset(range(kept))}


def test_buckets_are_those_of_the_reference(golden):
    recorded = json.loads((golden / "metrics" / "asr.json").read_text())["bucketing"]
    names, samples = list(recorded["lengths"]), list(recorded["lengths"].values())
    for size, expected in recorded["buckets_by_bucket_size"].items():
        assert [[names[index] for index in bucket] for bucket in fixed_buckets(samples, int(size))] == expected, size


def test_buckets_of_librispeech_are_halved_because_samples_are_taken_for_frames():
    # 28,539 utterances, as in train-clean-100: 1782 batches of 16, and the 27 left over stay together.
    sizes = Counter(map(len, fixed_buckets([16000 + index for index in range(28539)], 32)))
    assert sizes == {16: 1782, 27: 1}
    assert list(map(len, fixed_buckets([HALVED_BUCKET_SAMPLES] * 64, 32))) == [32, 32]
    # One utterance left over is dropped, but not the only one.
    assert (fixed_buckets([5, 9, 7], 2), fixed_buckets([5], 2)) == ([[1, 2]], [[0]])


def test_bucketed_epochs_hold_every_bucket_once_in_another_order():
    samples = list(range(3000, 3040))
    stream = bucketed(samples, 4, generator())
    first, second = list(islice(stream, 20)), list(islice(stream, 20))
    assert sorted(first) == sorted(second) == sorted(fixed_buckets(samples, 4))
    assert first != second
    assert list(islice(bucketed(samples, 4, generator()), 20)) == first


@pytest.mark.parametrize(
    ("samples", "options", "expected"),
    [
        ([10, 90, 30, 31, 50], {}, [[0, 2, 3], [4], [1]]),
        ([5] * 5, {"max_size": 2}, [[0, 1], [2, 3], [4]]),
        ([500], {}, [[0]]),
    ],
)
def test_length_batches(samples, options, expected):
    assert list(length_batches(samples, 100, **options)) == expected
