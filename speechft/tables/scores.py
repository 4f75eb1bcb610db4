"""Scores over tasks as in Speech-FT: SUPERB_S (PR, SID, ER, SF) and SUPERB_FULL (ten tasks).

Each metric is scaled from log-mel filterbanks (0) to the best published model (1), averaged within tasks, then over tasks, and
multiplied by 1000.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real

from speechft.errors import TableError
from speechft.tables.estimate import Estimate, weighted
from speechft.tables.metrics import METRICS

SUPERB_S_TASKS: dict[str, tuple[str, ...]] = {"PR": ("PR",), "SID": ("SID",), "ER": ("ER",), "SF": ("SF_F1", "SF_CER")}
SUPERB_FULL_TASKS: dict[str, tuple[str, ...]] = {
    "PR": ("PR",), "ASR": ("ASR",), "KS": ("KS",), "QbE": ("QbE",), "SID": ("SID",), "ASV": ("ASV",), "SD": ("SD",), "ER": ("ER",),
    "IC": ("IC",), "SF": ("SF_F1", "SF_CER"),
}  # fmt: skip


@dataclass(frozen=True)
class Normalizer:
    """Both ends of a metric's scale, in the units of tables, and the source of the upper end."""

    fbank: float
    sota: float
    source: str


# Filterbank values of the SUPERB benchmark. SID's is a fraction while the others are percent: only so the published scores are reproduced.
_FBANK = {
    "PR": 82.01, "ASR": 23.18, "KS": 8.63, "QbE": 0.0058, "SID": 8.5e-4, "ASV": 9.56, "SD": 10.05, "ER": 35.39, "IC": 9.10,
    "SF_F1": 69.64, "SF_CER": 52.94,
}  # fmt: skip
# Not published: fitted by least squares to Speech-FT's six published rows with all five metrics; largest residual 1.3e-4.
_SOTA_INFERRED = {"PR": 2.422902, "SID": 95.113419, "ER": 70.675412, "SF_F1": 92.399654, "SF_CER": 17.691731}
# The upper ends of the other six metrics are unpublished and cannot be solved for; these are WavLM Large's results on SUPERB.
_SOTA_WAVLM_LARGE = {"ASR": 3.44, "KS": 97.86, "QbE": 0.0886, "ASV": 3.77, "SD": 3.24, "IC": 99.31}

INFERRED, WAVLM_LARGE = "inferred from published scores", "WavLM Large, public"

SUPERB_S_NORMALIZERS = {key: Normalizer(_FBANK[key], sota, INFERRED) for key, sota in _SOTA_INFERRED.items()}
SUPERB_FULL_NORMALIZERS = {
    **SUPERB_S_NORMALIZERS,
    **{key: Normalizer(_FBANK[key], sota, WAVLM_LARGE) for key, sota in _SOTA_WAVLM_LARGE.items()},
}


def superb_score(metrics: Mapping[str, float], normalizers: Mapping[str, Normalizer] | None = None) -> float:
    """Compute SUPERB_S over PR, SID, ER and SF.

    The upper ends of the scales (`SUPERB_S_NORMALIZERS`) are inferred from the published scores, not quoted; they reproduce all six
    published rows to 0.01.

    Args:
        metrics: metric key -> value as in tables (percent): PR, SID, ER, SF_F1, SF_CER. Other metrics are ignored.
        normalizers: other scales, such as those of a benchmark with its own filterbank row.

    Raises:
        TableError: a metric is missing, has no scale, is not a finite number, or its key is not a metric.
    """
    return task_score("SUPERB_S", SUPERB_S_TASKS, metrics, normalizers or SUPERB_S_NORMALIZERS)


def superb_full_score(metrics: Mapping[str, float], normalizers: Mapping[str, Normalizer] | None = None) -> float:
    """Compute SUPERB_FULL over the ten tasks; arguments and errors as in `superb_score`, with all eleven metrics.

    Not comparable with published SUPERB_FULL values, whose scales are not public. Here the upper ends are WavLM Large's results for ASR,
    KS, QbE, ASV, SD and IC, and those of SUPERB_S for the rest.
    """
    return task_score("SUPERB_FULL", SUPERB_FULL_TASKS, metrics, normalizers or SUPERB_FULL_NORMALIZERS)


def partial_score(metrics: Mapping[str, float]) -> tuple[float, tuple[str, ...]] | None:
    """Apply the formula of SUPERB_S to those of its four tasks that have all their metrics.

    Returns:
        The score, which is SUPERB_S only with all four tasks, and the tasks; None if no task has all its metrics.

    Raises:
        TableError: as in `superb_score`, except for missing metrics.
    """
    tasks = {task: keys for task, keys in SUPERB_S_TASKS.items() if all(key in metrics for key in keys)}
    if not tasks:
        _check_values("the partial score", metrics)
        return None
    return task_score("the partial score", tasks, metrics, SUPERB_S_NORMALIZERS), tuple(tasks)


def partial_title(tasks: tuple[str, ...]) -> str:
    """Heading for partial scores, which names the tasks to distinguish it from SUPERB_S."""
    return f"score over {', '.join(tasks)} (of {', '.join(SUPERB_S_TASKS)}) ↑"


def task_score(name: str, tasks: Mapping[str, tuple[str, ...]], metrics: Mapping[str, float], scales: Mapping[str, Normalizer]) -> float:
    """Compute the score `name` over tasks with their metrics; errors as in `superb_score`."""
    _check_values(name, metrics)
    needed = [key for keys in tasks.values() for key in keys]
    if missing := [key for key in needed if key not in metrics]:
        raise TableError(f"{name} needs {', '.join(needed)}; missing: {', '.join(missing)}. Evaluate the missing tasks first.")
    if missing := [key for key in needed if key not in scales]:
        raise TableError(f"{name}: the given normalizers have no scale for {', '.join(missing)}. Add one for each.")
    if flat := [key for key in needed if scales[key].sota == scales[key].fbank]:
        raise TableError(f"{name}: both ends of the scale of {', '.join(flat)} are equal. Give different ends.")
    phi = {key: (metrics[key] - scales[key].fbank) / (scales[key].sota - scales[key].fbank) for key in needed}
    return 1000.0 / len(tasks) * sum(sum(phi[key] for key in keys) / len(keys) for keys in tasks.values())


def weighted_score(
    tasks: Mapping[str, tuple[str, ...]], numbers: Mapping[str, Estimate | None], scales: Mapping[str, Normalizer]
) -> Estimate:
    """Compute a score over tasks with its uncertainty; every metric of the tasks must have a number."""
    groups = []
    for keys in tasks.values():
        spans = {key: scales[key].sota - scales[key].fbank for key in keys}
        terms = [(numbers[key], 1000.0 / (spans[key] * len(keys) * len(tasks)), scales[key].fbank) for key in keys]
        groups.append([(number, weight, floor) for number, weight, floor in terms if number is not None])
    return weighted(groups)


def _check_values(name: str, metrics: Mapping[str, object]) -> None:
    known = [key for key, metric in METRICS.items() if metric.task is not None]
    if unknown := [key for key in metrics if key not in known]:
        raise TableError(f"{name}: {', '.join(map(repr, unknown))} is not a metric. Metrics: {', '.join(known)}.")
    for key, value in metrics.items():
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise TableError(f"{name}: {key} is {value!r}, not a finite number. Give the value as in tables (percent).")
