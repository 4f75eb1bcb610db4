"""The outcome of every item of a test set, as cells keep it: two models can then be compared on the same items. No torch here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from speechft.files.hashes import sha256_json
from speechft.recipes.values import Strict


def _numbers(value: Any) -> Any:
    return tuple(float(word) for word in value.split()) if isinstance(value, str) else value


Numbers = Annotated[
    tuple[Annotated[float, Field(allow_inf_nan=False)], ...],
    BeforeValidator(_numbers),
    PlainSerializer(lambda values: " ".join(f"{value:.7g}" for value in values), return_type=str),
]
"""Numbers in one string, `12 9 0.5`, in JSON: a file that is indented has a line for each element of a list."""


Row = tuple[str, str | None, str | None, float, float]
"""Id, speaker, fold, part and total of an item."""


class ItemShares(Strict):
    """Shares of the items in the metrics of a task.

    A metric is the sum of an item's `parts` over the sum of its `totals`, in percent where the metric is: edits over words of the
    reference, 1 or 0 over 1 for right or wrong, seconds in error over seconds of speech. In cross-validation that is the metric of a
    fold, and the mean of the folds that of the seed.

    Where a metric is no such quotient (macro F1, a correlation), parts are n times what the metric loses without the item, centered so
    that their mean is the metric: the pseudovalues of the jackknife; totals are 1.
    """

    unit: Literal["utterance", "recording", "query"] = Field(description="What an item is.")
    ids: tuple[str, ...] = Field(description="Of the items, in the order of test; in cross-validation fold by fold.")
    speakers: tuple[str, ...] | None = Field(None, description="Of each item, where the corpus tells it for all of them.")
    folds: tuple[str, ...] | None = Field(None, description="In cross-validation: in which fold the item was tested.")
    totals: dict[str, Numbers] = Field(description="By metric: one number an item.")
    parts: dict[str, tuple[Numbers, ...]] = Field(description="By metric, for each seed: one number an item.")

    @property
    def key(self) -> str:
        """Equal in cells with the same items, which can be paired."""
        return sha256_json([self.unit, self.ids, self.folds])

    @property
    def metrics(self) -> Sequence[str]:
        """Those whose items are known."""
        return tuple(self.parts)

    def rows(self, metric: str, seed: int) -> Iterator[Row]:
        """Every item with its share in the metric of the seed in this place."""
        nothing = [None] * len(self.ids)
        yield from zip(
            self.ids, self.speakers or nothing, self.folds or nothing, self.parts[metric][seed], self.totals[metric], strict=True
        )

    def value(self, metric: str, seed: int) -> float:
        """A fraction: the metric of the seed in this place."""
        of_folds = []
        for fold in dict.fromkeys(self.folds) if self.folds else [None]:
            inside = [self.folds is None or of_item == fold for of_item in (self.folds or self.ids)]
            total, part = (
                math.fsum(number for number, there in zip(numbers, inside, strict=True) if there)
                for numbers in (self.totals[metric], self.parts[metric][seed])
            )
            of_folds.append(part / total if total else math.inf)
        return sum(of_folds) / len(of_folds)

    def problem(self, seeds: int) -> str | None:
        """What does not fit together, or None."""
        if not self.ids:
            return "has no items"
        lists = [self.ids, *(named for named in (self.speakers, self.folds) if named is not None), *self.totals.values()]
        lists += [part for parts in self.parts.values() for part in parts]
        if len({len(numbers) for numbers in lists}) > 1:
            return f"has lists of different lengths ({', '.join(map(str, sorted({len(numbers) for numbers in lists})))})"
        if set(self.totals) != set(self.parts) or any(len(parts) != seeds for parts in self.parts.values()):
            return f"`totals` and `parts` are not of the same metrics, or `parts` not of {seeds} seed(s)"
        if any(min(numbers) < 0 for numbers in self.totals.values()):
            return "`totals` has a number below 0"
        return None


class TrialScores(Strict):
    """Scores of the trials of speaker verification, from which any error rate follows."""

    unit: Literal["trial"] = Field("trial", description="What an item is.")
    recordings: tuple[str, ...] = Field(description="All recordings of the trials.")
    speakers: tuple[str, ...] | None = Field(None, description="Of each recording, where the corpus tells it for all of them.")
    enrolments: Numbers = Field(description="Of each trial the place of its first recording in `recordings`.")
    tests: Numbers = Field(description="The place of its second one.")
    same: Numbers = Field(description="1 for trials of the same speaker, 0 for others.")
    scores: dict[str, tuple[Numbers, ...]] = Field(description="By metric, for each seed: the cosine of each trial.")

    @property
    def key(self) -> str:
        """Equal in cells with the same items, which can be paired."""
        return sha256_json([self.recordings, self.enrolments, self.tests])

    @property
    def metrics(self) -> Sequence[str]:
        """Those whose items are known."""
        return tuple(self.scores)

    def rows(self, metric: str, seed: int) -> Iterator[Row]:
        """Every trial, `ENROLMENT TEST`, with its score, and 1 where the speaker is the same."""
        for enrolment, test, score, same in zip(self.enrolments, self.tests, self.scores[metric][seed], self.same, strict=True):
            yield f"{self.recordings[int(enrolment)]} {self.recordings[int(test)]}", None, None, score, same

    def problem(self, seeds: int) -> str | None:
        """What does not fit together, or None."""
        lists = [self.enrolments, self.tests, self.same, *(numbers for of_seeds in self.scores.values() for numbers in of_seeds)]
        if len({len(numbers) for numbers in lists}) > 1 or (self.speakers and len(self.speakers) != len(self.recordings)):
            return "has lists of different lengths"
        if any(len(of_seeds) != seeds for of_seeds in self.scores.values()):
            return f"`scores` is not of {seeds} seed(s)"
        if set(self.same) != {0.0, 1.0}:
            return "`same` has other numbers than 0 and 1, or one of them alone"
        if not all(place in range(len(self.recordings)) for place in (*self.enrolments, *self.tests)):
            return "a trial names a recording that is not in `recordings`"
        return None
