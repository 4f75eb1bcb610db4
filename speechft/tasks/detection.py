"""Detection metrics: equal error rate and maximum term-weighted value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FALSE_ALARM_WEIGHT = 12.49
"""beta = (cost of a false alarm / cost of a miss) * (1 / prior - 1), with costs 1 and 100 and prior 0.0008 (QUESST 2014)."""


def equal_error_rate(labels: NDArray[Any], scores: NDArray[Any]) -> float:
    """Compute the equal error rate, a fraction, by linear interpolation of the ROC curve, as in s3prl 0.4.18.

    Args:
        labels: (trials,), 1 for trials of the same speaker, 0 for others.
        scores: (trials,), higher means more likely the same.

    Raises:
        ValueError: all labels are equal.
    """
    if len(np.unique(labels)) != 2:
        raise ValueError("an equal error rate needs trials of both kinds")
    return float(weighted_error_rates(labels, scores, np.ones((1, len(labels))))[0])


def weighted_error_rates(labels: NDArray[Any], scores: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the equal error rate with trials weighted by `weights` (N, trials), for each row; NaN if one kind has no weight."""
    order = np.argsort(-scores, kind="stable")
    same, ordered = np.asarray(labels)[order] == 1, scores[order]
    last_of_ties = np.append(ordered[1:] != ordered[:-1], True)

    def share(of_kind: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Compute the accepted share of a kind at each threshold, from the highest on."""
        accepted = np.cumsum(weights[:, order] * of_kind, axis=1)
        return np.hstack([np.zeros((len(weights), 1)), (accepted / accepted[:, -1:])[:, last_of_ties]])

    with np.errstate(invalid="ignore"):
        hits, false_alarms = share(same), share(~same)
    # Misses minus false alarms fall from 1 to -1 along the curve; the equal error rate is at 0.
    excess = 1.0 - hits - false_alarms
    end, rows = np.argmax(excess <= 0, axis=1), np.arange(len(weights))
    above, below = excess[rows, end - 1], excess[rows, end]
    before, after = false_alarms[rows, end - 1], false_alarms[rows, end]
    return np.asarray(before + above / (above - below) * (after - before))


def maximum_term_weighted_value(
    scores: Sequence[NDArray[Any]], relevant: Sequence[NDArray[np.bool_]], false_alarm_weight: float = FALSE_ALARM_WEIGHT
) -> tuple[float, float]:
    """Compute the maximum over thresholds of 1 - mean over queries of (miss rate + weight * false alarm rate), and its threshold.

    A document is detected if its score is at least the threshold. Queries without a relevant document do not count. Detecting nothing has
    value 0, so the maximum is never below 0 (its threshold is then Inf). `scores` and `relevant` have, for each query, the score of every
    document and whether it is relevant.

    Raises:
        ValueError: no query has a relevant document.
    """
    terms = [(score, wanted) for score, wanted in zip(scores, relevant, strict=True) if wanted.any()]
    if not terms:
        raise ValueError("no query has a relevant document")
    # Lowering the threshold past a document changes the value by its gain, so the value is the sum of gains.
    gains = np.concatenate(
        [np.where(wanted, 1 / wanted.sum(), -false_alarm_weight / max(1, (~wanted).sum())) / len(terms) for _, wanted in terms]
    )
    thresholds = np.concatenate([score for score, _ in terms])
    order = np.argsort(-thresholds, kind="stable")
    thresholds, values = thresholds[order], np.cumsum(gains[order])
    last_of_ties = np.append(thresholds[1:] != thresholds[:-1], True)
    thresholds, values = thresholds[last_of_ties], values[last_of_ties]
    best = int(np.argmax(values))
    return (float(values[best]), float(thresholds[best])) if values[best] > 0 else (0.0, float("inf"))


def term_weighted_value(detected: NDArray[np.bool_], relevant: NDArray[np.bool_], false_alarm_weight: float = FALSE_ALARM_WEIGHT) -> float:
    """Compute 1 - mean over queries of (miss rate + weight * false alarm rate) for decisions (queries, documents).

    Raises:
        ValueError: no query has a relevant document.
    """
    terms = relevant.any(axis=1)
    if not terms.any():
        raise ValueError("no query has a relevant document")
    detected, relevant = detected[terms], relevant[terms]
    missed = (relevant & ~detected).sum(axis=1) / relevant.sum(axis=1)
    false_alarms = (detected & ~relevant).sum(axis=1) / np.maximum(1, (~relevant).sum(axis=1))
    return float(1 - np.mean(missed + false_alarm_weight * false_alarms))
