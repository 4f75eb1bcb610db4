"""Checks of Snakemake, its Slurm plugin, and Slurm."""

from __future__ import annotations

import difflib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import yaml

from speechft.doctor.findings import OK, PROBLEM, WARNING, Finding, ask, verdict
from speechft.doctor.machine import MADE, installed_version, locked_versions, not_installed

PROFILE = Path("slurm/config.yaml")
PLUGIN = "snakemake-executor-plugin-slurm"
OLDEST = 9


def check_snakemake() -> Iterator[Finding]:
    """Check the versions of Snakemake and its Slurm plugin."""
    locked = locked_versions()
    for package, label, extra in (("snakemake", "Snakemake", "workflow"), (PLUGIN, "Slurm plugin", "slurm")):
        version = installed_version(package)
        if version == "missing":
            yield not_installed(label, extra)
            continue
        wanted = locked.get(package, version)
        useless = package == "snakemake" and int(version.split(".")[0]) < OLDEST
        found = version if version == wanted else f"{version} (locked: {wanted})"
        yield verdict(label, version == wanted and not useless, found, MADE, PROBLEM if useless else WARNING)


def check_slurm(needs_gpu: bool) -> Iterator[Finding]:
    """Check partitions, their GPUs, the partitions named in the profile, and accounting."""
    try:
        answered, said = ask("sinfo", "--noheader", "--format=%P|%G|%l|%D|%a")
    except FileNotFoundError:
        yield Finding("Slurm", OK, "not on this machine; jobs run here (`--profile slurm` needs a cluster)")
        return
    if not answered:
        remedy = "slurmctld does not respond; ask the cluster's administrators. Meanwhile jobs can run on this machine: --cores N."
        yield Finding("Slurm", WARNING, f"sinfo: {said}", remedy)
        return
    partitions: dict[str, list[list[str]]] = {}
    for row in (line.split("|") for line in said.splitlines() if line.count("|") == 4):
        partitions.setdefault(row[0].strip().rstrip("*"), []).append(row)
    if not partitions:
        yield Finding("Slurm", PROBLEM, "sinfo lists no partition", "Ask the cluster's administrators which partition you may use.")
        return
    nodes = {name: sum(int(row[3]) for row in rows if row[3].strip().isdigit()) for name, rows in partitions.items()}
    yield Finding(
        "Slurm", OK, "partitions " + ", ".join(f"{name} ({rows[0][2]}, {nodes[name]} nodes)" for name, rows in partitions.items())
    )
    gres = {name: ", ".join(sorted({row[1] for row in rows if "gpu" in row[1]})) for name, rows in partitions.items()}
    with_gpus = "; ".join(f"{name}: {gpus}" for name, gpus in gres.items() if gpus)
    remedy = "Jobs that request GPUs would never start: get access to a partition with GPUs, or set `gpu: 0` under `resources`."
    yield verdict("GRES", bool(with_gpus) or not needs_gpu, with_gpus or "no partition has GPUs", remedy, WARNING)
    yield _profile(list(partitions))
    if shutil.which("sbatch") is None:
        yield Finding("sbatch", PROBLEM, "not on PATH", "Jobs cannot be submitted from this machine; use a login node.")
    try:
        answered, said = ask("sacct", "--noheader", "--allocations", "--starttime", "now-1hours", "--format", "JobID")
    except FileNotFoundError:
        answered, said = False, "not found"
    remedy = f"Without accounting, `slurm-status-command: squeue` in {PROFILE} avoids waiting for it."
    yield verdict("sacct", answered, "responds" if answered else said, remedy, WARNING)


def _profile(partitions: list[str]) -> Finding:
    """Check that the partitions named in the profile exist."""
    if not PROFILE.is_file():
        return Finding("profile", WARNING, f"{PROFILE} not found", "Run this from the root of the repository.")
    try:
        settings = yaml.safe_dump(yaml.safe_load(PROFILE.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        return Finding("profile", PROBLEM, f"{PROFILE}: is not valid YAML ({' '.join(str(error).split())})", "Correct that line.")
    named = sorted(set(re.findall(r"^\s*slurm_partition: '?([^'\n]+)'?$", settings, re.MULTILINE)))
    unknown = [name for name in named if not set(name.split(",")) <= set(partitions)]
    close = difflib.get_close_matches(unknown[0], partitions, n=1) if unknown else []
    hint = f". Did you mean {close[0]!r}?" if close else "."
    remedy = f"Edit the block at the top of {PROFILE}: `slurm_partition` must be one of {', '.join(partitions)}{hint}"
    found = f"{PROFILE} names partition {', '.join(map(repr, unknown))}, which does not exist"
    return verdict("profile", not unknown, found if unknown else f"{PROFILE}: {', '.join(named) or 'the default partition'}", remedy)
