"""Read-only checks of machine, installation, cluster and experiment, for `speechft doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from speechft.doctor import cluster, machine
from speechft.doctor.experiment import check_experiment
from speechft.doctor.findings import OK, PROBLEM, Finding, careful
from speechft.shipped import PAPER


def check_all(experiment: Path | None = None, *, corpora: bool = True) -> Iterator[Finding]:
    """Run every check in turn; with `corpora`, the header of every recording of the experiment is read.

    The default experiment is config/paper.yaml, if present. Whatever it needs and is missing (corpora, checkpoints, disk space, a GPU) is
    then a warning, not a problem, because the demo needs none of it.
    """
    must = experiment is not None
    chosen = experiment or (PAPER if PAPER.is_file() else None)
    needs_gpu, results, findings = check_experiment(chosen, named=must, corpora=corpora)
    yield from careful("installation", machine.check_installation)
    yield from careful("torch", machine.check_torch)
    yield from careful("fairseq", machine.check_fairseq)
    yield from careful("audio", machine.check_audio)
    yield from careful("GPU", partial(machine.check_gpu, needed=needs_gpu, must=must))
    yield from careful("writing", partial(machine.check_write_speed, results))
    yield from careful("Snakemake", cluster.check_snakemake)
    yield from careful("Slurm", partial(cluster.check_slurm, needs_gpu))
    yield from findings


def check_gpu_results() -> Iterator[Finding]:
    """Compare results of the GPU with those of the CPU, see `speechft.doctor.gpu`; a missing GPU is the only finding."""
    import torch

    from speechft.doctor.gpu import check_results

    if not torch.cuda.is_available():
        yield Finding("GPU", PROBLEM, "torch sees no GPU", "Run this on a node with one: `srun --gres=gpu:1 speechft doctor --gpu`.")
        return
    yield Finding("GPU", OK, torch.cuda.get_device_name())
    yield from check_results()
