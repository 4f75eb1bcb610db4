"""What a cell's metric would be on other test items: a bootstrap over speakers or items.

Cells with the same test items draw the same ones, so differences between their draws are paired.
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
"""With fewer speakers items are drawn by themselves: a handful of speakers does not tell how much speakers differ."""
_TRIALS_AT_A_TIME = 2_000_000
_PLURAL = {"utterance": "utterances", "recording": "recordings", "query": "queries", "trial": "recordings"}


@dataclass(frozen=True, eq=False)
class Resampled:
    """A number on drawn test sets."""

    values: NDArray[np.float64]
    """(DRAWS,): the number on each, in the units of tables; the mean over seeds."""
    units: int
    """How many speakers or items there are to draw from."""
    drawn: str
    """What was drawn: `speakers`, `utterances`, `recordings`, `queries`."""

    @cached_property
    def variance(self) -> float:
        """Of the number."""
        return float(np.var(self.values, ddof=1))


def resample(cell: Cell, metric: Metric) -> dict[str, Resampled]:
    """The metric of a cell on drawn test sets, under the key of its items; empty where the cell does not know them."""
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


@lru_cache(maxsize=2)  # of the largest test sets one is tens of MB
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
        with np.errstate(invalid="ignore", divide="ignore"):  # a fold of which nothing was drawn
            of_folds.append(np.where(total > 0, np.mean(parts, axis=0) / total, np.nan))
    known = np.ma.masked_invalid(of_folds).mean(axis=0)
    shares: NDArray[np.float64] = known.filled(known.mean())  # draws of which no fold had anything
    return shares


def _rates(items: TrialScores, metric: str, group_of: NDArray[Any], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """A trial is drawn as often as both of its sides together; one within a group as often as the group."""
    first, second = (group_of[np.array(places, dtype=int)] for places in (items.enrolments, items.tests))
    same, step = np.array(items.same), max(1, _TRIALS_AT_A_TIME // len(first))
    blocks = []
    for start in range(0, DRAWS, step):
        drawn = counts[start : start + step]
        weights = drawn[:, first] * np.where(first == second, 1.0, drawn[:, second])
        blocks.append(np.mean([weighted_error_rates(same, np.array(scores), weights) for scores in items.scores[metric]], axis=0))
    rates: NDArray[np.float64] = np.concatenate(blocks)
    return np.where(np.isnan(rates), np.nanmean(rates), rates)
