"""The 10 hours of TED-LIUM 3 that Speech-FT fine-tunes on."""

from __future__ import annotations

from collections.abc import Iterable

SHORTEST_SECONDS, LONGEST_SECONDS = 1, 60
TRAIN_HOURS = 10
_UNKNOWN = "<unk>"


def ted_subset(segments: Iterable[tuple[int, str]], sampling_rate: int, max_hours: float | None = TRAIN_HOURS) -> list[int]:
    """Positions of the segments that are used, in the order of the corpus, as the released fine-tuning chooses them.

    Used are segments of 1 to 60 s (both included) whose raw transcript has no `<unk>`; the last one is that with which the total passes
    `max_hours`. Segments marked `ignore_time_segment_in_scoring` are not left out.

    Args:
        segments: number of samples and raw transcript of each segment.
        sampling_rate: of the samples, in Hz.
        max_hours: None takes all, as in the validation and test splits.
    """
    budget = None if max_hours is None else max_hours * 3600 * sampling_rate
    chosen: list[int] = []
    total = 0
    for position, (num_samples, text) in enumerate(segments):
        if budget is not None and total > budget:
            break
        if SHORTEST_SECONDS * sampling_rate <= num_samples <= LONGEST_SECONDS * sampling_rate and _UNKNOWN not in text:
            chosen.append(position)
            total += num_samples
    return chosen
