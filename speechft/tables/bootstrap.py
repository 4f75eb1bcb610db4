"""Bootstrap of a cell's metric over test speakers or items.

Cells with the same test items use the same draws, so that differences between them are paired.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechft.recipes.cell import Cell
from speechft.recipes.items import ItemShares, TrialScores
from speechft.tasks.detection import weighted_error_rates
from speechft.tasks.metric import Metric

DRAWS = 1000
MIN_SPEAKERS = 10
"""With fewer speakers, items are drawn instead: too few speakers do not show how much speakers vary."""
_TRIALS_AT_A_TIME = 2_000_000
_PLURAL = {"utterance": "utterances", "recording": "recordings", "query": "queries", "trial": "recordings"}


@dataclass(frozen=True, eq=False)
class Resampled:
    """Values of a metric or score on bootstrap test sets."""

    values: NDArray[np.float64]
    """(DRAWS,): mean over seeds on each test set, in the units of tables."""
    units: int
    """Number of speakers or items to draw from."""
    drawn: str
    """What was drawn: `speakers`, `utterances`, `recordings`, `queries`."""

    @cached_property
    def variance(self) -> float:
        """Bootstrap variance."""
        return float(np.var(self.values, ddof=1))


def resample(cell: Cell, metric: Metric) -> dict[str, Resampled]:
    """Bootstrap a cell's metric: key of its items -> values. Empty if the cell has no items."""
    items = cell.items
    if items is None or metric.key not in items.metrics:
        return {}
    by_speaker = items.speakers is not None and len(set(items.speakers)) >= MIN_SPEAKERS
    one_by_one = items.ids if isinstance(items, ItemShares) else items.recordings
    names, group_of = np.unique(np.array(items.speakers if by_speaker else one_by_one), return_inverse=True)
    if len(names) < 2:
        return {}
    counts = _counts(items.key, len(names))
    if isinstance(items, ItemShares):
        fractions = _shares(items, metric.key, group_of, counts)
    else:
        fractions = _rates(items, metric.key, group_of, counts)
    drawn = "speakers" if by_speaker else _PLURAL[items.unit]
    return {items.key: Resampled(metric.of_fraction(1.0) * fractions, len(names), drawn)}


@lru_cache(maxsize=2)  # tens of MB for the largest test sets
def _counts(key: str, groups: int) -> NDArray[np.float64]:
    """How often each group is drawn, (DRAWS, groups)."""
    generator = np.random.default_rng(int(key[:16], 16))
    return generator.multinomial(groups, np.full(groups, 1 / groups), size=DRAWS).astype(np.float64)


def _shares(items: ItemShares, metric: str, group_of: NDArray[Any], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    folds = np.array(items.folds or [""] * len(items.ids))
    of_folds = []
    for fold in np.unique(folds):
        inside, groups = folds == fold, counts.shape[1]
        total = counts @ np.bincount(group_of[inside], np.array(items.totals[metric])[inside], groups)
        parts = [counts @ np.bincount(group_of[inside], np.array(of_seed)[inside], groups) for of_seed in items.parts[metric]]
        with np.errstate(invalid="ignore", divide="ignore"):  # a fold without drawn items
            of_folds.append(np.where(total > 0, np.mean(parts, axis=0) / total, np.nan))
    known = np.ma.masked_invalid(of_folds).mean(axis=0)
    shares: NDArray[np.float64] = known.filled(known.mean())  # draws without items in any fold
    return shares


def _rates(items: TrialScores, metric: str, group_of: NDArray[Any], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Error rates with a trial's weight the product of its sides' counts; within one group, the group's count."""
    first, second = (group_of[np.array(places, dtype=int)] for places in (items.enrolments, items.tests))
    same, step = np.array(items.same), max(1, _TRIALS_AT_A_TIME // len(first))
    blocks = []
    for start in range(0, DRAWS, step):
        drawn = counts[start : start + step]
        weights = drawn[:, first] * np.where(first == second, 1.0, drawn[:, second])
        blocks.append(np.mean([weighted_error_rates(same, np.array(scores), weights) for scores in items.scores[metric]], axis=0))
    rates: NDArray[np.float64] = np.concatenate(blocks)
    return np.where(np.isnan(rates), np.nanmean(rates), rates)
