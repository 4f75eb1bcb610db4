"""Snakemake, its Slurm plugin, and Slurm itself."""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from speechft.doctor.findings import OK, PROBLEM, WARNING, Finding, ask
from speechft.doctor.installation import LOCK, MADE, locked_versions

PROFILE = Path("slurm/config.yaml")
PLUGIN = "snakemake-executor-plugin-slurm"
OLDEST = 9


def check_snakemake(needs_gpu: bool) -> Iterable[Finding]:  # noqa: ARG001
    """Snakemake and the plugin that submits jobs."""
    locked = locked_versions(LOCK.read_text(encoding="utf-8")) if LOCK.is_file() else {}
    for name, label in (("snakemake", "Snakemake"), (PLUGIN, "Slurm plugin")):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding(label, PROBLEM, f"{name} is not installed", MADE)
            continue
        wanted = locked.get(name, version)
        old = name == "snakemake" and int(version.split(".")[0]) < OLDEST
        status = PROBLEM if old else WARNING if version != wanted else OK
        yield Finding(label, status, version if status == OK else f"{version} (locked: {wanted})", "" if status == OK else MADE)


def check_slurm(needs_gpu: bool) -> Iterable[Finding]:
    """Partitions, their GPUs, the partitions that the profile names, and accounting."""
    if shutil.which("sinfo") is None:
        yield Finding("Slurm", OK, "not on this machine; jobs run here (`--profile slurm` needs a cluster)")
        return
    answer = ask("sinfo", "--noheader", "--format=%P|%G|%l|%D|%a")
    if answer.status != 0:
        remedy = "The controller does not answer; ask who looks after the cluster. Without it jobs can run on this machine: --cores N."
        yield Finding("Slurm", WARNING, f"sinfo: {answer.complaint}", remedy)
        return
    rows = [line.split("|") for line in answer.output.splitlines() if line.count("|") == 4]
    partitions: dict[str, list[list[str]]] = {}
    for row in rows:
        partitions.setdefault(row[0].strip().rstrip("*"), []).append(row)
    if not partitions:
        yield Finding("Slurm", PROBLEM, "sinfo names no partition", "Ask which partition you may use.")
        return
    shown = [f"{name} ({rows[0][2]}, {sum(_number(row[3]) for row in rows)} nodes)" for name, rows in partitions.items()]
    yield Finding("Slurm", OK, f"partitions {', '.join(shown)}")
    yield _gpus(partitions, needs_gpu)
    yield _profile(partitions)
    if shutil.which("sbatch") is None:
        yield Finding("sbatch", PROBLEM, "not on PATH", "Jobs cannot be submitted from this machine; use a login node.")
    yield _accounting()


def _number(text: str) -> int:
    return int(text) if text.strip().isdigit() else 0


def _gpus(partitions: dict[str, list[list[str]]], needed: bool) -> Finding:
    """GRES of the partitions."""
    found = {name: sorted({row[1] for row in rows if "gpu" in row[1]}) for name, rows in partitions.items()}
    with_gpus = {name: gres for name, gres in found.items() if gres}
    if with_gpus:
        return Finding("GRES", OK, "; ".join(f"{name}: {', '.join(gres)}" for name, gres in with_gpus.items()))
    remedy = (
        "Jobs that ask for GPUs would never start: ask for the partition with GPUs, or set `gpu: 0` under `resources`." if needed else ""
    )
    return Finding("GRES", WARNING if needed else OK, "no partition has GPUs", remedy)


def _profile(partitions: dict[str, list[list[str]]]) -> Finding:
    """Partitions that the profile asks for."""
    if not PROFILE.is_file():
        return Finding("profile", WARNING, f"{PROFILE} is not here", "Run this from the root of the repository.")
    try:
        named = sorted(set(_values(yaml.safe_load(PROFILE.read_text(encoding="utf-8")), "slurm_partition")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        return Finding("profile", PROBLEM, f"{PROFILE}: is not valid YAML ({' '.join(str(error).split())})", "Mend that line.")
    unknown = [name for name in named for part in name.split(",") if part not in partitions]
    if unknown:
        close = difflib.get_close_matches(unknown[0], list(partitions), n=1)
        hint = f", e.g. {close[0]!r}" if close else ""
        remedy = f"Edit the block at the top of {PROFILE}: `slurm_partition` must be one of {', '.join(partitions)}{hint}."
        return Finding("profile", PROBLEM, f"{PROFILE} asks for partition {', '.join(map(repr, unknown))}, which is not there", remedy)
    return Finding("profile", OK, f"{PROFILE}: {', '.join(named) or 'the default partition'}")


def _values(node: Any, key: str) -> Iterable[str]:
    """All values of a key, however deep."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield str(value)
            else:
                yield from _values(value, key)


def _accounting() -> Finding:
    """`sacct`, which the plugin prefers to know what became of a job."""
    answer = ask("sacct", "--noheader", "--allocations", "--starttime", "now-1hours", "--format", "JobID")
    if answer.status == 0:
        return Finding("sacct", OK, "answers")
    found = "is not there" if answer.status is None else answer.complaint
    return Finding("sacct", WARNING, found, f"No accounting here: `slurm-status-command: squeue` in {PROFILE} saves waiting for it.")


CLUSTER_CHECKS: tuple[Callable[[bool], Iterable[Finding]], ...] = (check_snakemake, check_slurm)
