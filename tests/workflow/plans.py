"""Running Snakemake in a folder of its own, and what it plans there."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import yaml
from conftest import ROOT

from speechft.runs.warm import VARIABLE

RUN = ["-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "2", "--configfile", "experiment.yaml"]


WARM = {VARIABLE: "1"}
"""Environment of a Snakemake whose jobs are small and many."""


def snakemake(folder: Path, *arguments: str, check: bool = True, **environment: str) -> str:
    """What Snakemake says for `folder`/experiment.yaml."""
    command = [sys.executable, *RUN, "--directory", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, cwd=folder)
    logs = "\n".join(f"--- {log}\n{log.read_text()[-3000:]}" for log in folder.rglob("*.log")) if check and done.returncode else ""
    assert not check or done.returncode == 0, done.stdout + done.stderr + logs
    return done.stdout + done.stderr


def planned(folder: Path, *targets: str) -> dict[str, int]:
    """Rule -> number of jobs that a dry run would start; without `all`, which only collects."""
    jobs = Counter(jobs_of(snakemake(folder, "--dry-run", *(["--", *targets] if targets else []))))
    del jobs["all"]
    return jobs


def jobs_of(text: str) -> list[str]:
    return sorted(re.findall(r"^(?:local)?rule (\w+):", text, re.M))


def commands(folder: Path, *arguments: str, check: bool = True) -> str:
    """A dry run with its shell commands."""
    return snakemake(folder, "--dry-run", "--printshellcmds", *arguments, check=check)


def change(folder: Path, edit) -> None:
    """Edit the values of the experiment."""
    values = yaml.safe_load((folder / "experiment.yaml").read_text())
    edit(values)
    (folder / "experiment.yaml").write_text(yaml.safe_dump(values))


def make_folder(folder: Path, values: dict) -> Path:
    """A working folder with an experiment, its CSV files (without rows) and published numbers."""
    (folder / "experiment.yaml").write_text(yaml.safe_dump(values))
    for corpus in values["corpora"].values():
        if corpus["kind"] == "csv":
            (folder / corpus["path"]).parent.mkdir(parents=True, exist_ok=True)
            (folder / corpus["path"]).write_text("path\n")
    (folder / "config").mkdir()
    (folder / "config/published.csv").write_text("")
    return folder
