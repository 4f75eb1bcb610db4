"""Scores over several tasks: SUPERB_S (PR, SID, ER, SF) and SUPERB_FULL (ten tasks), as Speech-FT reports them.

Each metric is placed between log-mel filterbanks (0) and the best published model (1); metrics are averaged within a task, tasks among
each other, and the result is multiplied by 1000.
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
    """The two ends of a metric's scale, in the units of the tables, and where the upper one is from."""

    fbank: float
    sota: float
    source: str


# Filterbank values: SUPERB benchmark. That of SID is a share where the others are percent; the published scores follow from it so.
_FBANK = {
    "PR": 82.01, "ASR": 23.18, "KS": 8.63, "QbE": 0.0058, "SID": 8.5e-4, "ASV": 9.56, "SD": 10.05, "ER": 35.39, "IC": 9.10,
    "SF_F1": 69.64, "SF_CER": 52.94,
}  # fmt: skip
# Speech-FT does not print these: least squares over its six published rows with all five metrics, largest residual 1.3e-4.
_SOTA_INFERRED = {"PR": 2.422902, "SID": 95.113419, "ER": 70.675412, "SF_F1": 92.399654, "SF_CER": 17.691731}
# The upper ends of the other six metrics are neither published nor can they be solved for; these are WavLM Large's results on SUPERB.
_SOTA_WAVLM_LARGE = {"ASR": 3.44, "KS": 97.86, "QbE": 0.0886, "ASV": 3.77, "SD": 3.24, "IC": 99.31}

INFERRED, WAVLM_LARGE = "inferred from published scores", "WavLM Large, public"

SUPERB_S_NORMALIZERS = {key: Normalizer(_FBANK[key], sota, INFERRED) for key, sota in _SOTA_INFERRED.items()}
SUPERB_FULL_NORMALIZERS = {
    **SUPERB_S_NORMALIZERS,
    **{key: Normalizer(_FBANK[key], sota, WAVLM_LARGE) for key, sota in _SOTA_WAVLM_LARGE.items()},
}


def superb_score(metrics: Mapping[str, float], normalizers: Mapping[str, Normalizer] | None = None) -> float:
    """SUPERB_S over PR, SID, ER and SF.

    The upper ends of the scales are inferred from the published scores (`SUPERB_S_NORMALIZERS`), not quoted; with them all six published
    rows come out to 0.01.

    Args:
        metrics: metric key -> value as tables show it (percent): PR, SID, ER, SF_F1, SF_CER. Other metrics of the benchmark are ignored.
        normalizers: other scales, such as those of another benchmark with its own filterbank row.

    Raises:
        TableError: a metric is missing, has no scale, is not a finite number, or its key is not a metric.
    """
    return task_score("SUPERB_S", SUPERB_S_TASKS, metrics, normalizers or SUPERB_S_NORMALIZERS)


def superb_full_score(metrics: Mapping[str, float], normalizers: Mapping[str, Normalizer] | None = None) -> float:
    """SUPERB_FULL over the ten tasks, on public scales; arguments and errors as for `superb_score`, with all eleven metrics.

    Not comparable with published SUPERB_FULL values: the upper ends behind those are not public. Here they are WavLM Large's results for
    ASR, KS, QbE, ASV, SD and IC, and those of SUPERB_S for the rest.
    """
    return task_score("SUPERB_FULL", SUPERB_FULL_TASKS, metrics, normalizers or SUPERB_FULL_NORMALIZERS)


def partial_score(metrics: Mapping[str, float]) -> tuple[float, tuple[str, ...]] | None:
    """The formula of SUPERB_S over those of its four tasks that have all their metrics, and these tasks; None where there is no such task.

    It is not SUPERB_S unless all four tasks are there. Raises as `superb_score` does, but for missing metrics.
    """
    tasks = {task: keys for task, keys in SUPERB_S_TASKS.items() if all(key in metrics for key in keys)}
    if not tasks:
        _check_values("the partial score", metrics)
        return None
    return task_score("the partial score", tasks, metrics, SUPERB_S_NORMALIZERS), tuple(tasks)


def partial_title(tasks: tuple[str, ...]) -> str:
    """Heading of a column of partial scores, which names the tasks so that nobody takes it for SUPERB_S."""
    return f"score over {', '.join(tasks)} (of {', '.join(SUPERB_S_TASKS)}) ↑"


def task_score(name: str, tasks: Mapping[str, tuple[str, ...]], metrics: Mapping[str, float], scales: Mapping[str, Normalizer]) -> float:
    """The score `name` over tasks with their metrics; errors as for `superb_score`."""
    _check_values(name, metrics)
    needed = [key for keys in tasks.values() for key in keys]
    if missing := [key for key in needed if key not in metrics]:
        raise TableError(f"{name} needs {', '.join(needed)}; missing: {', '.join(missing)}. Evaluate the missing tasks first.")
    if missing := [key for key in needed if key not in scales]:
        raise TableError(f"{name}: the normalizers given have no scale for {', '.join(missing)}.")
    if flat := [key for key in needed if scales[key].sota == scales[key].fbank]:
        raise TableError(f"{name}: both ends of the scale of {', '.join(flat)} are the same number.")
    phi = {key: (metrics[key] - scales[key].fbank) / (scales[key].sota - scales[key].fbank) for key in needed}
    return 1000.0 / len(tasks) * sum(sum(phi[key] for key in keys) / len(keys) for keys in tasks.values())


def weighted_score(
    tasks: Mapping[str, tuple[str, ...]], numbers: Mapping[str, Estimate | None], scales: Mapping[str, Normalizer]
) -> Estimate:
    """The score over tasks with its uncertainty; every metric of the tasks has a number."""
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
            raise TableError(f"{name}: {key} is {value!r}, not a finite number. Give percent as the tables show it.")
