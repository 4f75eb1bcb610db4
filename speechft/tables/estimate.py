"""Numbers with confidence intervals, over seeds and test items."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from speechft.tables.bootstrap import Resampled

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A sum of means of independent samples: one sample for a metric, two for a difference, one per task for a score."""

    samples: tuple[tuple[float, ...], ...]
    """One value per seed in each sample. A sample of one value counts as exact over seeds."""
    items: Mapping[str, Resampled] = field(default_factory=dict)
    """Test set -> bootstrap of the sum over its items, with seeds held fixed."""

    @cached_property
    def mean(self) -> float:
        """Sum of the means."""
        return math.fsum(statistics.fmean(sample) for sample in self.samples)

    @cached_property
    def deviation(self) -> tuple[float, float] | None:
        """Standard error of the sum and its degrees of freedom; None without items and samples of several values.

        Variances over seeds and over items are added. Degrees of freedom follow Welch (1947) and Satterthwaite (1946): n - 1 for one
        sample, infinite if nothing varies.
        """
        repeated = [sample for sample in self.samples if len(sample) > 1]
        parts = [(statistics.variance(sample) / len(sample), len(sample) - 1) for sample in repeated]
        parts += [(drawn.variance, drawn.units - 1) for drawn in self.items.values()]
        if not parts:
            return None
        total = math.fsum(variance for variance, _ in parts)
        if total == 0:
            return 0.0, math.inf
        # Shares of the total, because squares of variances can underflow.
        return math.sqrt(total), 1 / math.fsum((variance / total) ** 2 / units for variance, units in parts)

    @cached_property
    def half_width(self) -> float | None:
        """Half of the 95 % confidence interval, by Student's t; None if `deviation` is None."""
        if self.deviation is None:
            return None
        from scipy.special import stdtrit

        error, freedom = self.deviation
        return float(stdtrit(freedom, 0.5 + CONFIDENCE / 2)) * error

    @cached_property
    def p_value(self) -> float | None:
        """Two-sided p-value of the hypothesis that the sum is 0, by Student's t; None if `deviation` is None."""
        if self.deviation is None:
            return None
        error, freedom = self.deviation
        if error == 0:
            return float(self.mean == 0)
        from scipy.special import stdtr

        return float(2 * stdtr(freedom, -abs(self.mean) / error))

    @property
    def excludes_0(self) -> bool:
        """Whether the interval is known and excludes 0."""
        return self.half_width is not None and abs(self.mean) > self.half_width

    def __sub__(self, other: Estimate) -> Estimate:
        """Return the difference, paired by test item. Items known for only one side are ignored.

        If only one side has an interval, the difference has none.
        """
        keys = self.items.keys() | other.items.keys()
        if len(self.items) != len(other.items):
            keys = self.items.keys() & other.items.keys()
        first, second = (Estimate(side.samples, {key: side.items[key] for key in side.items if key in keys}) for side in (self, other))
        if (first.half_width is None) != (second.half_width is None):
            return Estimate(((self.mean,), (-other.mean,)))
        samples = (*self.samples, *(tuple(-value for value in sample) for sample in other.samples))
        return Estimate(samples, {key: sum_of((1.0, first.items.get(key)), (-1.0, second.items.get(key))) for key in sorted(keys)})


def sum_of(*terms: tuple[float, Resampled | None]) -> Resampled:
    """Weighted sum of bootstraps of the same items; terms without items count as 0."""
    known = [(weight, drawn) for weight, drawn in terms if drawn is not None]
    values = np.sum([weight * drawn.values for weight, drawn in known], axis=0)
    return Resampled(values, min(drawn.units for _, drawn in known), known[0][1].drawn)


def weighted(groups: Sequence[Sequence[tuple[Estimate, float, float]]]) -> Estimate:
    """Sum weight * (estimate - offset) over all (estimate, weight, offset).

    Members of a group are metrics of the same heads, one sample each, and are added seed by seed.
    """
    samples, items = [], dict[str, Resampled]()
    for group in groups:
        scaled = [[weight * (value - offset) for value in estimate.samples[0]] for estimate, weight, offset in group]
        samples.append(tuple(math.fsum(of_seed) for of_seed in zip(*scaled, strict=True)))
        for key in dict.fromkeys(key for estimate, _, _ in group for key in estimate.items):
            items[key] = sum_of((1.0, items.get(key)), *((weight, estimate.items.get(key)) for estimate, weight, _ in group))
    return Estimate(tuple(samples), items)


def surely_best(estimates: Mapping[int, Estimate], higher_is_better: bool) -> frozenset[int]:
    """Index of the best estimate if the interval of its difference from every other excludes 0; otherwise empty."""
    if len(estimates) < 2:
        return frozenset()
    best = (max if higher_is_better else min)(estimates, key=lambda place: estimates[place].mean)
    others: Iterable[Estimate] = (estimate for place, estimate in estimates.items() if place != best)
    return frozenset([best]) if all((estimates[best] - other).excludes_0 for other in others) else frozenset()
