"""Checks of machine, installation, cluster and what an experiment needs, for `speechft doctor`. None of them changes anything."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from speechft.doctor.cluster import CLUSTER_CHECKS
from speechft.doctor.experiment import check_experiment
from speechft.doctor.findings import OK, PROBLEM, WARNING, Finding, careful
from speechft.doctor.installation import INSTALLATION_CHECKS
from speechft.doctor.machine import check_gpu, check_write_speed

__all__ = ["OK", "PROBLEM", "WARNING", "Finding", "check_all"]

DEFAULT_EXPERIMENT = Path("config/paper.yaml")


def check_all(experiment: Path | None = None, *, corpora: bool = True) -> Iterator[Finding]:
    """Run every check, one after the other.

    Args:
        experiment: the experiment that is to run. Without one config/paper.yaml is looked at where it is, and what it lacks (corpora,
            checkpoints, room on the disk, a GPU) are warnings, not problems: the demo needs none of it.
        corpora: look at the corpora, which reads the header of every recording.
    """
    for check in INSTALLATION_CHECKS:
        yield from careful(check)
    chosen = experiment or (DEFAULT_EXPERIMENT if DEFAULT_EXPERIMENT.is_file() else None)
    needs_gpu, results, found = check_experiment(chosen, named=experiment is not None, corpora=corpora)
    yield from careful(lambda: [check_gpu(needed=needs_gpu, must=experiment is not None)])
    yield from careful(lambda: [check_write_speed(results)])
    for about_cluster in CLUSTER_CHECKS:
        yield from careful(partial(about_cluster, needs_gpu))
    yield from found
