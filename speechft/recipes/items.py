"""Result of every test item, stored in cells so that models can be compared item by item. No torch here."""

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
"""Numbers, in JSON as one string such as `12 9 0.5`: an indented list would take one line per number."""


Row = tuple[str, str | None, str | None, float, float]
"""Id, speaker, fold, part and total of an item."""


class ItemShares(Strict):
    """Contribution of each test item to the metrics of a task.

    A metric is the sum of the items' `parts` divided by the sum of their `totals`: edits over reference words, 1 or 0 over 1 for right
    or wrong, seconds in error over seconds of speech. In cross-validation this gives the metric of a fold; a seed's is the mean over
    folds.

    For a metric that is no such quotient (macro F1, a correlation), parts are jackknife pseudovalues, n times what the metric loses
    without the item, centered so that their mean is the metric. Totals are then 1.
    """

    unit: Literal["utterance", "recording", "query"] = Field(description="What an item is.")
    ids: tuple[str, ...] = Field(description="Ids of the items in test order; in cross-validation fold by fold.")
    speakers: tuple[str, ...] | None = Field(None, description="Speaker of each item, if the corpus has it for all items.")
    folds: tuple[str, ...] | None = Field(None, description="In cross-validation: fold in which the item was tested.")
    totals: dict[str, Numbers] = Field(description="Metric -> one number per item.")
    parts: dict[str, tuple[Numbers, ...]] = Field(description="Metric -> for each seed one number per item.")

    @property
    def key(self) -> str:
        """Hash of the items; cells with the same key can be paired."""
        return sha256_json([self.unit, self.ids, self.folds])

    @property
    def metrics(self) -> Sequence[str]:
        """Metrics with stored items."""
        return tuple(self.parts)

    def rows(self, metric: str, seed: int) -> Iterator[Row]:
        """Yield every item with its part and total in a metric; `seed` is an index."""
        nothing = [None] * len(self.ids)
        yield from zip(
            self.ids, self.speakers or nothing, self.folds or nothing, self.parts[metric][seed], self.totals[metric], strict=True
        )

    def value(self, metric: str, seed: int) -> float:
        """Compute the metric from the items, as a fraction; `seed` is an index."""
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
        """Describe the first inconsistency; None if there is none."""
        if not self.ids:
            return "is empty"
        lists = [self.ids, *(named for named in (self.speakers, self.folds) if named is not None), *self.totals.values()]
        lists += [part for parts in self.parts.values() for part in parts]
        if len({len(numbers) for numbers in lists}) > 1:
            return f"has lists of different lengths ({', '.join(map(str, sorted({len(numbers) for numbers in lists})))})"
        if set(self.totals) != set(self.parts) or any(len(parts) != seeds for parts in self.parts.values()):
            return f"`totals` and `parts` have different metrics, or `parts` does not have {seeds} seed(s)"
        if any(min(numbers) < 0 for numbers in self.totals.values()):
            return "`totals` has a number below 0"
        return None


class TrialScores(Strict):
    """Scores of speaker verification trials, from which any error rate follows."""

    unit: Literal["trial"] = Field("trial", description="What an item is.")
    recordings: tuple[str, ...] = Field(description="All recordings in the trials.")
    speakers: tuple[str, ...] | None = Field(None, description="Speaker of each recording, if the corpus has it for all recordings.")
    enrolments: Numbers = Field(description="For each trial, the index in `recordings` of its enrolment recording.")
    tests: Numbers = Field(description="For each trial, the index in `recordings` of its test recording.")
    same: Numbers = Field(description="For each trial, 1 for the same speaker and 0 for different ones.")
    scores: dict[str, tuple[Numbers, ...]] = Field(description="Metric -> for each seed the cosine similarity of each trial.")

    @property
    def key(self) -> str:
        """Hash of the trials; cells with the same key can be paired."""
        return sha256_json([self.recordings, self.enrolments, self.tests])

    @property
    def metrics(self) -> Sequence[str]:
        """Metrics with stored trials."""
        return tuple(self.scores)

    def rows(self, metric: str, seed: int) -> Iterator[Row]:
        """Yield every trial, `ENROLMENT TEST`, with its score and 1 for the same speaker; `seed` is an index."""
        for enrolment, test, score, same in zip(self.enrolments, self.tests, self.scores[metric][seed], self.same, strict=True):
            yield f"{self.recordings[int(enrolment)]} {self.recordings[int(test)]}", None, None, score, same

    def problem(self, seeds: int) -> str | None:
        """Describe the first inconsistency; None if there is none."""
        lists = [self.enrolments, self.tests, self.same, *(numbers for of_seeds in self.scores.values() for numbers in of_seeds)]
        if len({len(numbers) for numbers in lists}) > 1 or (self.speakers and len(self.speakers) != len(self.recordings)):
            return "has lists of different lengths"
        if any(len(of_seeds) != seeds for of_seeds in self.scores.values()):
            return f"`scores` does not have {seeds} seed(s)"
        if set(self.same) != {0.0, 1.0}:
            return "`same` must contain both 0 and 1, and nothing else"
        if not all(place in range(len(self.recordings)) for place in (*self.enrolments, *self.tests)):
            return "a trial names a recording that is not in `recordings`"
        return None
