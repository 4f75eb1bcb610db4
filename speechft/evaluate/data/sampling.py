"""Orders of training utterances, each an endless stream of batches determined by its generator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from torch import Generator, Tensor

LONG_WINDOW_SAMPLES = 300_000
"""A window whose first utterance has more samples (18.75 s) is halved (s3prl 0.4.18)."""
HALVED_BUCKET_SAMPLES = 2000
"""A full bucket whose longest utterance has more samples (1/8 s) is halved (s3prl 0.4.18)."""


def shuffled(num_utterances: int, batch_size: int, generator: Generator) -> Iterator[list[int]]:
    """Yield batches of a new permutation every epoch; the last batch may be smaller (SID)."""
    while True:
        order = torch.randperm(num_utterances, generator=generator).tolist()
        for start in range(0, num_utterances, batch_size):
            yield order[start : start + batch_size]


def balanced(classes: Sequence[int], batch_size: int, generator: Generator) -> Iterator[list[int]]:
    """Draw with replacement so that all classes are equally frequent (KS).

    An epoch has as many draws as utterances; an incomplete last batch is dropped, as in s3prl, unless it is the only one.
    """
    weights = balanced_weights(classes)
    size = min(batch_size, len(classes))
    while True:
        order = torch.multinomial(weights, len(classes), replacement=True, generator=generator).tolist()
        for start in range(0, len(order) - size + 1, size):
            yield order[start : start + size]


def balanced_weights(classes: Sequence[int]) -> Tensor:
    """Weight each utterance by number of utterances / utterances of its class; float64 (N,)."""
    counts = Counter(classes)
    return torch.tensor([len(classes) / counts[label] for label in classes], dtype=torch.float64)


def windows(num_tokens: Sequence[int], num_samples: Sequence[int], batch_size: int, generator: Generator) -> Iterator[list[int]]:
    """Yield windows over the utterances sorted by decreasing number of target tokens (PR).

    An epoch has one window per utterance, in random order: the one that starts there, or the last full one. If the first utterance of a
    window is longer than `LONG_WINDOW_SAMPLES`, only the first half is kept. A batch is sorted by decreasing samples. Ties keep the order
    of the corpus (s3prl: that of the file system).
    """
    order = sorted(range(len(num_tokens)), key=lambda index: -num_tokens[index])
    last_start = max(0, len(order) - batch_size)
    while True:
        for position in torch.randperm(len(order), generator=generator).tolist():
            start = min(position, last_start)
            window = order[start : start + batch_size]
            if num_samples[window[0]] > LONG_WINDOW_SAMPLES:
                window = window[: max(1, len(window) // 2)]
            yield sorted(window, key=lambda index: -num_samples[index])


def fixed_buckets(num_samples: Sequence[int], batch_size: int, *, keep_single: bool = False) -> list[list[int]]:
    """Divide the utterances, sorted by decreasing samples, into buckets (ASR).

    A full bucket of `batch_size` is halved if its longest utterance has more than `HALVED_BUCKET_SAMPLES`. s3prl intends feature frames
    there but compares samples, so in practice all full buckets are halved and SUPERB's batches of 32 become batches of 16. An incomplete
    last bucket is not halved; one with a single utterance is dropped, unless all buckets are that small or `keep_single`. Ties keep the
    order of the corpus (s3prl: no defined order).
    """
    order = sorted(range(len(num_samples)), key=lambda index: -num_samples[index])
    buckets: list[list[int]] = []
    for start in range(0, len(order), batch_size):
        bucket = order[start : start + batch_size]
        if 1 < batch_size == len(bucket) and num_samples[bucket[0]] > HALVED_BUCKET_SAMPLES:
            buckets += [bucket[: batch_size // 2], bucket[batch_size // 2 :]]
        elif len(bucket) > 1 or keep_single or batch_size == 1 or not buckets:
            buckets.append(bucket)
    return buckets


def bucketed(num_samples: Sequence[int], batch_size: int, generator: Generator, *, keep_single: bool = False) -> Iterator[list[int]]:
    """Yield the buckets of `fixed_buckets` in a new order every epoch."""
    buckets = fixed_buckets(num_samples, batch_size, keep_single=keep_single)
    while True:
        for position in torch.randperm(len(buckets), generator=generator).tolist():
            yield buckets[position]


def length_batches(num_samples: Sequence[int], max_samples: int, max_size: int = 64) -> Iterator[list[int]]:
    """Yield every index once, shortest first, in batches of at most `max_size` utterances and `max_samples` including padding."""
    batch: list[int] = []
    for index in sorted(range(len(num_samples)), key=lambda index: num_samples[index]):
        # In ascending order, the new utterance is the longest and determines the padded length.
        if batch and (len(batch) == max_size or (len(batch) + 1) * num_samples[index] > max_samples):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
