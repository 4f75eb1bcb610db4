"""A number with its uncertainty, from independent samples whose means add up."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from functools import cached_property

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """The sum of the means of independent samples: one sample for a metric, two for a difference, one per task for a score."""

    samples: tuple[tuple[float, ...], ...]
    """Each holds one value per seed. A sample of a single value counts as exact."""

    @cached_property
    def mean(self) -> float:
        """The sum of the means."""
        return math.fsum(statistics.fmean(sample) for sample in self.samples)

    @cached_property
    def half_width(self) -> float | None:
        """Half of the 95 % confidence interval; None where no sample has several values.

        Student's t with the degrees of freedom of Welch (1947) and Satterthwaite (1946), which for one sample are n - 1.
        """
        repeated = [sample for sample in self.samples if len(sample) > 1]
        if not repeated:
            return None
        variances = [statistics.variance(sample) / len(sample) for sample in repeated]
        total = math.fsum(variances)
        if total == 0:
            return 0.0
        from scipy.special import stdtrit

        shares = [variance / total for variance in variances]  # squares of the variances themselves can underflow
        freedom = 1 / math.fsum(share**2 / (len(sample) - 1) for share, sample in zip(shares, repeated, strict=True))
        return float(stdtrit(freedom, 0.5 + CONFIDENCE / 2)) * math.sqrt(total)

    def __sub__(self, other: Estimate) -> Estimate:
        return Estimate((*self.samples, *(tuple(-value for value in sample) for sample in other.samples)))
